"""The embedded objects, which need no download: PyBullet's random objects and parametric household shapes."""

from functools import lru_cache
from pathlib import Path

from simeval.errors import DataError, unknown_name
from simeval.objects.build import build_object
from simeval.objects.dexgraspnet import near_codes, read_obj_groups
from simeval.objects.model import ObjectModel
from simeval.objects.shapes import FAMILIES, shape_pieces

PREFIX = "embedded-"
RANDOM_SCALE = 0.015
"""What `pybullet_data/random_urdfs/NNN/NNN.urdf` multiplies its mesh by to get metres."""

# Bit k: object k's smallest side is 12 to 90 mm and its middle one at most 160 mm (`suits_hand`; none is too
# heavy). 379 are left out, nearly all because their smallest side is 92 mm, and 168, whose vertices are NaN.
_SUITABLE = int(
    "d5fc30ee6f5c74cfef7f3bccefc9db97cefea10d2fd442b3b5745fe71b4efba0cfff6def4ef2ebf07c9f32ebcbb48fc7b6d2b92751cf"
    "bc2dfdafb97e6fc74f6f6bff7f744bdaa6a648fc2228c607ff7e8ba55aa3f7ceb1a52347f960b66f3dedfed99bfd9ddbeb5c7aaebed6"
    "7c54fd75ad6f3b5d753e59a0f70ff1cbef",
    16,
)


@lru_cache(maxsize=1)
def embedded_codes() -> tuple[str, ...]:
    """Codes of the embedded objects: `embedded-random-000` … (620), `embedded-<family>-00` to `-11` (264).

    The parametric ones include pens, cards and rings thinner than the 12 mm that the others keep to, because
    tip and lateral grasps are for such things.
    """
    random = [f"{PREFIX}random-{k:03d}" for k in range(1000) if _SUITABLE >> k & 1]
    shapes = [
        f"{PREFIX}{family}-{k:02d}"
        for family, (_, first, second) in FAMILIES.items()
        for k in range(len(first) * len(second))
    ]
    return (*random, *shapes)


def load_embedded(code: str, scale: float = 1.0) -> ObjectModel:
    """Build an embedded object. At scale 1 it has its everyday size; up is +z.

    A random object has the convex pieces that its OBJ file lists as groups, which is also what PyBullet makes
    of it (one hull for each group).

    Raises:
        SettingError: unknown code.
        DataError: pybullet_data is not installed, or the scale makes the object too large or too small.
    """
    if code not in embedded_codes():
        raise unknown_name("embedded object", code, near_codes(code, embedded_codes()))
    family, _, number = code.removeprefix(PREFIX).rpartition("-")
    if family != "random":
        return build_object(code, [(piece, None) for piece in shape_pieces(family, int(number))], scale)
    pieces = read_obj_groups(_random_folder() / number / f"{number}.obj")
    return build_object(code, [(piece * RANDOM_SCALE, None) for piece in pieces], scale)


@lru_cache(maxsize=1)
def _random_folder() -> Path:
    """Return pybullet_data's `random_urdfs`, found without importing PyBullet."""
    from importlib.util import find_spec

    spec = find_spec("pybullet_data")
    folder = Path(next(iter(spec.submodule_search_locations or [""]))) / "random_urdfs" if spec else None
    if folder is None or not folder.is_dir():
        raise DataError("pybullet_data/random_urdfs is missing; install it with `pip install pybullet==3.2.7`")
    return folder
