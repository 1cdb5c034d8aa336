"""Penetration depth: how deep hand and object are in one another, in millimetres."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simeval.grasp import Array
from simeval.hand import HandModel, load_hand
from simeval.metrics.distance import ObjectDistance, object_distance
from simeval.objects.model import ObjectModel
from simeval.objects.sampling import surface_points

AXIS_SPACING = 0.002  # m between query points along a capsule's axis
BOX_SPACING = 0.004  # m between query points on a box's surface


@dataclass(frozen=True, slots=True)
class Penetration:
    """Depths of one grasp, mm, 0 where nothing overlaps."""

    object_mm: float
    """Between hand and object: the larger of `object_in_hand_mm` and `hand_in_object_mm`."""
    self_mm: float
    """Between links of the hand that aren't neighbours."""
    object_in_hand_mm: float
    """Deepest point of the object's surface inside a collision primitive (exact distance at surface points)."""
    hand_in_object_mm: float
    """Deepest part of the hand inside the object's outer surface: radius minus signed distance along each capsule's
    axis (a sphere of radius r whose centre is s outside a face is r − s deep), signed distance at box surfaces."""


def measure(model: ObjectModel, rotation: Array, translation: Array, joints: Array, own: bool = True) -> Penetration:
    """Measure one grasp: palm pose (3, 3), (3,) m in the object frame, joints (22,) rad.

    Without `own` the hand's penetration with itself is left out (NaN).
    """
    hand = load_hand()
    local_rotation, local_translation = hand.primitive_transforms(joints)
    frames = rotation @ local_rotation  # (18, 3, 3)
    origins = local_translation @ rotation.T + translation  # (18, 3)
    inside = object_in_hand(hand, frames, origins, _surface_points(model))
    outside = float(hand_depths(hand, object_distance(model), rotation, translation, joints).max())
    self_depth = self_penetration(hand, local_rotation, local_translation) if own else np.nan
    return Penetration(1e3 * max(inside, outside), 1e3 * self_depth, 1e3 * inside, 1e3 * outside)


def object_in_hand(hand: HandModel, frames: Array, origins: Array, points: Array) -> float:
    """Depth [m] of the deepest of `points` (P, 3) inside a primitive at (frames (18, 3, 3), origins (18, 3))."""
    square = np.einsum("ij,ij->i", points, points)[:, None] + np.einsum("ij,ij->i", origins, origins)
    near = square - 2 * points @ origins.T < _reach(hand) ** 2 + 1e-6  # (P, 18); 1e-6 m²: more than it rounds off
    depth = 0.0
    for k in np.flatnonzero(near.any(axis=0)).tolist():
        offset = points[near[:, k]] - origins[k]
        depth = max(depth, -float(primitive_distance(hand, k, offset @ frames[k]).min()))
    return depth


def hand_depths(hand: HandModel, distance: ObjectDistance, rotation: Array, translation: Array, joints: Array) -> Array:
    """Depth (18,) [m] of each collision primitive inside the object, 0 where it's outside."""
    points, radii, owners = query_points(hand, rotation, translation, joints)
    near = distance.may_reach(points, radii)
    depths = np.zeros(len(hand.primitives))
    if near.any():
        np.maximum.at(depths, owners[near], radii[near] - distance.signed(points[near]))
    return depths


def query_points(
    hand: HandModel, rotation: Array, translation: Array, joints: Array
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Points that stand for the hand: (Q, 3) m in the object frame, the radius (Q,) of the sphere around each, and
    the primitive (Q,) each belongs to. Capsules: along the axis, every 2 mm; boxes: on the surface, every 4 mm.
    """
    frames, origins = hand.primitive_transforms(joints)
    return _placed(hand, rotation @ frames, origins @ rotation.T + translation)


def _placed(hand: HandModel, frames: Array, origins: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    local, radii, owners = _query_points(hand)
    return np.einsum("nij,nj->ni", frames[owners], local) + origins[owners], radii, owners


def self_penetration(hand: HandModel, frames: Array, origins: Array) -> float:
    """Depth [m] between primitives of links that are neither the same nor parent and child (nor share a joint)."""
    points, radii, owners = _placed(hand, frames, origins)
    reach, apart = _reach(hand), _apart(hand)
    depth = 0.0
    for k in range(len(origins)):
        candidates = apart[k][owners]
        offset = points[candidates] - origins[k]
        size = radii[candidates]
        near = np.einsum("ij,ij->i", offset, offset) < (reach[k] + size) ** 2
        if near.any():
            distance = primitive_distance(hand, k, offset[near] @ frames[k])
            depth = max(depth, float((size[near] - distance).max()))
    return depth


def primitive_distance(hand: HandModel, index: int, points: Array) -> Array:
    """Signed distance (P,) [m] of points (P, 3) in a primitive's frame to its surface, negative inside; exact.

    Every primitive is a rounded box: a capsule is a segment (half sizes 0, 0, h) of radius r, a box has radius 0.
    """
    shape = hand.primitives[index]
    q = np.abs(points) - shape.half_sizes
    outside = np.sqrt(np.einsum("ij,ij->i", np.maximum(q, 0), np.maximum(q, 0)))
    return outside + np.minimum(q.max(axis=1), 0) - shape.radius


@lru_cache(maxsize=4)
def _query_points(hand: HandModel) -> tuple[Array, Array, NDArray[np.intp]]:
    """Points (Q, 3) in their primitive's frame, the radius around each (Q,), and the primitive (Q,) of each."""
    points, radii, owners = [], [], []
    for k, shape in enumerate(hand.primitives):
        if shape.radius:
            z = np.linspace(-shape.half_length, shape.half_length, int(2 * shape.half_length / AXIS_SPACING) + 2)
            own = np.stack([0 * z, 0 * z, z], axis=1)
        else:
            own = _box_surface(shape.half_sizes)
        points.append(own)
        radii.append(np.full(len(own), shape.radius))
        owners.append(np.full(len(own), k))
    return np.concatenate(points), np.concatenate(radii), np.concatenate(owners)


def _box_surface(half: Array) -> Array:
    axes = [np.linspace(-h, h, int(2 * h / BOX_SPACING) + 2) for h in half]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[(np.abs(np.abs(grid) - half) < 1e-12).any(axis=1)]


@lru_cache(maxsize=4)
def _reach(hand: HandModel) -> Array:
    """Radius (18,) of the sphere around each primitive's origin that holds it."""
    return np.array([s.radius + np.linalg.norm(s.half_sizes) for s in hand.primitives])


@lru_cache(maxsize=4)
def _apart(hand: HandModel) -> NDArray[np.bool_]:
    """(18, 18) whether two primitives may not touch: no rigid or single-joint chain of bare links between them."""
    solid = {s.link for s in hand.primitives}

    def body(link: int) -> int:  # nearest ancestor that has a primitive
        parent = hand.parent[link]
        while parent not in solid and parent > 0:
            parent = hand.parent[parent]
        return int(parent)

    links = [s.link for s in hand.primitives]
    joined = {(a, b) for a in links for b in links if a == b or (a and body(a) == b) or (b and body(b) == a)}
    return np.array([[(a, b) not in joined for b in links] for a in links])


@lru_cache(maxsize=16)
def _surface_points(model: ObjectModel) -> Array:
    return surface_points(model)
