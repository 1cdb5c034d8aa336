"""A user's own mesh: whatever the file holds, it becomes an object or a DataError that says what is wrong."""

import base64
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from simeval.errors import DataError, SettingError
from simeval.objects import ObjectModel, load_mesh_object
from simeval.objects import mesh as mesh_module
from simeval.objects.pickles import load_npz

PYTHON = sys.executable
CUBE = trimesh.creation.box((0.06, 0.06, 0.06))
BALL = trimesh.creation.icosphere(subdivisions=2, radius=0.04)
TUBE = trimesh.creation.annulus(0.03, 0.045, 0.05, sections=16)


def obj(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    lines = ["v " + " ".join(str(x) for x in v) for v in vertices]
    return "\n".join(lines + ["f " + " ".join(str(int(i) + 1) for i in f) for f in faces]).encode()


def stl(triangles: np.ndarray, count: int | None = None) -> bytes:
    record = np.zeros(len(triangles), dtype=[("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    record["v"] = triangles
    return b"\0" * 80 + struct.pack("<I", len(triangles) if count is None else count) + record.tobytes()


def export(mesh: trimesh.Trimesh, kind: str) -> bytes:
    data: Any = mesh.export(file_type=kind)
    return data.encode() if isinstance(data, str) else data


def with_vertex(value: float, row: int = 0) -> np.ndarray:
    vertices = CUBE.vertices.copy()
    vertices[row, 1] = value
    return vertices


def ply(count: int, body: str = "") -> bytes:
    return (
        f"ply\nformat ascii 1.0\nelement vertex {count}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {count}\nproperty list uchar int vertex_indices\nend_header\n{body}"
    ).encode()


def gltf(buffer: bytes, uri: str | None = None, count: int = 3) -> bytes:
    where = uri or "data:application/octet-stream;base64," + base64.b64encode(buffer).decode()
    return json.dumps({
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "buffers": [{"uri": where, "byteLength": len(buffer)}],
        "bufferViews": [{"buffer": 0, "byteLength": len(buffer)}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": count, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
    }).encode()  # fmt: skip


def garbage(size: int = 4096) -> bytes:
    return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()


QUADS = b"f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4"
V, F = CUBE.vertices, CUBE.faces
BIG_GRID = BALL.triangles[np.arange(10**6) % len(BALL.faces)]  # 10^6 faces, all of them duplicates

BAD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty obj": ("obj", lambda: b""),
    "empty stl": ("stl", lambda: b""),
    "empty ply": ("ply", lambda: b""),
    "empty glb": ("glb", lambda: b""),
    "blank lines": ("obj", lambda: b"\n\n   \n# nothing\n"),
    "vertices only": ("obj", lambda: obj(V, F[:0])),
    "faces only": ("obj", lambda: b"f 1 2 3\nf 2 3 4\n"),
    "one triangle": ("obj", lambda: obj(V[:3], F[:0]) + b"\nf 1 2 3"),
    "one triangle stl": ("stl", lambda: stl(CUBE.triangles[:1])),
    "flat square": ("obj", lambda: obj(V * [1, 1, 0], F)),
    "a line": ("obj", lambda: obj(V * [1, 0, 0], F)),
    "a point": ("obj", lambda: obj(V * 0, F)),
    "NaN vertex": ("obj", lambda: obj(with_vertex(np.nan), F)),
    "inf vertex": ("obj", lambda: obj(with_vertex(np.inf), F)),
    "-inf vertex": ("stl", lambda: stl(with_vertex(-np.inf)[F])),
    "all NaN": ("stl", lambda: stl(CUBE.triangles * np.nan)),
    "NaN ply": ("ply", lambda: export(trimesh.Trimesh(with_vertex(np.nan), F, process=False), "ply")),
    "huge coordinates": ("obj", lambda: obj(V * 1e300, F)),
    "kilometres": ("stl", lambda: stl(CUBE.triangles * 1e5)),
    "millimetres": ("stl", lambda: stl(CUBE.triangles * 1e3)),
    "tiny": ("obj", lambda: obj(V * 1e-3, F)),
    "denormal": ("obj", lambda: obj(V * 1e-310, F)),
    "one far vertex": ("obj", lambda: obj(with_vertex(1e9), F)),
    "index out of range": ("obj", lambda: obj(V, F + 5)),
    "index far out of range": ("obj", lambda: obj(V, F) + b"\nf 1 2 99999999999"),
    "ply index out of range": ("ply", lambda: ply(3, "0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n3 0 1 2\n3 0 1 2\n")),
    "off index out of range": ("off", lambda: b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n"),
    "letters for numbers": ("obj", lambda: b"v a b c\nv 1 x 2\nf 1 2 3"),
    "two coordinates": ("obj", lambda: b"v 1 2\nv 3 4\nv 5 6\nf 1 2 3"),
    "truncated stl": ("stl", lambda: stl(CUBE.triangles)[:333]),
    "stl header only": ("stl", lambda: stl(CUBE.triangles)[:84]),
    "stl lies about its count": ("stl", lambda: stl(CUBE.triangles, count=2**31)),
    "truncated ply": ("ply", lambda: export(BALL, "ply")[:500]),
    "ply header only": ("ply", lambda: ply(12)),
    "ply of 10^12 vertices": ("ply", lambda: ply(10**12)),
    "truncated glb": ("glb", lambda: export(BALL, "glb")[:300]),
    "truncated off": ("off", lambda: export(BALL, "off")[:20]),
    "garbage obj": ("obj", garbage),
    "garbage stl": ("stl", garbage),
    "garbage ply": ("ply", lambda: b"ply\n" + garbage()),
    "garbage glb": ("glb", lambda: b"glTF\x02\0\0\0" + garbage()),
    "garbage off": ("off", garbage),
    "gltf not json": ("gltf", lambda: b"{"),
    "gltf without its buffer": ("gltf", lambda: gltf(b"\0" * 36, uri="missing.bin")),
    "gltf lies about its count": ("gltf", lambda: gltf(b"\0" * 36, count=10**9)),
    "gltf flat": ("gltf", lambda: gltf(np.eye(3, dtype=np.float32).tobytes())),
    "wrong extension": ("txt", lambda: obj(V, F)),
    "no extension": ("", lambda: obj(V, F)),
    "stl named glb": ("glb", lambda: stl(CUBE.triangles)),
    "glb named off": ("off", lambda: export(CUBE, "glb")),
    "image named obj": ("obj", lambda: b"\x89PNG\r\n\x1a\n" + garbage()),
}

FINE: dict[str, tuple[str, Callable[[], bytes], float]] = {
    "cube obj": ("obj", lambda: obj(V, F), 0.06**3),
    "cube stl": ("stl", lambda: export(CUBE, "stl"), 0.06**3),
    "cube ascii stl": ("stl", lambda: export(CUBE, "stl_ascii"), 0.06**3),
    "cube ply": ("ply", lambda: export(CUBE, "ply"), 0.06**3),
    "cube off": ("off", lambda: export(CUBE, "off"), 0.06**3),
    "cube glb": ("glb", lambda: export(CUBE, "glb"), 0.06**3),
    "capital extension": ("STL", lambda: export(CUBE, "stl"), 0.06**3),
    "inside out": ("obj", lambda: obj(V, F[:, ::-1]), 0.06**3),
    "mixed winding": ("obj", lambda: obj(V, np.where(np.arange(12)[:, None] % 2, F[:, ::-1], F)), 0.06**3),
    "a face missing": ("obj", lambda: obj(V, F[:-1]), 0.06**3),
    "every face twice": ("obj", lambda: obj(V, np.concatenate([F, F])), 0.06**3),
    "duplicate vertices": ("obj", lambda: obj(V[F].reshape(-1, 3), np.arange(36).reshape(-1, 3)), 0.06**3),
    "degenerate faces": ("obj", lambda: obj(V, np.concatenate([F, F[:, [0, 0, 1]], F[:, [0] * 3]])), 0.06**3),
    "non-manifold edge": ("obj", lambda: obj(V, np.concatenate([F, [[F[0, 0], F[0, 1], 7]]])), 0.06**3),
    "stray vertex": ("obj", lambda: obj(np.concatenate([V, [[9, 9, 9]]]), F), 0.06**3),
    "stray NaN vertex": ("obj", lambda: obj(np.concatenate([V, [[np.nan] * 3]]), F), 0.06**3),
    "quads": ("obj", lambda: obj(V, F[:0]) + b"\n" + QUADS, 0.06**3),
    "negative indices": ("obj", lambda: obj(V, F[:0]) + b"\n" + b"\n".join(
        b"f " + b" ".join(b"%d" % (i - 8) for i in f) for f in F), 0.06**3),
    "missing material": ("obj", lambda: b"mtllib no.mtl\nusemtl gone\n" + obj(V, F), 0.06**3),
    "Latin-1 name": ("obj", lambda: b"# Gef\xe4\xdf\no Gef\xe4\xdf\n" + obj(V, F), 0.06**3),
    "far from the origin": ("obj", lambda: obj(V + 1000, F), 0.06**3),
    "million faces": ("stl", lambda: stl(BIG_GRID), BALL.volume),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMEVAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(tmp_path: Path, suffix: str, data: bytes) -> ObjectModel:
    path = tmp_path / (f"thing.{suffix}" if suffix else "thing")
    path.write_bytes(data)
    return load_mesh_object(path, timeout=20)


@pytest.mark.parametrize("name", BAD)
def test_bad_meshes_say_what_is_wrong(name: str, tmp_path: Path) -> None:
    suffix, make = BAD[name]
    with pytest.raises(DataError, match="thing") as caught:
        load(tmp_path, suffix, make())
    assert "coacd" not in str(caught.value).lower()  # found out before any long work


@pytest.mark.parametrize("name", FINE)
def test_odd_meshes_that_are_fine(name: str, tmp_path: Path) -> None:
    suffix, make, volume = FINE[name]
    model = load(tmp_path, suffix, make())
    assert len(model.pieces) == 1
    assert model.volume == pytest.approx(volume, rel=1e-4)


def test_millimetres(tmp_path: Path) -> None:
    (tmp_path / "mm.stl").write_bytes(stl(CUBE.triangles * 1000))
    model = load_mesh_object(tmp_path / "mm.stl", scale=0.001, up=(0, 2, 0), code="mine")
    assert (model.code, model.scale, model.up.tolist()) == ("mine", 0.001, [0, 1, 0])
    assert model.volume == pytest.approx(0.06**3, rel=1e-4)


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "no.obj", tmp_path):
        with pytest.raises(DataError, match=r"can't be read|not a mesh file"):
            load_mesh_object(path)
    with pytest.raises(SettingError, match="auto, coacd, hull"):
        load_mesh_object(tmp_path / "no.obj", decompose="vhacd")  # type: ignore[arg-type]


def test_hull_needs_no_coacd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tube.stl"
    path.write_bytes(export(TUBE, "stl"))
    monkeypatch.setattr(mesh_module, "_cached_pieces", None)
    model = load_mesh_object(path, decompose="hull")
    assert len(model.pieces) == 1
    assert model.volume > 1.5 * TUBE.volume


def test_without_coacd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise mesh_module.PackageNotFoundError(name)

    monkeypatch.setattr(mesh_module, "version", none)
    with pytest.raises(DataError, match=r"pip install 'simeval\[mesh\]'.*decompose=\"hull\""):
        load(tmp_path, "stl", export(TUBE, "stl"))


SIMPLEX = "np.savez(sys.argv[-1], points=np.eye(4, 3), starts=np.zeros(0, dtype=int))"


def fake_coacd(monkeypatch: pytest.MonkeyPatch, body: str, tmp_path: Path) -> None:
    """Stand in for Python with a script that runs `body` instead of the decomposition."""
    script = tmp_path / "python"
    script.write_text(f"#!{PYTHON}\nimport os, signal, sys, time\nimport numpy as np\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(mesh_module, "version", lambda name: "1.0")
    monkeypatch.setattr(mesh_module.sys, "executable", str(script))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "CoACD failed .signal 11"),
        ("raise RuntimeError('no luck')", "exit status 1: RuntimeError: no luck"),
        ("pass", "exit status 0: no message"),
        ("time.sleep(60)", "CoACD took more than 2 s"),
        ("np.savez(sys.argv[-1], points=np.zeros(3))", "damaged cache file"),
        ("open(sys.argv[-1], 'w').write('x')", "not a readable .npz"),
    ],
)
def test_coacd_goes_wrong(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    fake_coacd(monkeypatch, body, tmp_path)
    path = tmp_path / "tube.stl"
    path.write_bytes(export(TUBE, "stl"))
    with pytest.raises(DataError, match=message):
        load_mesh_object(path, timeout=2)
    assert not list(own_cache.rglob("*.npz"))


def test_decomposition(tmp_path: Path) -> None:
    pytest.importorskip("coacd", reason="CoACD is not installed: pip install 'simeval[mesh]'")
    model = load(tmp_path, "stl", export(TUBE, "stl"))
    assert len(model.pieces) > 3
    assert model.volume == pytest.approx(TUBE.volume, rel=0.1)


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    fake_coacd(monkeypatch, SIMPLEX, tmp_path)
    data = export(TUBE, "stl")
    model = load(tmp_path, "stl", data)
    (file,) = own_cache.rglob("*.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])  # a corrupt cache file is made again
    assert load(tmp_path, "stl", data).digest == model.digest
    assert load_npz(file).keys() == {"points", "starts"}
    fake_coacd(monkeypatch, "sys.exit(1)", tmp_path)  # what is cached needs no decomposition
    assert load(tmp_path, "stl", data).digest == model.digest
    assert load(tmp_path, "stl", data[:80].replace(b"\0", b" ") + data[80:]).digest == model.digest  # its name
    with pytest.raises(DataError, match="CoACD failed"):  # another shape, another cache file
        load(tmp_path, "stl", export(TUBE.copy().apply_scale(1.1), "stl"))
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_gltf_whose_buffer_has_changed_is_split_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_coacd(monkeypatch, SIMPLEX, tmp_path)
    corners = TUBE.vertices[TUBE.faces].reshape(-1, 3).astype("<f4")
    text = gltf(corners.tobytes(), "thing.bin", len(corners))
    (tmp_path / "thing.bin").write_bytes(corners.tobytes())
    load(tmp_path, "gltf", text)
    fake_coacd(monkeypatch, "sys.exit(1)", tmp_path)
    load(tmp_path, "gltf", text)
    (tmp_path / "thing.bin").write_bytes((1.1 * corners).tobytes())
    with pytest.raises(DataError, match="CoACD failed"):
        load(tmp_path, "gltf", text)


def test_unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_coacd(monkeypatch, SIMPLEX, tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIMEVAL_CACHE", str(tmp_path / "file"))
    assert load(tmp_path, "stl", export(TUBE, "stl")).volume == pytest.approx(1 / 6)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMEVAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert mesh_module.cache_folder() == Path("/x/simeval")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert mesh_module.cache_folder() == Path.home() / ".cache/simeval"
