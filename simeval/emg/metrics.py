"""What predictions are worth: per test set, from posteriors and true labels."""

import numpy as np
from numpy.typing import NDArray

from simeval.emg.recordings import LABELS
from simeval.grasp import Array

BINS = 10
"""Of the calibration curve."""
Indices = NDArray[np.intp]


def confusion(probabilities: Array, truth: Indices) -> NDArray[np.int_]:
    """(6, 6) counts, true grasps in rows."""
    from sklearn.metrics import confusion_matrix

    return np.asarray(confusion_matrix(truth, probabilities.argmax(axis=1), labels=range(len(LABELS))))


def calibration_curve(probabilities: Array, truth: Indices, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and count of each bin of confidence that isn't empty (bins of equal width)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[which == b].mean()), float(right[which == b].mean()), int((which == b).sum()))
        for b in range(bins)
        if (which == b).any()
    ]


def rejection_curve(probabilities: Array, truth: Indices, points: int = 20) -> list[tuple[float, float]]:
    """Share rejected and accuracy of the rest, rejecting the least confident first."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    right = (probabilities.argmax(axis=1) == truth)[order]
    kept = np.unique(np.linspace(len(right) / points, len(right), points).astype(int))
    return [(float(1 - k / len(right)), float(right[:k].mean())) for k in kept[::-1] if k]
