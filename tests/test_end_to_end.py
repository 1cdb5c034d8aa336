"""The study and the film of end-to-end trials, in tiny versions."""

import json
import sys
from pathlib import Path

import fake_generators
import numpy as np
import pytest
from test_trials import QUICK, recordings, suite  # noqa: F401

from simeval.benchmarks import end_to_end, end_to_end_video
from simeval.emg.models import presets
from simeval.emg.models.config import ClassicalConfig
from simeval.emg.recordings import Recordings
from simeval.errors import DataError
from simeval.motion import Motion, record_motion
from simeval.replay import find_trial, restore_trial
from simeval.trials.records import EndToEnd, Fate


@pytest.fixture
def tiny(tmp_path: Path, recordings: Recordings, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """The study's page, numbers and figures, of two generators one of which isn't there."""
    config = ClassicalConfig(kind="lda", features=("hudgins", "spectral-moments"), samples=250)
    monkeypatch.setitem(presets.PRESETS, "lda", config)
    monkeypatch.setattr(end_to_end, "load_recordings", lambda which, data: recordings)
    monkeypatch.setattr(end_to_end, "load_suite", lambda name: suite())
    entries = tuple(end_to_end.Chain(f"{g}, tried", g, policies=("oracle", "argmax")) for g in ("steady", "absent"))
    signals = tuple(end_to_end.Signal(protocol, "synthetic", "lda") for protocol in ("new-person", "new-day"))
    monkeypatch.setattr(end_to_end, "EMBEDDED", (end_to_end.Part(entries, signals),))
    made = end_to_end.RunSpec
    monkeypatch.setattr(end_to_end, "RunSpec", lambda *a, **k: made(*a, **{**k, "physics": QUICK, "workers": 0}))
    monkeypatch.setattr(sys, "argv", ["end_to_end", "--embedded", "--trials", "6", "--out", str(tmp_path / "results"),
                                      "--work", str(tmp_path / "work")])  # fmt: skip
    with fake_generators.registered():
        end_to_end.main()
    return tmp_path


def test_the_study_writes_its_page_and_the_film_shows_its_trials(tiny: Path) -> None:
    out = tiny / "results"
    text = (out / "end_to_end.md").read_text(encoding="utf-8")
    assert "synthetic signals, embedded objects" in text
    assert "unknown generator 'absent'" in text
    assert text.count("| argmax |") == 4  # two protocols in two tables
    numbers = json.loads((out / "end_to_end.json").read_text())
    assert {row["generator"] for row in numbers["rows"]} == {"steady, tried"}
    assert {row["protocol"] for row in numbers["rows"]} == {"new-person", "new-day"}
    assert (out / "end_to_end_losses.png").stat().st_size > 5000
    with pytest.raises(DataError, match=r"no trial of policy 'reject'"):
        end_to_end_video.choose([tiny / "work"], "reject")
    _film(tiny)


def _film(tiny: Path) -> None:
    """Three clips side by side, small and short."""
    from simeval.trials.summary import read_rows

    records: list[EndToEnd] = [r for row in read_rows([tiny / "work"]) for r in row.records if r.lifted][:1]
    records += [r for row in read_rows([tiny / "work"]) for r in row.records if r.fate != Fate.UNDECIDED][:2]
    once = read_rows([tiny / "work"])
    assert len(read_rows([tiny / "work", *(tiny / "work").glob("steady-*")])) == len(once)
    [folder] = (tiny / "work").glob("steady-*")
    clips = []
    for record in records:
        stored = restore_trial(*find_trial([folder], record.grasp_trial))
        motion = record_motion(stored.task)
        short = Motion(motion.record, motion.moments[:2] or motion.moments)
        clips.append(end_to_end_video.Clip(record, stored, short))
    shown = list(end_to_end_video.pictures(clips, size=64, every=10))
    assert len(shown) >= 2
    height = 64 + end_to_end_video.LINE * len(clips[0].words)
    assert {picture.shape for picture in shown} == {(height, 64 * len(clips), 3)}
    assert np.ptp(shown[0][:64]) > 50  # something is to be seen
    assert np.ptp(shown[0][64:]) > 50  # and to be read
