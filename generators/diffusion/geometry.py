"""What a denoiser is told of the object: distances on a grid, at a set of basis points, or wherever it asks."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simeval.generators.field import Grid, make_grid
from simeval.grasp import Array
from simeval.metrics.distance import object_distance
from simeval.objects.model import ObjectModel

GeometryCode = Literal["scaled-map", "metric-map", "basis-points", "field"]
MAP_SIZE = 50
MAP_REACH = 1.15
"""A metric map reaches this many object radii from the centre of mass, along each axis."""
FIELD_NODES = 50_000
BASIS_COUNT, BASIS_REACH, BASIS_SEED = 1024, 1.3, 0


@dataclass(frozen=True, slots=True)
class Shape:
    """One object at one scale."""

    center: Array  # (3,) m, of mass
    radius: float  # m, of the smallest sphere around the centre of mass that holds the surface
    values: NDArray[np.floating] | Grid  # (50, 50, 50) for the maps, (1024, 4) for basis points, a Grid for the field


def describe(model: ObjectModel, code: GeometryCode) -> Shape:
    """Describe an object.

    - `scaled-map`: the source system's. Unsigned distances on a 50³ grid over the cube [−1, 1]³ of the unscaled mesh,
      times the scale. The values know how big the object is, the grid doesn't.
    - `metric-map`: signed distances over the radius, on a 50³ grid around the centre of mass that reaches `MAP_REACH`
      radii; the radius goes with it.
    - `basis-points`: signed distance, over the radius, and the unit vector to the nearest surface point, at 1,024
      points in a ball around the centre of mass that are the same for every object (after Prokudin et al. 2019,
      "Efficient learning on point clouds with basis point sets", doi 10.1109/ICCV.2019.00443).
    - `field`: signed distances [m] on a grid of about `FIELD_NODES` nodes around the object, to be asked anywhere.
    """
    distance = object_distance(model)
    center = model.center_of_mass
    radius = float(np.linalg.norm(model.surface.vertices - center, axis=1).max())
    values: Array | Grid
    if code == "field":
        values = make_grid(model, FIELD_NODES, exact=False)
    elif code == "scaled-map":
        values = np.abs(distance.signed(_cube(1.0) * model.scale)).reshape((MAP_SIZE,) * 3)
    elif code == "metric-map":
        values = distance.signed(center + _cube(MAP_REACH) * radius).reshape((MAP_SIZE,) * 3) / radius
    else:
        points = center + basis_points() * radius
        signed, closest = distance.signed_and_closest(points)
        offset = closest - points
        length = np.linalg.norm(offset, axis=1, keepdims=True)
        values = np.concatenate([signed[:, None] / radius, offset / np.maximum(length, 1e-9)], axis=1)
    return Shape(center, radius, values if isinstance(values, Grid) else values.astype(np.float32))


@lru_cache(maxsize=1)
def basis_points() -> Array:
    """(1024, 3) points, uniform in a ball of radius `BASIS_REACH`, always the same."""
    draw = np.random.default_rng(BASIS_SEED)
    direction = draw.normal(size=(BASIS_COUNT, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return BASIS_REACH * direction * draw.random((BASIS_COUNT, 1)) ** (1 / 3)


@lru_cache(maxsize=2)
def _cube(reach: float) -> Array:
    axis = np.linspace(-reach, reach, MAP_SIZE)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
