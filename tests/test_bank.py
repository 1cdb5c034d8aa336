"""Grasp banks: round trip, damaged and missing files, DexGraspNet's files as banks."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simeval.bank import bank_fingerprint, load_bank, shape_of, write_bank
from simeval.errors import DataError, SettingError
from simeval.grasp import GraspBatch
from simeval.objects import load_embedded, write_grasps

CODE = "embedded-cylinder-04"


def vectors(count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 28))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "bank.parquet"
    write_bank(file, [CODE] * 3 + ["b"], [1.0, 1.0, 0.06, 1.0], ["tip", "hook", "tip", ""], vectors(4))
    return file


def test_round_trip_is_exact(path: Path) -> None:
    bank = load_bank(path)
    direct = GraspBatch.from_vectors(vectors(4))
    for name in ("rotation", "translation", "joints"):
        np.testing.assert_array_equal(getattr(bank.grasps, name), getattr(direct, name))
    assert bank.objects() == [(CODE, 1.0), (CODE, 0.06), ("b", 1.0)]
    assert bank.counts()[CODE, 1.0, "hook"] == 1
    assert len(bank.for_object(CODE, 1.0)) == 2
    np.testing.assert_array_equal(bank.for_object(CODE, 1.0, "hook").joints, direct.joints[1:2])
    assert len(bank.for_object(CODE, 0.06 * (1 + 1e-6))) == 1  # within rounding
    assert len(bank.for_object("c", 1.0)) == len(bank.for_object(CODE, 1.0, "lateral")) == 0
    assert bank.has_types
    assert len(load_bank(path, codes=["b"])) == 1
    assert load_bank(path).digest == bank.digest


def test_shapes_and_facts_come_back(tmp_path: Path) -> None:
    model = load_embedded(CODE)
    file = tmp_path / "bank.parquet"
    meta = {"data_kind": "embedded", "command": "simeval dataset build"}
    write_bank(file, [CODE], [1.0], ["tip"], vectors(1), {(CODE, 1.0): shape_of(model)}, meta)
    bank = load_bank(file)
    assert bank.data_kind == "embedded"
    assert bank.meta["command"] == "simeval dataset build"
    shape = bank.shapes[CODE, 1.0]
    np.testing.assert_array_equal(shape.low, model.surface.vertices.min(axis=0))
    np.testing.assert_array_equal(shape.center, model.center_of_mass)
    assert shape.volume == model.volume


def test_float32_numbers_take_half_the_space_and_columns_come_back(tmp_path: Path) -> None:
    many = np.random.default_rng(0).normal(size=(500, 28))
    extra = {"directions_held": np.arange(500), "lift": np.array(["LIFTED"] * 500), "slip_mm": many[:, 0]}
    sizes = []
    for name, values in (("double", many), ("single", many.astype(np.float32).astype(float))):
        file = tmp_path / f"{name}.parquet"
        write_bank(file, ["b"] * 500, [1.0] * 500, [""] * 500, values, extra=extra)
        bank = load_bank(file)
        np.testing.assert_array_equal(bank.vectors, values)
        np.testing.assert_array_equal(bank.extra["directions_held"], np.arange(500))
        np.testing.assert_allclose(bank.extra["slip_mm"], many[:, 0], rtol=1e-6)
        assert set(bank.extra["lift"]) == {"LIFTED"}
        sizes.append(file.stat().st_size)
    assert sizes[1] < 0.65 * sizes[0]
    part = load_bank(file, codes=["c"])
    assert len(part) == len(part.extra["lift"]) == 0


def test_a_changed_file_is_read_again(path: Path) -> None:
    first, name = load_bank(path), bank_fingerprint(path)
    write_bank(path, ["b"], [1.0], ["tip"], vectors(1))
    os.utime(path, (1, 1))
    assert len(first) == 4
    assert len(load_bank(path)) == 1
    assert bank_fingerprint(path) != name


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "empty", "nan"])
def test_damaged_files_are_errors_of_the_input(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "other":
        pq.write_table(pa.table({"a": [1]}), path)
    elif damage == "nan":
        write_bank(path, ["b"], [1.0], [""], np.full((1, 28), np.nan))
    else:
        content[len(content) // 4] ^= 0x55
        path.write_bytes({"cut": bytes(content[:-40]), "flipped": bytes(content), "empty": b""}[damage])
    os.utime(path, (2, 2))
    with pytest.raises(DataError, match="bank"):
        load_bank(path)


@pytest.mark.parametrize("damage", ["no grasp", "uneven grasps", "no type"])
def test_a_row_that_lacks_something_is_an_error(path: Path, damage: str) -> None:
    columns = pq.read_table(path).to_pydict()
    grasps = columns["grasp"]
    if damage == "no grasp":
        grasps[0] = None
    elif damage == "no type":
        columns["type"][0] = None
    else:
        grasps[0], grasps[1] = grasps[0] + grasps[1][:5], grasps[1][5:]
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata(pq.read_schema(path).metadata), path)
    os.utime(path, (3, 3))
    with pytest.raises(DataError, match=r"lacks values in (grasp|type)|a grasp that isn't 28 numbers"):
        load_bank(path)


def test_missing_banks_say_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    with pytest.raises(DataError, match="no such file"):
        load_bank(tmp_path / "none.parquet")
    with pytest.raises(SettingError, match="embedded, released, unidexgrasp"):
        load_bank("nowhere")
    with pytest.raises(DataError, match="--data DIR"):
        load_bank("released")
    with pytest.raises(DataError, match=r"no \.npy file"):
        load_bank(tmp_path)


def test_a_folder_of_dexgraspnet_files_is_a_bank(tmp_path: Path) -> None:
    grasps = GraspBatch.from_vectors(np.random.default_rng(0).uniform(-1, 1, size=(3, 28)))
    for code in ("core-a", "core-b"):
        write_grasps(tmp_path / f"{code}.npy", [0.06, 0.1, 0.06], grasps)
    bank = load_bank(tmp_path)
    assert bank.data_kind == "real"
    assert not bank.has_types
    assert len(bank.for_object("core-b", 0.06)) == 2
    assert load_bank(tmp_path, codes=["core-b"]).objects() == [("core-b", 0.06), ("core-b", 0.1)]
    before = bank_fingerprint(tmp_path)
    write_grasps(tmp_path / "core-c.npy", 0.1, grasps)
    assert bank_fingerprint(tmp_path) != before


def test_the_real_data_are_banks() -> None:
    if not os.environ.get("SIMEVAL_DATA"):
        pytest.skip("SIMEVAL_DATA is unset: set it to the folder that has dexgraspnet/ to test with real data")
    released, tabletop = load_bank("released"), load_bank("unidexgrasp")
    assert (len(released), len(tabletop)) == (699, 620)
    mug = load_bank("released", codes=["core-mug-8570d9a8d24cb0acbebd3c0c0c70fb03"])
    assert len(mug) == 246
    assert len(mug.for_object(str(mug.codes[0]), 0.08)) == 92
