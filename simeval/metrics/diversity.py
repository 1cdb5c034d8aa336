"""How different the grasps of one object are from one another."""

from typing import NamedTuple

import numpy as np

from simeval.grasp import Array, GraspBatch
from simeval.hand import load_hand


class Diversity(NamedTuple):
    """Mean over the pairs of some grasps of one object; NaN where there are fewer than two grasps."""

    rotation_deg: float
    """Angle between the two wrists."""
    joints: float
    """Root mean square over the 22 joints of the difference over the joint's range."""
    pairs: int


def diversity(grasps: GraspBatch) -> Diversity:
    """Return the diversity of grasps of one object (and one type, where types are told apart)."""
    first, second = np.triu_indices(len(grasps), 1)
    if not len(first):
        return Diversity(float("nan"), float("nan"), 0)
    hand = load_hand()
    trace = np.einsum("nij,nij->n", grasps.rotation[first], grasps.rotation[second])
    angle = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    offset = (grasps.joints[first] - grasps.joints[second]) / (hand.upper - hand.lower)
    return Diversity(float(angle.mean()), float(np.sqrt((offset**2).mean(axis=1)).mean()), len(first))


def wrist_directions(grasps: GraspBatch, center: Array, up: Array) -> Array:
    """Unit vectors (N, 3) from an object's centre (3,) [m] to the wrists, turned so that `up` is z."""
    away = grasps.translation - center
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    side = np.eye(3)[int(np.argmin(np.abs(up)))]
    x = side - (side @ up) * up
    x /= np.linalg.norm(x)
    return away @ np.stack([x, np.cross(up, x), up], axis=1)
