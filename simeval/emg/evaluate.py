"""Run classifiers through protocols: every posterior of every test trial is kept, and nothing is computed twice."""

import copy
import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.devices import check_device
from simeval.emg.metrics import Indices
from simeval.emg.models.base import Classifier
from simeval.emg.models.config import Config
from simeval.emg.models.ensemble import combine
from simeval.emg.models.presets import PRESETS, preset
from simeval.emg.models.store import make_classifier
from simeval.emg.protocols import Split, make_splits
from simeval.emg.recordings import LABELS, Recordings
from simeval.files import json_text, make_folder, replacing
from simeval.grasp import Array

VERSION = 1
"""Changes whenever the same split and configuration would give another posterior: stored ones are then made anew."""
SEEDS = 5
_FIXED = ("chronological", "chronological-validation", "leave-one-day-out", "leave-one-subject-out")


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

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) whether the likeliest grasp is the true one."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.truth)


def evaluate(
    recordings: Recordings, protocols: Sequence[str], models: Sequence[str], seeds: int = SEEDS,
    work: Path | None = None, progress: Callable[[int, int], None] | None = None, only_finished: bool = False,
    device: str = "cpu",
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
        device: where networks are trained, as torch names it.

    Raises:
        SettingError: unknown protocol or model; a device that isn't there.
        DataError: the recordings don't have what a protocol needs.
    """
    jobs: list[tuple[str, Config, Split, int]] = []
    for protocol in protocols:
        for seed in range(seeds):
            for split in make_splits(protocol, recordings, seed):
                for name in models:
                    config = preset(name)
                    if seed == 0 or not same_for_all_seeds(protocol, config):
                        jobs.append((name, config, split, seed))
    if not only_finished:
        check_device(device)
        if work is not None:
            make_folder(work)
    runner = Runner(recordings, work, only_finished, device)
    found = []
    for done, (name, config, split, seed) in enumerate(jobs):
        probabilities = runner.posteriors(name, config, split, seed)
        if probabilities is not None:
            truth = recordings.targets[split.test]
            found.append(Tested(name, split.protocol, split.fold, seed, split.test, probabilities, truth))
        if progress:
            progress(done + 1, len(jobs))
    return found


def same_for_all_seeds(protocol: str, config: Config) -> bool:
    """Whether neither split nor training has chance in it."""
    return config.kind in ("lda", "svm") and protocol.removesuffix("-unlabelled") in _FIXED


class Runner:
    """Posteriors of splits, from the store where they are in it."""

    def __init__(
        self, recordings: Recordings, work: Path | None = None, only_finished: bool = False, device: str = "cpu"
    ) -> None:
        self._recordings = recordings
        self._work = work
        self._only_finished = only_finished
        self._device = device
        self._content = digest(recordings)
        self._last: dict[str, tuple[Any, Classifier]] = {}  # by configuration

    def posteriors(self, name: str, config: Config, split: Split, seed: int) -> Array | None:
        """Return (N, 6); None where it isn't finished and nothing is to be run. An ensemble's parts are run, not it."""
        if config.kind == "ensemble":
            parts = [self.posteriors(_name(part), part, split, seed) for part in config.parts]
            finished = [part for part in parts if part is not None]
            return combine(finished) if len(finished) == len(parts) else None
        if same_for_all_seeds(split.protocol, config):
            seed = 0
        if config.kind == "network" and self._device != "cpu":
            name = f"{name}-{self._device}"  # rounds differently, so isn't mixed with the others
        path = None if self._work is None else _path(self._work, self._content, name, config, split, seed)
        stored = None if path is None else _read(path, len(split.test))
        if stored is not None:
            return stored
        if self._only_finished:
            return None
        classifier = self.classifier(config, split, seed)
        if self._work is not None and config.kind == "network":
            self._note()
        return _stored(path, classifier.predict_proba(self._recordings.signals[split.test]))

    def _note(self) -> None:
        """Say what networks are trained with, for whoever reads the folder elsewhere."""
        import torch

        assert self._work is not None
        path = trained_with(self._work, self._device)
        if not path.is_file():
            on = torch.cuda.get_device_name() if self._device.startswith("cuda") else platform.machine()
            path.write_text(json_text({"torch": torch.__version__, "device": self._device, "on": on}))

    def classifier(self, config: Config, split: Split, seed: int) -> Classifier:
        """Train, adapt or calibrate as the split allows; the last training is kept, as for several k."""
        recordings = self._recordings
        align = split.unlabelled or len(split.calibration) > 0
        kind, training = config.model_dump_json(), (seed, align, split.train.tobytes())
        if kind not in self._last or self._last[kind][0] != training:
            fitted = make_classifier(config, self._device)
            fitted.fit(recordings[split.train], seed, align)
            self._last[kind] = (training, fitted)
        classifier = copy.deepcopy(self._last[kind][1])
        if len(split.calibration):
            classifier.calibrate(recordings[split.calibration], seed)
        if split.unlabelled:
            classifier.adapt(recordings.signals[split.test])
        return classifier


def trained_with(work: Path, device: str) -> Path:
    """Return the file that says with which torch, and on what, the networks of a folder were trained."""
    return work / f"trained-{device.replace(':', '-')}.json"


def _read(path: Path, count: int) -> Array | None:
    """Posteriors (count, 6) of a finished fold; None where there are none, or the file is damaged."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if found.shape != (count, len(LABELS)) or not np.isfinite(found).all():
        return None
    return np.asarray(found, dtype=np.float64)


def _path(work: Path, content: str, name: str, config: Config, split: Split, seed: int) -> Path:
    fold = split.fold.replace("/", "-")
    return work / split.protocol / name / f"{fold}-seed{seed}-{split_key(content, config, split)}.npy"


def _name(config: Config) -> str:
    return next((name for name, known in PRESETS.items() if known == config), config.kind)


def _stored(path: Path | None, probabilities: Array) -> Array:
    """Write posteriors where there is a store; return them as they will be read from it."""
    single = probabilities.astype(np.float32)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=True) as unfinished:
            np.save(unfinished, single)
    return single.astype(np.float64)


def digest(recordings: Recordings) -> str:
    """8 hex digits that name the content of recordings."""
    content = hashlib.sha256(np.ascontiguousarray(recordings.signals).tobytes())
    for values in (recordings.labels, recordings.subjects, recordings.sessions, recordings.repetitions):
        content.update("\0".join(map(str, values.tolist())).encode())
    return content.hexdigest()[:8]


def split_key(content: str, config: Config, split: Split) -> str:
    """8 hex digits that name recordings of this content, a configuration and a split."""
    parts = hashlib.sha256(f"{VERSION} {content} {config.model_dump_json()} {split.unlabelled}".encode())
    for rows in (split.train, split.test, split.calibration):
        parts.update(np.asarray(rows, dtype=np.int64).tobytes() + b"|")
    return parts.hexdigest()[:8]
