"""What the studies share: their options, runs and Markdown tables."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simeval.commands.options import all_cores
from simeval.commands.progress import Bars
from simeval.files import json_text
from simeval.grasp import GraspBatch
from simeval.noise import PoseNoise
from simeval.physics.settings import Physics
from simeval.records import TrialRecord
from simeval.replay import stored_grasp
from simeval.run import RunSpec, execute_plan, load_objects, plan_run
from simeval.store import VOLATILE, Run, RunStore, read_run
from simeval.suites import load_suite

POWER = ("cylindrical", "spherical", "planar", "tip")
"""The types that oppose the thumb to the fingers, and can carry most."""
WEAK = ("lateral", "hook")


@dataclass(frozen=True)
class Entry:
    """A generator that a study runs, and what the study calls it."""

    name: str
    generator: str
    settings: Mapping[str, str] = field(default_factory=dict)
    refine: str = ""
    grasps: int | None = None  # at most so many a condition; all of the suite's by default
    types: tuple[str, ...] = ()  # only these; all by default


def study_parser(
    description: str | None, name: str = "", needs_data: bool = True, workers: bool = True
) -> argparse.ArgumentParser:
    """Return a parser with --data, --out, where wanted --workers, and, where `name` is given, --work (runs/`name`)."""
    parser = argparse.ArgumentParser(description=description)
    default = os.environ.get("SIMEVAL_DATA")
    parser.add_argument("--data", type=Path, default=default, required=needs_data and default is None)
    if name:
        parser.add_argument("--work", type=Path, default=Path("runs") / name, help="what is finished is kept here")
    parser.add_argument("--out", type=Path, default=Path("results"))
    if workers:
        parser.add_argument("--workers", type=int, default=all_cores())
    return parser


def run_suite(
    generator: str, suite: str, options: argparse.Namespace, refine: str = "", protocol: str = "",
    settings: Mapping[str, str] | None = None, grasps: int | None = None, objects: int | None = None,
) -> Run:  # fmt: skip
    """Run a generator over a suite, or read what is stored of it below runs/, as `simeval run` does.

    `protocol`: whose trials are wanted; all by default. Else as `run_folder`.
    """
    found = read_run(run_folder(generator, suite, options, refine, settings, grasps=grasps, objects=objects))
    return Run(found.manifest, [r for r in found.records if protocol in ("", r.protocol)])


def run_folder(
    generator: str, suite: str, options: argparse.Namespace, refine: str = "",
    settings: Mapping[str, str] | None = None, physics: Physics | None = None, noise: str = "",
    grasps: int | None = None, objects: int | None = None, types: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Run what is missing of a generator's run over a suite; return its folder, below runs/.

    A whole run that was copied to runs/ of the results' folder is taken from there.

    Args:
        generator: its name.
        suite: its name.
        options: those of `study_parser`.
        refine: a refiner, or none.
        settings: the generator's.
        physics: other than the default.
        noise: of the wrist's pose, as `PoseNoise.parse` reads it.
        grasps: at most so many a condition; all of the suite's by default.
        objects: only so many of them; likewise.
        types: only requests of these; likewise.
    """
    spec = RunSpec(
        generator, load_suite(suite).subset(objects, grasps, types), settings or {}, options.data, physics or Physics(),
        workers=options.workers, refine=refine, pose_noise=PoseNoise.parse(noise) if noise else None,
    )  # fmt: skip
    name = " ".join([suite, generator, *(f"{key}={value}" for key, value in spec.settings.items()), refine]).strip()
    planned = plan_run(spec, load_objects(spec))
    kept = options.out / "runs" / suite / planned.folder.name
    if not planned.folder.exists() and kept.exists() and len(read_run(kept).records) == planned.total:
        return kept
    with Bars({name: 1}, "trials") as bars:
        return execute_plan(planned, bars.callback(name))


def keep(folder: Path, out: Path) -> Path:
    """Copy a whole run to runs/ of the results' folder `out`; its manifest is left without host and command line."""
    run = read_run(folder)
    told = {key: value for key, value in run.manifest[VOLATILE].items() if key not in ("host", "argv")}
    kept = out / "runs" / run.manifest["suite"] / folder.name
    with RunStore.open(kept, run.manifest | {VOLATILE: told}) as store:
        done = store.done_ids()
        for record in run.records:
            if record.trial_id not in done:
                store.append(record)
    for name in ("journal.jsonl", ".lock"):  # of a run that may go on
        (kept / name).unlink()
    return kept


def write_page(folder: Path, name: str, numbers: Any, page: str) -> None:
    """Write a study's numbers and its page, `name`.json and .md, to a folder, made where it isn't there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json_text(numbers))
    (folder / f"{name}.md").write_text(page, encoding="utf-8")


def grasps_of(records: Sequence[TrialRecord]) -> GraspBatch:
    """Grasps that some trials tried."""
    return GraspBatch.concatenate([stored_grasp(record) for record in records])


def markdown_table(headers: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; columns whose first cell is a number are set flush right."""
    numbers = [bool(rows) and str(cell).replace(".", "").isdigit() for cell in (rows[0] if rows else headers)]
    rule = ["---:" if number else "---" for number in numbers]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (headers, rule, *rows)) + "\n"
