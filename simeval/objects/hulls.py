"""Convex hulls: of any points, with a bounded number of vertices, always the same for the same points."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simeval.objects.model import Array, Mesh

HULL_VERTICES = 256
"""Most vertices a convex piece keeps; Bullet's support-vertex queries are linear in them."""
MANY_POINTS = 20_000  # above this many, qhull stops when it has added 4,000, the furthest out first


def convex_hull(points: Array, min_volume: float = 0.0) -> Mesh | None:
    """Return the convex hull of (P, 3) points, facing out; None if its volume is at most `min_volume`."""
    from scipy.spatial import ConvexHull, QhullError

    if len(points) < 4:
        return None
    try:
        if len(points) > MANY_POINTS:
            points = points[ConvexHull(points, qhull_options="Qt TA4000").vertices]
        hull = ConvexHull(points)
        if len(hull.vertices) > HULL_VERTICES:
            points = _reduced(points[hull.vertices], HULL_VERTICES)
            hull = ConvexHull(points)
    except (QhullError, ValueError):  # flat, a line or a point
        return None
    if hull.volume <= min_volume:
        return None
    renumber = np.full(len(points), -1, dtype=np.int32)
    renumber[hull.vertices] = np.arange(len(hull.vertices), dtype=np.int32)
    vertices = np.ascontiguousarray(points[hull.vertices], dtype=np.float64)
    faces = renumber[hull.simplices]
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), hull.equations[:, :3]) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    return frozen_mesh(vertices, faces)


def grown(hull: Mesh, margin: float) -> Mesh:
    """Return the hull with every vertex moved out by `margin` [m] along its mean face normal."""
    a, b, c = (hull.vertices[hull.faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)  # area-weighted: slivers, whose direction is noise, hardly count
    outward = np.zeros_like(hull.vertices)
    for k in range(3):
        np.add.at(outward, hull.faces[:, k], normals)
    length = np.linalg.norm(outward, axis=1, keepdims=True)
    moved = hull.vertices + margin * outward / np.where(length > 0, length, 1.0)
    return convex_hull(moved) or hull


def fibonacci_directions(count: int) -> Array:
    """(count, 3) unit vectors spread evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """Return meshes side by side as one."""
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    faces = np.concatenate([m.faces + offset for m, offset in zip(meshes, offsets, strict=True)])
    return frozen_mesh(np.concatenate([m.vertices for m in meshes]), faces)


def frozen_mesh(vertices: Array, faces: NDArray) -> Mesh:
    """Return a mesh whose arrays are contiguous and read-only."""
    vertices = np.ascontiguousarray(vertices, dtype=np.float64)
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    vertices.flags.writeable = faces.flags.writeable = False
    return Mesh(vertices, faces)


def _reduced(points: Array, count: int) -> Array:
    """Keep `count` of a hull's vertices: extremal ones in 64 directions, then those furthest outside.

    Each turn adds the furthest point beyond each face of the hull so far, the worst first, up to 64 of them.
    Of the same count, points extremal in Fibonacci directions alone lie five times further from the hull.
    """
    from scipy.spatial import ConvexHull

    kept = _extremal(points, 64)
    while len(kept) < count:
        planes = ConvexHull(points[kept]).equations
        outside = points @ planes[:, :3].T + planes[:, 3]
        face = outside.argmax(axis=1)
        distance = outside[np.arange(len(points)), face]
        order = np.argsort(-distance, kind="stable")
        worst = order[np.sort(np.unique(face[order], return_index=True)[1])]
        added = worst[distance[worst] > 1e-12][: min(64, count - len(kept))]
        if not len(added):
            break
        kept = np.union1d(kept, added)
    return points[kept]


def _extremal(points: Array, count: int) -> NDArray[np.intp]:
    """Return the indices of the points furthest in `count` directions, even relative to the bounding box."""
    extent = np.ptp(points, axis=0)
    directions = fibonacci_directions(count) / np.where(extent > 0, extent, 1.0)
    blocks = np.array_split(directions, max(1, count * len(points) // 4_000_000))
    return np.unique(np.concatenate([np.argmax(block @ points.T, axis=1) for block in blocks]))
