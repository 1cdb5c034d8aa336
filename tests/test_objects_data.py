"""DexGraspNet's and UniDexGrasp's files: in miniature always, the real ones where SIMEVAL_DATA is set."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from simeval.errors import DataError, SettingError
from simeval.grasp import GraspBatch
from simeval.objects import (
    DexGraspNetData,
    ObjectLibrary,
    guess_up,
    read_grasps,
    suitable_scales,
    write_grasps,
)
from simeval.objects.shapes import box

CODE = "core-mug-8570d9a8d24cb0acbebd3c0c0c70fb03"
HEADER = "code,split,category,seen_category,up,pieces,vertices,volume,min_extent,mid_extent,max_extent,scales\n"


@pytest.fixture(scope="module")
def data() -> DexGraspNetData:
    folder = os.environ.get("SIMEVAL_DATA")
    if not folder:
        pytest.skip("SIMEVAL_DATA is unset: set it to the folder that has dexgraspnet/ to test with real data")
    return DexGraspNetData(folder)


def obj_text(*boxes: np.ndarray) -> str:
    return "".join(
        f"o convex_{i}\n" + "".join(f"v {x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in corners) + "f 1 2 3\n"
        for i, corners in enumerate(boxes)
    )


def some_grasps(count: int = 5) -> GraspBatch:
    return GraspBatch.from_vectors(np.random.default_rng(0).uniform(-1, 1, size=(count, 28)))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with two objects, without objects.csv; the second in Full-download form."""
    root = tmp_path / "dexgraspnet"
    left, right = box((1, 0.6, 0.6), (-0.5, 0, 0)), box((0.8, 0.5, 0.5), (0.4, 0, 0))
    for code in ("core-thing-1", "sem-Thing-2"):
        (root / "meshdata" / code / "coacd").mkdir(parents=True)
    (root / "meshdata/core-thing-1/coacd/decomposed.obj").write_text(obj_text(left, right, right * [1, 1, 0]))
    for i, piece in enumerate((left, right)):
        (root / f"meshdata/sem-Thing-2/coacd/coacd_convex_piece_{i}.obj").write_text(obj_text(piece))
    (root / "dataset").mkdir()
    write_grasps(root / "dataset/core-thing-1.npy", [0.06, 0.1, 0.06, 0.1, 0.15], some_grasps())
    return root


def test_layout_without_table(small: Path) -> None:
    data = DexGraspNetData(small.parent)
    assert data.codes() == ("core-thing-1", "sem-Thing-2")
    row = data.row("core-thing-1")
    assert (row.split, row.category, row.up) == (None, None, (0.0, 1.0, 0.0))
    assert row.extents == pytest.approx((0.6, 0.6, 1.8), abs=1e-3)
    assert row.volume == pytest.approx(0.56, rel=1e-3)
    assert row.scales == suitable_scales(row.extents, row.volume) == (0.06, 0.08, 0.10, 0.12, 0.15)
    assert data.row("sem-Thing-2").up == (0.0, 0.0, 1.0)
    one, two = data.load("core-thing-1", 0.1), data.load("sem-Thing-2", 0.1)
    assert len(one.pieces) == len(two.pieces) == 2  # the flat piece is dropped
    assert one.volume == pytest.approx(two.volume)
    assert data.grasp_codes() == ("core-thing-1",)
    with pytest.raises(DataError, match=r"no object of split 'test'.*no objects\.csv"):
        data.codes("test")


def test_table(small: Path) -> None:
    (small / "objects.csv").write_text(HEADER + "core-thing-1,val,thing,True,0 0 2,2,16,0.56,0.6,0.6,1.8,0.06 0.10\n")
    data = DexGraspNetData(small)
    assert data.codes() == data.codes("val") == ("core-thing-1",)
    assert data.row("core-thing-1").scales == (0.06, 0.10)
    assert data.load("core-thing-1", 0.06).up == pytest.approx([0, 0, 1])
    with pytest.raises(DataError, match=r"no object of split 'train'.*has val"):
        data.codes("train")
    (small / "objects.csv").write_text("code,split\ncore-thing-1,val\n")
    with pytest.raises(DataError, match="bad row or missing column"):
        DexGraspNetData(small).codes()


def test_grasp_files_round_trip(small: Path) -> None:
    got = DexGraspNetData(small).grasps("core-thing-1")
    assert got.scales.tolist() == [0.06, 0.1, 0.06, 0.1, 0.15]
    assert got.grasps.to_vectors() == pytest.approx(some_grasps().to_vectors(), abs=1e-12)
    assert got.at(0.1).joints.tolist() == got.grasps.joints[[1, 3]].tolist()
    assert [scale for scale, _ in got] == got.scales.tolist()
    assert len(got.at(0.12)) == 0
    write_grasps(small / "none.npy", 0.1, GraspBatch.empty())
    assert len(read_grasps(small / "none.npy")) == 0
    original = np.load(small / "dataset/core-thing-1.npy", allow_pickle=True)  # as DexGraspNet's own code reads it
    assert original.shape == (5,)
    assert len(original[0]["qpos"]) == 28
    assert b"numpy.core.multiarray" in (small / "dataset/core-thing-1.npy").read_bytes()  # NumPy 1 knows this name


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"scale": 0.1}, "grasp 0: no qpos dict"),
        ({"qpos": {"WRJTx": 1.0}, "scale": 0.1}, "qpos lacks 'robot0:FFJ3'"),
        ({"qpos": "all", "scale": 0.1}, "no qpos dict"),
        (None, "scale is None"),
        (-1.0, "scale is -1"),
        ("big", "scale is 'big'"),
    ],
)
def test_bad_grasp_files(item: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    write_grasps(path, 0.1, some_grasps(1))
    good = np.load(path, allow_pickle=True)[0]
    array = np.empty(1, dtype=object)
    array[0] = item if isinstance(item, dict) else {**good, "scale": item}
    np.save(path, array, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_grasps(path)


def test_missing_things(small: Path, tmp_path: Path) -> None:
    data = DexGraspNetData(small)
    with pytest.raises(SettingError, match="Did you mean 'core-thing-1'"):
        data.load("core-thing-3", 0.1)
    with pytest.raises(SettingError):
        data.load("../dexgraspnet", 0.1)
    with pytest.raises(DataError, match=r"no grasps of 'sem-Thing-2'.*those of 1 objects"):
        data.grasps("sem-Thing-2")
    with pytest.raises(DataError, match="no UniDexGrasp grasps"):
        data.tabletop_grasps("core-thing-1")
    shutil.rmtree(small / "meshdata/sem-Thing-2/coacd")
    (small / "meshdata/sem-Thing-2/coacd").mkdir()
    with pytest.raises(DataError, match=r"no mesh\. Expected decomposed\.obj"):
        DexGraspNetData(small).load("sem-Thing-2", 0.1)
    (small / "meshdata/core-thing-1/coacd/decomposed.obj").write_text("o a\nv 1 2\nv x y z\n")
    with pytest.raises(DataError, match="not a readable OBJ file"):
        data.load("core-thing-1", 0.1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="an empty folder"):
        DexGraspNetData(tmp_path / "empty")
    with pytest.raises(DataError, match="no such folder"):
        DexGraspNetData(tmp_path / "nowhere")


def write_tabletop(folder: Path, number: int, **changes: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ["qpos", "scale", "plane"]
    path = folder.parent / "one.npy"
    write_grasps(path, 0.08, some_grasps(number + 1)[number])
    qpos = np.array(np.load(path, allow_pickle=True)[0]["qpos"], dtype=object)
    plane = np.array([0, 0, 2.0, 0.03], dtype=np.float32)
    values = {"qpos": qpos, "scale": np.float32(12.5), "plane": plane} | changes
    np.savez(folder / f"{number:05d}.npz", **{n: values[n] for n in names if values[n] is not None})  # type: ignore[arg-type]


def test_unidexgrasp_layout(small: Path) -> None:
    folder = small / "unidexgrasp/datasetv4.1/core/thing-1"
    for number in (2, 0, 1):
        write_tabletop(folder, number)
    data = DexGraspNetData(small)
    assert data.tabletop_codes() == ("core-thing-1",)
    got = data.tabletop_grasps("core-thing-1")
    assert got.scales.tolist() == [0.08] * 3
    assert got.ups().tolist() == [[0, 0, 1]] * 3
    assert got.grasps.to_vectors() == pytest.approx(some_grasps(3).to_vectors())
    assert len(data.tabletop_grasps("core-thing-1", count=2)) == 2
    with pytest.raises(DataError, match="no plane"):
        data.grasps("core-thing-1").ups()


@pytest.mark.parametrize(
    "changes",
    [
        {"plane": None}, {"plane": np.zeros(4)}, {"plane": np.zeros(3)}, {"scale": 0.0},
        {"scale": np.ones(3)}, {"scale": "x"}, {"qpos": np.zeros(28)},
    ],
)  # fmt: skip
def test_bad_unidexgrasp_files(changes: dict, small: Path) -> None:
    write_tabletop(small / "unidexgrasp/datasetv4.1/core/thing-1", 0, **changes)
    with pytest.raises(DataError, match=r"00000\.npz"):
        DexGraspNetData(small).tabletop_grasps("core-thing-1")


def test_real_splits_and_rules(data: DexGraspNetData) -> None:
    assert {s: len(data.codes(s)) for s in ("train", "val", "test")} == {
        "train": 1000,
        "val": 125,
        "test": 125,
    }
    rows = [data.row(code) for code in data.codes()]
    assert np.mean([guess_up(r.code) == r.up for r in rows]) > 0.98
    assert all(suitable_scales(r.extents, r.volume) == r.scales for r in rows)


def test_real_meshes(data: DexGraspNetData) -> None:
    for code in data.codes()[::100]:
        row, model = data.row(code), data.load(code, 0.1)
        assert model.volume * 1e3 == pytest.approx(row.volume, rel=0.025)  # hulls are reduced to 256 corners
        assert sorted(np.ptp(model.surface.vertices, axis=0) * 10) == pytest.approx(row.extents, abs=0.01)
        assert model.up.tolist() == list(row.up)
        assert max(len(p.vertices) for p in model.pieces) <= 256


def test_real_grasps(data: DexGraspNetData, tmp_path: Path) -> None:
    got = data.grasps(CODE)
    assert len(got) == 246
    assert set(got.scales) == {0.06, 0.08, 0.10, 0.12, 0.15}
    reference = np.load(data.root / "dataset" / f"{CODE}.npy", allow_pickle=True)
    assert got.grasps.joints[:, 0].tolist() == [item["qpos"]["robot0:FFJ3"] for item in reference]
    assert got.grasps.translation[:, 2].tolist() == [item["qpos"]["WRJTz"] for item in reference]
    write_grasps(tmp_path / f"{CODE}.npy", got.scales, got.grasps)
    again = read_grasps(tmp_path / f"{CODE}.npy")
    assert again.grasps.to_vectors() == pytest.approx(got.grasps.to_vectors(), abs=1e-12)


def test_real_tabletop_objects_rest_on_their_plane(data: DexGraspNetData) -> None:
    for code in data.tabletop_codes():
        got = data.tabletop_grasps(code, count=20)
        for scale, plane in zip(got.scales, got.planes if got.planes is not None else [], strict=True):
            height = data.load(code, scale).surface.vertices @ plane[:3] + plane[3]
            assert abs(height.min()) < 0.001
            break
        assert np.linalg.norm(got.ups(), axis=1) == pytest.approx(np.ones(20))


def test_real_library(data: DexGraspNetData) -> None:
    library = ObjectLibrary(data.root)
    row = library.summary()[1]
    assert (row["objects"], row["grasps"], row["tabletop_grasps"]) == (1256, 3, 3)
    assert row["splits"]["train"] == 1000
    assert library.load(CODE, 0.06).code == CODE
    with pytest.raises(SettingError, match="core-mug"):
        library.load("core-mug-857", 0.06)
