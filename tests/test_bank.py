"""Grasp banks: round trip, damaged and missing files, DexGraspNet's files as banks, and building one."""

import os
from pathlib import Path

import numpy as np
import pytest

from simeval.bank import GraspBank, bank_fingerprint, load_bank, shape_of, write_bank
from simeval.dataset import BuildProgress, BuildSpec, build_bank
from simeval.errors import DataError, SettingError
from simeval.grasp import GraspBatch
from simeval.objects import load_embedded, write_grasps
from simeval.physics.pool import run_tasks

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


def test_a_changed_file_is_read_again(path: Path) -> None:
    first, name = load_bank(path), bank_fingerprint(path)
    write_bank(path, ["b"], [1.0], ["tip"], vectors(1))
    os.utime(path, (1, 1))
    assert len(first) == 4
    assert len(load_bank(path)) == 1
    assert bank_fingerprint(path) != name


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "empty", "nan"])
def test_damaged_files_are_errors_of_the_input(path: Path, damage: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

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


def spec(**changes: object) -> BuildSpec:
    given = {"objects": [(CODE, 1.0), ("embedded-jar-04", 1.0)], "types": ["planar", "tip"], "per_object": 2}
    return BuildSpec(**{**given, "waves": 2, "workers": 0, **changes})  # type: ignore[arg-type]


@pytest.fixture
def quick_physics(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records without simulation: even digests of a trial's id lift. Returns the ids of what was tried."""
    from simeval.physics.execute import blank_record
    from simeval.records import Outcome

    tried: list[str] = []

    def run(tasks, workers):  # type: ignore[no-untyped-def]
        ahead = []
        for task in tasks:
            tried.append(task.trial.trial_id)
            lifted = int(task.trial.trial_id, 16) % 2
            ahead.append(blank_record(task.trial, Outcome.LIFTED if lifted else Outcome.SLIPPED, ""))
            while len(ahead) > workers:  # as with workers: results come late, and out of order
                yield ahead.pop(0 if len(tried) % 2 else -1)
        yield from ahead

    monkeypatch.setattr("simeval.dataset.run_tasks", run)
    return tried


def test_a_build_does_not_depend_on_the_workers(tmp_path: Path, quick_physics: list[str]) -> None:
    banks: list[GraspBank] = []
    for workers in (0, 5):
        seen: list[BuildProgress] = []
        report = build_bank(spec(workers=workers), tmp_path / f"{workers}.parquet", "test", seen.append)
        banks.append(load_bank(tmp_path / f"{workers}.parquet"))
        assert report.kept.total() == len(banks[-1])
        assert seen[-1].done == 2
        assert not list(tmp_path.glob("*.parts.jsonl"))
    assert banks[0].digest == banks[1].digest
    assert banks[0].meta["generator"] == "preshape"
    assert banks[0].data_kind == "embedded"
    assert set(banks[0].shapes) == set(banks[0].objects())
    assert all(len(banks[0].for_object(*key)) <= 2 for key in banks[0].objects())


def test_a_stopped_build_goes_on(tmp_path: Path, quick_physics: list[str]) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    build_bank(spec(), whole)
    needed = len(quick_physics)
    quick_physics.clear()

    def stop(progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_bank(spec(), out, "", stop)
    assert not out.exists()
    with pytest.raises(DataError, match="other settings"):
        build_bank(spec(seed=1), out)
    before = len(quick_physics)
    build_bank(spec(), out)
    assert len(quick_physics) - before < needed
    assert load_bank(out).digest == load_bank(whole).digest


def test_a_kept_grasp_lifts_when_it_is_replayed(tmp_path: Path) -> None:
    """The one test here that simulates: what the bank gives back is, bit for bit, what was tried."""
    from simeval.dataset import PROTOCOL
    from simeval.physics.pool import Task
    from simeval.records import Condition, Trial

    chosen = spec(objects=[("embedded-jar-04", 1.0)], per_object=1)
    build_bank(chosen, tmp_path / "b.parquet")
    model, bank = load_embedded("embedded-jar-04"), load_bank(tmp_path / "b.parquet")
    condition = Condition(model.code, 1.0, str(bank.types[0]), 0, PROTOCOL, chosen.physics.digest, 0)
    task = Task(Trial(condition, bank.grasps[0], model.digest), model, chosen.physics)
    assert next(run_tasks([task], 0)).outcome == "LIFTED"


def test_impossible_builds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="grasp type"):
        build_bank(spec(types=["sphere"]), tmp_path / "b.parquet")
    with pytest.raises(SettingError, match="per_object"):
        build_bank(spec(per_object=0), tmp_path / "b.parquet")
    with pytest.raises(SettingError, match="at least one object"):
        build_bank(spec(objects=[]), tmp_path / "b.parquet")
