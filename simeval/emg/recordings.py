"""Labelled trials of surface EMG, and who made them when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.errors import DataError
from simeval.grasp import Array
from simeval.taxonomy import GRASP_TYPES

LABELS = tuple(GRASP_TYPES)
"""Names of the six grasps, in the order of every posterior and confusion matrix."""
RATE = 500.0
"""Samples per second of the recordings that models are trained on."""
CHANNELS = ("ch1", "ch2")
"""Flexor carpi ulnaris and extensor carpi radialis, in the UCI recordings."""
DATA_KINDS = ("real", "synthetic")
Text = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Recordings:
    """N trials of T samples on C channels."""

    signals: Array  # (N, C, T) V
    labels: Text  # (N,) names of LABELS
    subjects: Text  # (N,)
    sessions: Text  # (N,) one placement of the electrodes: a subject's day; names are unique over subjects
    repetitions: NDArray[np.int_]  # (N,) order of the trials of a grasp within a session, from 0
    rate: float = RATE  # Hz
    data_kind: str = "real"  # or synthetic
    source: str = ""

    def __post_init__(self) -> None:
        if self.signals.ndim != 3:
            raise DataError(
                f"{self.source}: signals of shape {self.signals.shape}, expected (trials, channels, samples)"
            )
        for name in ("labels", "subjects", "sessions", "repetitions"):
            if getattr(self, name).shape != (len(self.signals),):
                shape = getattr(self, name).shape
                raise DataError(f"{self.source}: {name} of shape {shape} for {len(self.signals)} trials")
        if self.data_kind not in DATA_KINDS:
            raise DataError(f"{self.source}: data_kind {self.data_kind!r}. Available: {', '.join(DATA_KINDS)}")
        unknown = sorted(set(self.labels.tolist()) - set(LABELS))
        if unknown:
            raise DataError(f"{self.source}: unknown label {unknown[0]!r}. Available: {', '.join(LABELS)}")

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, rows: NDArray[Any]) -> "Recordings":
        """Return the trials of an index array or mask."""
        return replace(
            self, signals=self.signals[rows], labels=self.labels[rows], subjects=self.subjects[rows],
            sessions=self.sessions[rows], repetitions=self.repetitions[rows],
        )  # fmt: skip

    @property
    def targets(self) -> NDArray[np.intp]:
        """(N,) index of each label in LABELS."""
        return np.array([LABELS.index(label) for label in self.labels.tolist()], dtype=np.intp)

    def in_time(self, session: str, label: str) -> NDArray[np.intp]:
        """Return the rows of a grasp's trials in a session, as they came."""
        own = np.flatnonzero((self.sessions == session) & (self.labels == label))
        return own[np.argsort(self.repetitions[own], kind="stable")]

    def latest(self, count: int) -> "Recordings":
        """Return the last `count` trials of each grasp in each session, in their order; 0: all."""
        if not count:
            return self
        kept = []
        for session, label in {*zip(self.sessions.tolist(), self.labels.tolist(), strict=True)}:
            kept.append(self.in_time(session, label)[-count:])
        return self[np.sort(np.concatenate(kept))]


def concatenate(parts: Sequence[Recordings]) -> Recordings:
    """Join recordings, cut to the shortest one's length.

    Raises:
        DataError: nothing to join, or rates, channels or kinds of data differ.
    """
    if not parts:
        raise DataError("no recordings to join")
    first = parts[0]
    for part in parts[1:]:
        for name, a, b in (
            ("rates", first.rate, part.rate),
            ("numbers of channels", first.signals.shape[1], part.signals.shape[1]),
            ("kinds of data", first.data_kind, part.data_kind),
        ):
            if a != b:
                raise DataError(f"{first.source} and {part.source} have different {name}: {a} and {b}")
    length = min(part.signals.shape[2] for part in parts)

    def join(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Recordings(
        np.concatenate([part.signals[:, :, :length] for part in parts]), join("labels"), join("subjects"),
        join("sessions"), join("repetitions"), first.rate, first.data_kind,
        " + ".join(dict.fromkeys(part.source for part in parts)),
    )  # fmt: skip
