"""Preshape: bring the hand of a type up to a random place on the object, close the fingers, keep what could hold."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from simeval.errors import GraspError, SettingError
from simeval.generator import GraspRequest
from simeval.generators.approach import SETTLE, approaches
from simeval.generators.closing import close_fingers, slide
from simeval.generators.holding import hold_scores
from simeval.generators.ranking import Depth, best, ranker
from simeval.grasp import Array, GraspBatch
from simeval.metrics.distance import object_distance
from simeval.objects.model import ObjectModel
from simeval.taxonomy import CLOSING_REACH, GRASP_TYPES, GraspType, grasp_type

DEEPEST = Depth(object=1.0, own=2.0)
"""Of a returned grasp."""
PROMISING = 4  # times the count, candidates that get a robust score
ROUNDS = 3  # of drawing candidates, until `count` of them are sound
SEED = 0x5E5A


class _Candidates(NamedTuple):
    grasps: GraspBatch
    score: Array  # (N,)


class Preshape:
    """Approach along a surface normal, close until touch, rank by how well the squeeze will balance on the object.

    A classical sampler in the manner of GraspIt! (Miller et al. 2003, "Automatic grasp planning using shape
    primitives"): it knows the exact shape and has learned nothing. Each returned grasp is the best of about `tries`
    candidates; the score is that of `holding.robust_scores`.
    """

    def __init__(self, tries: int = 6) -> None:
        if tries < 1:
            raise SettingError(f"tries must be at least 1, found {tries}")
        self.tries = tries

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return up to `count` grasps, the best first; of the type asked for, else of types drawn by seed.

        Raises:
            SettingError: there is no such type.
        """
        return best_by_type(request, np.random.default_rng([SEED, request.seed]), self._best)

    def _best(self, model: ObjectModel, kind: GraspType, count: int, rng: np.random.Generator) -> GraspBatch:
        """Return the best `count` of `count` × `tries` candidates of one type."""
        batches: list[GraspBatch] = []
        for _ in range(ROUNDS):
            missing = count - sum(len(b) for b in batches)
            try:
                grasps, score = candidates(model, kind, missing * self.tries, rng)
            except GraspError:
                if batches:
                    break
                raise
            scored = grasps.with_(score=score)
            batches.append(best(model, kind, scored, ranker("robust"), missing, PROMISING * missing, DEEPEST))
            if len(batches[-1]) == missing:
                break
        return GraspBatch.concatenate(batches)


def best_by_type(
    request: GraspRequest,
    rng: np.random.Generator,
    find: Callable[[ObjectModel, GraspType, int, np.random.Generator], GraspBatch],
) -> GraspBatch:
    """Ask `find` (object, type, count, rng) for the requested type, or for types drawn; return all, the best first.

    Raises:
        SettingError: there is no such type.
        GraspError: none of the types can be had of this object.
    """
    if request.grasp_type is not None:
        kinds = {request.grasp_type: request.count}
    else:
        drawn = rng.choice(list(GRASP_TYPES), size=request.count)
        kinds = {name: int((drawn == name).sum()) for name in GRASP_TYPES}
    found: list[GraspBatch] = []
    impossible: GraspError | None = None
    for name, count in kinds.items():
        if count:
            try:
                found.append(find(request.object, grasp_type(name), count, rng))
            except GraspError as error:  # of this type; the others may have some
                impossible = error
    if not found:
        if impossible:
            raise impossible
        return GraspBatch.empty()
    grasps = GraspBatch.concatenate(found)
    assert grasps.score is not None
    return grasps[np.argsort(-grasps.score, kind="stable")]


def candidates(model: ObjectModel, kind: GraspType, count: int, rng: np.random.Generator) -> _Candidates:
    """Draw, approach, close and score `count` candidates (fewer where the object is too thick to pinch)."""
    distance = object_distance(model)
    at = approaches(model, distance, kind, count, rng)
    translation, _ = slide(distance, at.rotation, at.translation, at.start, at.direction, at.travel)
    if at.settle is not None:
        translation, _ = slide(distance, at.rotation, translation, at.start, at.settle, SETTLE)
    goal = at.start + (kind.posture - kind.preshape)
    closed = close_fingers(distance, at.rotation, translation, at.start, goal, CLOSING_REACH)
    grasps = GraspBatch(at.rotation, translation, closed.joints)
    shallow = np.flatnonzero(closed.clearance.min(axis=1) >= -1e-3 * DEEPEST.object)
    score = np.full(len(grasps), -np.inf)
    score[shallow] = hold_scores(model, kind, grasps[shallow])
    return _Candidates(grasps, score)
