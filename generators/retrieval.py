"""Retrieval: the grasps of the most alike objects of a bank, fitted to this one. Never those of the object itself."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from simeval.bank import ObjectShape, bank_fingerprint, shape_of
from simeval.errors import SettingError
from simeval.generator import GraspRequest
from simeval.generators.fitting import fit_all
from simeval.generators.likeness import Descriptor, known, quarter_turn, up_frame
from simeval.grasp import GraspBatch
from simeval.metrics.penetration import measure
from simeval.objects.model import ObjectModel

GRASP_POINT = np.array([0.005, -0.035, 0.09])
"""A point between palm and fingers that stays where it is on the object, palm frame [m]."""
MOST_PENETRATION = 1.0  # mm
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
    """

    transfers = True  # from other objects: a suite names their grasps as `training`

    def __init__(
        self, bank: str = "", data: Path | None = None, neighbours: int = 5, by: Descriptor = "box", typed: bool = True
    ) -> None:
        """Check that the bank is there; see `simeval.bank.load_bank` for its names and errors."""
        if neighbours < 1:
            raise SettingError(f"neighbours must be at least 1, found {neighbours}")
        self.bank, self.data, self.neighbours, self.by, self.typed = bank, data, neighbours, by, typed
        self.fingerprint = bank_fingerprint(bank, data)

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
        return fit(model, GraspBatch.concatenate(parts)[: SPARE * request.count], request.count, request.grasp_type)

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
