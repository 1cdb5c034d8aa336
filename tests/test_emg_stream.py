"""Streaming decisions: windows, smoothing, rejection; the command line of `simeval emg`."""

import io
import json
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest

from simeval.cli import main
from simeval.emg.files import write_npz
from simeval.emg.models.presets import shipped
from simeval.emg.models.store import Trained, load_classifier
from simeval.emg.recordings import LABELS
from simeval.emg.stream import MESSAGE_VERSION, Decision, Stream, StreamSettings, read_ndjson
from simeval.emg.synthetic import make_synthetic
from simeval.errors import DataError


class Always:
    """Sure of one grasp."""

    def __init__(self, label: str, probability: float = 0.95) -> None:
        self.posterior = np.full(len(LABELS), (1 - probability) / (len(LABELS) - 1))
        self.posterior[LABELS.index(label)] = probability

    def predict_proba(self, signals: np.ndarray) -> np.ndarray:
        return np.tile(self.posterior, (len(signals), 1))


@pytest.fixture
def trained() -> Trained:
    real = load_classifier(shipped())
    return Trained(real.config, Always("tip"), np.array([[0.05, 0.05], [2.0, 2.0]]))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    return tmp_path


def noise(samples: int, level: float = 0.3, seed: int = 0) -> np.ndarray:
    return 0.14 + np.random.default_rng(seed).normal(0, level, (2, samples))


def decide(trained: Trained, signal: np.ndarray, **settings: float) -> list[Decision]:
    return list(Stream(trained, StreamSettings(**settings)).push(signal))


def test_a_decision_every_hop_and_stable_when_they_agree(trained: Trained):
    found = decide(trained, noise(1500), hop_s=0.2, agreeing=3)
    assert len(found) == (1500 - trained.window) // 100 + 1
    ends = [d.time_s for d in found]
    np.testing.assert_allclose(ends, (trained.window + 100 * np.arange(len(found))) / 500)
    assert [d.stable for d in found] == [False, False] + [True] * (len(found) - 2)
    assert {d.label for d in found} == {"tip"}
    assert all(sum(d.probabilities.values()) == pytest.approx(1, abs=1e-4) for d in found)


@pytest.mark.parametrize("hop_s", [0.1, 1.7])
def test_samples_in_pieces_give_the_same_decisions(trained: Trained, hop_s: float):
    signal = noise(3000)
    stream = Stream(trained, StreamSettings(hop_s=hop_s))
    pieces = [d for part in np.array_split(signal, 70, axis=1) for d in stream.push(part)]
    whole = decide(trained, signal, hop_s=hop_s)
    assert whole[1].time_s - whole[0].time_s == pytest.approx(hop_s)
    assert whole[-1].time_s <= 6.0
    assert [(d.time_s, d.label, d.probabilities) for d in pieces] == [
        (d.time_s, d.label, d.probabilities) for d in whole
    ]


BROKEN = {
    "flat": np.zeros((2, 1000)),
    "flat line at the offset": np.full((2, 1000), 0.14),
    "one channel dead": np.stack([noise(1000)[0], np.full(1000, 0.14)]),
    "clipped": np.clip(noise(1000, 1.0), -0.2, 0.4),
    "not-finite": np.where(np.arange(1000) % 100 == 3, np.nan, noise(1000)),
    "mains": 0.14 + 0.2 * np.sin(2 * np.pi * 50 * np.arange(1000) / 500) * np.ones((2, 1)) + noise(1000, 0.005),
    "quiet": noise(1000, 0.004),
    "loud": noise(1000, 50.0),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("model", ["sure of everything", "shipped"])
def test_never_a_grasp_from_a_broken_signal(what: str, model: str, trained: Trained):
    found = decide(trained if model == "sure of everything" else load_classifier(shipped()), BROKEN[what])
    assert found
    for decision in found:
        assert decision.rejected
        assert decision.label is None
        assert not decision.stable
        assert decision.reason == ("flat" if what.startswith(("flat", "one")) else what)
        assert max(decision.probabilities.values()) < 0.2


def test_an_unsure_posterior_is_rejected(trained: Trained):
    unsure = Trained(trained.config, Always("hook", 0.4), trained.levels)  # type: ignore[arg-type]
    for decision in decide(unsure, noise(1000), threshold=0.6):
        assert (decision.label, decision.rejected, decision.reason) == (None, True, "unsure")
        assert decision.probabilities["hook"] == pytest.approx(0.4, abs=0.01)


def test_smoothing_rides_over_one_odd_window(trained: Trained):
    class Odd(Always):
        calls = 0

        def predict_proba(self, signals: np.ndarray) -> np.ndarray:
            self.calls += 1
            return Always("hook", 0.7).predict_proba(signals) if self.calls == 4 else super().predict_proba(signals)

    def labels(smoothing: float) -> list[str | None]:
        odd = Trained(trained.config, Odd("tip"), trained.levels)  # type: ignore[arg-type]
        return [d.label for d in decide(odd, noise(1200), smoothing=smoothing, threshold=0.5)]

    assert labels(0.0)[3] == "hook"
    assert set(labels(0.8)) == {"tip"}


def test_the_shipped_model_decides_in_time():
    stream = Stream(load_classifier(shipped()))
    spent = sorted(d.compute_ms for d in stream.push(noise(1500)))
    assert spent[len(spent) // 2] < 300  # the limit of a prosthesis; results/emg.md has what was measured


def test_ndjson_is_read_and_checked():
    lines = ['{"time": 0.0, "ch1": [1, 2], "ch2": [3, null]}', "", '{"ch1": 5, "ch2": 6}']
    parts = [samples for _, samples in read_ndjson(lines)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), [[1, 2, 5], [3, np.nan, 6]])
    late = [json.dumps({"time": i * 0.1, "ch1": [0] * 25, "ch2": [0] * 25}) for i in range(20)]
    for wrong, message in {
        "{": "line 1 is not JSON",
        '{"ch1": 1}': "no 'ch2'; it has ch1",
        '{"ch1": 1, "ch2": 2, "ch3": 3}': "unknown key 'ch3'",
        '{"ch1": "a", "ch2": 2}': "'a' is not a number",
        '{"ch1": ' + "9" * 400 + ', "ch2": 2}': "a number of 400 digits is too large",
        '{"ch1": [1, 2], "ch2": [2]}': "2 samples of ch1 and 1 of ch2",
        '{"rate": 1000, "ch1": 1, "ch2": 2}': "expected 500",
        '{"time": NaN, "ch1": 1, "ch2": 2}': "time nan is not a time",
        "[" * 100_000: "line 1 is not JSON",
        "\n".join(late): "wrong rate",
    }.items():
        with pytest.raises(DataError, match=message):
            list(read_ndjson(wrong.split("\n")))
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_ndjson(TextIOWrapper(BytesIO(b"\xff\xfe"), encoding="utf-8")))


def test_three_channels_are_refused(trained: Trained):
    with pytest.raises(DataError, match="a missing channel"):
        list(Stream(trained).push(np.zeros((1, 10))))


# The command line


def simeval(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return int(stop.value.code or 0)


def test_training_refuses_a_device_that_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]):
    assert simeval("emg", "train", "--recordings", "synthetic", "--out", here / "model", "--device", "nowhere") == 2
    assert "device 'nowhere' can't be used" in capsys.readouterr().err
    assert not (here / "model").exists()


def test_train_then_stream_a_file(here: Path, capsys: pytest.CaptureFixture[str]):
    trials = make_synthetic(subjects=1, sessions=1, repetitions=6, seconds=3.0)
    write_npz(here / "own.npz", trials)
    quick = ("--set", "width=16", "--set", "steps=150", "--set", "epochs=0", "--set", "samples=1500")
    assert simeval("emg", "train", "--recordings", "own.npz", "--out", "model", *quick) == 0
    at = int(np.flatnonzero(trials.labels == "spherical")[0])
    np.savez(here / "live.npz", signal=trials.signals[at], rate=500.0)
    capsys.readouterr()
    assert simeval("emg", "stream", "live.npz", "--model", "model", "--first", "--set", "threshold=0.4") == 0
    out, err = capsys.readouterr()
    messages = [json.loads(line) for line in out.splitlines()]
    assert {m["version"] for m in messages} == {MESSAGE_VERSION}
    assert set(messages[0]) == set(Decision.__slots__)
    assert messages[-1]["label"] == "spherical"
    assert "first stable decision: spherical" in err


def test_stream_reads_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    line = json.dumps({"time": 0, "ch1": [0.0] * 600, "ch2": [0.0] * 600})
    monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
    assert simeval("emg", "stream", "-") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["reason"] == "flat"


def test_evaluate_prints_rows_and_says_synthetic(here: Path, capsys: pytest.CaptureFixture[str]):
    trials = make_synthetic(subjects=2, sessions=1, repetitions=4)
    write_npz(here / "own.npz", trials)
    arguments = ("emg", "evaluate", "--recordings", "own.npz", "--protocol", "leave-one-subject-out", "--model", "lda")
    assert simeval(*arguments, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(r["generator"], r["suite"], r["protocol"], r["data_kind"]) for r in rows} == {
        ("lda", "own", "leave-one-subject-out", "synthetic")
    }
    assert simeval(*arguments) == 0
    assert "synthetic data" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "--protocol", "poled"), "Did you mean 'pooled'"),
        (("evaluate", "--model", "ldaa"), "Did you mean 'lda'"),
        (("evaluate", "--format", "xml"), "Available: json, table"),
        (("evaluate", "--recordings", "uci"), "SIMEVAL_DATA"),
        (("train", "--out", "m", "--recordings", "synthetic", "--set", "widht=3"), "Did you mean 'width'"),
        (("train", "--out", "m", "--recordings", "synthetic", "--set", "width=no"), "--set width"),
        (("stream", "nothing.csv"), "no such file"),
        (("stream", "-", "--set", "hop=1"), "unknown stream setting 'hop'"),
        (("stream", "-", "--set", "threshold=7"), "--set threshold"),
        (("stream", "-", "--set", "hop_s=inf"), "--set hop_s"),
        (("stream", "-", "--model", "nowhere"), "unknown model 'nowhere'. Available: general"),
        (("train", "--out", "m", "--recordings", "synthetic", "--set", "frames=1000"), "samples have 38"),
        (("train", "--out", "m", "--recordings", "synthetic", "--set", "spectrogram.bands=500"), "of 63 bins"),
        (
            ("train", "--out", "m", "--recordings", "synthetic", "--set", "learning_rate=Infinity"),
            "--set learning_rate",
        ),
        (("train", "--out", "m", "--recordings", "synthetic", "--model", "lda", "--set", "features=[]"), "features"),
        (("train", "--out", "/proc/x/y", "--recordings", "synthetic"), "/proc/x/y: can't be made a folder"),
        (("train", "--out", "/proc", "--recordings", "synthetic"), "/proc/model.safetensors can't be written"),
        (("evaluate", "--work", "/proc/x/y"), "/proc/x/y: can't be made a folder"),
    ],
)
def test_bad_input_is_said(arguments: tuple[str, ...], message: str, here: Path, capsys: pytest.CaptureFixture[str]):
    assert simeval("emg", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(here.iterdir())  # nothing is begun


def test_a_short_recording_is_said(here: Path, capsys: pytest.CaptureFixture[str]):
    np.savez(here / "short.npz", signal=noise(100), rate=500.0)
    assert simeval("emg", "stream", "short.npz") == 2
    assert "100 samples, a decision needs" in capsys.readouterr().err
    np.savez(here / "fast.npz", signal=noise(2000), rate=1000.0)
    assert simeval("emg", "stream", "fast.npz") == 2
    assert "1000 samples per second, expected 500" in capsys.readouterr().err
