"""Signed distance of several objects as grids, interpolated trilinearly: differentiable, batched, on any device."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simeval.grasp import Array
from simeval.metrics.distance import object_distance
from simeval.objects.model import ObjectModel

NODES = 120_000
"""Nodes of one grid; a mug of 20 cm gets a spacing of 3.4 mm, a pen 1 mm."""
MARGIN = 0.03
"""How far a grid reaches beyond the object's bounds [m]; further out the distance to the grid is added."""
NORMAL_STEP = 0.0015
"""Half the base [m] of the central differences that give normals."""


class Grid(NamedTuple):
    """Signed distances [m] at the nodes of one object's grid."""

    values: NDArray[np.float32]  # (nx, ny, nz) m
    origin: Array  # (3,) m
    spacing: float  # m


@lru_cache(maxsize=64)
def make_grid(model: ObjectModel) -> Grid:
    """Sample the exact distance of an object; kept per process."""
    distance = object_distance(model)
    low, high = distance.lower - MARGIN, distance.upper + MARGIN
    spacing = float((np.prod(high - low) / NODES) ** (1 / 3))
    axes = [low[k] + spacing * np.arange(int(np.ceil((high[k] - low[k]) / spacing)) + 1) for k in range(3)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    values = distance.signed(nodes.reshape(-1, 3)).reshape(nodes.shape[:3]).astype(np.float32)
    return Grid(values, low, spacing)


class Field:
    """Distances of several objects; every query names the object (by index) that its points belong to."""

    def __init__(self, models: Sequence[ObjectModel], device: torch.device | str = "cpu") -> None:
        grids = [make_grid(model) for model in models]
        sizes = [grid.values.size for grid in grids]

        def tensor(values: Sequence[float] | Array) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self.values = torch.as_tensor(np.concatenate([g.values.ravel() for g in grids]), device=device)
        self.start = torch.as_tensor(np.cumsum([0, *sizes[:-1]]), device=device)
        self.shape = torch.tensor([g.values.shape for g in grids], device=device)
        self.origin = tensor(np.array([g.origin for g in grids]))
        self.spacing = tensor([g.spacing for g in grids])
        self.center = tensor(np.array([m.center_of_mass for m in models]))

    def signed(self, points: Tensor, which: Tensor) -> Tensor:
        """Signed distance (B, Q) [m] of points (B, Q, 3) in the frames of objects `which` (B,); differentiable."""
        spacing, shape = self.spacing[which, None, None], self.shape[which, None]
        u = (points - self.origin[which, None]) / spacing
        inside = torch.minimum(torch.maximum(u, torch.zeros_like(u)), (shape - 1).to(u))
        beyond = u - inside
        outer = torch.where(
            beyond.detach().abs().sum(-1) > 0, spacing[..., 0] * (beyond.square().sum(-1) + 1e-12).sqrt(), 0.0
        )
        cell = torch.minimum(inside.detach().floor().long(), shape - 2)
        x, y, z = (inside - cell).unbind(-1)
        ny, nz = shape[..., 1], shape[..., 2]
        first = self.start[which, None] + (cell[..., 0] * ny + cell[..., 1]) * nz + cell[..., 2]
        v = self.values
        row = nz
        plane = ny * nz
        c00 = v[first] * (1 - z) + v[first + 1] * z
        c01 = v[first + row] * (1 - z) + v[first + row + 1] * z
        c10 = v[first + plane] * (1 - z) + v[first + plane + 1] * z
        c11 = v[first + plane + row] * (1 - z) + v[first + plane + row + 1] * z
        return (c00 * (1 - y) + c01 * y) * (1 - x) + (c10 * (1 - y) + c11 * y) * x + outer

    def normal(self, points: Tensor, which: Tensor) -> Tensor:
        """Outward unit normals (B, K, 3) at points (B, K, 3), by central differences; differentiable."""
        step = NORMAL_STEP * torch.eye(3, dtype=points.dtype, device=points.device)
        b, k, _ = points.shape
        ahead = self.signed((points[:, :, None] + step).reshape(b, 3 * k, 3), which).reshape(b, k, 3)
        behind = self.signed((points[:, :, None] - step).reshape(b, 3 * k, 3), which).reshape(b, k, 3)
        return torch.nn.functional.normalize(ahead - behind, dim=-1, eps=1e-9)
