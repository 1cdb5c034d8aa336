"""ObjectModel: a rigid object as convex pieces, its outer surface and its mass properties."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangle mesh: vertices (V, 3) m, faces (F, 3) int32, outward-facing."""

    vertices: Array
    faces: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectModel:
    """One object at one scale, in metres, in its own frame (DexGraspNet: the mesh frame).

    `inertia` is per kilogram (m²), about the centre of mass, in the object's axes; both come from the
    union of the pieces at uniform density. `digest` names the geometry (pieces, scale, up) in the records;
    two models with the same digest are equal, so that caches can be keyed on a model.
    """

    code: str
    scale: float
    pieces: tuple[Mesh, ...]  # convex
    surface: Mesh  # outer surface of their union, watertight
    volume: float  # m³
    center_of_mass: Array  # (3,) m
    inertia: Array  # (3, 3) m², per kg
    up: Array  # (3,) unit vector, object frame
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectModel) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def mass(self, density: float) -> float:
        """Mass [kg] at a density [kg/m³]."""
        return density * self.volume
