"""What is committed in results/ names the command that made it; what is cheap to make again is made again."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import typer

from simeval.benchmarks import (
    convergence,
    coverage,
    dataset,
    emg,
    end_to_end,
    generators,
    grasp_types,
    metrics_compared,
    retrieval,
    study,
    why_poses_fail,
)
from simeval.cli import app
from simeval.emg.evaluate import evaluate
from simeval.emg.files import load_recordings
from simeval.emg.summary import summarise as summarise_emg
from simeval.errors import DataError
from simeval.manifest import effective_settings
from simeval.manifest import run_folder as named_folder
from simeval.motion import record_motions
from simeval.physics.pool import Task
from simeval.physics.render import render_strip
from simeval.report.compare import Side
from simeval.report.gate import read_baseline
from simeval.report.summary import MetricRow, read_row, summarise
from simeval.report.tables import interval_note, markdown, metric_grid
from simeval.run import RunSpec, execute_run, load_objects, plan_run
from simeval.store import read_run, same_result
from simeval.suites import load_suite
from simeval.tasks import tasks
from simeval.taxonomy import GRASP_TYPES
from simeval.trials.tables import loss_grid, success_grid

RESULTS = Path(__file__).parent.parent / "results"
TABLES = ("embedded", "released", "unidexgrasp")
"""Pages of `simeval table`."""
DATA = os.environ.get("SIMEVAL_DATA")
KEPT = sorted(manifest.parent for manifest in (RESULTS / "runs").rglob("manifest.json"))
"""Whole runs."""


def stored_rows(name: str) -> list[MetricRow]:
    return [read_row(row) for row in json.loads((RESULTS / f"{name}.json").read_text())]


# Where everything is from


def test_a_study_whose_data_is_missing_says_so(tmp_path: Path) -> None:
    study = [sys.executable, "-m", "simeval.benchmarks.retrieval", "--data", str(tmp_path)]
    ended = subprocess.run(study, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert str(tmp_path) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not DATA, reason="SIMEVAL_DATA is not set: no real recordings here")
def test_a_page_of_nothing_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["emg", "--finished", "--work", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(DataError, match="nothing is finished here of networks trained on cpu"):
        emg.main()
    assert not list(tmp_path.rglob("*.md"))


def commands_in(text: str) -> list[str]:
    """Commands of this project in a page: in backticks, with arguments."""
    return [c for c in re.findall(r"`([^`\n]+)`", text) if re.match(r"simeval \S+ |python -m simeval\.", c)]


def origins(folder: Path) -> dict[str, list[str]]:
    """File -> the commands that made it: its own, else its page's, else those beside its name in the README."""
    texts = {p.name: p.read_text(encoding="utf-8") for p in folder.glob("*.md")}
    readme = texts.pop("README.md", "")
    found = {}
    for path in sorted(p for p in folder.glob("*") if p.is_file() and p.name != "README.md"):
        own = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else None
        pages = [text for name, text in texts.items() if name == f"{path.stem}.md" or f"({path.name})" in text]
        beside = [paragraph for paragraph in readme.split("\n\n") if f"`{path.name}`" in paragraph]
        stated = own.get("command") if isinstance(own, dict) else None
        made = [line for text in pages for line in text.split("\n") if line.startswith("Made by `")]
        found[path.name] = [stated] if stated else commands_in("\n".join(made or beside))
    return found


def test_every_file_names_the_command_that_made_it() -> None:
    found = origins(RESULTS)
    assert len(found) >= 19
    assert [name for name, commands in found.items() if not commands] == []


def test_a_file_without_a_command_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("`drawn.png` is made by `simeval replay 1 --run r`.\n\nNot so `other.png`.")
    (tmp_path / "page.md").write_text("# Page\n\nMade by `python -m simeval.benchmarks.page`: ![x](figure.png)")
    for name in ("page.json", "figure.png", "drawn.png", "other.png", "stray.csv"):
        (tmp_path / name).write_text("[]")
    missing = {name for name, commands in origins(tmp_path).items() if not commands}
    assert missing == {"other.png", "stray.csv"}


@pytest.mark.parametrize("command", sorted({c for commands in origins(RESULTS).values() for c in commands}))
def test_commands_exist_with_their_options(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "python":
        assert importlib.util.find_spec(words[2])
        return
    known: Any = typer.main.get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    options = {name for parameter in known.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= options


# Pages are made of the numbers beside them


@pytest.mark.parametrize("name", TABLES)
def test_table_is_made_of_its_rows(name: str) -> None:
    text, rows = (RESULTS / f"{name}.md").read_text(encoding="utf-8"), stored_rows(name)
    assert markdown([metric_grid(rows, short=False)], "").strip() in text
    assert f"objects as clusters{interval_note(rows)}." in text


def test_comparison_page_is_made_of_its_numbers() -> None:
    note = json.loads((RESULTS / "metrics_compared.json").read_text())
    rows = [read_row(row) for row in note["rows"]]
    text = (RESULTS / "metrics_compared.md").read_text(encoding="utf-8")
    described = text.split("DexGraspNet, ")[1].split(").")[0]
    assert metrics_compared.page(rows, note["area_under_roc"], described) == text


def test_dataset_page_is_made_of_its_numbers() -> None:
    note = json.loads((RESULTS / "dataset.json").read_text())
    assert dataset.page(note) == (RESULTS / "dataset.md").read_text(encoding="utf-8")


def test_page_of_the_generators_is_made_of_its_numbers(tmp_path: Path) -> None:
    note = json.loads((RESULTS / "generators.json").read_text())
    rows = [read_row(row) for row in note["rows"]]
    conditions = [c for c in generators.CONDITIONS if c.name in {row.suite for row in rows}]
    assert generators.page(rows, conditions) == (RESULTS / "generators.md").read_text(encoding="utf-8")
    generators.figure(tmp_path / "made.png", rows, conditions[0])
    assert_same_picture(tmp_path / "made.png", "generators.png")


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_row_of_the_generators_is_counted_again_from_its_trials(folder: Path) -> None:
    run = read_run(folder)
    assert named_folder(run.manifest).name == folder.name
    name, settings, variant = (run.manifest[key] for key in ("generator", "settings", "variant"))
    refine = variant.removeprefix("+refine ")
    [entry] = [
        e for e in generators.ENTRIES
        if (e.generator, effective_settings(e.generator, e.settings), e.refine) == (name, settings, refine)
    ]  # fmt: skip
    note = json.loads((RESULTS / "generators.json").read_text())
    stored = {
        (row["protocol"], row["group"], row["metric"]): row for row in note["rows"]
        if (row["generator"], row["suite"]) == (entry.name, generators.USUAL.name)
    }  # fmt: skip
    for kind in ("", *GRASP_TYPES):
        group = generators.Group(kind or "all", lambda record, kind=kind: kind in ("", record.grasp_type))  # type: ignore[misc]
        for row in generators.measure(entry, generators.USUAL, run.records, group):
            found = stored[row.protocol, row.group, row.metric]
            assert (row.value, row.low, row.high, row.n) == pytest.approx(
                tuple(found[key] for key in ("value", "low", "high", "n")), nan_ok=True
            )


def test_page_of_retrieval_is_made_of_its_numbers() -> None:
    note = json.loads((RESULTS / "retrieval.json").read_text())
    rows = [read_row(row) for row in note["rows"]]
    assert retrieval.page(rows) == (RESULTS / "retrieval.md").read_text(encoding="utf-8")


def test_page_of_the_failing_poses_is_made_of_its_numbers(tmp_path: Path) -> None:
    note = json.loads((RESULTS / "why_poses_fail.json").read_text())
    rows = [read_row(row) for row in note["rows"]]
    made = why_poses_fail.page(rows, note["steps"], note.get("remark", ""))
    assert made == (RESULTS / "why_poses_fail.md").read_text(encoding="utf-8")
    why_poses_fail.figure(tmp_path / "made.png", rows)
    assert_same_picture(tmp_path / "made.png", "why_poses_fail.png")


def test_end_to_end_tables_are_made_of_their_numbers() -> None:
    note = json.loads((RESULTS / "end_to_end.json").read_text())
    seen: set[tuple[str, ...]] = set()
    rows = []
    for row in map(read_row, note["rows"]):
        key = (row.generator, row.suite, row.group, row.metric)
        if row.group not in end_to_end.CURVE and not (row.group in end_to_end.REFERENCES and key in seen):
            rows.append(row)
        seen.add(key)
    text = (RESULTS / "end_to_end.md").read_text(encoding="utf-8")
    for grid in (success_grid(rows), loss_grid(rows)):
        assert markdown([grid], "").strip() in text


def test_coverage_page_is_made_of_its_numbers() -> None:
    note = json.loads((RESULTS / "coverage.json").read_text())
    assert coverage.page(stored_coverage(), note["command"]) == (RESULTS / "coverage.md").read_text(encoding="utf-8")


def test_figure_of_the_convergence_study_is_made_of_its_numbers(tmp_path: Path) -> None:
    rows = json.loads((RESULTS / "physics_convergence.json").read_text())
    results = []
    for row in rows:
        part, label = row["group"].split(": ", 1)
        results.append({**row, "part": part, "label": label, "success": row["value"]})
    convergence.figure(results, tmp_path / "made.png")
    assert_same_picture(tmp_path / "made.png", "physics_convergence.png")


def assert_same_picture(made: Path, name: str) -> None:
    """Compare pictures, but for what other versions of fonts and of the renderer may change at edges."""
    found, expected = (matplotlib.image.imread(path)[..., :3] for path in (made, RESULTS / name))
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 0.005


# Made again


def test_picture_of_a_lifted_grasp_is_drawn_again(tmp_path: Path) -> None:
    [task] = [t for t in embedded_tasks("replay") if t.trial.trial_id == "533702be4d4e5aca"]
    [(_, motion, _)] = record_motions([task], workers=0)
    assert motion is not None
    assert motion.record.success
    looks = [moment for i, moment in enumerate(motion.moments) if i != motion.held]
    assert task.trial.grasp is not None
    matplotlib.image.imsave(tmp_path / "made.png", render_strip(task.model, task.trial.grasp, looks))
    assert_same_picture(tmp_path / "made.png", "lifted_grasp.png")


def embedded_tasks(generator: str) -> Iterable[Task]:
    """All trials of a generator's default run, not run."""
    spec = RunSpec(generator, load_suite("embedded"))
    return tasks(plan_run(spec, load_objects(spec)), {}, lambda record: None)


def test_floor_of_the_embedded_table_is_run_again(tmp_path: Path) -> None:
    """Its cheapest generator, all 120 trials; the gate of continuous integration runs retrieval's."""
    folder = execute_run(RunSpec("open-hand", load_suite("embedded"), out=tmp_path, workers=2))
    found, expected = (
        {(r.protocol, r.metric): r for r in rows if r.generator == "open-hand" and not r.metric.startswith("cpu")}
        for rows in (summarise([read_run(folder)]), stored_rows("embedded"))
    )
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        again = found[key]
        assert (again.value, again.low, again.high, again.n) == pytest.approx((row.value, row.low, row.high, row.n))


def test_figure_of_the_types_is_drawn_again(tmp_path: Path) -> None:
    grasp_types.figure(tmp_path / "made.png")
    assert_same_picture(tmp_path / "made.png", "grasp_types.png")


@pytest.mark.skipif(DATA is None, reason="needs the recordings: SIMEVAL_DATA")
def test_a_row_of_the_recordings_is_computed_again() -> None:
    recordings = load_recordings("uci-1", Path(str(DATA)))
    tested = evaluate(recordings, ["leave-one-subject-out"], ["lda"], seeds=1)
    stored = {
        row["metric"]: row for row in json.loads((RESULTS / "emg.json").read_text())
        if (row["generator"], row["suite"], row["protocol"]) == ("lda", "uci-1", "leave-one-subject-out")
    }  # fmt: skip
    for row in summarise_emg(tested, recordings, "uci-1"):
        assert (row.value, row.n) == (pytest.approx(stored[row.metric]["value"], abs=2e-3), stored[row.metric]["n"])


def stored_coverage() -> list[coverage.Coverage]:
    found = json.loads((RESULTS / "coverage.json").read_text())["coverage"]
    return [coverage.Coverage(**cell) for cell in found]


@pytest.mark.parametrize(
    ("method", "case", "n", "objects"),
    [
        ("wilson", "independent trials", 100, 100), ("rate", "correlation 0.3", 20, 5), ("mean", "lognormal", 100, 20),
        ("paired difference", "many flips", 100, 50), ("difference", "correlation 0.1", 100, 20),
        ("two-way rate", "5 people", 100, 20), ("two-way difference", "20 people", 100, 20),
    ],
)  # fmt: skip
def test_coverage_is_simulated_again(method: str, case: str, n: int, objects: int) -> None:
    wanted = next(c for c in stored_coverage() if (c.method, c.case, c.n, c.objects) == (method, case, n, objects))
    found = coverage.simulate(coverage.Cell(method, case, n, objects), wanted.repeats)
    assert found.coverage == pytest.approx(wanted.coverage, abs=2e-3)  # one or two experiments may round otherwise
    assert found.width == pytest.approx(wanted.width, rel=1e-3)


def test_coverage_is_as_stated_where_the_model_can_know() -> None:
    """93 to 97 %, give or take three standard errors of the simulation, from 20 objects on."""
    few = ("few flips", "few objects flip")  # where the page says that it can't
    cells = [c for c in stored_coverage() if c.objects >= 20 and c.n >= 100 and c.case not in few]
    assert len(cells) > 60
    for cell in cells:
        error = (0.95 * 0.05 / cell.repeats) ** 0.5
        assert 0.93 - 3 * error <= cell.coverage <= 0.97 + 3 * error, cell


def test_the_gates_baseline_is_the_embedded_suite() -> None:
    baseline = read_baseline(RESULTS / "gate_embedded.json")
    assert isinstance(baseline, Side)
    rows = {
        row["metric"]: row["value"]
        for row in json.loads((RESULTS / "embedded.json").read_text())
        if row["generator"] == baseline.label and row["group"] == "all"
    }
    for protocol, metric in (("lift", "lift_success"), ("six-direction", "six_direction_success")):
        own = [r.success for r in baseline.records if r.protocol == protocol]
        assert sum(own) / len(own) == pytest.approx(rows[metric])


# What studies share


def test_a_kept_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = Namespace(data=None, out=tmp_path / "out", workers=0)

    def run() -> Path:
        return study.run_folder("open-hand", "embedded", options, objects=1, grasps=1)

    folder = run()
    kept = study.keep(folder, options.out)
    assert {p.name for p in kept.iterdir()} == {"manifest.json", "parts"}
    for a, b in zip(read_run(kept).records, read_run(folder).records, strict=True):
        assert same_result(a, b) == []
    assert not {"host", "argv"} & read_run(kept).manifest["volatile"].keys()
    assert run() == folder  # what is below runs/ comes first: harder conditions name their runs after it
    shutil.rmtree("runs")
    monkeypatch.setattr(study, "execute_plan", lambda *_: pytest.fail("it is there"))
    assert run() == kept
    (kept / "parts" / "part-00000.parquet").unlink()
    with pytest.raises(pytest.fail.Exception, match="it is there"):  # not whole
        run()
