"""Held-out recordings and what a classifier makes of them; who is trained on is up to `simeval.emg.protocols`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from simeval.devices import one_thread
from simeval.emg.evaluate import Runner, digest, split_key
from simeval.emg.models.config import Config
from simeval.emg.protocols import CALIBRATION_TRIALS, Split, make_splits
from simeval.emg.protocols import PROTOCOLS as EMG_PROTOCOLS
from simeval.emg.recordings import LABELS, Recordings
from simeval.errors import DataError, SettingError, unknown_name
from simeval.files import completed, make_folder
from simeval.grasp import Array

PROTOCOLS = {
    "same-session": "within-session",
    "calibrated-day": "calibration-day",
    "new-day": "leave-one-day-out",
    "calibrated-person": "calibration-subject",
    "new-person": "leave-one-subject-out",
}
"""What a trial calls the usual ones of the EMG protocols; the others go by their own names."""
USUAL_CALIBRATION = 5
"""Calibration trials of each grasp where a protocol's name doesn't end in :1, :2, …"""


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """M held-out recordings, each classified by a model that has not met its session, day or person."""

    protocol: str
    rows: NDArray[np.intp]  # (M,) of the recordings
    folds: NDArray[np.str_]  # (M,) names of the splits
    posteriors: Array  # (M, 6) over LABELS
    seconds: Array  # (M,) CPU s that classifying took, one recording at a time


def splits_of(protocol: str, recordings: Recordings, seed: int) -> list[Split]:
    """Return the checked splits of a protocol: a name of `PROTOCOLS` or of the EMG ones, `:k` behind calibration.

    Raises:
        SettingError: no such protocol or number of calibration trials.
        DataError: the recordings don't have what it needs.
    """
    name, colon, trials = protocol.partition(":")
    known = PROTOCOLS.get(name, name)
    if known not in EMG_PROTOCOLS:
        raise unknown_name("EMG protocol", protocol, [*PROTOCOLS, *EMG_PROTOCOLS])
    calibrated = known.startswith("calibration")
    if colon and (not calibrated or trials not in map(str, CALIBRATION_TRIALS)):
        counts = ", ".join(map(str, CALIBRATION_TRIALS))
        raise SettingError(f"EMG protocol {protocol!r}: only calibrated ones have a number, of {counts}")
    found = make_splits(known, recordings, seed)
    if not calibrated:
        return found
    wanted = f"/k={trials or USUAL_CALIBRATION}"
    chosen = [split for split in found if split.fold.endswith(wanted)]
    if not chosen:
        raise DataError(f"{recordings.source}: too few trials of a grasp to calibrate with {wanted[3:]} of each")
    return chosen


def check_labels(protocol: str, splits: list[Split], recordings: Recordings) -> None:
    """Raise DataError where no held-out recording of some grasp is left to be drawn."""
    there = {str(label) for split in splits for label in recordings.labels[split.test]}
    if missing := [label for label in LABELS if label not in there]:
        raise DataError(f"{recordings.source}: {protocol} holds out no recording of {', '.join(missing)}")


def classify(
    protocol: str, recordings: Recordings, config: Config, seed: int, work: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Signals:  # fmt: skip
    """Fit a classifier once for each split, and classify each held-out recording once; finished splits are kept.

    Args:
        protocol: see `splits_of`.
        recordings: checked ones.
        config: of the classifier.
        seed: of splits that are drawn, and of the training.
        work: folder of what is finished.
        progress: called with (done, total) splits.
    """
    splits, runner, content = splits_of(protocol, recordings, seed), Runner(recordings), digest(recordings)
    posteriors, seconds = [], []
    for done, split in enumerate(splits):
        if progress:
            progress(done, len(splits))
        path = work / split.protocol / f"{split.fold.replace('/', '-')}-seed{seed}-{split_key(content, config, split)}"
        found, spent = _kept(path.with_name(path.name + ".npz"), runner, recordings, config, split, seed)
        posteriors.append(found)
        seconds.append(spent)
    if progress:
        progress(len(splits), len(splits))
    return Signals(
        protocol, np.concatenate([split.test for split in splits]),
        np.concatenate([np.full(len(split.test), split.fold) for split in splits]),
        np.concatenate(posteriors), np.concatenate(seconds),
    )  # fmt: skip


def _kept(
    path: Path, runner: Runner, recordings: Recordings, config: Config, split: Split, seed: int
) -> tuple[Array, Array]:
    """Posteriors (N, 6) and seconds (N,) of a split's test, from the file where it is there."""
    damaged = suppress(OSError, ValueError, EOFError, KeyError, BadZipFile)  # then it is made again
    if path.is_file():
        with damaged, np.load(path, allow_pickle=False) as stored:
            return stored["posteriors"], stored["seconds"]
    classifier = runner.classifier(config, split, seed)
    posteriors, seconds = np.empty((len(split.test), len(LABELS))), np.empty(len(split.test))
    with one_core():
        for i, row in enumerate(split.test.tolist()):
            begun = time.thread_time()
            posteriors[i] = classifier.predict_proba(recordings.signals[row : row + 1])[0]
            seconds[i] = time.thread_time() - begun
    make_folder(path.parent)
    with completed(path) as unfinished:
        np.savez(unfinished, posteriors=posteriors, seconds=seconds)
    return posteriors, seconds


@contextmanager
def one_core() -> Iterator[None]:
    """Let NumPy and torch compute in the calling thread alone, whose CPU time then is that of one core."""
    from threadpoolctl import threadpool_limits

    with one_thread(), threadpool_limits(1):
        yield
