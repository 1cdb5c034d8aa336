"""Released grasps on disk: DexGraspNet's `<code>.npy`, UniDexGrasp's `NNNNN.npz`."""

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike

from simeval.errors import DataError
from simeval.files import completed
from simeval.grasp import JOINT_NAMES, VECTOR_NAMES, GraspBatch
from simeval.objects.model import Array
from simeval.objects.pickles import load_npy_dicts, load_npz
from simeval.objects.suitability import DEXGRASPNET_SCALES

QPOS_NAMES = tuple(f"robot0:{name}" if name in JOINT_NAMES else name for name in VECTOR_NAMES)
"""Keys of a released `qpos` dict in the order of the 28-d vector."""


@dataclass(frozen=True, slots=True)
class GraspSet:
    """Released grasps of one object in file order; iterates over (scale, GraspBatch of one)."""

    code: str
    scales: Array  # (N,)
    grasps: GraspBatch  # N
    planes: Array | None = None  # (N, 4) tabletop: n·x + d >= 0 above the table, object frame, metres

    def __len__(self) -> int:
        return len(self.scales)

    def __iter__(self) -> Iterator[tuple[float, GraspBatch]]:
        return ((float(s), g) for s, g in zip(self.scales, self.grasps, strict=True))

    def at(self, scale: float) -> GraspBatch:
        """Return the grasps at one scale, in file order (none: an empty batch)."""
        return self.grasps[np.flatnonzero(np.isclose(self.scales, scale, rtol=1e-4))]

    def ups(self) -> Array:
        """(N, 3) unit normals of the tables, i.e. against gravity, object frame.

        Raises:
            DataError: these are no tabletop grasps.
        """
        if self.planes is None:
            raise DataError(f"the grasps of {self.code!r} were made without a table, they have no plane")
        normals = self.planes[:, :3]
        return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def read_grasps(path: str | Path) -> GraspSet:
    """Read a DexGraspNet grasp file; the file's name is the object's code.

    Raises:
        DataError: missing, damaged, or without `qpos` (28 numbers) and `scale` in each item.
    """
    path = Path(path)
    items = load_npy_dicts(path)
    rows = [_vector(item.get("qpos"), f"{path}, grasp {i}") for i, item in enumerate(items)]
    scales = [_scale(item.get("scale"), f"{path}, grasp {i}") for i, item in enumerate(items)]
    vectors = np.array(rows, dtype=np.float64).reshape(-1, len(QPOS_NAMES))
    return GraspSet(path.stem, np.array(scales, dtype=np.float64), GraspBatch.from_vectors(vectors))


def write_grasps(path: str | Path, scales: float | ArrayLike, grasps: GraspBatch) -> None:
    """Write grasps as DexGraspNet does: a 1-D object array of `{qpos: 28 floats, scale}`.

    Scores, pregrasp and squeeze joints have no place in that format and are left out. NumPy 1 reads it too.

    Raises:
        DataError: it can't be written.
    """
    sizes = np.broadcast_to(np.asarray(scales, dtype=np.float64), (len(grasps),))
    items = np.empty(len(grasps), dtype=object)
    for i, vector in enumerate(grasps.to_vectors()):
        items[i] = {"qpos": dict(zip(QPOS_NAMES, vector.tolist(), strict=True)), "scale": float(sizes[i])}
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, npy.header_data_from_array_1_0(items))
    # NumPy 2 calls the module numpy._core, which NumPy 1.25 and older (DexGraspNet's own code) don't have
    data = pickle.dumps(items, protocol=3)
    buffer.write(data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1))
    with completed(Path(path)) as unfinished:
        unfinished.write_bytes(buffer.getvalue())


def read_tabletop(path: Path) -> tuple[list[float], float, Array]:
    """Read one of UniDexGrasp's files: 28-d vector, scale (stored inverted) and table plane (4,).

    Raises:
        DataError: damaged, or without `qpos`, `scale` and `plane`.
    """
    members = load_npz(path)
    missing = {"qpos", "scale", "plane"} - members.keys()
    if missing:
        raise DataError(f"{path}: lacks {', '.join(sorted(missing))}; it holds {', '.join(sorted(members))}")
    inverse = np.asarray(members["scale"], dtype=object)
    plane = np.asarray(members["plane"])
    if plane.shape != (4,) or plane.dtype.kind not in "iuf" or not np.linalg.norm(plane[:3]) > 0:
        raise DataError(f"{path}: plane is {plane!r:.60}, expected 4 numbers")
    if inverse.shape != ():
        raise DataError(f"{path}: scale has shape {inverse.shape}, expected one number")
    number = _scale(inverse.item(), str(path))
    return _vector(members["qpos"], str(path)), _scale(1 / number, str(path)), plane.astype(np.float64)


def _vector(qpos: Any, where: str) -> list[float]:
    if not isinstance(qpos, dict):
        raise DataError(f"{where}: no qpos dict, found {type(qpos).__name__}")
    try:
        return [float(qpos[name]) for name in QPOS_NAMES]
    except KeyError as error:
        raise DataError(f"{where}: qpos lacks {error}; it has {len(qpos)} keys, expected 28") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: qpos holds something that is no number ({error})") from None


def _scale(value: Any, where: str) -> float:
    """Check a scale; those within rounding (float32) of DexGraspNet's five become exactly those."""
    try:
        scale = float(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: scale is {value!r:.40}, expected a number") from None
    if not 0 < scale < 100:
        raise DataError(f"{where}: scale is {scale}")
    return next((s for s in DEXGRASPNET_SCALES if abs(s - scale) < 1e-4 * s), scale)
