"""Points on an object's surface, for the depth to which a hand penetrates it."""

import numpy as np

from simeval.objects.model import Array, ObjectModel

SHARP = np.deg2rad(30.0)  # edges that bend more than this get points of their own


def surface_points(model: ObjectModel, spacing: float = 0.003, limit: int = 6000) -> Array:
    """Return points (P, 3) [m] on the surface, always the same for the same object.

    They are the mesh's vertices (at most half of `limit`, thinned where there are more), points along its
    sharp edges every `spacing` [m] (at most half of what is left), and points spread evenly over the faces,
    about one per spacing², up to `limit` in all.
    """
    corners = _thin(model.surface.vertices, limit // 2)
    edges = _thin(_edge_points(model, spacing), (limit - len(corners)) // 2)
    area = _areas(model).sum()
    count = min(limit - len(corners) - len(edges), int(np.ceil(area / spacing**2)))
    return np.concatenate([corners, edges, _face_points(model, count)])


def _areas(model: ObjectModel) -> Array:
    a, b, c = (model.surface.vertices[model.surface.faces[:, k]] for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def _face_points(model: ObjectModel, count: int) -> Array:
    """Spread points by area: stratified over the faces, within each by the R2 sequence (M. Roberts, 2018)."""
    cumulative = np.cumsum(_areas(model))
    k = np.arange(count)
    position = (k + 0.5) / max(count, 1) * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, position), len(cumulative) - 1)
    plastic = 1.32471795724474602596
    u, v = (0.5 + (k + 1) / plastic) % 1, (0.5 + (k + 1) / plastic**2) % 1
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = np.moveaxis(model.surface.vertices[model.surface.faces[face]], 1, 0)
    return a + u[:, None] * (b - a) + v[:, None] * (c - a)


def _edge_points(model: ObjectModel, spacing: float) -> Array:
    """Points every `spacing` inside the edges whose two faces bend by more than `SHARP`."""
    vertices, faces = model.surface.vertices, model.surface.faces
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    owner = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, owner = edges[order], owner[order]
    pair = np.flatnonzero((edges[1:] == edges[:-1]).all(axis=1))  # a closed mesh has each edge twice
    bend = np.einsum("ij,ij->i", normals[owner[pair]], normals[owner[pair + 1]])
    start, end = np.moveaxis(vertices[edges[pair[bend < np.cos(SHARP)]]], 1, 0)
    steps = np.ceil(np.linalg.norm(end - start, axis=1) / spacing - 1e-9).astype(int)
    inner = np.maximum(steps - 1, 0)
    which = np.repeat(np.arange(len(start)), inner)
    first = np.repeat(np.cumsum(inner) - inner, inner)
    t = (np.arange(len(which)) - first + 1) / steps[which]
    return start[which] + t[:, None] * (end[which] - start[which])


def _thin(points: Array, limit: int) -> Array:
    if len(points) <= limit:
        return points
    return points[np.linspace(0, len(points) - 1, limit).astype(int)]
