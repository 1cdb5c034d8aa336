"""Policies: from posteriors to a request. Three of them, and what one must be."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from simeval.emg.recordings import LABELS
from simeval.errors import SettingError
from simeval.grasp import Array, GraspBatch
from simeval.objects.model import ObjectModel
from simeval.taxonomy import GraspType


@dataclass(frozen=True, slots=True)
class Decision:
    """Try grasp `index` of `count` asked for, of a type (None: any)."""

    grasp_type: str | None
    count: int = 1
    index: int = 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """Do nothing: the trial counts as a failure, for this reason."""

    reason: str


class Situation(Protocol):
    """What a policy can find out. It never sees the intent."""

    def listen(self) -> Array | None:
        """Return the next signal's posterior (6,) over LABELS: the first, then repetitions; None: no more."""
        ...

    def grasps(self, grasp_type: str | None, count: int) -> GraspBatch:
        """Ask the generator; fewer grasps than asked for may come."""
        ...

    def chances(self, grasp_type: str, count: int) -> Array:
        """Return (N,) predicted probabilities that each of those grasps holds, without simulating it."""
        ...


@runtime_checkable
class Policy(Protocol):
    """All that a plug-in must write.

    Register a class (or a factory) under the entry-point group `simeval.policies`. Its keyword parameters are its
    settings (`--policy name,key=value`, converted by their annotations). It keeps nothing from trial to trial.
    """

    def decide(self, situation: Situation) -> Decision | Rejection:
        """Decide; the same posteriors and grasps give the same decision."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """Predicts without simulating whether grasps hold; registered in the group `simeval.predictors`."""

    def scores(self, model: ObjectModel, kind: GraspType, grasps: GraspBatch) -> Array:
        """Return log-odds (N,) that grasps of an object, which are to be of a type, hold."""
        ...


class ArgMax:
    """The likeliest type."""

    def decide(self, situation: Situation) -> Decision | Rejection:
        """See `Policy`."""
        return Decision(_likeliest(_heard(situation)))


class Reject:
    """The likeliest type if it is likely enough; else the signal is repeated, and at last nothing is done.

    Each repetition is judged by itself: a classifier's errors in one session go together, so products of posteriors are
    surer than they should be.
    """

    def __init__(self, threshold: float = 0.7, repeats: int = 2) -> None:
        """Take the least probability of a decision and how often the signal may be repeated."""
        if not 0 <= threshold <= 1:
            raise SettingError(f"policy 'reject': threshold must be 0 to 1, found {threshold:g}")
        if repeats < 0:
            raise SettingError(f"policy 'reject': repeats must be 0 or more, found {repeats}")
        self.threshold, self.repeats = threshold, repeats

    def decide(self, situation: Situation) -> Decision | Rejection:
        """See `Policy`."""
        heard = 0
        for posterior in _signals(situation, self.repeats):
            if posterior.max() >= self.threshold:
                return Decision(_likeliest(posterior))
            heard += 1
        return Rejection(f"below {self.threshold:g} in {heard} signals")


class Weighted:
    """Candidates of every likely type; the one with the largest p(type) × predicted probability of success.

    With one candidate a type (the default) the best-first order of a generator is kept, and what this policy gains over
    the likeliest type it gains by weighing types.
    """

    def __init__(self, candidates: int = 1, least: float = 0.1) -> None:
        """Take how many candidates of each type, and the least probability of a type that has any."""
        if candidates < 1:
            raise SettingError(f"policy 'weighted': candidates must be at least 1, found {candidates}")
        if not 0 <= least <= 1:
            raise SettingError(f"policy 'weighted': least must be 0 to 1, found {least:g}")
        self.candidates, self.least = candidates, least

    def decide(self, situation: Situation) -> Decision | Rejection:
        """See `Policy`."""
        posterior = _heard(situation)
        best, value = Decision(_likeliest(posterior), self.candidates), -1.0
        for kind, probability in zip(LABELS, posterior.tolist(), strict=True):
            if probability < self.least:
                continue
            for index, chance in enumerate(situation.chances(kind, self.candidates).tolist()):
                if probability * chance > value:
                    best, value = Decision(kind, self.candidates, index), probability * chance
        return best


def _heard(situation: Situation) -> Array:
    posterior = situation.listen()
    assert posterior is not None  # there is always a first
    return posterior


def _signals(situation: Situation, repeats: int) -> Iterator[Array]:
    for _ in range(1 + repeats):
        posterior = situation.listen()
        if posterior is None:
            return
        yield posterior


def _likeliest(posterior: Array) -> str:
    return LABELS[int(np.argmax(posterior))]
