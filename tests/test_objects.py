"""Objects from convex pieces: mass, unions, hulls, surface points; the embedded set and the library."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import manifold3d
import numpy as np
import pytest

from simeval.errors import DataError, SettingError
from simeval.objects import (
    ObjectLibrary,
    ObjectModel,
    build_object,
    convex_hull,
    embedded_codes,
    load_embedded,
    suitable_scales,
    surface_points,
)  # fmt: skip
from simeval.objects.hulls import HULL_VERTICES, fibonacci_directions
from simeval.objects.shapes import FAMILIES, box, revolved, ring
from simeval.objects.suitability import suits_hand


def watertight(model: ObjectModel) -> bool:
    faces = model.surface.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, count = np.unique(edges, axis=0, return_counts=True)
    there = {tuple(e) for e in edges.tolist()}
    return bool((count == 1).all()) and all((b, a) in there for a, b in there)


def components(model: ObjectModel) -> list[float]:
    """Volumes of the surface's connected parts, cavities negative."""
    mesh = manifold3d.Mesh64(model.surface.vertices.copy(), model.surface.faces.astype(np.uint64))
    return [part.volume() for part in manifold3d.Manifold(mesh).decompose()]


def test_box_mass_properties() -> None:
    x, y, z = 0.2, 0.3, 0.5
    model = build_object("box", [(box((x, y, z), (1, 2, 3)), None)], scale=0.1)
    x, y, z = 0.1 * x, 0.1 * y, 0.1 * z
    assert model.volume == pytest.approx(x * y * z, rel=1e-12)
    assert model.mass(500) == pytest.approx(500 * x * y * z, rel=1e-12)
    assert model.center_of_mass == pytest.approx([0.1, 0.2, 0.3], abs=1e-12)
    expected = np.diag([y * y + z * z, x * x + z * z, x * x + y * y]) / 12
    assert model.inertia == pytest.approx(expected, abs=1e-15)
    assert watertight(model)


def test_rotated_inertia() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    corners = box((0.02, 0.03, 0.05))
    plain = build_object("a", [(corners, None)])
    turned = build_object("b", [(corners @ rotation.T + 0.01, None)])
    assert turned.inertia == pytest.approx(rotation @ plain.inertia @ rotation.T, abs=1e-15)


def test_sphere_mass_properties() -> None:
    # an inscribed polyhedron of 256 corners has 3 % less volume than its sphere, and exactly its symmetry
    model = build_object("ball", [(0.05 * fibonacci_directions(HULL_VERTICES), None)])
    assert 0.96 < model.volume / (4 / 3 * np.pi * 0.05**3) < 1
    assert model.center_of_mass == pytest.approx([0, 0, 0], abs=1e-5)
    radius = (model.volume / (4 / 3 * np.pi)) ** (1 / 3)
    assert model.inertia == pytest.approx(0.4 * radius**2 * np.eye(3), rel=0.005, abs=1e-6)


def test_overlap_is_counted_once() -> None:
    pieces = [(box((2, 1, 1)), None), (box((1, 2, 1)), None), (box((1, 1, 2)), None)]
    model = build_object("cross", pieces, scale=0.05)
    assert model.volume == pytest.approx(4 * 0.05**3, rel=1e-3)
    assert model.center_of_mass == pytest.approx([0, 0, 0], abs=1e-6)
    assert watertight(model)


def test_seams_leave_no_wall_inside() -> None:
    # pieces that meet at a cut, two sides of which differ by the data's rounding (1e-5), as in DexGraspNet
    gap = 1e-5
    left, right = box((1, 1, 1), (-0.5 - gap / 2, 0, 0)), box((1, 1, 1), (0.5, 0, 0))
    model = build_object("two", [(left, None), (right, None)], 0.1)
    assert len(components(model)) == 1
    inside = np.abs(model.surface.vertices[:, 0]) < 0.09
    assert (np.abs(model.surface.vertices[inside, 1:]).max(axis=1) > 0.0499).all()


def test_cavities() -> None:
    wall = ring([(0.4, -0.5), (0.5, -0.5), (0.5, 0.5), (0.4, 0.5)])
    lids = [revolved([(0.5, z), (0.5, z + 0.1)], 16) for z in (-0.6, 0.5)]
    can = build_object("can", [(p, None) for p in [*wall, *lids]], 0.1)
    assert sorted(v < 0 for v in components(can)) == [False, True]  # a hollow can keeps its cavity
    assert watertight(can)


def test_degenerate_pieces_are_dropped() -> None:
    good = box((1, 1, 1))
    flat = good * [1, 1, 0]
    point, sliver = good[:1].repeat(9, axis=0), good * [1, 1, 1e-10]
    pieces = [flat, good, good[:3], point, np.zeros((0, 3)), sliver, good]
    model = build_object("some", [(piece, None) for piece in pieces], 0.1)
    assert len(model.pieces) == 2
    assert model.volume == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("pieces", "scale", "message"),
    [
        ([], 1, "empty"),
        ([(np.zeros((0, 3)), None)], 1, "empty"),
        ([(box((1, 1, 0)), None)], 1, "zero volume"),
        ([(box((1, 1, 1)) * [np.nan, 1, 1], None)], 1, "piece 0: 8 of 8 vertices are NaN"),
        ([(box((1, 1, 1)) * [np.inf, 1, 1], None)], 1, "NaN or infinite"),
        ([(box((1, 1, 1)), None)], 100, "longest side is 100 m"),
        ([(box((1, 1, 1)), None)], 1e-4, "longest side is 0.0001 m"),
        ([(box((1, 1, 1)), None)], 0, "scale 0"),
        ([(box((1, 1, 1)), None)], np.nan, "scale nan"),
        ([(np.zeros((4, 2)), None)], 1, r"shape \(4, 2\)"),
        ([("abc", None)], 1, "not numbers"),
        ([(box((1, 1, 1)), [[0, 1, 99]])], 1, "names vertex 99"),
        ([(box((1, 1, 1)), [[0, 1, -1]])], 1, "names vertex -1"),
    ],
)
def test_bad_objects(pieces: list, scale: float, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s)'thing'.*{message}"):
        build_object("thing", pieces, scale)


@pytest.mark.parametrize("up", [(0, 0, 0), (1, 0), (np.nan, 0, 1)])
def test_bad_up(up: tuple) -> None:
    with pytest.raises(DataError, match="up is"):
        build_object("thing", [(box((1, 1, 1)), None)], up=up)


def test_hull_faces_point_out() -> None:
    hull = convex_hull(np.random.default_rng(0).normal(size=(100, 3)))
    assert hull is not None
    a, b, c = (hull.vertices[hull.faces[:, k]] for k in range(3))
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a - hull.vertices.mean(0)) > 0).all()


def test_large_hulls_are_reduced() -> None:
    points = fibonacci_directions(3000) * [0.05, 0.03, 0.1]
    hull = convex_hull(points)
    assert hull is not None
    assert len(hull.vertices) == HULL_VERTICES
    again = convex_hull(points)
    assert again is not None
    assert again.vertices.tobytes() == hull.vertices.tobytes()


def test_million_faces_take_seconds() -> None:
    points = 0.05 * fibonacci_directions(500_002)  # the corners of a sphere of 10^6 faces
    start = time.process_time()
    model = build_object("huge", [(points, None)])
    assert time.process_time() - start < 15
    assert model.volume == pytest.approx(4 / 3 * np.pi * 0.05**3, rel=0.04)


def test_digest_names_the_geometry() -> None:
    def digest(size: float = 1.0, scale: float = 0.1, up: tuple = (0, 0, 1)) -> str:
        return build_object("x", [(box((1, 1, size)), None)], scale, up).digest

    assert digest() == digest()
    assert len({digest(), digest(size=2), digest(scale=0.2), digest(up=(0, 1, 0))}) == 4


def test_surface_points() -> None:
    model = build_object("box", [(box((0.06, 0.04, 0.05)), None)])
    points = surface_points(model, spacing=0.003)
    half = np.array([0.03, 0.02, 0.025])
    assert np.abs(np.abs(points) / half).max() == pytest.approx(1)
    assert (np.isclose(np.abs(points) / half, 1).any(axis=1)).all()  # each on a face
    on_edge = (np.isclose(np.abs(points) / half, 1).sum(axis=1)) == 2
    assert on_edge.sum() == 4 * (19 + 13 + 16)
    per_face = [np.isclose(points[:, k], s * half[k]).sum() for k in range(3) for s in (-1, 1)]
    assert min(per_face) > 200
    grid = np.stack(np.meshgrid(*[np.linspace(-h, h, 20) for h in half[:2]]), -1).reshape(-1, 2)
    top = points[np.isclose(points[:, 2], half[2])][:, :2]
    assert np.linalg.norm(grid[:, None] - top[None], axis=2).min(axis=1).max() < 0.006  # no hole in the cover
    assert surface_points(model).tobytes() == surface_points(model).tobytes()
    assert len(surface_points(model, spacing=1e-4, limit=1000)) == 1000


def test_embedded_set() -> None:
    codes = embedded_codes()
    assert len(set(codes)) == len(codes) > 800
    assert len(FAMILIES) >= 12
    assert sum(not c.startswith("embedded-random") for c in codes) >= 200


@pytest.mark.parametrize("family", FAMILIES)
def test_parametric_objects_suit_a_hand(family: str) -> None:
    codes = [c for c in embedded_codes() if c.startswith(f"embedded-{family}-")]
    assert len(codes) >= 10
    for code in (codes[0], codes[5], codes[-1]):
        model = load_embedded(code)
        extents = np.sort(np.ptp(model.surface.vertices, axis=0))
        assert extents[0] > 0.0039
        assert suits_hand(np.maximum(extents - 1e-5, 0.012).tolist(), model.volume)
        assert watertight(model)
        assert len(components(model)) == 1
        assert np.abs(model.surface.vertices.max(0) + model.surface.vertices.min(0)).max() < 1e-4
    assert len({load_embedded(c).digest for c in codes[:4]}) == 4


def test_random_objects() -> None:
    for code in [c for c in embedded_codes() if "random" in c][::60]:
        model = load_embedded(code)
        assert suits_hand(np.ptp(model.surface.vertices, axis=0) - 1e-5, model.volume)
        assert load_embedded(code, 0.5).volume == pytest.approx(model.volume / 8, rel=1e-3)


def test_same_bits_in_another_process() -> None:
    script = (
        "import hashlib\nfrom simeval.objects import load_embedded\n"
        "m = load_embedded('embedded-mug-03')\n"
        "print(hashlib.sha256(m.surface.vertices.tobytes() + m.surface.faces.tobytes() + m.inertia.tobytes())"
        ".hexdigest(), m.digest)"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in "ab"]
    assert runs[0].stdout == runs[1].stdout != ""


def test_importing_objects_is_light() -> None:
    script = "import sys, simeval.objects\nprint({'scipy', 'trimesh', 'manifold3d', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_library_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    library = ObjectLibrary()
    assert library.load("embedded-ball-03") is library.load("embedded-ball-03", 1.0)
    with pytest.raises(SettingError, match="Did you mean 'embedded-mug-03'"):
        library.load("embeded-mug-03")
    with pytest.raises(DataError, match=r"--data DIR or set SIMEVAL_DATA=DIR"):
        library.load("core-mug-8570d9a8d24cb0acbebd3c0c0c70fb03", 0.06)
    with pytest.raises(SettingError, match="unknown object source 'embeded'"):
        library.codes("embeded")
    assert library.codes() == embedded_codes()
    embedded, other = library.summary()
    assert embedded["objects"] == len(embedded_codes())
    assert "SIMEVAL_DATA" in other["problem"]


def test_library_keeps_few_and_travels() -> None:
    library = ObjectLibrary(size=2)
    first = library.load("embedded-ball-00")
    library.load("embedded-ball-01")
    library.load("embedded-ball-02")
    assert library.load("embedded-ball-00") is not first
    assert pickle.loads(pickle.dumps(library)).size == 2


def test_library_loads_mesh_files(tmp_path: Path) -> None:
    path = tmp_path / "cube.obj"
    lines = [f"v {x} {y} {z}" for x, y, z in box((50, 50, 50))]
    faces = "1 2 4/1 4 3/5 7 8/5 8 6/1 5 6/1 6 2/3 4 8/3 8 7/1 3 7/1 7 5/2 6 8/2 8 4"
    lines += [f"f {f}" for f in faces.replace("4/1 4", "4\n1 4").replace("/", "\n").split("\n")]
    path.write_text("\n".join(lines))
    assert ObjectLibrary().load(str(path), 0.001).volume == pytest.approx(0.05**3)


def test_suitable_scales() -> None:
    assert suitable_scales((0.5993, 0.62, 1.9013), 0.41) == (0.06, 0.08, 0.10, 0.12, 0.15)
    assert suitable_scales((0.1, 0.5, 1.9), 0.1) == (0.12, 0.15)
    assert suitable_scales((1.7, 1.7, 1.7), 4.9) == ()
