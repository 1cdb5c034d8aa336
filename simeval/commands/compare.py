"""`simeval compare` and `simeval gate`: two runs, or a run and a baseline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simeval.commands.options import show
from simeval.errors import DataError, SettingError, unknown_name

if TYPE_CHECKING:
    from simeval.store import Run

FAILED = 1  # exit code
MARGIN = 0.1


def compare(
    run_a: Annotated[Path, typer.Argument(help="Run folder, or a folder of one generator's runs.", metavar="RUN_A")],
    run_b: Annotated[Path, typer.Argument(help="The run to compare it with.", metavar="RUN_B")],
    format: Annotated[str, typer.Option("--format", "-f", help="text, md, csv, json or latex.")] = "text",
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", help="Pair trials although their physics, seed or index differs; repeatable.", metavar="PART"
        ),
    ] = None,
) -> None:
    """Compare two runs trial by trial: differences with intervals, by type and object, and what flipped."""
    from simeval.report.compare import compare_sides, sides
    from simeval.report.compare_text import FORMATS, render_comparison

    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    a, b = sides(_one_run(run_a), _one_run(run_b), str(run_a), str(run_b))
    show(render_comparison(compare_sides(a, b, tuple(ignore or ())), format).rstrip("\n"))


def gate(
    run: Annotated[Path, typer.Option("--run", help="Run to judge, or a folder that has it below.", metavar="RUN")],
    baseline: Annotated[Path | None, typer.Option(help="What it must not be worse than.", metavar="FILE")] = None,
    margin: Annotated[float, typer.Option(help="How much worse a success rate may be, as a fraction.")] = MARGIN,
    max_lost: Annotated[
        int | None, typer.Option("--max-lost", min=0, help="Trials that may fail now and succeeded before.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Write a baseline of the run instead.", metavar="FILE")] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Exit with 0 where a run is no worse than a baseline, 1 where it is or may be, 2 where they don't compare."""
    from simeval.report.gate import gate as judge
    from simeval.report.gate import label_of, read_baseline, render_gate, write_baseline

    if format not in ("text", "json"):
        raise unknown_name("format", format, ("text", "json"))
    if (baseline is None) == (write is None):
        raise SettingError("give either --baseline FILE, to judge the run, or --write FILE, to make a baseline of it")
    if write is not None:
        found = _one_run(run)
        write_baseline(found, write, f"simeval gate --run {run} --write {write}")
        show(f"{write}: {len(found.records)} trials of {found.manifest.get('generator', 'unnamed')}")
        return
    assert baseline is not None
    expected = read_baseline(baseline)
    result = judge(_one_run(run, label_of(expected)), expected, margin, max_lost)
    show(render_gate(result, format).rstrip("\n"))
    if not result.passed:
        raise typer.Exit(FAILED)


def _one_run(path: Path, label: str | None = None) -> "Run":
    """Read the runs of one generator below a folder; of several, those with this label."""
    from simeval.replay import run_folders
    from simeval.report.compare import join_runs, label_of_run
    from simeval.store import read_run

    runs = [read_run(folder) for folder in run_folders([path])]
    own = [run for run in runs if label_of_run(run) == label]
    if label is not None and not own:
        names = ", ".join(dict.fromkeys(label_of_run(run) for run in runs))
        raise DataError(f"{path} holds no run of {label!r}, which the baseline is of; it holds: {names}")
    return join_runs(own or runs, str(path))
