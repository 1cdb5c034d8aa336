import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_generators
import numpy as np
import pytest

from simeval.bank import bank_fingerprint, load_bank
from simeval.commands.doctor import OBJECT
from simeval.errors import DataError, SettingError, SimevalError
from simeval.generators.energy import generator as energy
from simeval.mesh_suite import MeshObject
from simeval.noise import PoseNoise
from simeval.objects import load_embedded
from simeval.physics.pool import Task, run_tasks
from simeval.physics.settings import Physics
from simeval.records import Outcome, TrialRecord
from simeval.report.tables import outcome_counts, render, summarise
from simeval.run import (
    PlannedRun,
    RunInterrupted,
    RunSpec,
    crash_share,
    execute_plan,
    execute_run,
    load_objects,
    plan_run,
)
from simeval.store import RunStore, read_run, same_result
from simeval.suites import Request, Suite
from simeval.tasks import request_seed

QUICK = Physics(iterations=10, timestep=0.01)  # what comes out doesn't matter here, that it is the same again does


@pytest.fixture(autouse=True)
def fakes() -> Iterator[None]:
    fake_generators.CALLS.clear()
    with fake_generators.registered():
        yield


def suite(count: int = 2, **changes: object) -> Suite:
    requests = [Request(object=OBJECT, scale=s, type=t, count=count) for s, t in ((1, ""), (0.9, "cylindrical"))]
    facts = dict(name="small", version=1, description="", data_kind="embedded", protocols=["lift"])
    return Suite(**(facts | {"requests": requests} | changes))  # type: ignore[arg-type]


def one(code: str, scale: float = 1) -> Request:
    return Request(object=code, scale=scale, count=1)


def spec(out: Path, generator: str = "steady", **changes: Any) -> RunSpec:
    made = RunSpec(generator, suite(), physics=QUICK, workers=0, out=out)
    return replace(made, **changes)


def assert_same(a: list[TrialRecord], b: list[TrialRecord]) -> None:
    assert len(a) == len(b)
    assert [same_result(x, y) for x, y in zip(a, b, strict=True)] == [[]] * len(a)


def stop_after(count: int) -> Callable[[int, int], None]:
    """Progress that presses Ctrl-C."""

    def progress(done: int, total: int) -> None:
        if done >= count:
            raise KeyboardInterrupt

    return progress


def test_every_requested_trial_is_stored_and_in_the_table(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    both = suite(protocols=["lift", "six-direction-first"])
    folder = execute_run(spec(tmp_path, suite=both), lambda done, total: seen.append((done, total)))
    run = read_run(folder)
    assert [(r.scale, r.grasp_type, r.index, r.protocol) for r in run.records] == [
        (scale, kind, index, protocol)
        for scale, kind in ((0.9, "cylindrical"), (1, ""))
        for index in range(2)
        for protocol in ("lift", "six-direction-first")
    ]
    assert seen == [(i, 8) for i in range(9)]
    assert len({r.trial_id for r in run.records}) == len({r.condition_id for r in run.records}) == 8
    assert {r.physics for r in run.records} == {QUICK.digest}
    lifts = [r for r in run.records if r.protocol == "lift"]
    assert {r.outcome for r in lifts} - set(Outcome) == set()
    table = render(summarise([run]), outcome_counts([run]))
    assert "steady" in table
    assert "Suite small; embedded data" in table


def test_the_manifest_says_what_was_asked_for(tmp_path: Path) -> None:
    noise = PoseNoise.parse("5mm,5deg")
    asked = spec(tmp_path, settings={"spread": "0.001"}, pose_noise=noise)
    planned = plan_run(asked, load_objects(asked))
    m = planned.manifest
    assert (m["generator"], m["variant"]) == ("steady", "+noise 5mm,5deg")
    assert m["settings"] == {"bank": "", "spread": "0.001", "wait": "0.0"}
    assert (m["suite"], m["suite_version"], m["suite_digest"]) == ("small", 1, suite().digest)
    assert (m["data_kind"], m["protocols"], m["seed"]) == ("embedded", ["lift"], 0)
    assert m["physics"] == QUICK.as_dict()
    assert m["physics_digest"] == QUICK.digest
    assert m["pose_noise"] == {"translation_m": 0.005, "rotation_rad": pytest.approx(np.radians(5))}
    assert {"simeval", "numpy", "scipy", "pybullet", "python"} <= m["versions"].keys()
    assert m["volatile"]["workers"] == 0
    assert planned.folder.parent == tmp_path
    assert planned.folder.name.startswith("steady-noise-5mm-5deg-")
    assert plan_run(replace(asked, out=None), planned.objects).folder.parent == Path("runs/small")


def test_the_folder_follows_from_what_decides_the_result(tmp_path: Path) -> None:
    base = spec(tmp_path)
    objects = load_objects(base)

    def folder(**changes: Any) -> str:
        return plan_run(replace(base, **changes), objects).folder.name

    assert folder() == folder(workers=2, timeout=1.0) == folder(settings={"spread": "0.002"})
    others = [
        folder(settings={"spread": "0.003"}), folder(physics=Physics()), folder(pose_noise=PoseNoise(0.001)),
        folder(protocols=("six-direction",)), folder(suite=suite(1)), folder(suite=suite(seed=1)),
        folder(generator="moody"), folder(generator="fingerprinted"),
        folder(generator="fingerprinted", settings={"weights": "b"}),
    ]  # fmt: skip
    assert len({folder(), *others}) == 1 + len(others)


def test_a_bank_comes_from_the_suite_unless_one_is_set(tmp_path: Path) -> None:
    def bank(**changes: Any) -> object:
        asked = spec(tmp_path, suite=suite(bank="of the suite"), **changes)
        return plan_run(asked, load_objects(asked)).manifest["settings"].get("bank")

    assert bank() == "of the suite"
    assert bank(settings={"bank": "mine"}) == "mine"
    assert bank(generator="failing", settings={"how": "none"}) is None


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    folder = execute_run(spec(tmp_path))
    assert len(fake_generators.CALLS) == 2
    before = read_run(folder)
    seen: list[tuple[int, int]] = []
    assert execute_run(spec(tmp_path), lambda done, total: seen.append((done, total))) == folder
    assert seen == [(4, 4)]
    assert len(fake_generators.CALLS) == 2
    assert_same(before.records, read_run(folder).records)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[TrialRecord]:
    """Return the records of a run that was never interrupted."""
    with fake_generators.registered():
        return read_run(execute_run(spec(tmp_path_factory.mktemp("whole")))).records


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_an_interrupted_run_resumes_where_it_was(tmp_path: Path, whole: list[TrialRecord], stop: int) -> None:
    with pytest.raises(RunInterrupted) as caught:
        execute_run(spec(tmp_path), stop_after(stop))
    assert (caught.value.done, caught.value.total) == (stop, 4)
    assert len(read_run(caught.value.folder).records) == stop
    fake_generators.CALLS.clear()
    assert execute_run(spec(tmp_path)) == caught.value.folder
    assert len(fake_generators.CALLS) == (2 if stop < 2 else 1 if stop < 4 else 0)
    assert_same(whole, read_run(caught.value.folder).records)


def test_a_generator_that_is_not_repeatable_gives_one_record_a_condition(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RunInterrupted):
        execute_run(spec(tmp_path, "moody"), stop_after(1))
    with caplog.at_level(logging.WARNING):
        folder = execute_run(spec(tmp_path, "moody"))
    assert "other grasps than before for 1 stored trials" in caplog.text
    assert len({r.condition_id for r in read_run(folder).records}) == len(read_run(folder).records) == 4


@pytest.mark.parametrize(
    ("how", "failed", "reason"),
    [
        ("raises", 4, "RuntimeError: out of ideas"),
        ("few", 2, "generate() gave 1 grasps, 2 were asked for"),
        ("none", 4, "generate() gave 0 grasps, 2 were asked for"),
        ("many", 4, "generate() gave 4 grasps, 2 were asked for"),
        ("type", 4, "generate() gave ndarray, expected a GraspBatch"),
        ("exits", 4, "SystemExit: 0"),
        ("speechless", 4, "Speechless: (it has no message)"),
    ],
)
def test_what_a_generator_does_wrong_is_an_outcome(tmp_path: Path, how: str, failed: int, reason: str) -> None:
    asked = spec(tmp_path, "failing", settings={"how": how})
    records = read_run(execute_run(asked)).records
    lost = [r for r in records if r.outcome == Outcome.GENERATOR_FAILED]
    assert (len(records), len(lost)) == (4, failed)
    assert {r.reason for r in lost} == {reason}
    assert all(r.rotation == [] and not r.success for r in lost)
    assert crash_share(records) == 0
    fake_generators.CALLS.clear()
    execute_run(asked)
    assert fake_generators.CALLS == []


def test_a_grasp_that_is_none_is_invalid_not_failed(tmp_path: Path) -> None:
    records = read_run(execute_run(spec(tmp_path, "failing", settings={"how": "nan"}))).records
    assert {(r.outcome, r.reason) for r in records} == {("INVALID_GRASP", "not finite")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "stedy"}, "Did you mean 'steady'"),
        ({"settings": {"sprad": "1"}}, "Did you mean 'spread'"),
        ({"settings": {"spread": "wide"}}, "spread='wide'"),
        ({"settings": {"bank": "nowhere"}}, "no bank 'nowhere'"),
        ({"settings": {"spread": "-1"}}, "can't be built: ZeroDivisionError: a bug in the constructor"),
        ({"generator": "failing"}, "needs --set how="),
        ({"generator": "quits"}, "can't be built: SystemExit: 5"),
        ({"generator": "quoted", "settings": {"spread": "1"}}, "name 'Distance' is not defined"),
        ({"generator": "unnamed"}, "has no fingerprint: OSError: weights are gone"),
        ({"generator": "number"}, "is no class or function: 3"),
        ({"refine": "energy,copies=1,copies=2"}, "copies is given twice"),
        ({"refine": "energy,copies=1,rank=foo"}, "unknown ranking 'foo'"),
        ({"generator": "nothing"}, "has no generate"),
        ({"generator": "broken"}, "can't be imported"),
        ({"protocols": ("lfit",)}, "Did you mean 'lift'"),
        ({"suite": suite(requests=[one(OBJECT)] * 2)}, "more than once"),
        ({"suite": suite(requests=[one("embedded-mgu-03")])}, "embedded-mug-03"),
        ({"suite": suite(requests=[one(OBJECT, 900)])}, OBJECT),
        ({"suite": suite(requests=[one("core-mug-1")])}, "--data DIR"),
        (
            {"data": Path("/nowhere"), "suite": suite(requests=[Request(object="core-1", scale=1, count=1)])},
            "/nowhere",
        ),
    ],
)
def test_bad_input_is_an_error_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    with pytest.raises(SimevalError, match=message.replace("(", r"\(")):
        execute_run(spec(tmp_path, **changes))
    assert list(tmp_path.iterdir()) == []


def test_seeds_of_requests_are_stable_and_their_own() -> None:
    one = Request(object="mug", scale=0.1, type="hook", count=3)
    assert request_seed(0, one) == request_seed(0, one.model_copy(update={"count": 9})) == 1457834293
    others = [one.model_copy(update=change) for change in ({"object": "cup"}, {"scale": 0.12}, {"type": ""})]
    seeds = {request_seed(0, r) for r in (one, *others)} | {request_seed(1, one)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_what_refines_is_part_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spec(tmp_path, refine="energy,steps=2")

    def planned() -> PlannedRun:
        return plan_run(asked, load_objects(asked))

    before = planned()
    assert before.manifest["refiner"].startswith("simeval (simeval.generators.energy")
    ranker = energy.ranker
    monkeypatch.setattr(energy, "ranker", lambda name: ranker(name)._replace(fingerprint="other weights"))
    assert planned().folder != before.folder
    assert "refiner" not in plan_run(spec(tmp_path), load_objects(asked)).manifest


def test_pose_noise_is_drawn_from_the_seed(tmp_path: Path) -> None:
    noise = PoseNoise.parse("4mm,2deg")
    few = suite(50, requests=[Request(object=OBJECT, scale=1, count=50)])

    def wrists(name: str, **changes: Any) -> np.ndarray:
        asked = spec(tmp_path / name, settings={"spread": "0"}, suite=few, **changes)
        with pytest.raises(RunInterrupted):
            execute_run(replace(asked, physics=Physics(iterations=1, timestep=0.02)), stop_after(10))
        found = read_run(next((tmp_path / name).iterdir()))
        return np.array([r.translation for r in found.records])

    plain, noisy = wrists("plain"), wrists("noisy", pose_noise=noise)
    assert np.array_equal(noisy, wrists("again", pose_noise=noise))
    few = few.model_copy(update={"seed": 1})
    assert not np.array_equal(noisy, wrists("other", pose_noise=noise))
    off = np.linalg.norm(noisy - plain, axis=1)
    assert 0.001 < np.sqrt((off**2).mean()) < 0.01
    assert len(np.unique(off)) == len(off)


def test_a_killed_worker_costs_at_most_its_trial(tmp_path: Path) -> None:
    slow = Physics(iterations=10, timestep=1 / 400)  # so that the worker is in the middle of a trial
    asked = spec(tmp_path, suite=suite(2), workers=2, physics=slow)
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if done == 1 and not killed:
            victim = multiprocessing.active_children()[0].pid
            assert victim is not None
            killed.append(victim)
            time.sleep(0.1)
            os.kill(victim, signal.SIGKILL)

    records = read_run(execute_run(asked, kill_one)).records
    assert len(killed) == 1
    assert len(records) == 4
    assert sum(r.outcome == Outcome.CRASHED for r in records) <= 1
    alone = read_run(execute_run(replace(asked, workers=0, out=tmp_path / "alone"))).records
    differing = [a for a, b in zip(records, alone, strict=True) if same_result(a, b)]
    assert len(differing) <= 1  # two processes and one give the same bits


def test_a_pool_that_breaks_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[TrialRecord], caplog: pytest.LogCaptureFixture
) -> None:
    import simeval.run

    breaks = [1, 1, 0, 0]  # trials done before each pool breaks

    def fragile(tasks: Iterator[Task], workers: int, timeout: float) -> Iterator[TrialRecord]:
        for done, record in enumerate(run_tasks(tasks, 0)):
            if breaks and done == breaks[0]:
                breaks.pop(0)
                raise RuntimeError("Unexpected error within the Pool")
            yield record

    monkeypatch.setattr(simeval.run, "run_tasks", fragile)
    assert_same(whole, read_run(execute_run(spec(tmp_path / "a"))).records)
    assert caplog.text.count("the pool of workers broke down") == 4
    breaks += [0, 0, 0]
    with pytest.raises(DataError, match="3 times in a row"):
        execute_run(spec(tmp_path / "b"))


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    asked = spec(tmp_path)
    planned = plan_run(asked, load_objects(asked))
    with (
        RunStore.open(planned.folder, planned.manifest),
        pytest.raises(DataError, match="another run is writing"),
    ):
        execute_plan(planned)


def write_mesh(path: Path) -> Path:
    surface = load_embedded(OBJECT).surface
    lines = [f"v {x} {y} {z}" for x, y, z in 1e3 * surface.vertices]
    path.write_text("\n".join(lines + [f"f {a} {b} {c}" for a, b, c in surface.faces + 1]) + "\n")
    return path


def test_a_users_own_mesh_is_a_suite_of_one(tmp_path: Path) -> None:
    mesh = MeshObject(write_mesh(tmp_path / "can.obj"), scale=0.001, decompose="hull")
    asked = spec(tmp_path / "runs", suite=mesh.suite(2), mesh=mesh, protocols=("lift",))
    run = read_run(execute_run(asked))
    assert {(r.object_code, r.scale) for r in run.records} == {("can.obj", 0.001)}
    assert (run.manifest["suite"], run.manifest["data_kind"]) == ("mesh-can", "own mesh")
    assert run.manifest["mesh"] == {"file": "can.obj", "scale": 0.001, "up": "z", "decompose": "hull"}
    assert MeshObject.from_manifest(run.manifest) == mesh
    assert [r.type for r in mesh.suite(2, ["tip", "hook", "tip"]).requests] == ["tip", "hook"]
    with pytest.raises(DataError, match="no such file"):
        load_objects(replace(asked, mesh=replace(mesh, path=tmp_path / "cup.obj")))
    for wrong in ({"scale": 0}, {"scale": float("nan")}, {"up": "+z"}, {"decompose": "all"}):
        with pytest.raises(SettingError):
            replace(mesh, **wrong)


def test_a_run_is_a_bank_of_the_grasps_that_it_tried(tmp_path: Path) -> None:
    folder = execute_run(spec(tmp_path, suite=suite(protocols=["lift", "six-direction-first"])))
    bank, records = load_bank(folder), read_run(folder).records
    assert len(bank) == len(records) / 2 == 4
    for r in records:
        tried = bank.for_object(r.object_code, r.scale, r.grasp_type)[r.index]
        assert tried.joints.tolist() == [r.joints]
        assert tried.rotation.ravel().tolist() == r.rotation
        assert tried.translation.tolist() == [r.translation]
    assert bank_fingerprint(folder) != bank_fingerprint(execute_run(spec(tmp_path, settings={"spread": "0.003"})))
    nothing = execute_run(spec(tmp_path, "failing", settings={"how": "none"}))
    with pytest.raises(DataError, match="no grasp was tried"):
        load_bank(nothing)
