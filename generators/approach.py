"""Where a hand of some type may come to an object: palm onto a surface point, or pinch around a thickness."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simeval.errors import GraspError
from simeval.grasp import Array
from simeval.hand import load_hand
from simeval.metrics.distance import ObjectDistance
from simeval.objects.model import ObjectModel
from simeval.taxonomy import GraspType

PALM_POINT = np.array([0.004, -0.0111, 0.078])
"""Middle of what a palm grasp holds an object with, on the palm's front, palm frame [m]."""
PALM_JITTER = np.array([0.010, 0.0, 0.016])  # m
TILT = 0.15  # rad, standard deviation of the palm's tilt from the surface
NEAR_COM = 0.025  # m: grasps whose axis passes the centre of mass at this distance are drawn less
OVERSAMPLE = 6
RAY_STEP, RAY_LENGTH = 0.002, 0.12  # m
OPEN_BEFORE = 0.35  # of the way from preshape to posture that a pinch is open before it closes
PINCH_WAYS = np.linspace(0.0, 1.6, 33)
RETREAT = 0.05  # m, how far back a pinch starts its approach
SETTLE = 0.006  # m

PINCHES: dict[str, tuple[tuple[str, ...], float]] = {
    "planar": (("ffdistal", "mfdistal", "rfdistal"), 0.5),
    "tip": (("ffdistal", "mfdistal"), 0.75),
    "lateral": (("ffmiddle",), 0.75),
}
"""Types that pinch: the links opposite the thumb's tip, and where along their capsules they touch (0 to 1)."""


class Approach(NamedTuple):
    """N hands before they move up to the object and close."""

    rotation: Array  # (N, 3, 3)
    translation: Array  # (N, 3) m
    start: Array  # (N, 22) rad
    direction: Array  # (N, 3) unit, the way to the object
    travel: float  # m, most to go
    settle: Array | None = None  # (N, 3) unit, a second way to go, up to `SETTLE`, where the fingers don't close


class Pinch(NamedTuple):
    """A pinch at each of `PINCH_WAYS`, in the palm frame."""

    center: Array  # (W, 3) m, between the pads
    axis: Array  # (W, 3) unit, from the thumb to the fingers
    gap: Array  # (W,) m between the pads


def approaches(
    model: ObjectModel, distance: ObjectDistance, kind: GraspType, count: int, rng: np.random.Generator
) -> Approach:
    """Draw `count` approaches of a type to an object (fewer where too few places are thin enough to pinch).

    Raises:
        GraspError: the type pinches and no place is thin enough.
    """
    if kind.name in PINCHES:
        return _pinch_approaches(model, distance, kind, count, rng)
    point, normal = surface_sample(model, OVERSAMPLE * count, rng)
    miss = np.cross(model.center_of_mass - point, normal)
    chosen = _prefer(np.linalg.norm(miss, axis=1), count, rng)
    point, normal = point[chosen], normal[chosen]
    x_axis = _across(model, normal, rng)
    rotation = np.stack([x_axis, normal, np.cross(x_axis, normal)], axis=2)
    rotation = rotation @ _turns(rng.normal(0, TILT, size=len(point)), 0)
    center = PALM_POINT + rng.uniform(-1, 1, size=(len(point), 3)) * PALM_JITTER
    away = 0.2 + 2 * float(np.linalg.norm(distance.upper - distance.lower))
    translation = point - np.einsum("nij,nj->ni", rotation, center) + away * normal
    return Approach(rotation, translation, np.tile(kind.preshape, (len(point), 1)), -normal, away + 0.1)


def surface_sample(model: ObjectModel, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw points (count, 3) evenly from the surface, and their outward unit normals (count, 3)."""
    a, b, c = (model.surface.vertices[model.surface.faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    area = np.linalg.norm(cross, axis=1)
    face = rng.choice(len(area), size=count, p=area / area.sum())
    u, v = rng.random((2, count, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    return a[face] + u * (b - a)[face] + v * (c - a)[face], cross[face] / area[face, None]


@cache
def pinch_table(kind: GraspType) -> Pinch:
    """Return where a type's pads are as its hand closes."""
    hand = load_hand()
    links, along = PINCHES[kind.name]
    joints = hand.clip(kind.preshape + PINCH_WAYS[:, None] * (kind.posture - kind.preshape))[0]
    start, end, radius = hand.capsule_segments(joints)
    names = [hand.link_names[p.link] for p in hand.primitives if p.kind == "capsule"]
    chosen, thumb = [names.index(link) for link in links], names.index("thdistal")
    pads = (start + along * (end - start))[:, chosen].mean(axis=1)
    tip = (start + 0.7 * (end - start))[:, thumb]
    axis = pads - tip
    length = np.linalg.norm(axis, axis=1)
    axis /= length[:, None]
    low, high = tip + radius[thumb] * axis, pads - radius[chosen[0]] * axis
    return Pinch((low + high) / 2, axis, length - radius[thumb] - radius[chosen[0]])


def _pinch_approaches(
    model: ObjectModel, distance: ObjectDistance, kind: GraspType, count: int, rng: np.random.Generator
) -> Approach:
    point, normal = surface_sample(model, OVERSAMPLE * count, rng)
    thickness = thickness_along(distance, point, -normal)
    table = pinch_table(kind)
    closed = int(np.argmin(table.gap))
    thin = np.flatnonzero((thickness < table.gap.max()) & (thickness > table.gap.min()))
    if not len(thin):
        thin = np.argsort(thickness, kind="stable")[:1]
        if np.isinf(thickness[thin[0]]):
            raise GraspError(f"nowhere thin enough to pinch: everywhere thicker than {1e3 * RAY_LENGTH:.0f} mm")
    point, normal, thickness = point[thin], normal[thin], thickness[thin]
    middle = point - normal * thickness[:, None] / 2
    chosen = _prefer(np.linalg.norm(middle - model.center_of_mass, axis=1), count, rng)
    way = np.interp(thickness[chosen], table.gap[closed::-1], PINCH_WAYS[closed::-1])
    center = _interpolate(way, table.center)
    axis = _interpolate(way, table.axis)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    rotation = _align(axis, -normal[chosen], rng.uniform(0, 2 * np.pi, size=len(chosen)))
    forward = center - np.array([PALM_POINT[0], 0, PALM_POINT[2]])
    forward -= np.einsum("ni,ni->n", forward, axis)[:, None] * axis
    direction = np.einsum("nij,nj->ni", rotation, forward / np.linalg.norm(forward, axis=1, keepdims=True))
    translation = middle[chosen] - np.einsum("nij,nj->ni", rotation, center) - RETREAT * direction
    opened = np.maximum(way - OPEN_BEFORE, 0)[:, None]
    start = kind.preshape + opened * (kind.posture - kind.preshape)
    still = not (kind.posture - kind.preshape)[:17].any()  # lateral: the thumb pushes the object onto the fingers
    if not still:
        return Approach(rotation, translation, start, direction, RETREAT)
    translation -= SETTLE / 2 * normal[chosen]
    return Approach(rotation, translation, start, direction, RETREAT, normal[chosen])


def thickness_along(distance: ObjectDistance, point: Array, direction: Array) -> Array:
    """How far (N,) [m] from surface points (N, 3) along `direction` the object goes on; infinite beyond 12 cm."""
    steps = np.arange(0.5 * RAY_STEP, RAY_LENGTH, RAY_STEP)
    probes = point[:, None] + steps[:, None] * direction[:, None]
    inside = distance.inside(probes.reshape(-1, 3)).reshape(len(point), -1)
    return np.where(inside.all(axis=1), np.inf, steps[np.argmin(inside, axis=1)])


def _prefer(miss: Array, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw up to `count` of the places, those that miss the centre of mass by little [m] most often."""
    weight = np.exp(-0.5 * (miss / NEAR_COM) ** 2) + 0.01
    return rng.choice(len(miss), size=min(count, len(miss)), replace=False, p=weight / weight.sum())


def _across(model: ObjectModel, normal: Array, rng: np.random.Generator) -> Array:
    """Palm x axes (N, 3) in the surface: along the object, so that fingers go around it; a quarter at random."""
    spread = np.trace(model.inertia) / 2 * np.eye(3) - model.inertia
    helper = np.eye(3)[np.argmin(np.abs(normal), axis=1)]
    u = np.cross(normal, helper)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(normal, u)
    uu, vv, uv = (np.einsum("ni,ij,nj->n", a, spread, b) for a, b in ((u, u), (v, v), (u, v)))
    angle = np.arctan2(2 * uv, uu - vv) / 2 + np.pi * rng.integers(0, 2, size=len(normal))
    count = len(normal)
    angle += np.where(rng.random(count) < 0.25, rng.uniform(0, np.pi, count), rng.normal(0, 0.2, count))
    return np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v


def _align(source: Array, target: Array, roll: Array) -> Array:
    """Rotations (N, 3, 3) that take unit vectors `source` to `target` (N, 3), turned by `roll` about it."""
    frames = []
    for vector in (source, target):
        helper = np.eye(3)[np.argmin(np.abs(vector), axis=1)]
        u = np.cross(vector, helper)
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        frames.append(np.stack([vector, u, np.cross(vector, u)], axis=2))
    return frames[1] @ _turns(roll, 0) @ frames[0].swapaxes(1, 2)


def _turns(angle: Array, axis: int) -> Array:
    """Rotation matrices (N, 3, 3) about a coordinate axis."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(angle[:, None] * np.eye(3)[axis]).as_matrix()


def _interpolate(way: Array, table: Array) -> Array:
    return np.stack([np.interp(way, PINCH_WAYS, column) for column in table.T], axis=1)
