"""From posteriors to rows of numbers, with intervals that know that trials of one session go together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simeval.emg.evaluate import Tested
from simeval.emg.metrics import BINS
from simeval.emg.recordings import LABELS, Recordings
from simeval.grasp import Array
from simeval.stats import PairedDifference, paired_difference, rate

METRICS = ("accuracy", "macro_recall", "macro_precision", "macro_f1", "ece")


@dataclass(frozen=True, slots=True)
class EmgRow:
    """One number. Rates are fractions; NaN where there is none."""

    generator: str  # the model
    suite: str  # the recordings
    protocol: str
    group: str  # all, or k=5 …, or a session
    metric: str
    value: float  # over all test trials of all seeds
    low: float  # 95 % interval, sessions as clusters; NaN where they teach nothing
    high: float
    n: int  # trials tested, once per seed
    data_kind: str


def group_of(tested: Tested) -> str:
    """Return k=… of a calibration fold, all of others."""
    return tested.fold.rsplit("/", 1)[1] if tested.protocol.startswith("calibration") else "all"


def summarise(found: Sequence[Tested], recordings: Recordings, suite: str) -> list[EmgRow]:
    """Return the metrics of each model, protocol and group."""
    rows = []
    for key, own in _by(found).items():
        model, protocol, group = key
        clusters, probabilities, truth = _joined(own, recordings)
        right = probabilities.argmax(axis=1) == truth
        accuracy = rate(right, clusters.tolist())
        numbers = {"accuracy": (accuracy.value, accuracy.low, accuracy.high)}
        numbers |= _jackknifed(clusters, probabilities, truth)
        rows += [
            EmgRow(model, suite, protocol, group, metric, *numbers[metric], len(truth), recordings.data_kind)
            for metric in METRICS
        ]
    return rows


def paired(found: Sequence[Tested], recordings: Recordings, a: str, b: str) -> dict[tuple[str, str], PairedDifference]:
    """Return the difference in accuracy, a − b, on the same test trials of each (protocol, group).

    A model that ran for one seed, since chance has no part in it, is compared with every seed of the other.
    """
    grouped = _by(found)
    differences = {}
    for (model, protocol, group), own in grouped.items():
        other = grouped.get((b, protocol, group))
        if model != a or other is None:
            continue
        once = len({t.seed for t in own}) != len({t.seed for t in other})
        left, right = _right_by_trial(own, once), _right_by_trial(other, once)
        sessions = {key: str(recordings.sessions[int(key.split("/")[0])]) for key in left}
        found_here = paired_difference(left, right, sessions)
        estimate = found_here.estimate  # few sessions can leave it wider than differences of shares can be
        inside = replace(estimate, low=max(-1.0, estimate.low), high=min(1.0, estimate.high))
        differences[protocol, group] = replace(found_here, estimate=inside)
    return differences


def _right_by_trial(own: Sequence[Tested], once: bool) -> dict[str, float]:
    """1 or 0 for each trial and seed; `once`: the mean over seeds for each trial."""
    values: dict[str, list[float]] = {}
    for t in own:
        for row, right in zip(t.rows, t.right, strict=True):
            values.setdefault(str(row) if once else f"{row}/{t.seed}", []).append(float(right))
    return {key: float(np.mean(v)) for key, v in values.items()}


def _by(found: Sequence[Tested]) -> dict[tuple[str, str, str], list[Tested]]:
    groups: dict[tuple[str, str, str], list[Tested]] = {}
    for t in found:
        groups.setdefault((t.model, t.protocol, group_of(t)), []).append(t)
    return groups


def _joined(own: Sequence[Tested], recordings: Recordings) -> tuple[NDArray[np.str_], Array, NDArray[np.intp]]:
    """Sessions, posteriors and truth of all trials of all seeds."""
    rows = np.concatenate([t.rows for t in own])
    return (
        recordings.sessions[rows],
        np.concatenate([t.probabilities for t in own]),
        np.concatenate([t.truth for t in own]),
    )


def _jackknifed(
    clusters: NDArray[np.str_], probabilities: Array, truth: NDArray[np.intp]
) -> dict[str, tuple[float, float, float]]:
    """Macro recall, precision, F1 and ECE, with t intervals from leaving out one cluster at a time.

    None of them is a mean of trials, so `rate` and `clustered_mean` don't apply. See Efron & Tibshirani 1993, *An
    Introduction to the Bootstrap*, ch. 11.
    """
    from scipy.special import stdtrit

    names, codes = np.unique(clusters, return_inverse=True)
    k, count, found = len(names), len(LABELS), probabilities.argmax(axis=1)
    confusion, gap = np.zeros((k, count, count)), np.zeros((k, BINS))
    np.add.at(confusion, (codes, truth, found), 1)
    confidence = probabilities.max(axis=1)
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    np.add.at(gap, (codes, which), confidence - (found == truth))
    kept = np.concatenate([np.ones((1, k)), 1 - np.eye(k)])  # all, then all but one
    values = _macro(np.einsum("rk,kij->rij", kept, confusion))
    values["ece"] = np.abs(kept @ gap).sum(axis=1) / np.maximum(kept @ confusion.sum(axis=(1, 2)), 1)
    out = {}
    for metric, (value, *without) in values.items():
        spread = float(np.std(without)) or math.nan  # a single cluster, or some that agree exactly, teach nothing
        half = float(stdtrit(k - 1, 0.975)) * spread * math.sqrt(k - 1)
        out[metric] = (float(value), float(np.maximum(0, value - half)), float(np.minimum(1, value + half)))
    return out


def _macro(confusion: Array) -> dict[str, Array]:
    """Macro metrics of (R, 6, 6) confusions."""
    hit = np.diagonal(confusion, axis1=1, axis2=2)
    recall = hit / np.maximum(confusion.sum(axis=2), 1)
    precision = hit / np.maximum(confusion.sum(axis=1), 1)
    f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-12)
    return {"macro_recall": recall.mean(1), "macro_precision": precision.mean(1), "macro_f1": f1.mean(1)}
