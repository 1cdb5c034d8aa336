"""A user's own mesh as an object: read with trimesh, split into convex pieces with CoACD, cached."""

import hashlib
import io
import logging
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simeval.errors import DataError, unknown_name
from simeval.files import replacing
from simeval.objects.build import build_object
from simeval.objects.model import Array, Mesh, ObjectModel
from simeval.objects.pickles import load_npz

SUFFIXES = (".obj", ".stl", ".ply", ".off", ".glb", ".gltf")
Decompose = Literal["auto", "coacd", "hull"]
COACD = {"threshold": 0.05, "max_convex_hull": 32, "seed": 0}
MAX_FILE = 2**30  # bytes
CONVEX = 0.01  # a mesh is convex if it lies within this fraction of its longest side below its hull

log = logging.getLogger(__name__)


def load_mesh_object(
    path: str | Path,
    scale: float = 1.0,
    up: ArrayLike = (0.0, 0.0, 1.0),
    code: str | None = None,
    decompose: Decompose = "auto",
    timeout: float = 300.0,
) -> ObjectModel:
    """Build an object from a mesh file.

    Args:
        path: .obj, .stl, .ply, .off, .glb or .gltf.
        scale: multiplies its coordinates to metres (0.001 for millimetres).
        up: against gravity, in the mesh's axes.
        code: the object's name; by default the path as given.
        decompose: `auto` takes the hull of a convex mesh (within 1 % of its longest side) and CoACD's pieces
            of any other; `coacd` and `hull` force one of them.
        timeout: seconds CoACD may take, in a process of its own because it can crash.

    CoACD's pieces are cached by the mesh's vertices and faces and the settings, in SIMEVAL_CACHE, else
    XDG_CACHE_HOME/simeval, else ~/.cache/simeval.

    Raises:
        DataError: unreadable, empty, flat, not finite, larger than 10 m or smaller than 1 mm, or CoACD is
            missing, crashes or takes too long.
    """
    path = Path(path)
    name = str(path) if code is None else code
    if decompose not in ("auto", "coacd", "hull"):
        raise unknown_name("decomposition", decompose, ("auto", "coacd", "hull"))
    vertices, faces = _read_mesh(path, _read_bytes(path))
    hull = build_object(name, [(vertices, faces)], scale, up)  # also checks coordinates and size
    if decompose == "hull" or (decompose == "auto" and is_convex(hull, vertices * scale, faces)):
        return hull
    pieces = _cached_pieces(path, vertices, faces, timeout)
    return build_object(name, [(piece, None) for piece in pieces], scale, up)


def is_convex(hull: ObjectModel, vertices: Array, faces: NDArray[np.int64]) -> bool:
    """Whether a mesh's corners and face centres all lie within 1 % of the longest side of its hull's surface.

    Works on meshes that are not closed, for which a volume means nothing.
    """
    some = faces[:: max(1, len(faces) // 20_000)]
    corners = vertices[some]
    points = np.concatenate([corners.reshape(-1, 3), corners.mean(axis=1)])
    depth = _depth(hull.surface, points)
    return bool(depth.max() <= CONVEX * np.ptp(hull.surface.vertices, axis=0).max())


def cache_folder() -> Path:
    """Return the folder for decomposed meshes (SIMEVAL_CACHE, XDG_CACHE_HOME/simeval or ~/.cache/simeval)."""
    given = os.environ.get("SIMEVAL_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simeval"


def _depth(hull: Mesh, points: Array) -> Array:
    """Depth (P,) of points below the surface of a convex mesh, in blocks that fit in memory."""
    a, b, c = (hull.vertices[hull.faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    keep = length[:, 0] > 1e-12 * length.max()
    normals = normals[keep] / length[keep]
    offsets = np.einsum("ij,ij->i", normals, a[keep])
    blocks = np.array_split(points, max(1, len(points) // 4096))
    return np.concatenate([(offsets - block @ normals.T).min(axis=1) for block in blocks])


def _read_bytes(path: Path) -> bytes:
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: not a mesh file this can read; expected {', '.join(SUFFIXES)}")
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"{path}: the file is empty")
        if size > MAX_FILE:
            raise DataError(f"{path}: {size:,} bytes; simplify the mesh to below {MAX_FILE:,}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None


def _read_mesh(path: Path, data: bytes) -> tuple[Array, NDArray[np.int64]]:
    """Read vertices and triangles as the file has them: trimesh's clean-up would hide NaN and bad indices."""
    import trimesh

    kind = path.suffix.lower()
    if kind in (".obj", ".off"):  # text; a name in another encoding than UTF-8 is no obstacle
        data = data.decode("utf-8", errors="replace").encode()
    source: Any = path if kind == ".gltf" else io.BytesIO(data)  # .gltf: its buffers are files beside it
    try:
        mesh: Any = trimesh.load(source, file_type=kind[1:], force="mesh", process=False)
        vertices = np.asarray(mesh.vertices, dtype=np.float64)
        faces = np.asarray(mesh.faces, dtype=np.int64)
    except Exception as error:  # parsers of 6 formats: anything can come out of them
        # an ImportError is trimesh looking for a tool to guess the encoding of what it took for text
        detail = "" if isinstance(error, ImportError) else f" ({type(error).__name__}: {str(error)[:200]})"
        raise DataError(f"{path}: not a readable {kind} file: damaged, cut off or of another kind{detail}") from None
    if vertices.size == 0 or faces.size == 0:
        raise DataError(f"{path}: has {len(vertices)} vertices and {len(faces)} faces, so no surface")
    return vertices, faces


def _cached_pieces(path: Path, vertices: Array, faces: NDArray[np.int64], timeout: float) -> list[Array]:
    try:
        tool = version("coacd")
    except PackageNotFoundError:
        raise DataError(
            f"{path}: is not convex, and splitting it needs CoACD: pip install 'simeval[mesh]'. "
            'Or take its convex hull: load_mesh_object(..., decompose="hull")'
        ) from None
    key = vertices.tobytes() + faces.tobytes() + repr((tool, sorted(COACD.items()))).encode()
    digest = hashlib.sha256(key).hexdigest()
    file = cache_folder() / "convex" / f"{digest[:32]}.npz"
    if file.is_file():
        try:
            return _split(load_npz(file), str(file))
        except DataError as error:
            log.warning("%s; making it again", error)
    with tempfile.TemporaryDirectory() as folder:
        out = _run_coacd(path, vertices, faces, Path(folder), timeout)
        pieces = _split(load_npz(out), str(path))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as unfinished:
                unfinished.write_bytes(out.read_bytes())
        except OSError as error:
            log.warning("%s can't be written (%s); the mesh is split again next time", file, error.strerror)
    return pieces


def _run_coacd(path: Path, vertices: Array, faces: NDArray[np.int64], folder: Path, timeout: float) -> Path:
    source, target = folder / "in.npz", folder / "out.npz"
    np.savez(source, vertices=vertices, faces=faces)
    command = [sys.executable, "-m", "simeval.objects.decompose", str(source), str(target)]
    advice = 'Repair or simplify the mesh, or take its convex hull: load_mesh_object(..., decompose="hull")'
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise DataError(f"{path}: CoACD took more than {timeout:g} s. {advice}") from None
    if done.returncode != 0 or not target.is_file():
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise DataError(f"{path}: CoACD failed ({how}: {last[0][:200]}). {advice}")
    return target


def _split(members: dict[str, Any], where: str) -> list[Array]:
    """Undo `simeval.objects.decompose`: points (P, 3) and the first row of each piece but the first."""
    points, starts = members.get("points"), members.get("starts")
    if (
        isinstance(points, np.ndarray)
        and isinstance(starts, np.ndarray)
        and (points.dtype.kind, points.shape[1:], starts.dtype.kind, starts.ndim) == ("f", (3,), "i", 1)
        and np.all((starts >= 0) & (starts <= len(points)))
    ):
        return np.split(points, starts)
    raise DataError(f"{where}: damaged cache file")
