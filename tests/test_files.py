import json
import math
import os
from pathlib import Path

import pytest

from simeval.errors import DataError
from simeval.files import completed, json_text, plain, replacing


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "table.MD"
    path.write_text("old")
    with completed(path) as unfinished:
        unfinished.write_text("new")
        assert (path.read_text(), unfinished.suffix) == ("old", ".md")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("raised", "seen"), [(OSError(28, "No space left"), DataError), (KeyError("x"), KeyError)])
def test_the_old_file_stays_where_writing_fails(tmp_path: Path, raised: Exception, seen: type[Exception]) -> None:
    path = tmp_path / "table.md"
    path.write_text("old")

    def write() -> None:
        with completed(path) as unfinished:
            unfinished.write_text("half")
            raise raised

    with pytest.raises(seen):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_must_survive_power_loss_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    with replacing(tmp_path / "part.npy", durable=True) as unfinished:
        unfinished.write_text("all")
    assert synced == [str(unfinished), str(tmp_path)]  # the content before the name


def test_json_has_no_numbers_that_are_none() -> None:
    value = {"a": [math.inf, 1.5, (math.nan,)], "b": {"c": -math.inf, "d": "NaN", "e": True}}
    expected = {"a": [None, 1.5, [None]], "b": {"c": None, "d": "NaN", "e": True}}
    assert plain(value) == json.loads(json_text(value)) == expected
