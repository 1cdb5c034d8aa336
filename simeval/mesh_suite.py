"""A user's own mesh as a suite of one object."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simeval.errors import DataError, SettingError, unknown_name
from simeval.objects import ObjectModel
from simeval.suites import Request, Suite

AXES: dict[str, tuple[float, float, float]] = {
    "x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1), "-x": (-1, 0, 0), "-y": (0, -1, 0), "-z": (0, 0, -1),
}  # fmt: skip
REFERENCES = ["random", "scoop"]
"""Floors that need no grasps known for the object."""
DECOMPOSITIONS = ("auto", "coacd", "hull")
_HULL_ADVICE = ('load_mesh_object(..., decompose="hull")', "--decompose hull")  # in Python, in a command


@dataclass(frozen=True, slots=True)
class MeshObject:
    """A mesh file and how to read it. The object's code is the file's name.

    Raises:
        SettingError: the scale isn't positive, no such axis or decomposition.
    """

    path: Path
    scale: float = 1.0  # metres per unit of the mesh
    up: str = "z"  # which of its axes points against gravity
    decompose: str = "auto"

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise SettingError(f"the mesh's scale must be a positive number of metres per unit, found {self.scale:g}")
        if self.up not in AXES:
            raise unknown_name("up axis", self.up, AXES)
        if self.decompose not in DECOMPOSITIONS:
            raise unknown_name("decomposition", self.decompose, DECOMPOSITIONS)

    def load(self) -> ObjectModel:
        """Build the object.

        Raises:
            DataError: there is no such file, or it can't be used.
        """
        from simeval.objects import load_mesh_object

        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file")
        how: Any = self.decompose
        try:
            return load_mesh_object(self.path, self.scale, AXES[self.up], self.path.name, how)
        except DataError as error:
            raise DataError(str(error).replace(*_HULL_ADVICE)) from None

    def suite(self, count: int, types: Sequence[str] = ()) -> Suite:
        """Return the suite that asks for `count` grasps of this object, of each of some types; none: of any type."""
        return Suite(
            name=f"mesh-{self.path.stem}", version=1, description=f"{self.path.name}, a user's own mesh",
            data_kind="real", references=REFERENCES,
            requests=[
                Request(object=self.path.name, scale=self.scale, type=kind, count=count)
                for kind in dict.fromkeys(types or ("",))
            ],
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the result, for the manifest: not where the file lies."""
        return {"file": self.path.name, "scale": self.scale, "up": self.up, "decompose": self.decompose}

    @staticmethod
    def from_manifest(manifest: Mapping[str, Any]) -> "MeshObject":
        """Return the mesh of a run, its file where it was then."""
        try:
            how = manifest["mesh"]
            where = Path(manifest.get("volatile", {}).get("mesh_path", how["file"]))
            return MeshObject(where, how["scale"], how["up"], how["decompose"])
        except (KeyError, TypeError, AttributeError):
            raise DataError(f"the run's manifest is damaged: {manifest.get('mesh')!r} is no mesh of a run") from None
