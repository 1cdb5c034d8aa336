"""Who is trained on, who is tested: the protocols, as lists of rows; grouping is checked, not trusted.

| name | train | test |
|---|---|---|
| `pooled` | 80 % of all trials at random (10 % validation), as in the source paper | 10 % |
| `within-session` | nine tenths of a session's trials | the other tenth, in turn |
| `chronological` | the first half of each grasp's repetitions in a session | the second half |
| `chronological-validation` | the first half, 60 % or 80 % of that first half | the rest of that half |
| `leave-one-day-out` | a subject's other days | one day |
| `leave-one-subject-out` | the other subjects | one subject |
| `calibration-day`, `calibration-subject` | other days or subjects, k trials of each grasp of the target | its others |

All but the first two and the validation also come with `-unlabelled` behind their names: the model sees the test
trials without their labels before it is tested on them, to align and to train itself. This is what a session's use
without labels is worth.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.emg.recordings import LABELS, Recordings
from simeval.errors import DataError, unknown_name

FOLDS = 10
CALIBRATION_TRIALS = (1, 2, 5, 10, 20)
UNLABELLED = "-unlabelled"
VALIDATION_SHARES = (0.5, 0.6, 0.8)
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows of a recording for one training and its test."""

    protocol: str
    fold: str  # names it within its protocol
    train: Rows
    test: Rows
    calibration: Rows  # labelled trials of the target; empty but in the calibration protocols
    unlabelled: bool = False  # the test trials, without labels, may be used to align


def make_splits(name: str, recordings: Recordings, seed: int = 0) -> list[Split]:
    """Return a protocol's splits, checked.

    Raises:
        SettingError: no such protocol.
        DataError: the recordings don't have what it needs.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    splits = list(PROTOCOLS[name](recordings, seed))
    if not splits:
        raise DataError(f"{recordings.source}: {NEEDS[name.removesuffix(UNLABELLED)]} {_has(recordings)}")
    for split in splits:
        check_split(split, recordings)
    return splits


def check_split(split: Split, recordings: Recordings) -> None:
    """Raise DataError where a split mixes what its protocol keeps apart."""
    what = f"{split.protocol}, fold {split.fold}"
    parts = {"train": split.train, "test": split.test, "calibration": split.calibration}
    for a, b in (("train", "test"), ("train", "calibration"), ("calibration", "test")):
        if len(np.intersect1d(parts[a], parts[b])):
            raise DataError(f"{what}: trials are in both {a} and {b}")
    for part in ("train", "test"):
        if not len(parts[part]):
            raise DataError(f"{what}: no trial to {part}")
    group = _groups(split.protocol, recordings)
    target = np.concatenate([split.test, split.calibration])
    if group is not None and (shared := sorted(set(group[split.train].tolist()) & set(group[target].tolist()))):
        raise DataError(f"{what}: {shared[0]} is in both train and test")
    if split.protocol.startswith("chronological"):
        for session, label in {*zip(recordings.sessions[split.test], recordings.labels[split.test], strict=True)}:
            own = (recordings.sessions == session) & (recordings.labels == label)
            before, after = (np.intersect1d(rows, np.flatnonzero(own)) for rows in (split.train, split.test))
            if len(before) and recordings.repetitions[before].max() >= recordings.repetitions[after].min():
                raise DataError(f"{what}: a repetition of {label} is trained on after one that is tested")


def _groups(protocol: str, recordings: Recordings) -> NDArray[np.str_] | None:
    """What train and target must not share."""
    if "subject" in protocol:
        return recordings.subjects
    return recordings.sessions if "day" in protocol else None


def _pooled(recordings: Recordings, seed: int) -> Iterator[Split]:
    order = np.random.default_rng(seed).permutation(len(recordings))
    tenth = len(order) // 10
    if tenth:
        yield Split("pooled", "all", order[2 * tenth :], order[:tenth], _none())  # the second tenth is validation


def _within(recordings: Recordings, seed: int) -> Iterator[Split]:
    from sklearn.model_selection import StratifiedKFold

    for session in _names(recordings.sessions):
        own = np.flatnonzero(recordings.sessions == session)
        labels = recordings.labels[own]
        if min((labels == label).sum() for label in set(labels.tolist())) < FOLDS:
            continue
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(own, labels)
        for number, (train, test) in enumerate(folds):
            yield Split("within-session", f"{session}/{number}", own[train], own[test], _none())


def _chronological(recordings: Recordings, protocol: str, unlabelled: bool = False) -> Iterator[Split]:
    for session in _names(recordings.sessions):
        early, late = [], []
        for label in LABELS:
            own = recordings.in_time(session, label)
            early.append(own[: len(own) // 2])
            late.append(own[len(own) // 2 :])
        yield Split(protocol, session, np.concatenate(early), np.concatenate(late), _none(), unlabelled)


def _validation(recordings: Recordings, seed: int) -> Iterator[Split]:
    """What settings may be chosen on: nothing of a session's second half."""
    for session in _names(recordings.sessions):
        halves = [own[: len(own) // 2] for own in (recordings.in_time(session, label) for label in LABELS)]
        for share in VALIDATION_SHARES:
            early = [own[: int(share * len(own))] for own in halves]
            late = [own[int(share * len(own)) :] for own in halves]
            fold = f"{session}/{round(100 * share)}%"
            yield Split("chronological-validation", fold, np.concatenate(early), np.concatenate(late), _none())


def _days(recordings: Recordings, protocol: str, unlabelled: bool = False) -> Iterator[Split]:
    """Each session of a subject who has several; trained on the others."""
    for subject in _names(recordings.subjects):
        own = recordings.subjects == subject
        sessions = _names(recordings.sessions[own])
        for session in sessions if len(sessions) > 1 else []:
            target = recordings.sessions == session
            yield Split(protocol, session, np.flatnonzero(own & ~target), np.flatnonzero(target), _none(), unlabelled)


def _subjects(recordings: Recordings, protocol: str, unlabelled: bool = False) -> Iterator[Split]:
    """Each subject; trained on all others."""
    names = _names(recordings.subjects)
    for subject in names if len(names) > 1 else []:
        target = recordings.subjects == subject
        yield Split(protocol, subject, np.flatnonzero(~target), np.flatnonzero(target), _none(), unlabelled)


def _calibration(recordings: Recordings, seed: int, protocol: str, unlabelled: bool = False) -> Iterator[Split]:
    whole = _days(recordings, protocol) if "day" in protocol else _subjects(recordings, protocol)
    for split in whole:
        labels = recordings.labels[split.test]
        for k in CALIBRATION_TRIALS:
            rng = np.random.default_rng([seed, k])
            chosen = []
            for label in LABELS:
                own = split.test[labels == label]
                if len(own) <= k:
                    break
                chosen.append(rng.choice(own, k, replace=False))
            else:
                drawn = np.concatenate(chosen)
                rest = np.setdiff1d(split.test, drawn)
                yield Split(protocol, f"{split.fold}/k={k}", split.train, rest, drawn, unlabelled)


PROTOCOLS: dict[str, Callable[[Recordings, int], Iterator[Split]]] = {
    "pooled": _pooled,
    "within-session": _within,
    "chronological": lambda r, seed: _chronological(r, "chronological"),
    "chronological-unlabelled": lambda r, seed: _chronological(r, "chronological-unlabelled", True),
    "chronological-validation": _validation,
    "leave-one-day-out": lambda r, seed: _days(r, "leave-one-day-out"),
    "leave-one-day-out-unlabelled": lambda r, seed: _days(r, "leave-one-day-out-unlabelled", True),
    "leave-one-subject-out": lambda r, seed: _subjects(r, "leave-one-subject-out"),
    "leave-one-subject-out-unlabelled": lambda r, seed: _subjects(r, "leave-one-subject-out-unlabelled", True),
    "calibration-day": lambda r, seed: _calibration(r, seed, "calibration-day"),
    "calibration-day-unlabelled": lambda r, seed: _calibration(r, seed, "calibration-day-unlabelled", True),
    "calibration-subject": lambda r, seed: _calibration(r, seed, "calibration-subject"),
    "calibration-subject-unlabelled": lambda r, seed: _calibration(r, seed, "calibration-subject-unlabelled", True),
}
"""Protocols by name."""

NEEDS = {
    "pooled": "pooled needs 10 trials at least;",
    "within-session": f"within-session needs {FOLDS} trials of each grasp in a session;",
    "chronological": "chronological needs a session;",
    "chronological-validation": "chronological-validation needs a session;",
    "leave-one-day-out": "leave-one-day-out needs a subject with several sessions;",
    "leave-one-subject-out": "leave-one-subject-out needs several subjects;",
    "calibration-day": "calibration-day needs a subject with several sessions;",
    "calibration-subject": "calibration-subject needs several subjects;",
}


def _names(values: NDArray[Any]) -> list[str]:
    return sorted(set(values.tolist()))


def _none() -> Rows:
    return np.empty(0, dtype=np.intp)


def _has(recordings: Recordings) -> str:
    subjects, sessions = len(set(recordings.subjects.tolist())), len(set(recordings.sessions.tolist()))
    return f"there are {len(recordings)} trials of {subjects} subjects in {sessions} sessions"
