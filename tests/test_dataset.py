"""Data sets: growing grasps on objects, building, resuming, checking, converting."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simeval.bank import load_bank, write_bank
from simeval.cli import main
from simeval.dataset import build as building
from simeval.dataset import grow as growing
from simeval.dataset.build import BuildProgress, build_dataset
from simeval.dataset.check import check_dataset
from simeval.dataset.convert import export_npy, import_bank
from simeval.dataset.grow import Recipe, distinct, grow
from simeval.errors import DataError, SettingError
from simeval.grasp import GraspBatch, euler_to_matrix
from simeval.hand import load_hand
from simeval.objects import load_embedded
from simeval.physics.execute import blank_record, execute
from simeval.physics.pool import run_jobs
from simeval.physics.settings import Physics
from simeval.records import Condition, Outcome, Trial, TrialRecord

JAR, CYLINDER = "embedded-jar-04", "embedded-cylinder-04"
OBJECTS = [(CYLINDER, 1.0), (JAR, 1.0), (JAR, 1.1)]
RECIPE = Recipe(settings={"tries": "2"}, types=("planar", "tip"), per_object=2, waves=3)


def simeval(*arguments: object) -> int:
    """Run a command of `simeval dataset` in this process; return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(["dataset", *map(str, arguments)])
    return int(stop.value.code or 0)


@pytest.fixture
def quick_physics(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records without simulation: the type asked for, held by three of four. Returns the ids of what was tried."""
    tried: list[str] = []

    def instead(trial: Trial, *_: object) -> TrialRecord:
        tried.append(trial.trial_id)
        outcome = Outcome.LIFTED if int(trial.trial_id, 16) % 4 else Outcome.SLIPPED
        record = blank_record(trial, outcome, "")
        measured = {"directions_held": 6.0, "penetration_mm": 0.25, "slip_m": 0.002, "tilt_rad": 0.1}
        return replace(record, achieved_type=record.grasp_type, **measured)

    monkeypatch.setattr(growing, "execute", instead)
    return tried


def test_a_grown_grasp_holds_when_it_is_tried_again() -> None:
    """The one test here that simulates: what is kept is, bit for bit, what was tried."""
    recipe = Recipe(types=("tip",), per_object=1, waves=4)
    grown = grow(recipe, JAR, 1.0)
    row = grown.rows[0]
    vector = np.array([row.grasp])
    assert np.array_equal(vector, vector.astype(np.float32))
    grasp, model = GraspBatch.from_vectors(vector), load_embedded(JAR)
    for protocol in ("lift", "six-direction"):
        trial = Trial(Condition(JAR, 1.0, "tip", 0, protocol, Physics().digest, 0), grasp, model.digest)
        record = execute(trial, model, Physics())
        assert (record.outcome, record.achieved_type) == ("LIFTED", "tip")
    assert load_hand().clip(grasp.joints)[1].max() < 1e-6
    assert grown.effort.kept == {"tip": 1}
    assert grown.effort.generating_s > 0
    assert grown.effort.simulating_s > 0


def test_only_what_holds_and_is_of_its_type_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"six-direction": ("LIFTED", "tip"), "lift": ("LIFTED", "tip")}
    asked: list[str] = []

    def instead(trial: Trial, *_: object) -> TrialRecord:
        asked.append(trial.condition.protocol)
        outcome, kind = made[trial.condition.protocol]
        blank = blank_record(trial, Outcome(outcome), "")
        return replace(blank, achieved_type=kind, directions_held=4, slip_m=0.0, tilt_rad=0.0)

    monkeypatch.setattr(growing, "execute", instead)
    recipe = replace(RECIPE, types=("tip",))
    assert len(grow(recipe, JAR, 1.0).rows) == 2
    for protocol in made:
        for bad in (("SLIPPED", "tip"), ("LIFTED", "planar"), ("LIFTED", "")):
            asked.clear()
            with monkeypatch.context() as patch:
                patch.setitem(made, protocol, bad)
                assert grow(recipe, JAR, 1.0).rows == []
            assert ("lift" in asked) == (protocol == "lift")  # no lift where six directions have decided already


def test_each_type_gets_its_share(quick_physics: list[str]) -> None:
    grown = grow(replace(RECIPE, types=("planar", "tip", "spherical"), per_object=5, waves=8), JAR, 1.0)
    assert len(grown.rows) == 5
    assert max(grown.effort.kept.values()) == 2
    first = {grow(replace(RECIPE, per_object=1), JAR, scale).rows[0].type for scale in (1.0, 1.01, 1.02, 1.03, 1.04)}
    assert first == {"planar", "tip"}


def test_near_duplicates_are_left_out() -> None:
    turn = np.array([[0, 0, 0], [0.2, 0, 0], [0, 0, 0], [0.5, 0, 0], [0, 0, 0.2]])
    place = np.array([[0, 0, 0], [0.01, 0, 0], [0.02, 0, 0], [0, 0, 0], [0.5, 0, 0]])
    grasps = GraspBatch(euler_to_matrix(turn), place, np.zeros((5, 22)))
    assert distinct(grasps) == [0, 2, 3, 4]
    assert distinct(GraspBatch.empty()) == []


def test_what_fails_is_an_explained_result(monkeypatch: pytest.MonkeyPatch, quick_physics: list[str]) -> None:
    assert "embedded-nothing-01" in grow(RECIPE, "embedded-nothing-01", 1.0).reason

    class Broken:
        def generate(self, request: object) -> GraspBatch:
            raise RuntimeError("out of ideas")

    monkeypatch.setattr(growing, "_generator", lambda recipe: Broken())
    grown = grow(RECIPE, JAR, 1.0)
    assert grown.rows == []
    assert grown.shape is not None
    assert "out of ideas" in grown.reason
    Broken.generate = lambda self, request: None  # type: ignore[assignment, method-assign, return-value]
    assert "generate() gave NoneType, expected a GraspBatch" in grow(RECIPE, JAR, 1.0).reason


def test_a_build_does_not_depend_on_the_order(tmp_path: Path, quick_physics: list[str]) -> None:
    seen: list[BuildProgress] = []
    report = build_dataset(RECIPE, OBJECTS, tmp_path / "a.parquet", "test", 0, seen.append)
    a = load_bank(tmp_path / "a.parquet")
    assert report.effort.kept.total() == len(a) == seen[-1].kept
    assert (seen[-1].done, report.objects) == (3, len(a.objects()))
    assert not list(tmp_path.glob("*.parts.jsonl"))
    assert (a.meta["finished"], a.meta["objects"], a.meta["command"]) == (3, 3, "test")
    assert a.data_kind == "embedded"
    assert set(a.shapes) == set(a.objects())
    assert set(a.extra) == set(building.COLUMNS)
    assert set(a.extra["lift"]) == {"LIFTED"}
    for key in OBJECTS[::-1]:  # one at a time, in another order, into one file
        build_dataset(RECIPE, [key], tmp_path / "b.parquet", workers=0)
    build_dataset(RECIPE, OBJECTS, tmp_path / "b.parquet", workers=0)
    assert load_bank(tmp_path / "b.parquet").digest == a.digest


def test_a_stopped_build_goes_on(tmp_path: Path, quick_physics: list[str]) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    failed, whole_failed = tmp_path / "failed.parquet", tmp_path / "whole_failed.parquet"
    report = build_dataset(RECIPE, OBJECTS, whole, workers=0, failed=whole_failed)
    needed = len(quick_physics)
    quick_physics.clear()

    def stop(progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    for finished in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            build_dataset(RECIPE, OBJECTS, out, workers=0, progress=stop, failed=failed)
        assert load_bank(out).meta["finished"] == finished
    with pytest.raises(DataError, match="other settings"):
        build_dataset(replace(RECIPE, seed=1), OBJECTS, out, workers=0)
    again = build_dataset(RECIPE, OBJECTS, out, workers=0, failed=failed)
    assert len(quick_physics) == needed
    assert load_bank(out).digest == load_bank(whole).digest
    assert load_bank(failed).digest == load_bank(whole_failed).digest
    assert len(load_bank(failed)) == report.effort.tried.total() - report.effort.kept.total()
    assert not (
        (load_bank(failed).extra["lift"] == "LIFTED") & (load_bank(failed).extra["achieved"] == load_bank(failed).types)
    ).any()
    assert again.effort.kept == report.effort.kept
    assert again.effort.tried == report.effort.tried
    np.testing.assert_array_equal(load_bank(out).extra["seed"], load_bank(whole).extra["seed"])


def test_a_killed_build_goes_on_from_its_parts(
    tmp_path: Path, quick_physics: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"

    def stop(progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # a kill writes no file
        patch.setattr(building._Store, "write", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            build_dataset(RECIPE, OBJECTS, out, workers=0, progress=stop)
    assert not out.exists()
    tried = len(quick_physics)
    parts = tmp_path / "out.parquet.parts.jsonl"
    whole_lines = parts.read_text()
    parts.write_text(whole_lines + '{"code": "embedded-ja')  # a kill in the middle of a line
    building._Store(out, building._facts(RECIPE), None)
    assert parts.read_text() == whole_lines
    build_dataset(RECIPE, OBJECTS, out, workers=0)
    build_dataset(RECIPE, OBJECTS, tmp_path / "whole.parquet", workers=0)
    assert tried > 0
    assert load_bank(out).digest == load_bank(tmp_path / "whole.parquet").digest
    with monkeypatch.context() as patch:
        patch.setattr(building, "executor_digest", lambda: "another")
        with pytest.raises(DataError, match="other settings"):
            build_dataset(RECIPE, OBJECTS, out, workers=0)
    parts = tmp_path / "torn.parquet.parts.jsonl"
    parts.write_text('{"generator": "pre\n')
    with pytest.raises(DataError, match="delete it"):
        build_dataset(RECIPE, OBJECTS, tmp_path / "torn.parquet", workers=0)


def _job(number: int) -> int:
    import os
    import time

    if number == 1:
        os._exit(9)
    if number == 2:
        time.sleep(60)
    if number == 3:
        raise ValueError("three")
    return number * number


def test_a_job_that_dies_or_hangs_costs_that_job_only() -> None:
    found = {job: (result, reason) for job, result, reason in run_jobs(_job, range(6), 2, 3.0, 100)}
    assert {job: result for job, (result, _) in found.items()} == {0: 0, 1: None, 2: None, 3: None, 4: 16, 5: 25}
    assert "died" in found[1][1]
    assert "timed out" in found[2][1]
    assert "three" in found[3][1]


def test_impossible_builds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="grasp type"):
        Recipe(types=("sphere",))
    with pytest.raises(SettingError, match="per_object"):
        Recipe(per_object=0)
    with pytest.raises(SettingError, match="at least one type"):
        Recipe(types=())
    with pytest.raises(SettingError, match="at least one object"):
        build_dataset(RECIPE, [], tmp_path / "b.parquet")
    with pytest.raises(SettingError, match="name two files"):
        build_dataset(RECIPE, OBJECTS, tmp_path / "b.parquet", failed=tmp_path / "b.parquet")
    write_bank(tmp_path / "own.parquet", [JAR], [1.0], ["tip"], np.zeros((1, 28)))
    with pytest.raises(DataError, match=r"own.parquet is of a build with other settings"):
        build_dataset(RECIPE, OBJECTS, tmp_path / "b.parquet", failed=tmp_path / "own.parquet")
    with pytest.raises(DataError, match=r"/proc/b.parquet can't be written"):
        build_dataset(RECIPE, OBJECTS, "/proc/b.parquet")
    with pytest.raises(SettingError, match="tries"):
        build_dataset(replace(RECIPE, settings={"tries": "0"}), OBJECTS, tmp_path / "b.parquet")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real set of two grasps, simulated."""
    out = tmp_path_factory.mktemp("set") / "small.parquet"
    build_dataset(Recipe(types=("tip", "cylindrical"), per_object=2, waves=4), [(JAR, 1.0)], out, workers=0)
    return out


def test_a_set_is_what_it_says(small: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check_dataset(load_bank(small), 5, progress=lambda *at: seen.append(at), workers=0)
    assert (report.faults, report.differing, report.sampled) == ([], [], 2)
    assert report.held == {"lift": 2, "six-direction": 2}
    assert report.same_executor
    assert report.types == {"tip": 1, "cylindrical": 1}
    assert seen[-1] == (4, 4)


def test_a_set_that_is_not_what_it_says(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bank = load_bank(small)
    vectors = np.concatenate([bank.vectors, bank.vectors[:1]])
    vectors[0, 24:27] += 0.3  # the wrist is elsewhere
    vectors[1:, 2] = 3.0  # beyond any limit
    types = [*bank.types.tolist(), bank.types[0]]
    extra = {name: np.append(column, column[0]) for name, column in bank.extra.items()}
    vectors[2, :24] = vectors[0, :24]
    vectors[2, 24:] = vectors[0, 24:] + 0.001
    file = tmp_path / "wrong.parquet"
    write_bank(file, [JAR] * 3, [1.0] * 3, types, vectors, meta=bank.meta, extra=extra)
    report = check_dataset(load_bank(file), 3, workers=0)
    assert len(report.faults) == 3
    assert "beyond their limits" in report.faults[0]
    assert "near-duplicates" in report.faults[1]
    assert "did not end as stored" in report.faults[2]
    assert "NO_CONTACT" in report.differing[0]
    with pytest.raises(SettingError, match="sample"):
        check_dataset(load_bank(file), -1)
    assert simeval("check", file, "--sample", 0, "-j", 0) == 1
    printed = capsys.readouterr().out
    assert printed.count("FAULT: ") == 2
    assert "the set is what it says" not in printed


def test_what_failed_while_nobody_asked_is_said_to_be_lost(
    tmp_path: Path, quick_physics: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    out, failed = tmp_path / "out.parquet", tmp_path / "failed.parquet"
    build_dataset(RECIPE, OBJECTS[:1], out, workers=0, failed=failed)
    build_dataset(RECIPE, OBJECTS[:1], out, workers=0, failed=failed)
    assert not caplog.records
    build_dataset(RECIPE, OBJECTS[:2], out, workers=0)
    build_dataset(RECIPE, OBJECTS[:2], out, workers=0, failed=failed)
    assert "went on without it" in caplog.text
    with pytest.raises(DataError, match="grasps of a build that failed"):
        check_dataset(load_bank(failed), 1)


def test_an_object_cannot_name_a_file_elsewhere(small: Path, tmp_path: Path) -> None:
    bank = load_bank(small)
    for code in ("../escaped", "/tmp/escaped", "meshes/cup.stl"):
        with pytest.raises(DataError, match="can't name a file"):
            export_npy(replace(bank, codes=np.full(len(bank), code)), tmp_path / "npy")
    assert not list(tmp_path.rglob("*.npy"))


def test_there_and_back_through_npy_files(small: Path, tmp_path: Path) -> None:
    bank = load_bank(small)
    assert export_npy(bank, tmp_path / "npy") == 1
    again = load_bank(tmp_path / "npy")
    np.testing.assert_allclose(again.grasps.to_vectors(), bank.vectors, atol=1e-12)
    with pytest.raises(DataError, match="already"):
        export_npy(bank, tmp_path / "npy")
    import_bank(again, tmp_path / "back.parquet")
    np.testing.assert_array_equal(load_bank(tmp_path / "back.parquet").scales, bank.scales)
    import_bank(bank, tmp_path / "copy.parquet")
    copy = load_bank(tmp_path / "copy.parquet")
    assert copy.digest == bank.digest
    assert set(copy.extra) == set(bank.extra)


def test_the_commands(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simeval("check", small, "--sample", 1, "-j", 0) == 0
    assert "lift: 1 of 1 hold again" in capsys.readouterr().out
    assert simeval("convert", small, "--out", tmp_path / "npy") == 0
    assert "2 grasps in 1 files" in capsys.readouterr().out
    assert simeval("convert", tmp_path / "npy", "--out", tmp_path / "back.parquet") == 0
    assert simeval("check", tmp_path / "back.parquet", "--sample", 0) == 0
    assert simeval("check", tmp_path / "none.parquet") == 2
