"""Features and classifiers of surface EMG, on synthetic trials."""

import json
from pathlib import Path

import numpy as np
import pytest

from simeval.emg.features import FEATURES, autoregressive, feature_matrix
from simeval.emg.models.config import Augmentation, ClassicalConfig, Config, EnsembleConfig, NetworkConfig
from simeval.emg.models.presets import PRESETS, preset, shipped
from simeval.emg.models.store import load_classifier, make_classifier, save_classifier, train_classifier
from simeval.emg.models.transfer import moved
from simeval.emg.recordings import LABELS, Recordings
from simeval.emg.spectrogram import SOURCE, Spectrogram
from simeval.emg.synthetic import make_synthetic
from simeval.errors import DataError, SettingError

SAMPLES = 750
NETWORK = NetworkConfig(width=16, steps=60, epochs=0, samples=SAMPLES, learning_rate=0.01, calibration_steps=20)
LDA, SVM = ClassicalConfig(kind="lda", samples=SAMPLES), ClassicalConfig(kind="svm", samples=SAMPLES)
QUICK: dict[str, Config] = {
    "lda": LDA,
    "svm": SVM,
    "band-net": NETWORK,
    "mixup": NETWORK.model_copy(update={"augment": Augmentation(mixup=0.5)}),
    "windows": NETWORK.model_copy(update={"frames": 5}),
    "resnet18": NETWORK.model_copy(update={"architecture": "resnet18", "width": 8, "learning_rate": 0.003}),
    "ensemble": EnsembleConfig(parts=(NETWORK, LDA), samples=SAMPLES),
}


@pytest.fixture(scope="module")
def trials() -> Recordings:
    return make_synthetic(subjects=2, sessions=1, repetitions=8, seconds=SAMPLES / 500)


@pytest.fixture(scope="module", params=QUICK)
def fitted(request: pytest.FixtureRequest, trials: Recordings):
    config = QUICK[request.param]
    return config, train_classifier(config, trials[trials.repetitions < 6])


def test_what_is_learnt_carries_over_to_other_trials(fitted, trials: Recordings):
    test = trials[trials.repetitions >= 6]
    posteriors = fitted[1].classifier.predict_proba(test.signals)
    assert posteriors.shape == (len(test), len(LABELS))
    np.testing.assert_allclose(posteriors.sum(axis=1), 1, atol=1e-6)
    assert (posteriors.argmax(axis=1) == test.targets).mean() > 0.7


def test_saved_and_loaded_is_the_same(fitted, trials: Recordings, tmp_path: Path):
    config, trained = fitted
    save_classifier(tmp_path / "model", trained)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}
    found = load_classifier(tmp_path / "model")
    assert found.config == config
    before, after = (t.classifier.predict_proba(trials.signals) for t in (trained, found))
    assert np.abs(before - after).max() < 0.05  # half precision
    assert (before.argmax(1) == after.argmax(1)).mean() > 0.97


def test_calibration_learns_a_new_person(fitted, trials: Recordings):
    config = fitted[0]
    one = trials[trials.subjects == "synthetic_1"]
    other = trials[trials.subjects == "synthetic_2"]
    classifier = make_classifier(config)
    classifier.fit(one, align=True)
    test = other[other.repetitions >= 3]
    before = (classifier.predict_proba(test.signals).argmax(1) == test.targets).mean()
    classifier.calibrate(other[other.repetitions < 3])
    after = (classifier.predict_proba(test.signals).argmax(1) == test.targets).mean()
    assert after > before + 0.05
    with pytest.raises(DataError, match="no trial of hook"):
        classifier.calibrate(other[other.labels != "hook"])


def test_training_is_the_same_for_one_seed_and_another_for_another(trials: Recordings):
    def weights(seed: int) -> np.ndarray:
        classifier = make_classifier(NETWORK.model_copy(update={"steps": 3}))
        classifier.fit(trials, seed)
        return classifier.tensors()["0.head.weight"]

    np.testing.assert_array_equal(weights(1), weights(1))
    assert np.abs(weights(1) - weights(2)).max() > 1e-3


@pytest.mark.parametrize("config", [LDA, NETWORK], ids=["lda", "network"])
def test_aligning_takes_away_a_gain(config: Config, trials: Recordings):
    """A target whose amplifier is set otherwise is classified as before, once aligned by its trials."""
    classifier = make_classifier(config)
    classifier.fit(trials, align=True)
    louder = 5 * trials.signals
    classifier.adapt(trials.signals)
    usual = classifier.predict_proba(trials.signals).argmax(1)
    strange = classifier.predict_proba(louder).argmax(1)
    classifier.adapt(louder)
    aligned = classifier.predict_proba(louder).argmax(1)
    assert (aligned == usual).mean() > max(0.8, (strange == usual).mean() + 0.2)


def test_moved_trials_have_the_targets_means():
    rng = np.random.default_rng(0)
    values, targets = rng.normal(size=(40, 3)), np.arange(40) % 2
    sessions = np.array(["a", "b"])[(np.arange(40) // 2) % 2]
    there = rng.normal(5, 1, size=(6, 3))
    found = moved(values, targets, sessions, there, np.arange(6) % 2)
    for grasp in (0, 1):
        for session in ("a", "b"):
            own = (targets == grasp) & (sessions == session)
            np.testing.assert_allclose(found[own].mean(0), there[np.arange(6) % 2 == grasp].mean(0))
            np.testing.assert_allclose(found[own].std(0), values[own].std(0))


def test_moved_calibration_needs_the_training_trials(trials: Recordings, tmp_path: Path):
    config = NETWORK.model_copy(update={"calibration": "moved", "steps": 5})
    trained = train_classifier(config, trials)
    trained.classifier.calibrate(trials[trials.repetitions < 2])
    save_classifier(tmp_path, trained)
    with pytest.raises(DataError, match="use 'tuned'"):
        load_classifier(tmp_path).classifier.calibrate(trials)


def test_models_that_are_damaged_say_what(trials: Recordings, tmp_path: Path):
    save_classifier(tmp_path, train_classifier(LDA, trials))
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    content, text = weights.read_bytes(), config.read_text()
    weights.write_bytes(content[:100])
    with pytest.raises(DataError, match="can't be read as weights"):
        load_classifier(tmp_path)
    weights.write_bytes(content)
    config.write_text(json.dumps({**json.loads(text), "features": ["hudgins"]}))
    with pytest.raises(DataError, match="doesn't fit"):
        load_classifier(tmp_path)
    config.write_text(text.replace('"lda"', '"knn"'))
    with pytest.raises(DataError, match=r"config.json"):
        load_classifier(tmp_path)
    weights.unlink()
    config.write_text(text)
    with pytest.raises(DataError, match="simeval emg train"):
        load_classifier(tmp_path)


def test_one_trial_of_each_grasp_is_too_few_for_lda(trials: Recordings):
    one = trials[(trials.repetitions == 0) & (trials.subjects == trials.subjects[0])]
    with pytest.raises(DataError, match="LDA needs more trials than grasps to train on, there are 6"):
        train_classifier(LDA, one)


def test_samples_of_an_ensemble_are_those_of_its_parts():
    values = preset("ensemble").model_dump(mode="json") | {"samples": 600}
    assert {part.samples for part in EnsembleConfig.model_validate(values).parts} == {600}
    assert EnsembleConfig(parts=(LDA,)).parts == (LDA,)


def test_short_trials_and_missing_grasps_are_refused(trials: Recordings):
    with pytest.raises(DataError, match=r"trials of 750 samples; this classifier needs 2500"):
        make_classifier(PRESETS["lda"]).fit(trials)
    with pytest.raises(DataError, match=r"no trial of tip"):
        make_classifier(LDA).fit(trials[trials.labels != "tip"])
    with pytest.raises(SettingError, match=r"Did you mean 'resnet18'"):
        preset("resnet")


def test_features_are_finite_and_know_nothing_of_the_offset(trials: Recordings):
    for name, feature in FEATURES.items():
        found = feature(trials.signals, 500.0)
        assert np.isfinite(found).all(), name
        np.testing.assert_allclose(feature(trials.signals + 1.0, 500.0), found, atol=1e-6)
    with pytest.raises(SettingError, match="Did you mean 'hudgins'"):
        feature_matrix(trials.signals, 500.0, ["hudgin"])


def test_autoregressive_coefficients_are_recovered():
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000)
    for i in range(2, len(x)):
        x[i] += 0.6 * x[i - 1] - 0.3 * x[i - 2]
    found = autoregressive(x[None, None], 500.0)[0]
    np.testing.assert_allclose(found, [0.6, -0.3, 0, 0, 0, 0], atol=0.03)


def test_spectrograms_have_the_shape_they_say_and_the_right_band():
    time = np.arange(2500) / 500
    tone = np.stack([np.sin(2 * np.pi * 100 * time), np.sin(2 * np.pi * 200 * time)])[None] + 0.14
    ours, source = Spectrogram(), SOURCE
    for kind in (ours, source):
        found = kind(tone, 500.0)
        assert found.shape == (1, 2, *kind.shape(2500))
    assert source(tone, 500.0).min() == 0
    assert source(tone, 500.0).max() == 1
    low, high = ours(tone, 500.0).mean(axis=3)[0].argmax(axis=1)
    assert high > 1.7 * low
    np.testing.assert_allclose(ours(tone, 500.0), ours(tone + 3, 500.0), atol=1e-5)
    assert source(tone, 500.0)[0, 0, 0].max() > 0.2, "the source's keeps the offset"


def test_the_shipped_model_is_small_and_loads():
    trained = load_classifier(shipped())
    assert (shipped() / "model.safetensors").stat().st_size <= 23e6
    assert trained.window <= 600
    assert (shipped() / "CARD.md").is_file()


def test_the_latest_trials_alone_are_learnt_from(trials: Recordings):
    kept = trials.latest(2)
    assert len(kept) == 2 * 2 * len(LABELS)  # grasps of two people
    assert sorted(set(kept.repetitions.tolist())) == [6, 7]
    assert len(trials.latest(0)) == len(trials.latest(99)) == len(trials)
    shuffled = trials[np.random.default_rng(0).permutation(len(trials))]
    assert set(shuffled.latest(3).repetitions.tolist()) == {5, 6, 7}
    for config in (LDA, NETWORK):
        few = train_classifier(config.model_copy(update={"recent": 2}), trials).classifier
        same = train_classifier(config, kept).classifier
        assert np.array_equal(few.predict_proba(trials.signals), same.predict_proba(trials.signals))
