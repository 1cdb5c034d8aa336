"""LDA and SVM on features, by scikit-learn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.emg.features import feature_matrix
from simeval.emg.models.base import Tensors, check_labels, check_length
from simeval.emg.models.config import ClassicalConfig
from simeval.emg.models.transfer import ROUNDS, believed, moved
from simeval.emg.recordings import LABELS, RATE, Recordings
from simeval.errors import DataError
from simeval.grasp import Array

LIMIT = 8.0
"""Standardised features are clipped to ± this."""
ENOUGH = 5
"""From so many calibration trials of a grasp on, other days and people only did harm (on validation trials)."""
WEIGHT = 5
"""How often a calibration trial counts beside those moved onto it."""


class Classical:
    """See `Classifier`. What is saved are the training trials' features, from which it is fitted again."""

    def __init__(self, config: ClassicalConfig) -> None:
        self.config = config
        self._rows = self._mean = self._deviation = np.zeros((0, 0))
        self._targets = np.zeros(0, dtype=np.intp)
        self._sessions = np.zeros(0, dtype=np.intp)
        self._model: Any = None

    def fit(self, train: Recordings, seed: int = 0, align: bool = False) -> None:
        """See `Classifier`."""
        check_labels(train, "training")
        train = train.latest(self.config.recent)
        self._rows, self._targets = self._features(train.signals), train.targets
        self._sessions = np.unique(train.sessions, return_inverse=True)[1].reshape(-1)
        self._refer(self._rows)
        if align:
            for session in np.unique(self._sessions):
                own = self._sessions == session
                mean, deviation = _statistics(self._rows[own])
                self._rows[own] = (self._rows[own] - mean) / deviation * self._deviation + self._mean
        self._refit()

    def adapt(self, signals: Array) -> None:
        """See `Classifier`."""
        rows = self._features(signals)
        mean, deviation = _statistics(rows)
        self._rows = (self._rows - self._mean) / self._deviation * deviation + mean
        self._mean, self._deviation = mean, deviation
        known, targets = self._rows, self._targets
        for _ in range(ROUNDS):
            chosen, guessed = believed(self.predict_proba(signals))
            self._rows, self._targets = np.concatenate([known, rows[chosen]]), np.concatenate([targets, guessed])
            self._refit()
        self._sessions = np.concatenate([self._sessions, np.full(len(chosen), -1)])

    def calibrate(self, trials: Recordings, seed: int = 0) -> None:
        """See `Classifier`: anew on these trials, with the training trials moved onto them where they are few."""
        check_labels(trials, "calibration")
        rows, targets = self._features(trials.signals), trials.targets
        sessions = np.full(len(targets), -1)
        if _fewest(targets) < ENOUGH:
            others = moved(self._rows, self._targets, self._sessions, rows, targets)
            rows = np.concatenate([others, *[rows] * WEIGHT])
            targets = np.concatenate([self._targets, *[targets] * WEIGHT])
            sessions = np.concatenate([self._sessions, *[sessions] * WEIGHT])
        self._rows, self._targets, self._sessions = rows, targets, sessions
        self._refer(self._rows)
        self._refit()

    def predict_proba(self, signals: Array) -> Array:
        """See `Classifier`."""
        rows = self._unit(self._features(signals))
        if hasattr(self._model, "predict_proba"):
            return np.asarray(self._model.predict_proba(rows), dtype=np.float64)
        from scipy.special import softmax

        return np.asarray(softmax(self._model.decision_function(rows), axis=1), dtype=np.float64)

    def tensors(self) -> Tensors:
        """See `Classifier`."""
        names = ("rows", "mean", "deviation", "targets", "sessions")
        return {name: getattr(self, f"_{name}").astype(np.float32) for name in names}

    def restore(self, tensors: Tensors) -> None:
        """See `Classifier`."""
        self._rows, self._mean, self._deviation = (
            tensors[name].astype(np.float64) for name in ("rows", "mean", "deviation")
        )
        self._targets, self._sessions = (tensors[name].astype(np.intp) for name in ("targets", "sessions"))
        wide = self._features(np.random.default_rng(0).normal(size=(1, 2, self.config.samples))).shape[1]
        if self._rows.shape != (len(self._targets), wide) or self._mean.shape != (1, wide):
            raise ValueError(f"rows have shape {self._rows.shape}, expected {(len(self._targets), wide)}")
        self._refit()

    def _features(self, signals: Array) -> Array:
        check_length(signals, self.config.samples)
        return feature_matrix(signals[:, :, : self.config.samples], RATE, self.config.features)

    def _refer(self, rows: Array) -> None:
        self._mean, self._deviation = _statistics(rows)

    def _unit(self, rows: Array) -> Array:
        return np.clip((rows - self._mean) / self._deviation, -LIMIT, LIMIT)

    def _refit(self) -> None:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        if self.config.kind == "lda":
            if len(self._targets) <= len(LABELS):
                raise DataError(f"LDA needs more trials than grasps to train on, there are {len(self._targets)}")
            self._model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        else:
            self._model = _svm(self.config.svm_c, _fewest(self._targets))
        self._model.fit(self._unit(self._rows), self._targets)


def _fewest(targets: NDArray[np.intp]) -> int:
    return int(np.bincount(targets, minlength=len(LABELS)).min())


def _svm(c: float, fewest: int) -> Any:
    """A radial SVM; its scores become probabilities by a temperature, where there are trials to fit one on."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    machine = SVC(C=c, gamma="scale")
    if fewest < 2:
        return machine
    return CalibratedClassifierCV(machine, method="temperature", ensemble=False, cv=min(5, fewest))


def _statistics(rows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation (1, F)."""
    return rows.mean(axis=0, keepdims=True), rows.std(axis=0, keepdims=True) + 1e-6
