"""Protocols keep apart what they should; metrics; resumable evaluation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simeval.emg import evaluate as evaluation
from simeval.emg.evaluate import evaluate, trained_with
from simeval.emg.metrics import calibration_curve, confusion, rejection_curve
from simeval.emg.models import presets
from simeval.emg.models.config import ClassicalConfig, EnsembleConfig, NetworkConfig
from simeval.emg.protocols import PROTOCOLS, check_split, make_splits
from simeval.emg.recordings import LABELS, Recordings
from simeval.emg.summary import METRICS, paired, summarise
from simeval.emg.synthetic import make_synthetic
from simeval.errors import DataError, SettingError


@pytest.fixture(scope="module")
def trials() -> Recordings:
    return make_synthetic(subjects=3, sessions=2, repetitions=21, seconds=0.5)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_keeps_apart_what_it_says(name: str, trials: Recordings):
    splits = make_splits(name, trials)
    assert splits
    for split in splits:
        rows = [split.train, split.test, split.calibration]
        assert len(np.unique(np.concatenate(rows))) == sum(map(len, rows))
        train, target = trials[split.train], trials[np.concatenate([split.test, split.calibration])]
        if "day" in name:
            assert not set(train.sessions) & set(target.sessions)
            assert set(train.subjects) == set(target.subjects)
        if "subject" in name:
            assert not set(train.subjects) & set(target.subjects)
        if name in ("chronological", "chronological-validation"):
            assert train.repetitions.max() < target.repetitions.min()
        if name == "chronological-validation":  # of 21 repetitions, 10 are the first half
            assert target.repetitions.max() == 9
        if name.startswith("calibration"):
            k = int(split.fold.split("k=")[1])
            assert [int((trials[split.calibration].labels == label).sum()) for label in LABELS] == [k] * 6
        else:
            assert not len(split.calibration)
        assert split.unlabelled == name.endswith("unlabelled")


@pytest.mark.parametrize(
    "name",
    ["leave-one-day-out", "leave-one-subject-out", "calibration-day", "chronological", "chronological-validation"],
)
def test_a_split_that_mixes_is_refused(name: str, trials: Recordings):
    split = make_splits(name, trials)[0]
    stray = split.test[-1:]
    with pytest.raises(DataError, match="in both train and test"):
        check_split(replace(split, train=np.concatenate([split.train, stray])), trials)
    moved = replace(split, train=np.concatenate([split.train, stray]), test=split.test[:-1])
    with pytest.raises(DataError, match=r"in both train and test|trained on after one that is tested"):
        check_split(moved, trials)


def test_pooled_is_eight_one_one_and_drawn_by_seed(trials: Recordings):
    [split], [other] = make_splits("pooled", trials, 0), make_splits("pooled", trials, 1)
    assert len(split.test) == len(trials) // 10
    assert len(split.train) == len(trials) - 2 * (len(trials) // 10)
    assert set(split.test.tolist()) != set(other.test.tolist())


def test_ten_folds_test_each_trial_once(trials: Recordings):
    tested = np.concatenate([split.test for split in make_splits("within-session", trials)])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(trials)))


def test_recordings_without_what_a_protocol_needs_are_refused(trials: Recordings):
    one = trials[trials.sessions == "synthetic_1_day_1"]
    for name in ("leave-one-day-out", "leave-one-subject-out", "calibration-day", "calibration-subject"):
        with pytest.raises(DataError, match=r"needs .*there are 126 trials of 1 subjects in 1 sessions"):
            make_splits(name, one)
    with pytest.raises(SettingError, match="Did you mean 'pooled'"):
        make_splits("poled", trials)


def test_scores_of_known_predictions(trials: Recordings):
    truth = np.array([0, 0, 1, 1, 2, 3, 4, 5])
    posteriors = np.full((8, 6), 0.02)
    posteriors[np.arange(8), [0, 0, 1, 2, 2, 3, 4, 5]] = 0.9
    rows = np.array([np.flatnonzero(trials.targets == t)[i] for i, t in enumerate(truth)])
    tested = evaluation.Tested("known", "pooled", "all", 0, rows, posteriors, truth)
    found = {row.metric: row.value for row in summarise([tested], trials, "synthetic")}
    assert found["accuracy"] == pytest.approx(7 / 8)
    assert found["macro_recall"] == pytest.approx((1 + 0.5 + 4) / 6)
    assert found["macro_precision"] == pytest.approx((1 + 1 + 0.5 + 3) / 6)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3 + 3) / 6)
    assert found["ece"] == pytest.approx(0.9 - 7 / 8)
    assert confusion(posteriors, truth)[1].tolist() == [0, 1, 1, 0, 0, 0]
    assert calibration_curve(posteriors, truth) == [(pytest.approx(0.9), pytest.approx(7 / 8), 8)]


def test_rejection_keeps_the_sure_ones():
    posteriors = np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.6, 0.4]])
    curve = rejection_curve(posteriors, np.array([0, 0, 1, 1]), points=2)
    assert curve == [(0.0, 0.5), (0.5, 1.0)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict:
    small = {"features": ("hudgins", "spectral-moments"), "samples": 250}
    lda, svm = ClassicalConfig(kind="lda", **small), ClassicalConfig(kind="svm", **small)
    found = {"lda": lda, "svm": svm, "ensemble": EnsembleConfig(parts=(lda, svm))}
    for name, config in found.items():
        monkeypatch.setitem(presets.PRESETS, name, config)
    return found


def test_evaluation_resumes_and_gives_the_same(
    quick: dict, trials: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = (["leave-one-day-out-unlabelled", "pooled"], ["lda", "svm", "ensemble"])
    first = evaluate(trials, *asked, seeds=2, work=tmp_path)
    assert len({t.seed for t in first if t.protocol == "pooled"}) == 2
    partly = sorted(tmp_path.rglob("*.npy"))
    partly[0].unlink()
    fewer = evaluate(trials, *asked, seeds=2, work=tmp_path, only_finished=True)
    assert len(fewer) < len(first)
    evaluate(trials, *asked, seeds=2, work=tmp_path)
    partly[0].write_bytes(partly[0].read_bytes()[:40])  # as a full disk leaves it
    partly[1].write_bytes(b"")
    evaluate(trials, *asked, seeds=2, work=tmp_path)
    monkeypatch.setattr(evaluation, "make_classifier", None)  # nothing may be trained any more
    again = evaluate(trials, *asked, seeds=2, work=tmp_path)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
        np.testing.assert_array_equal(a.rows, b.rows)


def test_networks_of_one_device_are_not_taken_for_those_of_another(
    trials: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(presets.PRESETS, "band-net", NetworkConfig(width=8, steps=2, epochs=0, samples=250))
    asked = trials, ["pooled"], ["lda", "band-net"]
    monkeypatch.setitem(presets.PRESETS, "lda", ClassicalConfig(features=("hudgins",), samples=250))
    evaluate(*asked, seeds=1, work=tmp_path)
    for device, finished in (("cpu", ["lda", "band-net"]), ("cuda", ["lda"])):
        found = evaluate(*asked, seeds=1, work=tmp_path, only_finished=True, device=device)
        assert [t.model for t in found] == finished
    note = json.loads(trained_with(tmp_path, "cpu").read_text())
    assert note["torch"] == torch.__version__
    assert not trained_with(tmp_path, "cuda").exists()


def test_a_device_that_is_not_there_is_refused(trials: Recordings):
    for device in ("nowhere", "meta", "mps", "cuda:x"):
        with pytest.raises(SettingError, match=f"device '{device}' can't be used"):
            evaluate(trials, ["pooled"], ["band-net"], seeds=1, device=device)


def test_aligning_helps_on_new_days(quick: dict, trials: Recordings):
    found = evaluate(trials, ["leave-one-day-out", "leave-one-day-out-unlabelled"], ["lda"], seeds=1)
    rows = summarise(found, trials, "synthetic")
    values = {r.protocol: r.value for r in rows if r.metric == "accuracy"}
    assert values["leave-one-day-out-unlabelled"] > values["leave-one-day-out"]


def test_rows_say_what_they_are_and_have_intervals(quick: dict, trials: Recordings):
    found = evaluate(trials, ["calibration-day"], ["lda", "svm"], seeds=1)
    rows = summarise(found, trials, "synthetic")
    assert {r.data_kind for r in rows} == {"synthetic"}
    assert {r.metric for r in rows} == set(METRICS)
    assert {r.group for r in rows} == {"k=1", "k=2", "k=5", "k=10", "k=20"}
    for row in rows:
        agree = row.value == 1 and row.metric != "accuracy"  # in every session: nothing to tell an interval from
        assert np.isnan([row.low, row.high]).all() if agree else 0 <= row.low <= row.value <= row.high <= 1
    differences = paired(found, trials, "svm", "lda")
    by_name = {(r.generator, r.group): r.value for r in rows if r.metric == "accuracy"}
    for (_, group), difference in differences.items():
        expected = by_name["svm", group] - by_name["lda", group]
        assert difference.estimate.value == pytest.approx(expected)
