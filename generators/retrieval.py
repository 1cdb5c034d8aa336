"""Retrieval: the grasps of the most alike objects of a bank, fitted to this one. Never those of the object itself."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from simeval.bank import ObjectShape, bank_fingerprint, shape_of
from simeval.errors import SettingError
from simeval.generator import GraspRequest
from simeval.generators.fitting import fit_all
from simeval.generators.likeness import Descriptor, encoder_fingerprint, known, quarter_turn, up_frame
from simeval.generators.ranking import check_ranking, ranker
from simeval.grasp import GraspBatch
from simeval.metrics.penetration import measure
from simeval.metrics.types import commanded_types
from simeval.objects.model import ObjectModel
from simeval.taxonomy import GRASP_TYPES

GRASP_POINT = np.array([0.005, -0.035, 0.09])
"""A point between palm and fingers that stays where it is on the object, palm frame [m]."""
MOST_PENETRATION = 1.0  # mm
MOST = 100_000
SPARE = 4  # times the count, transferred grasps of which the first sound ones are returned


class Neighbour(NamedTuple):
    """An object of the bank, and how it is laid over the query."""

    distance: float
    key: tuple[str, float]  # code, scale
    yaw: int  # quarter turns about up, from its frame to the query's


class Retrieval:
    """Take the grasps of the `neighbours` most alike objects of the bank and fit them to the object.

    Alike as `by` says, see `likeness.Descriptor`; `typed`: only grasps of the type that is asked for, where the bank
    knows types. No object at any scale of the query's own code is ever used. Grasps come nearest object first, then in
    the bank's order; the score is minus the distance. Nothing is random, so the seed changes nothing.

    `best_of`: each returned grasp is the best of so many by `rank`, one of `ranking`'s, as with the diffusion
    generators. Its type is the one asked for, else the one nearest to its joints.
    """

    transfers = True  # from other objects: a suite names their grasps as `training`

    def __init__(
        self, bank: str = "", data: Path | None = None, neighbours: int = 5, by: Descriptor = "box", typed: bool = True,
        best_of: int = 1, rank: str = "blend",
    ) -> None:  # fmt: skip
        """Check that the bank is there; see `simeval.bank.load_bank` for its names and errors."""
        for name, value in (("neighbours", neighbours), ("best_of", best_of)):
            if not 1 <= value <= MOST:
                raise SettingError(f"{name} must be from 1 to {MOST}, found {value}")
        self.bank, self.data, self.neighbours, self.by, self.typed = bank, data, neighbours, by, typed
        self.best_of = best_of
        check_ranking(rank)
        self.rank = ranker(rank if best_of > 1 else "score")
        self.fingerprint = bank_fingerprint(bank, data) + self.rank.fingerprint
        if by == "learned":
            self.fingerprint += encoder_fingerprint()

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return up to `count` fitted grasps; of the type asked for, where the bank knows types."""
        model = request.object
        bank, objects = known(self.bank, self.data, self.by)
        kind = request.grasp_type if bank.has_types and self.typed else None
        parts = []
        for near in self.nearest(model, kind):
            grasps = bank.for_object(*near.key, kind)
            moved = transfer(grasps, objects.shapes[near.key], shape_of(model), near.yaw)
            parts.append(moved.with_(score=np.full(len(moved), -near.distance)))
        pool = GraspBatch.concatenate(parts)[: max(SPARE, self.best_of) * request.count]
        if self.best_of == 1:
            return fit(model, pool, request.count, request.grasp_type)
        return self._best(model, fit(model, pool, len(pool), request.grasp_type), request.count, request.grasp_type)

    def _best(self, model: ObjectModel, found: GraspBatch, count: int, grasp_type: str | None) -> GraspBatch:
        """Deal the grasps out to `count` hands, nearest first, and return the best of each with its score."""
        kinds = np.array([grasp_type] * len(found) if grasp_type else commanded_types(found.joints), dtype=np.str_)
        score = np.zeros(len(found))
        for kind in np.unique(kinds):
            own = np.flatnonzero(kinds == kind)
            score[own] = self.rank.scores(model, GRASP_TYPES[str(kind)], found[own])
        hands = [np.arange(i, len(found), count) for i in range(min(count, len(found)))]
        chosen = np.array([hand[score[hand].argmax()] for hand in hands], dtype=int)
        return found[chosen].with_(score=score[chosen])

    def nearest(self, model: ObjectModel, grasp_type: str | None = None) -> list[Neighbour]:
        """Return the most alike objects that have grasps (of a type), nearest first, then in the bank's order."""
        _, objects = known(self.bank, self.data, self.by)
        gaps, yaw = objects.compare(model)
        usable = np.flatnonzero((objects.codes != model.code) & objects.having(grasp_type))
        order = usable[np.argsort(gaps[usable], kind="stable")[: self.neighbours]]
        return [Neighbour(float(gaps[i]), objects.keys[i], int(yaw[i])) for i in order]


def transfer(grasps: GraspBatch, source: ObjectShape, target: ObjectShape, yaw: int) -> GraspBatch:
    """Carry grasps over: turned by `yaw` quarter turns, placed in proportion to the bounding boxes."""
    source_frame, target_frame = up_frame(source.up) @ quarter_turn(yaw).T, up_frame(target.up)
    turn = target_frame @ source_frame.T
    ratio = (np.abs(target_frame.T) @ (target.high - target.low)) / (
        np.abs(source_frame.T) @ (source.high - source.low)
    )
    point = grasps.rotation @ GRASP_POINT + grasps.translation - (source.low + source.high) / 2
    placed = (point @ source_frame * ratio) @ target_frame.T + (target.low + target.high) / 2
    rotation = turn @ grasps.rotation
    return grasps.with_(rotation=rotation, translation=placed - rotation @ GRASP_POINT)


def fit(model: ObjectModel, grasps: GraspBatch, count: int, grasp_type: str | None) -> GraspBatch:
    """Return the first `count` grasps that can be made to touch without going deeper than `MOST_PENETRATION`."""
    if not len(grasps):
        return grasps
    fitted = fit_all(model, grasps, [grasp_type] * len(grasps))
    kept: list[int] = []
    for i in range(len(fitted)):
        if len(kept) == count:
            break
        depth = measure(model, fitted.rotation[i], fitted.translation[i], fitted.joints[i], own=False)
        if depth.object_mm <= MOST_PENETRATION:
            kept.append(i)
    return fitted[np.array(kept, dtype=int)]
