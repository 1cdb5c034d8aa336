"""Signed distance of several objects as grids, interpolated trilinearly: differentiable, batched, on any device."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simeval.grasp import Array
from simeval.metrics.distance import ObjectDistance, object_distance
from simeval.objects.model import ObjectModel

NODES = 120_000
"""Nodes of one grid; a mug of 20 cm gets a spacing of 3.4 mm, a pen 1 mm."""
COARSE = 3
"""See `make_grid`."""
MARGIN = 0.03
"""How far a grid reaches beyond the object's bounds [m]; further out the distance to the grid is added."""
NORMAL_STEP = 0.0015
"""Half the base [m] of the central differences that give normals."""


class Grid(NamedTuple):
    """Signed distances [m] at the nodes of one object's grid."""

    values: NDArray[np.floating]  # (nx, ny, nz) m
    origin: Array  # (3,) m
    spacing: float  # m
    center: Array  # (3,) m, the object's centre of mass


@lru_cache(maxsize=64)
def make_grid(model: ObjectModel, nodes: int = NODES, exact: bool = True) -> Grid:
    """Sample the distance of an object at about so many nodes; kept per process.

    Where not `exact`, only nodes near the surface, within about `COARSE` spacings, are asked the exact distance; those
    further away lie between every `COARSE`-th, which takes a quarter of the time and is off by 0.3 mm on average.
    """
    distance = object_distance(model)
    low, high = distance.lower - MARGIN, distance.upper + MARGIN
    spacing = float((np.prod(high - low) / nodes) ** (1 / 3))
    axes = [low[k] + spacing * np.arange(int(np.ceil((high[k] - low[k]) / spacing)) + 1) for k in range(3)]
    values = _exact(distance, axes) if exact else _interpolated(distance, axes, spacing)
    return Grid(values.astype(np.float32), low, spacing, model.center_of_mass)


def _exact(distance: ObjectDistance, axes: Sequence[Array]) -> Array:
    return distance.signed(_nodes(axes)).reshape([len(a) for a in axes])


def _interpolated(distance: ObjectDistance, axes: Sequence[Array], spacing: float) -> Array:
    coarse = [np.unique(np.append(a[::COARSE], a[-1])) for a in axes]
    values = trilinear(coarse, _exact(distance, coarse), axes)
    near = np.nonzero(np.abs(values) < (COARSE + 0.5) * spacing)  # nothing thinner is missed: 2.6 to a coarse node
    values[near] = distance.signed(np.stack([a[k] for a, k in zip(axes, near, strict=True)], axis=1))
    return values


def trilinear(coarse: Sequence[Array], values: Array, axes: Sequence[Array]) -> Array:
    """Interpolate `values` at the nodes of the `coarse` axes at those of `axes`, within them.

    The same bits as SciPy's RegularGridInterpolator, in a third of its time.
    """
    sides = []  # of each axis: the nodes before and after, and their weights
    for known, asked in zip(coarse, axes, strict=True):
        k = np.clip(np.searchsorted(known, asked, side="right") - 1, 0, len(known) - 2)
        after = (asked - known[k]) / (known[k + 1] - known[k])
        sides.append(((k, 1 - after), (k + 1, after)))
    found = np.zeros([len(a) for a in axes])
    for (i, x), (j, y), (k, z) in product(*sides):
        found += values[np.ix_(i, j, k)] * (x[:, None, None] * y[:, None] * z)
    return found


def _nodes(axes: Sequence[Array]) -> Array:
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


class Field:
    """Distances of several objects; every query names the object (by index) that its points belong to."""

    def __init__(self, grids: Sequence[Grid], device: torch.device | str = "cpu") -> None:
        sizes = [grid.values.size for grid in grids]

        def tensor(values: Sequence[float] | Array) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self.values = torch.as_tensor(np.concatenate([g.values.ravel() for g in grids]), device=device)
        self.start = torch.as_tensor(np.cumsum([0, *sizes[:-1]]), device=device)
        self.shape = torch.tensor([g.values.shape for g in grids], device=device)
        self.origin = tensor(np.array([g.origin for g in grids]))
        self.spacing = tensor([g.spacing for g in grids])
        self.center = tensor(np.array([g.center for g in grids]))

    def signed(self, points: Tensor, which: Tensor) -> Tensor:
        """Signed distance (B, Q) [m] of points (B, Q, 3) in the frames of objects `which` (B,); differentiable."""
        corners, (x, y, z), _, outer = self._cell(points, which)
        sides = [_mixed([_mixed(edge, z) for edge in side], y) for side in corners]  # one by one: so gradients add up
        return _mixed(sides, x) + outer

    @torch.no_grad()
    def signed_and_gradient(self, points: Tensor, which: Tensor, first: int | None = None) -> tuple[Tensor, Tensor]:
        """Signed distance (B, Q) [m] as `signed`, and the unit vector along which it grows.

        That is (B, Q, 3), or (B, `first`, 3) of so many points of each.
        """
        corners, offset, beyond, outer = self._cell(points, which)
        x, y, z = offset
        edges = _mixed(corners.movedim(2, 0), z)
        sides = _mixed(edges.movedim(1, 0), y)
        distance = _mixed(sides, x) + outer
        corners, edges, sides, (x, y, _), beyond = (v[..., :first] for v in (corners, edges, sides, offset, beyond))
        along_y, along_z = edges[:, 1] - edges[:, 0], corners[:, :, 1] - corners[:, :, 0]
        slope = [sides[1] - sides[0], _mixed(along_y, x), _mixed(_mixed(along_z.movedim(1, 0), y), x)]
        away = torch.nn.functional.normalize(beyond.movedim(0, -1).contiguous(), dim=-1, eps=1e-6)
        outward = torch.stack(slope, dim=-1) / self.spacing[which, None, None] + away
        return distance, torch.nn.functional.normalize(outward, dim=-1, eps=1e-6)

    def _cell(self, points: Tensor, which: Tensor) -> "_Cell":
        spacing, shape = self.spacing[which, None], self.shape[which]
        origin, last = self.origin[which].T[..., None], (shape - 1).to(spacing).T[..., None]  # (3, B, 1)
        u = (points.movedim(-1, 0).contiguous() - origin) / spacing  # by axes: far faster than rows of three
        inside = torch.minimum(torch.maximum(u, torch.zeros_like(origin)), last)
        beyond = u - inside
        x2, y2, z2 = beyond.square()
        squared = x2 + y2 + z2
        outer = torch.where(squared.detach() > 0, spacing * (squared + 1e-12).sqrt(), 0.0)
        cell = torch.minimum(inside.detach().floor(), last - 1)
        x, y, z = cell
        _, ny, row = shape.T[..., None]
        first = self.start[which, None] + ((x * ny + y) * row + z).long()  # exact: a grid has less than 2²⁴ nodes
        plane = ny * row
        ahead = torch.stack([step + up for step in (0 * row, row, plane, plane + row) for up in (0, 1)])  # (8, B, 1)
        nodes = self.values.index_select(0, (first + ahead).flatten())
        corners = nodes.view(2, 2, 2, *first.shape)
        return _Cell(corners, inside - cell, beyond, outer)

    def normal(self, points: Tensor, which: Tensor) -> Tensor:
        """Outward unit normals (B, K, 3) at points (B, K, 3), by central differences; differentiable."""
        step = NORMAL_STEP * torch.eye(3, dtype=points.dtype, device=points.device)
        b, k, _ = points.shape
        ahead = self.signed((points[:, :, None] + step).reshape(b, 3 * k, 3), which).reshape(b, k, 3)
        behind = self.signed((points[:, :, None] - step).reshape(b, 3 * k, 3), which).reshape(b, k, 3)
        return torch.nn.functional.normalize(ahead - behind, dim=-1, eps=1e-9)


class _Cell(NamedTuple):
    """The cells that points lie in."""

    corners: Tensor  # (2, 2, 2, B, Q) m: before and after along x, y and z
    offset: Tensor  # (3, B, Q) place in the cell from 0 to 1
    beyond: Tensor  # (3, B, Q) how far outside the grid, in cells
    outer: Tensor  # (B, Q) m, distance to the grid


def _mixed(pair: Tensor | Sequence[Tensor], share: Tensor) -> Tensor:
    return pair[0] * (1 - share) + pair[1] * share
