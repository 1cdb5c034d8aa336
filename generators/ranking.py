"""How generators choose among their own candidates: without simulating anything."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from simeval.errors import unknown_name
from simeval.generators.holding import hold_scores, robust_scores
from simeval.grasp import Array, GraspBatch
from simeval.metrics.penetration import measure
from simeval.objects.model import ObjectModel
from simeval.taxonomy import GraspType


class Ranker(NamedTuple):
    """A way to rank."""

    scores: Callable[[ObjectModel, GraspType, GraspBatch], Array]
    """Scores (N,) of grasps of an object that are to be of a type; the more the better."""
    fingerprint: str = ""
    """Names the weights, where there are any."""


RANKINGS = ("blend", "predictor", "robust", "score")
ROBUST_WEIGHT = 20.0
"""Of the robust score beside the predictor's log-odds. On 62 lateral and 37 hook conditions of validation objects, some
30 candidates each, 92 and 95 % of the first by this blend were lifted, of the first three 82 and 86 %; by the robust
score alone 92 and 95, 81 and 83 %; by the predictor alone 82 and 92, 82 and 89 %."""


def check_ranking(name: str) -> None:
    """Refuse a name that `ranker` doesn't know, without reading any weights.

    Raises:
        SettingError: there is none of this name.
    """
    if name not in RANKINGS:
        raise unknown_name("ranking", name, RANKINGS)


def ranker(name: str) -> Ranker:
    """Return a ranker by its name.

    `score` is `holding.hold_scores`, `robust` its mean over wrists 3 mm apart, `predictor` learned, `blend` the sum of
    the last two, weighted.

    Raises:
        SettingError: there is none of this name.
        DataError: the predictor's weights can't be read.
    """
    check_ranking(name)
    if name == "score":
        return Ranker(hold_scores)
    if name == "robust":
        return Ranker(robust_scores)
    from simeval.generators.predictor.model import load_predictor

    predictor = load_predictor()
    if name == "predictor":
        return Ranker(predictor.scores, predictor.fingerprint)
    from simeval.generators.predictor.features import features, robust_of

    def blend(model: ObjectModel, kind: GraspType, grasps: GraspBatch) -> Array:
        found = features(model, kind, grasps)
        return ROBUST_WEIGHT * robust_of(found) + predictor.log_odds(found)

    return Ranker(blend, predictor.fingerprint)


class Depth(NamedTuple):
    """How deep a grasp may be [mm]."""

    object: float  # in the object
    own: float  # in the hand itself


DEEPEST = Depth(object=0.8, own=2.0)
"""Of a grasp that is chosen among others."""


def sound(model: ObjectModel, grasps: GraspBatch, count: int, deepest: Depth) -> GraspBatch:
    """Return the `count` best-scored grasps that aren't too deep."""
    assert grasps.score is not None
    kept: list[int] = []
    for i in np.argsort(-grasps.score, kind="stable").tolist():
        if len(kept) == count or grasps.score[i] == -np.inf:
            break
        depth = measure(model, grasps.rotation[i], grasps.translation[i], grasps.joints[i])
        if depth.object_mm <= deepest.object and depth.self_mm <= deepest.own:
            kept.append(i)
    return grasps[np.array(kept, dtype=int)]


def best(
    model: ObjectModel, kind: GraspType, grasps: GraspBatch, rank: Ranker, count: int, promising: int, deepest: Depth
) -> GraspBatch:
    """Return the best `count` of some scored grasps: of the `promising` best sound ones, those that rank highest."""
    found = sound(model, grasps, promising, deepest)
    score = rank.scores(model, kind, found)
    return found.with_(score=score)[np.argsort(-score, kind="stable")[:count]]


def best_of_each(
    model: ObjectModel, kind: GraspType, grasps: GraspBatch, rank: Ranker, each: int, deepest: Depth | None = None
) -> GraspBatch:
    """Return the best of every `each` grasps in a row, with its score; where one isn't too deep, one that isn't."""
    score = rank.scores(model, kind, grasps).reshape(-1, each)
    chosen = []
    for i, order in enumerate(np.argsort(-score, axis=1, kind="stable")):
        own = grasps[i * each + order].with_(score=score[i, order])
        held = GraspBatch.empty() if deepest is None else sound(model, own, 1, deepest)
        chosen.append(held if len(held) else own[:1])
    return GraspBatch.concatenate(chosen)
