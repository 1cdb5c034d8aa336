import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_generators
import numpy as np
import pytest
import trimesh
from report_runs import HOSTILE, hostile_run, quick_run, record, store

from simeval.benchmarks import report_size
from simeval.cli import main
from simeval.errors import SimevalError
from simeval.motion import Moment, Motion, record_motion
from simeval.objects import ObjectLibrary
from simeval.objects.model import Mesh
from simeval.physics.settings import Physics
from simeval.records import Outcome, TrialRecord
from simeval.replay import StoredTrial, restore_trial, run_folders
from simeval.report import html
from simeval.report.report import (
    Source,
    Views,
    choose_trials,
    compare,
    make_views,
    named_trials,
    read_sources,
    report_page,
    trial_rows,
)
from simeval.report.scenes import ANGLE_UNIT, LENGTH_UNIT, MOST_MOMENTS, coarse, object_scene, trial_scene
from simeval.report.summary import records_by_name
from simeval.stats import paired_difference
from simeval.store import read_run, same_result

LIFTED, SLIPPED, DROPPED = Outcome.LIFTED, Outcome.SLIPPED, Outcome.DROPPED
GRASP = {"rotation": np.eye(3).ravel().tolist(), "translation": [0.0, 0.1, 0.0], "joints": [0.1] * 22}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "runs"
    quick_run(folder)
    return folder


@pytest.fixture(scope="module")
def held(runs: Path) -> StoredTrial:
    """A stored trial that lifted."""
    for source in read_sources(run_folders([runs])):
        for r in source.run.records:
            if r.success:
                return restore_trial(source.folder, source.run, r)
    raise AssertionError("nothing held")


def simeval(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return int(stop.value.code or 0)


def page_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


# Motion


def test_watching_changes_nothing_and_sees_what_the_record_says(held: StoredTrial) -> None:
    motion = record_motion(held.task)
    assert same_result(motion.record, held.record) == []
    assert motion.held is not None
    assert len(motion.contacts) >= len(held.record.contacts.split(",")) >= 2
    points = ObjectLibrary().load(held.record.object_code, held.record.scale).surface.vertices
    squeezed = motion.moments[motion.held]
    away = np.linalg.norm((motion.contacts - squeezed.origin) @ squeezed.rotation, axis=1)
    assert (away < np.linalg.norm(points, axis=1).max() + 0.003).all()
    times = [m.time for m in motion.moments]
    assert times == sorted(times)
    assert motion.moments[0].rise == 0
    assert motion.moments[-1].rise == pytest.approx(0.2)


def test_a_whole_number_is_the_same_as_a_float_or_an_int() -> None:
    stored = record("g", 0, "o", LIFTED, protocol="six-direction", directions_held=6.0)
    assert same_result(stored, replace(stored, directions_held=6)) == []
    assert same_result(stored, replace(stored, directions_held=5.0)) == ["directions_held"]


# Scenes


def test_a_scene_has_the_motion_to_a_tenth_of_a_millimetre(held: StoredTrial) -> None:
    from scipy.spatial.transform import Rotation

    motion = record_motion(held.task)
    scene = trial_scene(held.record, motion)
    rows = np.frombuffer(base64.b64decode(scene["moments"]), "<i2").reshape(-1, 31)
    assert len(rows) == scene["count"] <= MOST_MOMENTS + 1
    squeezed = motion.moments[motion.held or 0]
    row = rows[scene["held"]]
    np.testing.assert_allclose(row[:3] * LENGTH_UNIT, squeezed.origin, atol=LENGTH_UNIT)
    np.testing.assert_allclose(row[9:] * ANGLE_UNIT, squeezed.joints, atol=ANGLE_UNIT)
    turn = Rotation.from_quat(row[5:9] / 32000).as_matrix()
    np.testing.assert_allclose(turn, squeezed.rotation, atol=2e-4)
    assert row[4] == round(1e3 * squeezed.time)
    np.testing.assert_allclose(rows[-1][9:] * ANGLE_UNIT, motion.moments[-1].joints, atol=ANGLE_UNIT)


def test_moments_that_are_no_numbers_are_left_out(held: StoredTrial) -> None:
    good = Moment(0.0, np.eye(3), np.zeros(3), np.zeros(22), 0.0)
    motion = Motion(held.record, [good, good._replace(origin=np.full(3, math.nan))], held=1)
    scene = trial_scene(held.record, motion)
    assert (scene["count"], scene["held"], scene["contacts"]) == (1, None, [])


def test_a_surface_is_made_coarser_not_another() -> None:
    model = ObjectLibrary().load("embedded-ring-00")
    surface = model.surface
    found = coarse(surface, 800)
    assert 100 < len(found.faces) <= 800
    size = np.ptp(surface.vertices, axis=0)
    np.testing.assert_allclose(np.ptp(found.vertices, axis=0), size, atol=0.1 * size.max())
    assert coarse(surface, len(surface.faces)) is surface
    scene = object_scene(model)
    vertices = np.frombuffer(base64.b64decode(scene["vertices"]), "<i2").reshape(-1, 3) * scene["unit"]
    faces = np.frombuffer(base64.b64decode(scene["faces"]), "<u2").reshape(-1, 3)
    assert volume(Mesh(vertices, faces.astype(np.int32))) == pytest.approx(volume(surface), rel=0.05)


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


# The page


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    sources = read_sources([hostile_run(tmp_path / "run")])
    page = report_page(sources, Views(), [html.Picture(HOSTILE, HOSTILE, b"<svg/>")], HOSTILE)
    assert "<img src=x" not in page
    assert "<b class=hostile" not in page
    assert "\u2028" not in page.partition('id="data">')[2]
    assert page.count("</script>") == 2
    rows = trial_rows(records_by_name([s.run for s in sources]))
    assert page_data(page)["trials"] == rows
    names = {c["key"]: c["names"] for c in rows["columns"]}
    assert names["object"] == names["reason"] == [HOSTILE]


def test_the_page_may_load_nothing(tmp_path: Path) -> None:
    page = report_page(read_sources([hostile_run(tmp_path / "run")]), Views(), [])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"|url\(|@import|https?://", page)


def test_rows_have_the_numbers_of_the_records(runs: Path) -> None:
    by_name = records_by_name([s.run for s in read_sources(run_folders([runs]))])
    table = trial_rows(by_name)
    at = {c["key"]: i for i, c in enumerate(table["columns"])}
    records = [r for rs in by_name.values() for r in rs]
    assert len(table["rows"]) == len(records) == 10
    for row, r in zip(table["rows"], records, strict=True):
        assert row[at["id"]] == r.trial_id
        assert table["columns"][at["outcome"]]["names"][row[at["outcome"]]] == r.outcome
        assert row[at["slip"]] == (None if math.isnan(r.slip_m) else pytest.approx(1e3 * r.slip_m, abs=0.01))
        assert row[at["directions"]] is None


def test_one_of_each_way_to_end_in_turn() -> None:
    def some(name: str, outcome: str, count: int, **changes: Any) -> list[TrialRecord]:
        return [record(name + outcome, i, f"o{i}", outcome, **GRASP | changes) for i in range(count)]

    by_name = {
        "replay": some("replay", LIFTED, 9),
        "mine": [*some("mine", LIFTED, 9), *some("mine", SLIPPED, 1), *some("mine", DROPPED, 9),
                 *some("mine", Outcome.GENERATOR_FAILED, 9, rotation=[]),
                 *some("mine", Outcome.INVALID_GRASP, 9, joints=[math.nan] * 22)],
    }  # fmt: skip
    chosen = choose_trials(by_name, 6)
    assert [(n, r.outcome) for n, r in chosen] == [
        ("mine", DROPPED), ("mine", SLIPPED), ("mine", LIFTED), ("replay", LIFTED), ("mine", DROPPED), ("mine", LIFTED),
    ]  # fmt: skip
    assert len(choose_trials(by_name, 100)) == 28
    assert choose_trials(by_name, 0) == choose_trials({}, 5) == []


def test_comparison_is_the_paired_difference() -> None:
    a = [record("a", i, f"o{i % 5}", LIFTED if i % 3 else SLIPPED, condition_id=f"c{i}") for i in range(30)]
    b = [record("b", i, f"o{i % 5}", LIFTED if i % 2 else SLIPPED, condition_id=f"c{i}") for i in range(2, 32)]
    alone = [record("c", i, "o", LIFTED) for i in range(3)]
    rows = compare({"a": a, "b": b, "c": alone})
    assert [(r["baseline"], r["cells"][0]) for r in rows] == [("a", "b"), ("b", "a")]

    def held(records: Sequence[TrialRecord]) -> dict[str, float]:
        return {r.condition_id: float(r.success) for r in records}

    expected = paired_difference(held(b), held(a), {f"c{i}": f"o{i % 5}" for i in range(32)}).estimate
    _, protocol, value, interval, n, only_b, only_a = rows[0]["cells"]
    assert (protocol, n) == ("lift", "28")
    assert value == f"{100 * expected.value:+.1f}"
    assert interval == f"[{100 * expected.low:+.1f}, {100 * expected.high:+.1f}]"
    shared = range(2, 30)
    assert int(only_b) == sum(i % 2 != 0 and i % 3 == 0 for i in shared)
    assert int(only_a) == sum(i % 2 == 0 and i % 3 != 0 for i in shared)


# Views


def test_what_a_view_rests_on_is_said(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    sources = read_sources(run_folders([runs]))
    chosen = choose_trials(records_by_name([s.run for s in sources]), 2)
    views = make_views(sources, chosen, workers=0)
    assert [t["note"] for t in views.trials.values()] == [
        "Run again for this view; its record came out bit for bit as stored."
    ] * 2
    assert "2 trials were run again to show it: all came out bit for bit as stored." in report_page(sources, views, [])
    views = make_views(sources, chosen, rerun=False)
    assert (views.without_motion, [t["count"] for t in views.trials.values()]) == (2, [0, 0])
    assert "2 show the commanded pose only" in report_page(sources, views, [])
    name, first = chosen[0]
    changed = replace(first, slip_m=1.0)
    altered = Source(sources[0].folder, replace(sources[0].run, records=[changed]))
    note = make_views([altered], [(name, changed)], workers=0).trials[first.trial_id]["note"]
    assert note == "Run again for this view, and it is NOT the stored trial: slip_m differ."
    gone = replace(first, object_code="core-mug-1")
    missing = make_views([altered], [(name, gone)], workers=0)
    assert "needs DexGraspNet's data" in missing.trials[first.trial_id]["note"]
    assert missing.objects == {}


def test_trials_by_their_first_digits() -> None:
    found = {"g": [record("g", i, "o", LIFTED, **GRASP) for i in range(3)], "h": [record("h", 9, "o", LIFTED)]}
    found["h"] += [record("h", 8, "o", "INVALID_GRASP", **GRASP | {"joints": [float("nan")] * 22})]
    wanted = found["g"][1]
    assert named_trials(found, [wanted.trial_id.upper()]) == [("g", wanted)]
    for ids, message in (
        (["zz"], "unknown trial 'zz'"), ([wanted.trial_id[:6]], "3 trials begin with"),
        ([found["h"][0].trial_id], "has no grasp"), ([found["h"][1].trial_id], "has no grasp"),
    ):  # fmt: skip
        with pytest.raises(SimevalError, match=message):
            named_trials(found, ids)


# The command


def test_report_of_a_run(runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    wanted = read_run(run_folders([runs])[0]).records[3].trial_id
    assert simeval("report", runs, "-o", out, "--trials", 1, "--trial", wanted, "-j", 0, "--title", "Mine") == 0
    printed, err = capfd.readouterr()
    assert "2 trials in 3D" in printed
    assert "running 2 trials again" in err
    page = out.read_text()
    assert out.stat().st_size < 2e6
    assert wanted in page_data(page)["scenes"]["trials"]
    assert page.count("<figure>") >= 5
    assert "<title>Mine</title>" in page
    assert page.index(">fingerprinted<") < page.index(">steady<")
    assert [f.name for f in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("command", ["report", "figures"])
def test_runs_that_are_none(command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    empty = store(tmp_path / "empty", [], "steady")
    broken = store(tmp_path / "broken", [record("g", 0, "o", LIFTED)], "steady")
    part = next(broken.glob("parts/*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    for run, message in (
        (tmp_path / "nowhere", "no such folder"), (empty, "no trials in"), (broken, "not a readable Parquet file"),
    ):  # fmt: skip
        assert simeval(command, run, "--out", tmp_path / "r.html") == 2
        err = capfd.readouterr().err
        assert message in err
        assert "Traceback" not in err
    assert not (tmp_path / "r.html").exists()


def test_bad_options(runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["-o", tmp_path / "report.pdf"], "ends in .html"), (["-o", tmp_path / "no" / "r.html"], "there is no folder"),
        (["-o", tmp_path / "r.html", "--trial", "zz"], "unknown trial 'zz'"), (["--trials", "-1"], "--trials"),
    ):  # fmt: skip
        assert simeval("report", runs, *arguments) == 2
        assert message in " ".join(capfd.readouterr().err.split())


def test_a_full_disk_leaves_no_half_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from simeval.report import figures

    monkeypatch.setattr(figures, "FIGURES", {})
    run = store(tmp_path / "run", [record("g", 0, "o", LIFTED)], "steady")
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("the one of before")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert simeval("report", run, "-o", out / "report.html") == 2
    assert "report.html can't be written: No space left on device" in capfd.readouterr().err
    assert [f.name for f in out.iterdir()] == ["report.html"]
    assert (out / "report.html").read_text() == "the one of before"


def test_an_interrupt_ends_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from simeval.report import figures

    def interrupted(trials: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, "FIGURES", {"one": interrupted})
    run = store(tmp_path / "run", [record("g", 0, "o", LIFTED)], "steady")
    assert simeval("report", run, "-o", tmp_path / "report.html") == 130
    assert not (tmp_path / "report.html").exists()
    assert "Traceback" not in capfd.readouterr().err


def test_objects_of_runs_that_lie_elsewhere_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from simeval.report import figures

    monkeypatch.setattr(figures, "FIGURES", {"wrist_sphere": figures.FIGURES["wrist_sphere"]})
    (tmp_path / "away").mkdir()
    can, renamed, away, other = (tmp_path / name for name in ("can.obj", "tin.obj", "away/can.obj", "other.obj"))
    trimesh.creation.cylinder(30, 120, sections=12).export(can)
    trimesh.creation.cylinder(31, 120, sections=12).export(other)
    runs, page = tmp_path / "runs", tmp_path / "r.html"
    what = ["run", "-g", "steady", "--mesh", can, "--mesh-scale", "0.001", "--grasps", 2, "--no-references"]
    coarse = ["--protocol", "lift", "--physics", "iterations=10", "--physics", "timestep=0.01"]
    with fake_generators.registered():
        assert simeval(*what, *coarse, "--out", runs, "-j", 0) == 0
    trial = read_run(run_folders([runs])[0]).records[0].trial_id
    report = ["report", runs, "-o", page, "-j", 0]
    for was, place, mesh in (
        (can, can, []), (can, renamed, ["--mesh", renamed]), (renamed, away, ["--mesh", other, "--mesh", away]),
    ):  # fmt: skip
        was.rename(place)
        capfd.readouterr()
        assert simeval("replay", trial, "--run", runs, *mesh) == 0
        assert simeval(*report, *mesh) == 0
        assert "commanded only" not in capfd.readouterr().err
        assert "all came out bit for bit as stored" in page.read_text()
        assert "Where the wrist is" in page.read_text()
    for mesh, message in (([], "--mesh FILE says where it lies now"), (["--mesh", other], "is not the object of the")):
        assert simeval("replay", trial, "--run", runs, *mesh) == 2
        assert message in capfd.readouterr().err
        assert simeval(*report, *mesh) == 0
        err = capfd.readouterr().err
        assert "2 of 2 trials can be shown as commanded only" in err
        assert message in err
        assert "Traceback" not in err


def test_objects_of_runs_whose_data_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    physics = Physics().digest
    records = [record("g", 0, code, SLIPPED, physics=physics, **GRASP) for code in ("core-mug-1", "cup.stl")]
    run = store(tmp_path / "run", records, "steady")
    for r, words in zip(records, ("pass --data DIR or set SIMEVAL_DATA", "--mesh FILE says"), strict=True):
        assert simeval("replay", r.trial_id, "--run", run) == 2
        assert words in capfd.readouterr().err
    assert simeval("report", run, "-o", tmp_path / "r.html", "-j", 0) == 0
    err = capfd.readouterr().err
    assert "1 of 2 trials can be shown as commanded only: needs DexGraspNet's data: pass --data DIR" in err
    assert "1 of 2 trials can be shown as commanded only: cup.stl: no such file" in err


def test_the_benchmark_has_records_that_can_be_shown(tmp_path: Path) -> None:
    report_size.store(tmp_path, trials=16, objects=2)
    sources = read_sources(run_folders([tmp_path]))
    assert [len(source.run.records) for source in sources] == [8, 8]
    shown = [restore_trial(source.folder, source.run, r) for source in sources for r in source.run.records]
    assert len({stored.trial.trial_id for stored in shown}) == 16


# One trial


def test_view_opens_a_page_of_the_trial(
    held: StoredTrial, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import webbrowser

    opened: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "get", lambda *_: None)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert simeval("replay", held.record.trial_id, "--run", held.folder, "--view") == 0
    assert "reproduced bit for bit" in capfd.readouterr().out
    [url] = opened
    page = Path(url.removeprefix("file://")).read_text()
    assert list(page_data(page)["scenes"]["trials"]) == [held.record.trial_id]
    assert page_data(page)["scenes"]["trials"][held.record.trial_id]["count"] > 50


def test_view_without_a_display(
    held: StoredTrial, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import webbrowser

    def none(*_: object) -> None:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for display, message in (("", "DISPLAY isn't set"), (":0", "there is none (BROWSER can name one)")):
        monkeypatch.setenv("DISPLAY", display)
        assert simeval("replay", held.record.trial_id, "--run", held.folder, "--view") == 2
        out, err = capfd.readouterr()
        assert message in err
        assert "--video" in err
        assert out == ""
