"""Recordings of surface EMG: readers, synthetic data, checks."""

import os
from pathlib import Path

import numpy as np
import pytest

from simeval.emg.files import ARRAYS, load_recordings, read_csv, read_npz, read_signal, write_npz
from simeval.emg.quality import check_recordings, find_fault
from simeval.emg.recordings import LABELS, Recordings, concatenate
from simeval.emg.synthetic import OFFSET_V, STEP_V, make_synthetic
from simeval.emg.uci import KEYS, read_session, read_uci
from simeval.errors import DataError

DATA = os.environ.get("SIMEVAL_DATA")


@pytest.fixture(scope="module")
def synthetic() -> Recordings:
    return make_synthetic(subjects=2, sessions=1, repetitions=2, seconds=1.0)


def uci_arrays(trials: int = 2, samples: int = 600) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"{key}_ch{c}": rng.normal(size=(trials, samples)) for key in KEYS.values() for c in (1, 2)}


def write_mat(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, arrays)
    return path


def write_csv(path: Path, rate: float = 500.0, drop: str = "", samples: int = 200) -> Path:
    columns = ["trial", "label", "subject", "session", "repetition", "time", "ch1", "ch2"]
    kept = [c for c in columns if c != drop]
    rng = np.random.default_rng(1)
    lines = [",".join(kept)]
    for trial, label in enumerate(LABELS):
        for i in range(samples):
            values = dict(zip(columns, (trial, label, "me", "me_1", 0, i / rate, *rng.normal(size=2)), strict=True))
            lines.append(",".join(str(values[c]) for c in kept))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.skipif(not DATA, reason="SIMEVAL_DATA is not set: no real recordings here")
def test_uci_has_both_databases_with_who_and_when():
    found = read_uci(Path(DATA or ""))
    assert found.data_kind == "real"
    assert found.signals.shape[1:] == (2, 2500)
    man = found.subjects == "male_day"
    assert man.sum() == 1800
    assert set(found.sessions[man].tolist()) == {"male_day_1", "male_day_2", "male_day_3"}
    for session in set(found.sessions.tolist()):
        counts = [((found.sessions == session) & (found.labels == label)).sum() for label in LABELS]
        assert set(counts) == {100 if session.startswith("male_day") else 30}
    assert found.repetitions.max() == 99
    assert abs(found.signals.mean() - OFFSET_V) < 0.02
    check_recordings(found)


def test_uci_layout_is_read(tmp_path: Path):
    arrays = uci_arrays()
    write_mat(tmp_path / "semg" / "Database 1" / "female_1.mat", arrays)
    write_mat(tmp_path / "semg" / "Database 2" / "male_day_1.mat", uci_arrays(3, 500))
    found = read_uci(tmp_path)
    assert found.signals.shape == (2 * 6 + 3 * 6, 2, 500)
    at = np.flatnonzero((found.sessions == "female_1") & (found.labels == "planar") & (found.repetitions == 1))
    np.testing.assert_array_equal(found.signals[at[0]], [arrays["palm_ch1"][1, :500], arrays["palm_ch2"][1, :500]])
    assert set(found.subjects.tolist()) == {"female_1", "male_day"}


def test_uci_files_that_are_wrong_say_what(tmp_path: Path):
    with pytest.raises(DataError, match=r"no 'Database 1'.*recordings of your own"):
        read_uci(tmp_path)
    arrays = uci_arrays()
    path = tmp_path / "Database 1" / "x.mat"
    with pytest.raises(DataError, match=r"no 'tip_ch2' \(a missing channel\?\)"):
        read_session(write_mat(path, {k: v for k, v in arrays.items() if k != "tip_ch2"}))
    with pytest.raises(DataError, match=r"unknown key 'rest_ch1'. Available: cyl_ch1"):
        read_session(write_mat(path, {**arrays, "rest_ch1": arrays["tip_ch1"]}))
    with pytest.raises(DataError, match="hook_ch2 has shape"):
        read_session(write_mat(path, {**arrays, "hook_ch2": arrays["hook_ch2"][:1]}))
    content = write_mat(path, arrays).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="can't be read as a MATLAB file"):
        read_session(path)
    path.write_bytes(b"not a matrix")
    with pytest.raises(DataError, match="download it again"):
        read_session(path)


def test_npz_goes_round(tmp_path: Path, synthetic: Recordings):
    write_npz(tmp_path / "own.npz", synthetic)
    found = load_recordings(str(tmp_path / "own.npz"))
    np.testing.assert_array_equal(found.signals, synthetic.signals)
    np.testing.assert_array_equal(found.sessions, synthetic.sessions)
    assert found.data_kind == "synthetic"
    np.savez(tmp_path / "less.npz", signals=synthetic.signals)
    with pytest.raises(DataError, match="no array 'labels'"):
        read_npz(tmp_path / "less.npz")
    np.savez(tmp_path / "evil.npz", signals=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="can't be read as NPZ"):
        read_npz(tmp_path / "evil.npz")
    arrays = dict(np.load(tmp_path / "own.npz"))
    for name, wrong, message in (
        ("repetitions", np.full(len(synthetic), np.nan), "repetitions must be whole numbers"),
        ("repetitions", np.full(len(synthetic), 1.7), "repetitions must be whole numbers"),
        ("signals", arrays["signals"] * 1j, "signals are complex"),
        ("data_kind", "banana", "data_kind 'banana'. Available: real, synthetic"),
    ):
        np.savez(tmp_path / "wrong.npz", **{**arrays, name: wrong})
        with pytest.raises(DataError, match=message):
            read_npz(tmp_path / "wrong.npz")
    nothing = {**arrays, **{name: arrays[name][:0] for name in ARRAYS if name != "rate"}}
    np.savez(tmp_path / "empty.npz", **nothing)
    with pytest.raises(DataError, match="there is no trial in it"):
        load_recordings(str(tmp_path / "empty.npz"))


def test_csv_is_read(tmp_path: Path):
    found = read_csv(write_csv(tmp_path / "own.csv"))
    assert found.signals.shape == (6, 2, 200)
    assert found.labels.tolist() == list(LABELS)
    assert found.rate == pytest.approx(500)


def test_unlabelled_signals_are_read(tmp_path: Path):
    path = tmp_path / "live.csv"
    path.write_text("time,ch1,ch2\n" + "".join(f"{i / 500},{i},{-i}\n" for i in range(10)))
    signal, rate, start = read_signal(path)
    np.testing.assert_array_equal(signal, [np.arange(10), -np.arange(10)])
    assert rate == pytest.approx(500)
    assert start == 0
    path.write_text("time,ch1,ch2\n" + "".join(f"{10 + i / 500},{i},{-i}\n" for i in range(10)))
    assert read_signal(path)[2] == 10
    path.write_text("time,ch1\n0,1\n0.002,2\n")
    with pytest.raises(DataError, match=r"no column .ch2."):
        read_signal(path)
    path.write_text("time,ch1,ch2\n0,1,1\n0.002,2,2\n0.004,2,2\n0.1,2,2\n")
    with pytest.raises(DataError, match="time steps from"):
        read_signal(path)
    np.savez(tmp_path / "live.npz", signal=np.zeros((3, 100)), rate=500)
    with pytest.raises(DataError, match="expected \\(2, samples\\)"):
        read_signal(tmp_path / "live.npz")


def test_a_csv_with_a_byte_order_mark_is_read(tmp_path: Path):
    path = write_csv(tmp_path / "own.csv")
    plain = read_csv(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert (read_csv(path).signals == plain.signals).all()


def test_csv_files_that_are_wrong_say_what(tmp_path: Path):
    path = tmp_path / "own.csv"
    with pytest.raises(DataError, match=r"no column .ch2."):
        read_csv(write_csv(path, drop="ch2"))
    with pytest.raises(DataError, match="1000 samples per second, expected 500"):
        load_recordings(str(write_csv(path, rate=1000.0)))
    lines, slow = write_csv(path).read_text().splitlines(), write_csv(path, rate=1000.0).read_text().splitlines()
    path.write_text("\n".join(line if i <= 1000 else slow[i] for i, line in enumerate(lines)))
    with pytest.raises(DataError, match="trial 5 has 1000 samples per second, others 500"):
        load_recordings(str(path))
    with pytest.raises(DataError, match=r"trials of 0.1 s, needed are 0.25 s"):
        load_recordings(str(write_csv(path, samples=50)))
    path.write_text(write_csv(path).read_text().replace("hook", "fist"))
    with pytest.raises(DataError, match=r"unknown label 'fist'. Available: cylindrical"):
        read_csv(path)
    for wrong in ("nan", "inf", "1.7"):
        path.write_text(write_csv(path).read_text().replace("me_1,0,", f"me_1,{wrong},"))
        with pytest.raises(DataError, match="repetitions must be whole numbers"):
            read_csv(path)
    path.write_text("trial,label\n1\n")
    with pytest.raises(DataError, match="line 2 has 1 cells"):
        read_csv(path)
    with pytest.raises(DataError, match=r"unknown recordings 'emg.txt'. Available: uci"):
        load_recordings("emg.txt")
    with pytest.raises(DataError, match="SIMEVAL_DATA"):
        load_recordings("uci")


def test_synthetic_is_reproducible_and_looks_recorded(synthetic: Recordings):
    again = make_synthetic(subjects=2, sessions=1, repetitions=2, seconds=1.0)
    np.testing.assert_array_equal(again.signals, synthetic.signals)
    assert synthetic.data_kind == "synthetic"
    steps = synthetic.signals / STEP_V
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    assert synthetic.signals.mean() == pytest.approx(OFFSET_V, abs=0.02)
    check_recordings(synthetic)


def test_faults_are_named(synthetic: Recordings):
    good = synthetic.signals[0]
    assert find_fault(good) is None
    time = np.arange(good.shape[1]) / 500
    noise = np.random.default_rng(0).normal(0, 0.002, good.shape)
    broken = {
        "not-finite": np.where(np.arange(good.shape[1]) == 7, np.nan, good),
        "flat": np.stack([good[0], np.zeros_like(good[1])]),
        "clipped": np.clip(4 * good, -0.3, 0.3),
        "mains": 0.1 * np.sin(2 * np.pi * 50 * time) + noise,
    }
    for name, signal in broken.items():
        fault = find_fault(signal)
        assert fault is not None
        assert fault.name == name


def test_a_bad_trial_is_named(synthetic: Recordings):
    signals = synthetic.signals.copy()
    signals[3, 1] = 0.0
    bad = Recordings(signals, synthetic.labels, synthetic.subjects, synthetic.sessions, synthetic.repetitions)
    with pytest.raises(DataError, match=r"trial 3 \(synthetic_1_day_1, .*channel 2 is flat"):
        check_recordings(bad)


def test_a_session_is_of_one_subject(synthetic: Recordings):
    days = np.array([session.rpartition("_")[2] for session in synthetic.sessions])
    shared = Recordings(synthetic.signals, synthetic.labels, synthetic.subjects, days, synthetic.repetitions)
    with pytest.raises(DataError, match=r"session '1' is one of 'synthetic_1' and of .*'synthetic_1 1'"):
        check_recordings(shared)


def test_recordings_of_different_rates_are_not_joined(synthetic: Recordings):
    other = Recordings(
        synthetic.signals, synthetic.labels, synthetic.subjects, synthetic.sessions, synthetic.repetitions, 1000.0
    )
    with pytest.raises(DataError, match="different rates"):
        concatenate([synthetic, other])
