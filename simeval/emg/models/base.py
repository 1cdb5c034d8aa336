"""What every classifier of trials does."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simeval.emg.recordings import LABELS, Recordings
from simeval.errors import DataError
from simeval.grasp import Array

Tensors = dict[str, NDArray[np.float32]]


class Classifier(Protocol):
    """Trials in, posteriors over `LABELS` out.

    Levels differ from person to person and day to day. `fit(align=True)` standardises each training session by itself;
    the target's own statistics then come from `adapt` or `calibrate`, and without either from all training trials.
    """

    def fit(self, train: Recordings, seed: int = 0, align: bool = False) -> None:
        """Train from nothing.

        Raises:
            DataError: trials are too short, or there is no trial of some grasp.
        """
        ...

    def adapt(self, signals: Array) -> None:
        """Align to a target by (N, C, T) trials [V] without labels, about as many of each grasp.

        Its surest answers are then taken for labels and learnt from (self-training), three times over.
        """
        ...

    def calibrate(self, trials: Recordings, seed: int = 0) -> None:
        """Learn the target from a few labelled trials of each grasp, after `fit` or when read from a file."""
        ...

    def predict_proba(self, signals: Array) -> Array:
        """Return (N, 6) posteriors of (N, C, T) trials [V]."""
        ...

    def tensors(self) -> Tensors:
        """Return all that was learnt, by name."""
        ...

    def restore(self, tensors: Tensors) -> None:
        """Take over what `tensors` gave.

        Raises:
            KeyError: one is missing.
            ValueError: one has the wrong shape.
        """
        ...


def check_labels(trials: Recordings, what: str) -> None:
    """Raise DataError where a grasp has no trial."""
    if missing := [label for label in LABELS if label not in trials.labels]:
        raise DataError(f"{what}: no trial of {', '.join(missing)}; all of {', '.join(LABELS)} are needed")


def check_length(signals: Array, samples: int) -> None:
    """Raise DataError where trials are shorter than a classifier needs."""
    if signals.shape[-1] < samples:
        raise DataError(
            f"trials of {signals.shape[-1]} samples; this classifier needs {samples}: record longer ones, or train one "
            "for shorter ones (`simeval emg train --set samples=N`)"
        )
