"""What Bullet collides with: the object's convex pieces, drawn in by the margin that Bullet adds outside a hull."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection, QhullError

from simeval.grasp import Array
from simeval.objects.model import Mesh, ObjectModel

HULL_MARGIN = 0.001
"""Bullet inflates every convex hull by 1 mm (PyBullet's fixed default; measured as the rest height of a box)."""

MERGE = 0.0003
"""Grid [m] on which an inset piece's vertices are merged; the cost of a collision query grows with them."""


@dataclass(frozen=True, slots=True)
class PhysicsObject:
    """An object made ready for Bullet: OBJ text of its pieces, and the frame of its principal inertias."""

    obj: str
    center_of_mass: Array  # (3,) m, object frame
    principal_rotation: Array  # (3, 3) columns are the principal axes, object frame
    principal_inertia: Array  # (3,) m², per kg


@lru_cache(maxsize=16)
def prepare(model: ObjectModel) -> PhysicsObject:
    """Return the object ready for Bullet; kept per process, since many grasps share an object."""
    inertia, axes = np.linalg.eigh(model.inertia)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    obj = _obj_text([inset(piece, HULL_MARGIN) for piece in model.pieces])
    return PhysicsObject(obj, model.center_of_mass, axes, inertia)


def inset(piece: Mesh, depth: float) -> Array:
    """Vertices (V, 3) of a convex piece with every face moved inwards by `depth` [m].

    A piece thinner than twice the depth is drawn in by 90 % of its inscribed radius instead, so that the hull with
    its margin is never thinner than the original; it stays thicker by at most the remaining margin.
    """
    try:
        planes = np.unique(ConvexHull(piece.vertices).equations.round(12), axis=0)  # n·x + d <= 0 inside
        center = piece.vertices.mean(axis=0)
        radius = -float((planes[:, :3] @ center + planes[:, 3]).max())
        if 0.9 * radius < depth:  # the mean vertex is too near a face to tell
            center, radius = _inscribed_sphere(planes)
        planes[:, 3] += min(depth, 0.9 * radius)
        return _merged(HalfspaceIntersection(planes, center).intersections)
    except (QhullError, ValueError):
        return piece.vertices


def _merged(vertices: Array) -> Array:
    """Vertices of the hull with those closer than `MERGE` made one: facets that nearly coincide meet in many."""
    _, first = np.unique(np.round(vertices / MERGE), axis=0, return_index=True)
    kept = vertices[np.sort(first)]
    return kept[ConvexHull(kept).vertices]


def _inscribed_sphere(planes: Array) -> tuple[Array, float]:
    """Centre (3,) and radius of the largest sphere inside n·x + d <= 0 (Chebyshev centre)."""
    ones = np.ones((len(planes), 1))  # unit normals
    result = linprog([0, 0, 0, -1], A_ub=np.hstack([planes[:, :3], ones]), b_ub=-planes[:, 3], bounds=(None, None))
    if result.x is None:
        raise ValueError("no interior")
    return result.x[:3], float(result.x[3])


def _obj_text(pieces: list[Array]) -> str:
    """OBJ with one object a piece; Bullet makes a hull of each, so one fan of faces is enough to name the vertices."""
    lines: list[str] = []
    first = 1
    for k, vertices in enumerate(pieces):
        lines.append(f"o piece_{k}")
        lines += ["v {:.9f} {:.9f} {:.9f}".format(*v) for v in vertices]
        last = first + len(vertices) - 1
        lines += [f"f {first} {i} {min(i + 1, last)}" for i in range(first + 1, last + 1)]
        first = last + 1
    return "\n".join(lines) + "\n"
