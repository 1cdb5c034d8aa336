"""Contacts of closed hands with an object, and how well they could hold it: a cheap, deterministic score."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simeval.generators.closing import hand_spheres
from simeval.grasp import Array
from simeval.metrics.distance import ObjectDistance

CONTACT = 0.0015
"""Clearance [m] below which a sphere counts as a contact."""
MOST = 20  # contacts kept a grasp, the nearest first
FRICTION = 0.8  # for the score; below the default of 1.0, so that grasps aren't on the edge
EDGES = 4  # of the friction pyramid
LENGTH = 0.04  # m, torques count as forces at this distance from the centre of mass
ITERATIONS = 60


class Contacts(NamedTuple):
    """Contacts of N hands, padded to `MOST` each."""

    point: Array  # (N, K, 3) m, on the object
    push: Array  # (N, K, 3) unit, from the hand into the object; 0 where there is no contact
    link: NDArray[np.intp]  # (N, K); −1 where there is no contact


def find_contacts(distance: ObjectDistance, centers: Array, clearance: Array) -> Contacts:
    """Return the contacts of hands whose spheres lie at `centers` (N, S, 3) with `clearance` (N, S) [m]."""
    spheres = hand_spheres()
    solid = np.where(spheres.radius > 0, clearance, np.inf)
    chosen = np.argsort(solid, axis=1, kind="stable")[:, :MOST]
    row = np.arange(len(chosen))[:, None]
    valid = solid[row, chosen] < CONTACT
    point = np.zeros((*chosen.shape, 3))
    push = np.zeros_like(point)
    center = centers[row, chosen][valid]
    point[valid] = distance.closest(center)
    offset = (point[valid] - center) * np.where(distance.inside(center), -1, 1)[:, None]
    push[valid] = offset / np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-9)
    return Contacts(point, push, np.where(valid, spheres.link[chosen], -1))


def wrench_matrix(contacts: Contacts, center: Array) -> Array:
    """Wrenches (N, 6, K·EDGES) of unit pushes along the edges of each contact's friction pyramid.

    The lower three rows are torques about `center` (3,), divided by `LENGTH`.
    """
    push = contacts.push
    helper = np.where(np.abs(push[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0])
    u = np.cross(push, helper)
    u /= np.maximum(np.linalg.norm(u, axis=2, keepdims=True), 1e-9)
    v = np.cross(push, u)
    angle = 2 * np.pi * np.arange(EDGES) / EDGES
    side = np.cos(angle)[:, None] * u[:, :, None] + np.sin(angle)[:, None] * v[:, :, None]  # (N, K, E, 3)
    force = push[:, :, None] + FRICTION * side
    arm = (contacts.point - center)[:, :, None] / LENGTH
    return np.concatenate([force, np.cross(arm, force)], axis=3).reshape(len(push), -1, 6).swapaxes(1, 2)


def imbalance(matrix: Array, load: Array, most: float) -> Array:
    """Least |matrix f + load| (N, L) over pushes 0 ≤ f ≤ `most`, for each load: how much can't be balanced.

    Args:
        matrix: (N, 6, M) wrenches.
        load: (N, L, 6) or (L, 6).
        most: largest push on one edge, in the units of the load.

    Accelerated projected gradient (Beck & Teboulle 2009) with a fixed number of iterations.
    """
    gram = matrix.swapaxes(1, 2) @ matrix
    step = 1 / np.maximum(np.abs(gram).sum(axis=2).max(axis=1), 1e-9)[:, None, None]
    linear = np.broadcast_to(load, (len(matrix), *np.shape(load)[-2:])) @ matrix  # (N, L, M)
    f = ahead = np.zeros_like(linear)
    t = 1.0
    for _ in range(ITERATIONS):
        new = np.clip(ahead - step * (ahead @ gram + linear), 0, most)
        t, last = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
        ahead = new + (last - 1) / t * (new - f)
        f = new
    return np.linalg.norm(f @ matrix.swapaxes(1, 2) + load, axis=2)
