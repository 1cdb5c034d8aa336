"""Objects: convex pieces, outer surface and mass, from DexGraspNet, the embedded set or a user's own mesh.

Names load when they are first used, so that importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from simeval.objects.model import Mesh, ObjectModel

if TYPE_CHECKING:
    from simeval.objects.build import build_object
    from simeval.objects.dexgraspnet import DexGraspNetData
    from simeval.objects.embedded import embedded_codes, load_embedded
    from simeval.objects.grasp_files import read_grasps, write_grasps
    from simeval.objects.hulls import convex_hull
    from simeval.objects.library import ObjectLibrary
    from simeval.objects.mesh import load_mesh_object
    from simeval.objects.sampling import surface_points
    from simeval.objects.suitability import guess_up, suitable_scales

_MODULES = {
    "build": ("build_object",),
    "dexgraspnet": ("DexGraspNetData",),
    "embedded": ("embedded_codes", "load_embedded"),
    "grasp_files": ("read_grasps", "write_grasps"),
    "hulls": ("convex_hull",),
    "library": ("ObjectLibrary",),
    "mesh": ("load_mesh_object",),
    "sampling": ("surface_points",),
    "suitability": ("guess_up", "suitable_scales"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "DexGraspNetData",
    "Mesh",
    "ObjectLibrary",
    "ObjectModel",
    "build_object",
    "convex_hull",
    "embedded_codes",
    "guess_up",
    "load_embedded",
    "load_mesh_object",
    "read_grasps",
    "suitable_scales",
    "surface_points",
    "write_grasps",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
