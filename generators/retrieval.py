"""Retrieval: the grasps of the most alike objects of a bank, fitted to this one. Never those of the object itself."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simeval.bank import GraspBank, ObjectShape, bank_fingerprint, load_bank, shape_of
from simeval.errors import DataError, SettingError
from simeval.generator import GraspRequest
from simeval.generators.closing import close_fingers, slide
from simeval.grasp import FLEXION_SIGN, JOINT_NAMES, Array, GraspBatch, euler_to_matrix
from simeval.hand import load_hand
from simeval.metrics.distance import object_distance
from simeval.metrics.penetration import measure
from simeval.objects.library import ObjectLibrary
from simeval.objects.model import ObjectModel

GRASP_POINT = np.array([0.005, -0.035, 0.09])
"""A point between palm and fingers that stays where it is on the object, palm frame [m]."""
BACK_OFF = 0.04  # m the hand is taken back before it comes up to the object again
OPENING = 0.3  # rad the fingers are opened before they close again
CLOSE_ON = 2.5  # times the opening, how far they may close
MOST_PENETRATION = 1.0  # mm
SPARE = 4  # times the count, transferred grasps of which the first sound ones are returned
CENTER_WEIGHT = 1.0  # of the centre of mass's place in the bounding box against a factor e in size

_OPENS = FLEXION_SIGN.copy()
_OPENS[[JOINT_NAMES.index("THJ4"), JOINT_NAMES.index("THJ1")]] = 0.7, -1.0
"""(22,) the way in which fingers and thumb close."""


class Neighbour(NamedTuple):
    """An object of the bank, and how it is laid over the query."""

    distance: float
    key: tuple[str, float]  # code, scale
    yaw: int  # quarter turns about up, from its frame to the query's


class Retrieval:
    """Take the grasps of the `neighbours` most alike objects of the bank and fit them to the object.

    Alike: logarithms of the extents along up and across it, of the cube root of the volume, and the centre of mass's
    place in the bounding box, at the best of four quarter turns about up. No object at any scale of the query's own
    code is ever used. Grasps come nearest object first, then in the bank's order; the score is minus the distance.
    Nothing is random, so the seed changes nothing.
    """

    transfers = True  # from other objects: a suite names their grasps as `training`

    def __init__(self, bank: str = "", data: Path | None = None, neighbours: int = 5) -> None:
        """Check that the bank is there; see `simeval.bank.load_bank` for its names and errors."""
        if neighbours < 1:
            raise SettingError(f"neighbours must be at least 1, found {neighbours}")
        self.bank, self.data, self.neighbours = bank, data, neighbours
        self.fingerprint = bank_fingerprint(bank, data)

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return up to `count` fitted grasps; of the type asked for, where the bank knows types."""
        model = request.object
        bank, shapes = _bank_and_shapes(self.bank, self.data)
        kind = request.grasp_type if bank.has_types else None
        parts = []
        for near in self.nearest(model, kind):
            grasps = bank.for_object(*near.key, kind)
            moved = transfer(grasps, shapes[near.key], shape_of(model), near.yaw)
            parts.append(moved.with_(score=np.full(len(moved), -near.distance)))
        return fit(model, GraspBatch.concatenate(parts)[: SPARE * request.count], request.count)

    def nearest(self, model: ObjectModel, grasp_type: str | None = None) -> list[Neighbour]:
        """Return the most alike objects that have grasps (of a type), nearest first, then in the bank's order."""
        bank, shapes = _bank_and_shapes(self.bank, self.data)
        query = descriptor(shape_of(model), 0)
        found = []
        for key in bank.objects():
            if key[0] == model.code or key not in shapes or not len(bank.rows(*key, grasp_type)):
                continue
            gaps = [float(np.linalg.norm(descriptor(shapes[key], yaw) - query)) for yaw in range(4)]
            yaw = int(np.argmin(np.round(gaps, 12)))
            found.append(Neighbour(gaps[yaw], key, yaw))
        return sorted(found, key=lambda n: n.distance)[: self.neighbours]


@lru_cache(maxsize=4)
def _bank_and_shapes(bank: str, data: Path | None) -> tuple[GraspBank, dict[tuple[str, float], ObjectShape]]:
    """Read a bank, and measure the objects whose shape it doesn't hold; once per process."""
    whole, library = load_bank(bank, data), ObjectLibrary(data, size=1)
    shapes = dict(whole.shapes)
    units: dict[str, ObjectShape | None] = {}
    for code, scale in whole.objects():
        if (code, scale) in shapes:
            continue
        if code not in units:
            try:
                units[code] = shape_of(library.load(code, 1.0))
            except DataError:  # its mesh isn't there: it can't be compared
                units[code] = None
        unit = units[code]
        if unit is not None:
            shapes[code, scale] = ObjectShape(
                unit.low * scale, unit.high * scale, unit.center * scale, unit.volume * scale**3, unit.up
            )
    return whole, shapes


def descriptor(shape: ObjectShape, yaw: int) -> Array:
    """Return the (7,) numbers that are compared, after `yaw` quarter turns about up.

    Logarithms of the 3 extents and of the cube root of the volume (half weight), and the centre of mass relative to
    the bounding box's centre as shares of the extents.
    """
    frame = up_frame(shape.up) @ quarter_turn(yaw).T
    extents = np.abs(frame.T) @ (shape.high - shape.low)
    offset = frame.T @ (shape.center - (shape.low + shape.high) / 2) / extents
    size = np.log(shape.volume) / 3
    return np.concatenate([np.log(extents), [size / 2], CENTER_WEIGHT * offset])


def up_frame(up: Array) -> Array:
    """Right-handed frame (3, 3) whose third column is `up`, its first the object axis most nearly across it."""
    side = np.eye(3)[int(np.argmin(np.abs(up)))]
    x = side - (side @ up) * up
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up], axis=1)


def quarter_turn(yaw: int) -> Array:
    """Rotation (3, 3) by `yaw` quarter turns about z; exact."""
    return np.round(euler_to_matrix([0.0, 0.0, yaw * np.pi / 2]))


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


def fit(model: ObjectModel, grasps: GraspBatch, count: int) -> GraspBatch:
    """Return the first `count` grasps that can be made to touch without going deeper than `MOST_PENETRATION`."""
    if not len(grasps):
        return grasps
    fitted = fit_all(model, grasps)
    kept: list[int] = []
    for i in range(len(fitted)):
        if len(kept) == count:
            break
        depth = measure(model, fitted.rotation[i], fitted.translation[i], fitted.joints[i], own=False)
        if depth.object_mm <= MOST_PENETRATION:
            kept.append(i)
    return fitted[np.array(kept, dtype=int)]


def fit_all(model: ObjectModel, grasps: GraspBatch) -> GraspBatch:
    """Make grasps touch: as many, in the same order.

    The hand backs off along its palm's normal and opens, comes up until it touches or is back in its place, and
    closes its fingers until they touch.
    """
    distance, hand = object_distance(model), load_hand()
    joints = hand.clip(grasps.joints)[0]
    opened = hand.clip(joints - OPENING * _OPENS)[0]
    forward = -grasps.rotation[:, :, 1]
    back = grasps.translation - BACK_OFF * forward
    translation, _ = slide(distance, grasps.rotation, back, opened, forward, BACK_OFF)
    closed = close_fingers(distance, grasps.rotation, translation, opened, joints, CLOSE_ON)
    return grasps.with_(translation=translation, joints=closed.joints)
