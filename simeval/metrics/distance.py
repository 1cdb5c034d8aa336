"""Signed distance to an object: libigl's tree for the magnitude, the convex pieces for the sign."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simeval.grasp import Array
from simeval.objects.model import Mesh, ObjectModel

SEAM = 5e-6
"""Distance [m] by which each piece is widened when asked whether it holds a point: pieces cut from one solid meet with
rounding errors of micrometres between them, and a point in such a gap is inside."""
SLACK = 1e-4
"""Distance [m] by which boxes are widened in `may_reach`: more than surface and pieces differ by."""


class ObjectDistance:
    """Exact signed distance to an object's outer surface, negative inside.

    A point is inside when one of the convex pieces holds it: exact, and robust where a mesh has slivers. The tree is
    built once an object; a query of 1,000 points takes a few milliseconds.
    """

    def __init__(self, model: ObjectModel) -> None:
        import igl

        self._vertices = model.surface.vertices
        self._faces = model.surface.faces.astype(np.int64)
        self._tree = igl.AABB()
        self._tree.init(self._vertices, self._faces)
        self._pieces = [
            (p.vertices.min(axis=0) - SEAM, p.vertices.max(axis=0) + SEAM, *_planes(p)) for p in model.pieces
        ]
        self._low = np.array([p[0] for p in self._pieces])  # (K, 3) m
        self._high = np.array([p[1] for p in self._pieces])
        self.lower = self._vertices.min(axis=0)  # (3,) m
        self.upper = self._vertices.max(axis=0)

    def signed(self, points: Array) -> Array:
        """Signed distance (P,) [m] of points (P, 3) in the object frame."""
        return self.signed_and_closest(points)[0]

    def closest(self, points: Array) -> Array:
        """Closest surface point (P, 3) to each of points (P, 3)."""
        return self._nearest(points)[1]

    def signed_and_closest(self, points: Array) -> tuple[Array, Array]:
        """Signed distance (P,) [m] and closest surface point (P, 3) of points (P, 3), for the price of one query."""
        squared, closest = self._nearest(points)
        return np.where(self.inside(points), -1.0, 1.0) * np.sqrt(squared), closest

    def may_reach(self, points: Array, reach: Array | float) -> NDArray[np.bool_]:
        """Whether the surface may lie within `reach` (P,) [m] of points (P, 3): False only where it surely doesn't.

        Far cheaper than a distance: it looks at the bounding boxes of the convex pieces.
        """
        margin = np.broadcast_to(np.asarray(reach) + SLACK, len(points))[:, None]
        found = np.flatnonzero(((points > self.lower - margin) & (points < self.upper + margin)).all(axis=1))
        p, m = points[found, None], margin[found, None]
        result = np.zeros(len(points), dtype=bool)
        result[found] = np.any(((p > self._low - m) & (p < self._high + m)).all(axis=2), axis=1)
        return result

    def _nearest(self, points: Array) -> tuple[Array, Array]:
        if not len(points):
            return np.zeros(0), np.zeros((0, 3))
        squared, _, closest = self._tree.squared_distance(self._vertices, self._faces, np.ascontiguousarray(points))
        return squared, closest

    def inside(self, points: Array) -> NDArray[np.bool_]:
        """Whether each of points (P, 3) lies in a convex piece (P,)."""
        inside = np.zeros(len(points), dtype=bool)
        candidates = np.flatnonzero(((points > self.lower - SEAM) & (points < self.upper + SEAM)).all(axis=1))
        for low, high, normals, offsets in self._pieces:
            if not len(candidates):
                break
            p = points[candidates]
            near = candidates[((p > low) & (p < high)).all(axis=1)]
            if len(near):
                hit = (points[near] @ normals.T <= offsets).all(axis=1)
                inside[near[hit]] = True
                candidates = candidates[~inside[candidates]]
        return inside


@lru_cache(maxsize=16)
def object_distance(model: ObjectModel) -> ObjectDistance:
    """Return the distance of an object; kept per process, since many grasps share an object."""
    return ObjectDistance(model)


def _planes(piece: Mesh) -> tuple[Array, Array]:
    """Outward normals (F, 3) and offsets (F,) of a convex piece's faces: inside is normals @ p <= offsets."""
    a, b, c = (piece.vertices[piece.faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    solid = length > 1e-14
    normals = normals[solid] / length[solid, None]
    return normals, np.einsum("ij,ij->i", normals, a[solid]) + SEAM
