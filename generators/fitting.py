"""Make grasps touch that are nearly right: transferred from another object, sampled, or moved downhill."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from simeval.errors import SettingError
from simeval.generators.closing import TOUCH, Clearance, close_fingers, slide
from simeval.grasp import FLEXION_SIGN, JOINT_NAMES, Array, GraspBatch
from simeval.hand import load_hand
from simeval.metrics.distance import ObjectDistance, object_distance
from simeval.objects.model import ObjectModel
from simeval.taxonomy import GRASP_TYPES

BACK_OFFS = (0.0, 0.005, 0.01, 0.02, 0.04)
"""Distances [m] that a hand may be taken back before it comes up to the object again; the least that clears it."""
OPENING = 0.5  # rad the fingers are opened before they close again
CLOSE_ON = 2.0  # times the opening, how far they may close
NEARBY, TURNED = 0.004, 0.08  # m, rad, standard deviation along and about each axis
MOST_SPREAD = 10.0

_OPENS = FLEXION_SIGN.copy()
_OPENS[[JOINT_NAMES.index("THJ4"), JOINT_NAMES.index("THJ1")]] = 0.7, -1.0
"""(22,) the way in which fingers and thumb close."""


def fit_all(model: ObjectModel, grasps: GraspBatch, kinds: Sequence[str | None]) -> GraspBatch:
    """Make grasps touch: as many, in the same order.

    The hand opens and backs off along its palm's normal until it is clear of the object, comes up until it touches or
    is back in its place, and closes its fingers until they touch. Fingers that a grasp of its type, one of `kinds` (N),
    doesn't hold with close no further than they were; None: all hold.
    """
    distance, hand = object_distance(model), load_hand()
    joints = hand.clip(grasps.joints)[0]
    opened = hand.clip(joints - OPENING * _OPENS)[0]
    forward = -grasps.rotation[:, :, 1]
    far = _way_back(distance, grasps.rotation, grasps.translation, opened, forward)
    back = grasps.translation - far[:, None] * forward
    translation, _ = slide(distance, grasps.rotation, back, opened, forward, far)
    holding = np.array([_holding(kind) for kind in kinds], dtype=bool).reshape(joints.shape)
    goal = np.where(holding, joints, opened + (joints - opened) / CLOSE_ON)
    closed = close_fingers(distance, grasps.rotation, translation, opened, goal, CLOSE_ON)
    return grasps.with_(translation=translation, joints=closed.joints)


def _way_back(distance: ObjectDistance, rotation: Array, translation: Array, joints: Array, forward: Array) -> Array:
    """Least of `BACK_OFFS` (N,) [m] after which a hand is clear of the object; the last where none is."""
    state, far = Clearance(distance, rotation, translation, joints), np.zeros(len(joints))
    for step in np.diff(BACK_OFFS):
        taken = np.where(state.refine(TOUCH).min(axis=1) < TOUCH, step, 0.0)
        if not taken.any():
            break
        far += taken
        state.shift(-taken[:, None] * forward)
    return far


@cache
def _holding(kind: str | None) -> NDArray[np.bool_]:
    """(22,) whether a joint is of a finger that a grasp of the type holds with; None: all are."""
    links = GRASP_TYPES[kind].contact_links if kind else load_hand().link_names
    held = {link[:2] for link in links}
    return np.array([name[:2].lower() in held for name in JOINT_NAMES])


def nearby(grasps: GraspBatch, copies: int, seed: int, spread: float = 1.0) -> GraspBatch:
    """Repeat each grasp (N) `copies` times: the first as it is, the others moved by `NEARBY` and `TURNED`.

    The last is moved by `spread` times that, those between evenly less.
    """
    again = grasps[np.repeat(np.arange(len(grasps)), copies)]
    draws = [np.random.default_rng([0x4EA4, seed, i]).standard_normal((copies, 6)) for i in range(len(grasps))]
    farther = np.concatenate([[1.0], np.linspace(1, spread, copies - 1)])
    draw = np.concatenate(draws) * np.tile(farther, len(grasps))[:, None]
    draw[::copies] = 0
    turn = Rotation.from_rotvec(TURNED * draw[:, :3]).as_matrix()
    return GraspBatch(again.rotation @ turn, again.translation + NEARBY * draw[:, 3:], again.joints)


def check_spread(spread: float) -> None:
    """Refuse what `nearby` can't take.

    Raises:
        SettingError: it isn't from 1 to `MOST_SPREAD`.
    """
    if not 1 <= spread <= MOST_SPREAD:
        raise SettingError(f"spread must be from 1 to {MOST_SPREAD:g}, found {spread}")
