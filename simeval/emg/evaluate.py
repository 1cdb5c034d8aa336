"""Run classifiers through protocols: every posterior of every test trial is kept, and nothing is computed twice."""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.emg.metrics import Indices
from simeval.emg.models.base import Classifier
from simeval.emg.models.config import Config
from simeval.emg.models.presets import preset
from simeval.emg.models.store import make_classifier
from simeval.emg.protocols import Split, make_splits
from simeval.emg.recordings import Recordings
from simeval.grasp import Array

VERSION = 1
"""Changes whenever the same split and configuration would give another posterior: stored ones are then made anew."""
SEEDS = 5
_FIXED = ("chronological", "leave-one-day-out", "leave-one-subject-out")


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """Posteriors of the test trials of one fold, seed and model."""

    model: str
    protocol: str
    fold: str
    seed: int
    rows: NDArray[np.intp]  # (N,) of the recordings
    probabilities: Array  # (N, 6)
    truth: Indices  # (N,)


def evaluate(
    recordings: Recordings, protocols: Sequence[str], models: Sequence[str], seeds: int = SEEDS,
    work: Path | None = None, progress: Callable[[int, int], None] | None = None, only_finished: bool = False,
) -> list[Tested]:  # fmt: skip
    """Train and test; resumable where there is a folder to keep results in.

    A seed decides the split, where it is drawn, and the training. Classifiers without chance in them are the same for
    every seed of a protocol whose splits are fixed, and run once there.

    Args:
        recordings: checked ones.
        protocols: names of `PROTOCOLS`.
        models: names of presets.
        seeds: how many, from 0.
        work: folder of finished folds.
        progress: called with (done, total) folds.
        only_finished: run nothing, return what is stored.

    Raises:
        SettingError: unknown protocol or model.
        DataError: the recordings don't have what a protocol needs.
    """
    jobs: list[tuple[str, Config, Split, int]] = []
    for protocol in protocols:
        for seed in range(seeds):
            for split in make_splits(protocol, recordings, seed):
                for name in models:
                    config = preset(name)
                    if seed == 0 or not _same_for_all_seeds(protocol, config):
                        jobs.append((name, config, split, seed))
    content = digest(recordings)
    found: list[Tested] = []
    run = _Runner()
    for done, (name, config, split, seed) in enumerate(jobs):
        path = None if work is None else _path(work, content, name, config, split, seed)
        stored = path is not None and path.is_file()
        if stored or not only_finished:
            probabilities = _stored(path) if path is not None and stored else run(recordings, config, split, seed)
            if path is not None and not stored:
                probabilities = _store(path, probabilities)
            truth = recordings.targets[split.test]
            found.append(Tested(name, split.protocol, split.fold, seed, split.test, probabilities, truth))
        if progress:
            progress(done + 1, len(jobs))
    return found


def _same_for_all_seeds(protocol: str, config: Config) -> bool:
    return config.kind in ("lda", "svm") and protocol.removesuffix("-unlabelled") in _FIXED


def _path(work: Path, content: str, name: str, config: Config, split: Split, seed: int) -> Path:
    fold = split.fold.replace("/", "-")
    return work / split.protocol / name / f"{fold}-seed{seed}-{_key(content, config, split)}.npy"


def _stored(path: Path) -> Array:
    return np.load(path, allow_pickle=False).astype(np.float64)


def _store(path: Path, probabilities: Array) -> Array:
    """Write posteriors and return them as they will be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npy")
    np.save(part, probabilities.astype(np.float32))
    part.replace(path)
    return _stored(path)


class _Runner:
    """Runs splits; one with the same training as the one before, as for several k, is not trained again."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Any, Classifier]] = {}  # by configuration

    def __call__(self, recordings: Recordings, config: Config, split: Split, seed: int) -> Array:
        align = split.unlabelled or len(split.calibration) > 0
        kind, training = config.model_dump_json(), (seed, align, split.train.tobytes())
        if kind not in self._last or self._last[kind][0] != training:
            fitted = make_classifier(config)
            fitted.fit(recordings[split.train], seed, align)
            self._last[kind] = (training, fitted)
        classifier = copy.deepcopy(self._last[kind][1])
        if split.unlabelled:
            classifier.adapt(recordings.signals[split.test])
        if len(split.calibration):
            classifier.calibrate(recordings[split.calibration], seed)
        return classifier.predict_proba(recordings.signals[split.test])


def digest(recordings: Recordings) -> str:
    """8 hex digits that name the content of recordings."""
    content = hashlib.sha256(np.ascontiguousarray(recordings.signals).tobytes())
    for values in (recordings.labels, recordings.subjects, recordings.sessions, recordings.repetitions):
        content.update("\0".join(map(str, values.tolist())).encode())
    return content.hexdigest()[:8]


def _key(content: str, config: Config, split: Split) -> str:
    parts = hashlib.sha256(f"{VERSION} {content} {config.model_dump_json()} {split.unlabelled}".encode())
    for rows in (split.train, split.test, split.calibration):
        parts.update(np.asarray(rows, dtype=np.int64).tobytes() + b"|")
    return parts.hexdigest()[:8]
