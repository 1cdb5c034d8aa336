from pathlib import Path

import numpy as np
import pytest

from simeval.bank import load_bank, write_bank
from simeval.benchmarks.make_suites import (
    FOLDER,
    choose,
    embedded_suite,
    released_suite,
    split_suite,
    tabletop_suite,
    uniform_suite,
    write_suite,
)
from simeval.errors import DataError, SettingError
from simeval.objects import ObjectLibrary
from simeval.physics.execute import PROTOCOLS
from simeval.suites import Request, Suite, load_suite, suite_names


@pytest.mark.parametrize("name", suite_names())
def test_suites_that_come_with_simeval(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert set(suite.protocols) <= set(PROTOCOLS)
    assert {"replay", "open-hand", "random", "scoop"} <= set(suite.references)
    keys = [(r.object, r.scale, r.type) for r in suite.requests]
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("name", ["released", "unidexgrasp"])
def test_suites_are_those_of_the_data(name: str, tmp_path: Path) -> None:
    library = ObjectLibrary()
    if library.data is None:
        pytest.skip("needs SIMEVAL_DATA")
    suite = {"released": released_suite, "unidexgrasp": tabletop_suite}[name](library.dexgraspnet)
    assert write_suite(suite, tmp_path).read_bytes() == (FOLDER / f"{name}.toml").read_bytes()


def test_a_written_suite_is_read_back(tmp_path: Path) -> None:
    requests = [Request(object='a "mug" \\ é', scale=0.1, type="hook", count=2)]
    suite = Suite(name="s", version=3, description="x\ny", data_kind="real", requests=requests, seed=4)
    assert load_suite(str(write_suite(suite, tmp_path))) == suite


def test_the_default_suite_is_spread_over_families_and_types() -> None:
    names = [f"embedded-{family}-{k:02d}" for family in ("mug", "pen", "jar") for k in range(9)]
    held = {(name, 1.0, "tip"): 5 for name in names}
    held |= {("embedded-pen-07", 1.0, "lateral"): 1, ("embedded-random-512", 1.0, "hook"): 1}
    chosen = choose(held, 10)
    assert choose(dict(reversed(held.items())), 10) == chosen
    assert [(r.object, r.type, r.count) for r in chosen] == [
        ("embedded-jar-00", "tip", 2), ("embedded-jar-01", "tip", 2), ("embedded-mug-00", "tip", 2),
        ("embedded-mug-01", "tip", 2), ("embedded-pen-07", "lateral", 1), ("embedded-pen-07", "tip", 2),
    ]  # fmt: skip
    assert sum(r.count for r in choose(held)) == 2 * 27 + 1  # all but the one with a single grasp
    assert embedded_suite(held).count == 55


def test_suites_of_a_split_hold_what_its_set_shows_to_be_feasible(tmp_path: Path) -> None:
    file = tmp_path / "set.parquet"
    codes, types = ["core-b", "core-a", "core-a", "core-a"], ["tip", "tip", "tip", "hook"]
    meta = {
        "types": ["tip", "hook"], "empty": [["core-c", 0.06, "no candidate held"]],
        "generator": "energy", "settings": {"tries": "16"}, "waves": 4,
    }  # fmt: skip
    write_bank(file, codes, [0.1, 0.08, 0.08, 0.08], types, np.zeros((4, 28)), meta=meta)
    test = [(r.object, r.type, r.count) for r in split_suite("test", load_bank(file)).requests]
    assert test == [("core-a", "hook", 1), ("core-a", "tip", 2), ("core-b", "tip", 1)]
    suite = split_suite("val", load_bank(file))
    asked = [(r.object, r.scale, r.type, r.count) for r in suite.requests]
    assert asked == [("core-a", 0.08, "hook", 1), ("core-a", 0.08, "tip", 1), ("core-b", 0.1, "tip", 1)]
    assert "3 of 6 conditions (50.0%) are left out (tip 33%, hook 67%)" in suite.description
    assert (suite.bank, suite.training) == ("dexgraspnet-1k-val", "dexgraspnet-1k")
    uniform = uniform_suite("val", load_bank(file))
    assert uniform.count == 3 * 6
    write_bank(file, codes, [0.1, 0.08, 0.08, 0.08], types, np.zeros((4, 28)), meta=meta | {"waves": 6})
    with pytest.raises(DataError, match="16 tries × 6 waves"):
        split_suite("val", load_bank(file))
    assert load_suite(str(write_suite(uniform, tmp_path))) == uniform


def test_subset_takes_the_first_objects_with_all_their_scales() -> None:
    suite = load_suite("released")
    assert suite.count == 699
    small = suite.subset(objects=2, grasps=40)
    assert {r.object for r in small.requests} == {r.object for r in suite.requests[:10]}
    assert [r.count for r in small.requests] == [min(40, r.count) for r in suite.requests[:10]]
    assert small.digest != suite.digest
    with pytest.raises(SettingError, match=r"it has: \(any\)"):
        suite.subset(types=["hook"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not TOML"),
        ('name = "a"', "version"),
        (
            'name = "a"\nversion = 1\ndescription = ""\ndata_kind = "real"\nrequests = [["mug", 0, "", 1]]',
            "scale",
        ),
        ('name = "a"\nversion = 1\ndescription = ""\ndata_kind = "real"\nrequests = []\nsize = 1', "size"),
        ('name = "a"\nversion = 1\ndescription = ""\ndata_kind = "real"\nrequests = []', "has no request"),
        (
            'name = "a"\nversion = 1\ndescription = ""\ndata_kind = "real"\nrequests = [["mug", 1, "foo", 1]]',
            "'cylindrical'",
        ),
        ('name = "a"\nversion = 1\ndescription = ""\ndata_kind = "real"\nseed = -5\nrequests = []', "seed"),
        ('requests = [["mug", 1, "", 1, "more"]]', r"expected \[object, scale, type, count\]"),
    ],
)
def test_a_wrong_suite_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(SettingError, match=message):
        load_suite(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match="can't be read"):
        load_suite(str(file))
