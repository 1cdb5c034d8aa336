"""Move a hand up to an object and close its fingers on it, for many candidates at once.

The hand is a set of spheres that fill its collision primitives. Since distance to the object changes no faster
than a sphere moves, each step may go as far as the nearest sphere's clearance allows (conservative advancement).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from simeval.generators.kinematics import place_spheres
from simeval.grasp import Array
from simeval.hand import FINGERS, HandModel, load_hand
from simeval.metrics.distance import ObjectDistance

FINGER_NAMES = tuple(FINGERS)
TOUCH = 0.0003
"""Clearance [m] below which a link touches."""
SPACING = 0.009  # m between spheres along a capsule
BOX_SPACING = 0.011  # m between the points of a box
SLIDE_STEPS, CLOSE_STEPS = 24, 28
SMALLEST_STEP, LARGEST_STEP = 0.01, 0.3  # of the way from start to goal
FAR = 0.005  # m


@dataclass(frozen=True, slots=True, eq=False)
class HandSpheres:
    """Spheres that fill the hand, link by link; a box is filled with spheres and has points (radius 0) on its edges."""

    link: NDArray[np.intp]  # (S,) link that carries each sphere
    center: Array  # (S, 3) m, in the link's frame
    radius: Array  # (S,) m
    finger: NDArray[np.intp]  # (S,) index into FINGER_NAMES, −1 for the palm
    lever: Array  # (22, S) m, farthest a sphere can be from a joint that moves it; 0 where it doesn't
    moved_by: NDArray[np.bool_]  # (23, 22) whether a joint moves a link
    joint_finger: NDArray[np.intp]  # (22,) index into FINGER_NAMES

    def place(self, joints: Array, some: NDArray[np.intp] | None = None) -> Array:
        """Centres (N, S, 3) [m] in the palm frame at joints (N, 22) rad, or those of `some` spheres."""
        chosen = slice(None) if some is None else some
        fingers = tuple(FINGER_NAMES[k] for k in np.unique(self.finger[chosen]) if k >= 0)
        return place_spheres(joints, self.link[chosen], self.center[chosen], fingers)


@cache
def hand_spheres() -> HandSpheres:
    """Build the spheres from the hand's collision primitives, once a process."""
    hand = load_hand()
    link, center, radius = [], [], []
    for shape in hand.primitives:
        if shape.kind == "capsule":
            count = int(np.ceil(2 * shape.half_length / SPACING)) + 1
            z = np.linspace(-shape.half_length, shape.half_length, count)
            points, radii = np.stack([0 * z, 0 * z, z], axis=1), np.full(count, shape.radius)
        else:
            points, radii = _fill_box(shape.half_sizes)
        link += [shape.link] * len(points)
        center.append(points @ shape.rotation.T + shape.translation)
        radius.append(radii)
    links, centers = np.array(link), np.concatenate(center)
    moved_by = _ancestors(hand)
    joint_finger = np.array([FINGER_NAMES.index(name[:2]) for name in hand.joint_names])
    lever = np.array([_lever(hand, moved_by, j, links, centers) for j in range(len(joint_finger))])
    finger = np.where(links == 0, -1, joint_finger[links - 1])
    return HandSpheres(links, centers, np.concatenate(radius), finger, lever, moved_by, joint_finger)


class Clearance:
    """Clearance of every sphere, or a lower bound of it where a sphere is too far away to matter."""

    def __init__(self, distance: ObjectDistance, rotation: Array, translation: Array, joints: Array) -> None:
        self._distance, self._rotation, self._translation = distance, rotation, translation
        self.local = hand_spheres().place(joints)  # (N, S, 3) m, palm frame
        centers = self.centers()
        outside = np.maximum(np.maximum(distance.lower - centers, centers - distance.upper), 0)
        self.value = np.linalg.norm(outside, axis=2) - hand_spheres().radius  # (N, S) m, from the bounding box

    def centers(self) -> Array:
        """Centres (N, S, 3) [m] in the object frame."""
        return self.local @ self._rotation.swapaxes(1, 2) + self._translation[:, None]

    def shift(self, offset: Array) -> None:
        """Move the hands by `offset` (N, 3) [m]; bounds shrink by as much."""
        self._translation = self._translation + offset
        self.value -= np.linalg.norm(offset, axis=1)[:, None]

    def bend(self, joints: Array, moving: NDArray[np.intp]) -> None:
        """Move the fingers to `joints` (N, 22), which moves only the spheres `moving`; bounds shrink by how far."""
        local = hand_spheres().place(joints, moving)
        step = local - self.local[:, moving]
        self.value[:, moving] -= np.sqrt(np.einsum("nsi,nsi->ns", step, step))
        self.local[:, moving] = local

    def refine(self, horizon: Array | float, some: NDArray[np.intp] | None = None) -> Array:
        """Return (N, S) clearances, or those of `some` spheres, exact wherever below `horizon` [m], as large or one."""
        value = self.value if some is None else self.value[:, some]
        row, column = np.nonzero(value < horizon)
        if len(row):
            sphere = column if some is None else some[column]
            turned = (self._rotation[row] @ self.local[row, sphere, :, None])[..., 0]
            exact = self._distance.signed(turned + self._translation[row])
            value[row, column] = self.value[row, sphere] = exact - hand_spheres().radius[sphere]
        return value


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """Hands after their fingers closed."""

    joints: Array  # (N, 22) rad
    state: Clearance

    @property
    def clearance(self) -> Array:
        """Clearance (N, S) [m]; beyond `FAR` a lower bound."""
        return self.state.refine(FAR)


def slide(
    distance: ObjectDistance, rotation: Array, translation: Array, joints: Array, direction: Array,
    travel: Array | float,
) -> tuple[Array, Array]:  # fmt: skip
    """Move hands along `direction` (N, 3) until they touch the object, at most `travel` [m], (N,) or one for all.

    Returns:
        translation (N, 3) where they stopped, and their clearance (N,) there [m].
    """
    state = Clearance(distance, rotation, translation, joints)
    done = np.zeros(len(joints))
    gap = np.full(len(joints), np.inf)
    going = np.ones(len(joints), dtype=bool)
    for _ in range(SLIDE_STEPS):
        bound = state.value.min(axis=1)
        horizon = np.where(going, np.maximum(2 * bound, 0.004), -np.inf)
        found = np.minimum(state.refine(horizon[:, None]).min(axis=1), horizon)
        gap = np.where(going, found, gap)
        step = np.where(going & (gap >= TOUCH), np.clip(gap, 0, travel - done), 0)
        going = step > 0
        if not going.any():
            break
        done += step
        state.shift(step[:, None] * direction)
    return translation + done[:, None] * direction, gap


def close_fingers(
    distance: ObjectDistance, rotation: Array, translation: Array, start: Array, goal: Array, reach: float
) -> Closed:
    """Close the fingers, then the thumb, along the line from `start` to `goal` (N, 22) rad and past it.

    A link that touches the object stops the joints that carry it; the joints beyond go on, so that fingers wrap.
    The thumb stops at closed fingers too. What doesn't move between start and goal stays. The way ends at `reach`
    times the distance from start to goal, or at the joint limits.

    Args:
        distance: of the object.
        rotation: (N, 3, 3), and
        translation: (N, 3) m, palm in the object frame.
        start: (N, 22) rad.
        goal: (N, 22) rad.
        reach: how far to go, in units of the way from start to goal.
    """
    spheres = hand_spheres()
    state = Clearance(distance, rotation, translation, start)
    is_thumb = spheres.joint_finger == FINGER_NAMES.index("TH")
    rate = goal - start  # (N, 22) rad per unit of the way
    joints = _close(state, start, np.where(is_thumb, 0, rate), reach, None)
    joints = _close(state, joints, np.where(is_thumb, rate, 0), reach, joints)
    return Closed(joints, state)


def _close(state: Clearance, joints: Array, rate: Array, reach: float, obstacle: Array | None) -> Array:
    """Advance the joints whose `rate` (N, 22) isn't 0; `obstacle` (N, 22): joints of fingers to stop at."""
    hand, spheres = load_hand(), hand_spheres()
    free, pace = rate != 0, np.abs(rate)
    moving = np.flatnonzero(spheres.moved_by[spheres.link] @ free.any(axis=0))  # spheres: M of them
    value = state.refine(TOUCH)[:, moving]
    if not len(moving):
        return joints
    capsules = None if obstacle is None else _finger_capsules(obstacle)
    finger = spheres.finger[moving]
    links, of_link = np.unique(spheres.link[moving], return_index=True)  # spheres lie link by link, so finger by finger
    fingers, of_finger = np.unique(finger, return_index=True)
    carried_by = spheres.moved_by[links]  # (L, 22)
    way = np.zeros((len(joints), len(FINGERS)))
    stride = np.full((len(joints), len(FINGERS)), LARGEST_STEP)  # of the way, how far the next look goes
    allowed = np.full((len(joints), len(FINGERS)), np.inf)
    for _ in range(CLOSE_STEPS):
        if capsules is not None:
            value = np.minimum(value, _clearance_between(state.local[:, moving], spheres.radius[moving], *capsules))
        touching = np.logical_or.reduceat(value < TOUCH, of_link, axis=1)  # (N, L)
        free &= ~(touching @ carried_by)
        speed = ((pace * free) @ spheres.lever)[:, moving]  # (N, M) m per unit of the way
        room = np.full(speed.shape, np.inf)
        np.divide(np.maximum(value, 0), speed, out=room, where=speed > 0)
        allowed[:, fingers] = np.minimum.reduceat(room, of_finger, axis=1)
        step = np.minimum(np.maximum(np.minimum(allowed, stride), SMALLEST_STEP), np.maximum(reach - way, 0))
        way += step
        target = joints + np.where(free, rate * step[:, spheres.joint_finger], 0)
        clipped = np.minimum(np.maximum(target, hand.lower), hand.upper)
        free &= (clipped == target) & (way[:, spheres.joint_finger] < reach)
        if (clipped == joints).all():
            break
        joints = clipped
        state.bend(joints, moving)
        stride = np.clip(2 * (allowed - step), 2 * SMALLEST_STEP, LARGEST_STEP)
        horizon = np.where(speed > 0, speed * stride[:, finger] + TOUCH, -np.inf)
        value = state.refine(horizon, moving)
    return joints


def _finger_capsules(joints: Array) -> tuple[Array, Array, Array]:
    """Start and axis (N, 12, 3) [m], palm frame, and radius (12,) [m] of all fingers' capsules but the thumb's."""
    start, end, radius = load_hand().capsule_segments(joints)
    others = slice(0, 12)  # the capsules come finger by finger, the thumb's three last
    return start[:, others], (end - start)[:, others], radius[others]


def _clearance_between(local: Array, radius: Array, start: Array, axis: Array, others: Array) -> Array:
    """Clearance (N, M) [m] between spheres (N, M, 3) of `radius` (M,) and capsules of radius `others` (12,)."""
    offset = local[:, :, None] - start[:, None]  # (N, M, 12, 3)
    along = np.einsum("ntki,nki->ntk", offset, axis) / np.einsum("nki,nki->nk", axis, axis)[:, None]
    nearest = np.clip(along, 0, 1)[..., None] * axis[:, None]
    gap = np.linalg.norm(offset - nearest, axis=3) - others
    return gap.min(axis=2) - radius


def _fill_box(half: Array) -> tuple[Array, Array]:
    """Spheres (points, radii) inside a box, and points along its edges."""
    thick = float(half.min())
    axes = [np.linspace(-h, h, int(np.ceil(2 * h / BOX_SPACING)) + 1) if h > 1e-9 else [0.0] for h in half - thick]
    inner = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    axes = [np.linspace(-h, h, int(np.ceil(2 * h / BOX_SPACING)) + 1) for h in half]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    edges = grid[(np.abs(np.abs(grid) - half) < 1e-12).sum(axis=1) >= 2]
    return np.concatenate([inner, edges]), np.r_[np.full(len(inner), thick), np.zeros(len(edges))]


def _ancestors(hand: HandModel) -> NDArray[np.bool_]:
    moved = np.zeros((len(hand.link_names), len(hand.joint_names)), dtype=bool)
    for link in range(1, len(moved)):  # joint link − 1 carries it
        moved[link] = moved[hand.parent[link]]
        moved[link, link - 1] = True
    return moved


def _lever(hand: HandModel, moved_by: NDArray[np.bool_], joint: int, links: NDArray[np.intp], centers: Array) -> Array:
    """Longest distance (S,) between a joint's origin and each sphere it moves: the chain stretched out."""
    length = np.zeros(len(hand.link_names))
    for link in range(joint + 2, len(length)):
        if moved_by[link, joint]:
            length[link] = length[hand.parent[link]] + float(np.linalg.norm(hand.origin_translation[link - 1]))
    carried = moved_by[links, joint]
    return np.where(carried, length[links] + np.linalg.norm(centers, axis=1), 0.0)
