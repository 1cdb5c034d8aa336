"""`simeval report` and `simeval figures`: what runs say, as one HTML file or as pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simeval.commands.options import Data, Meshes, Workers, all_cores, say, show
from simeval.files import check_output, completed

if TYPE_CHECKING:
    from simeval.replay import StoredObjects
    from simeval.report.figures import Drawing
    from simeval.report.report import Source, Views

DEFAULT_TRIALS = 24
Runs = Annotated[list[Path], typer.Argument(help="Run folders, or folders with some below them.", metavar="RUN...")]


def report(
    runs: Runs,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.", metavar="FILE")] = Path("report.html"),
    trials: Annotated[
        int, typer.Option(min=0, max=500, help="How many trials get a 3D view.", metavar="N")
    ] = DEFAULT_TRIALS,
    trial: Annotated[
        list[str] | None, typer.Option("--trial", help="One that does, by its id; repeatable.", metavar="ID")
    ] = None,
    rerun: Annotated[
        bool,
        typer.Option("--rerun/--no-rerun", help="Run those trials again to see what moved, or show commanded poses."),
    ] = True,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "simeval report",
    data: Data = None,
    mesh: Meshes = None,
    workers: Workers = None,
) -> None:
    """Write one HTML file that needs nothing else: tables, figures, every trial, and a 3D view of some."""
    from simeval.replay import StoredObjects, run_folders
    from simeval.report.report import read_sources, report_page

    check_output("--out", out, (".html", ".htm"))
    sources = read_sources(run_folders(runs))
    objects = StoredObjects(data, mesh or [])
    views = _views(sources, trials, trial or [], rerun, objects, all_cores() if workers is None else workers)
    from simeval.report.figures import as_picture

    pictures = [as_picture(d) for d in _figures(sources, objects)]
    page = report_page(sources, views, pictures, title).encode()
    with completed(out) as unfinished:
        unfinished.write_bytes(page)
    show(f"report: {out}, {len(page) / 1e6:.1f} MB, {len(views.trials)} trials in 3D")


def figures(
    runs: Runs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.", metavar="DIR")] = Path("figures"),
    format: Annotated[
        list[str] | None, typer.Option("--format", "-f", help="png, svg or pdf; repeatable; default png and svg.")
    ] = None,
    data: Data = None,
    mesh: Meshes = None,
) -> None:
    """Draw the figures of some runs, for a paper."""
    from simeval.replay import StoredObjects, run_folders
    from simeval.report.figures import check_formats, save
    from simeval.report.report import read_sources

    formats = check_formats(format or ["png", "svg"])
    sources = read_sources(run_folders(runs))
    for drawing in _figures(sources, StoredObjects(data, mesh or [])):
        files = save(drawing, out, formats)
        show(f"{', '.join(map(str, files))}: {drawing.title}")


def _views(
    sources: "list[Source]", count: int, ids: list[str], rerun: bool, objects: "StoredObjects", workers: int
) -> "Views":  # fmt: skip
    from simeval.commands.progress import Bars
    from simeval.report.report import choose_trials, make_views, named_trials
    from simeval.report.summary import records_by_name

    by_name = records_by_name([source.run for source in sources])
    chosen = {record.trial_id: (name, record) for name, record in named_trials(by_name, ids)}
    for name, record in choose_trials(by_name, count):
        chosen.setdefault(record.trial_id, (name, record))
    if chosen and rerun:
        say(f"running {len(chosen)} trials again for the 3D view; --no-rerun leaves that out")
    with Bars({"running again": len(chosen)}, "trials") as bars:
        views = make_views(sources, list(chosen.values()), objects, rerun, workers, bars.callback("running again"))
    for reason, number in views.not_restored.items():
        say(f"{number} of {len(chosen)} trials can be shown as commanded only: {reason}")
    return views


def _figures(sources: "list[Source]", objects: "StoredObjects") -> "list[Drawing]":
    from simeval.commands.progress import Bars
    from simeval.report.figures import FIGURES, draw_figures

    with Bars({"drawing": len(FIGURES)}, "figures") as bars:
        return draw_figures([source.run for source in sources], objects, bars.callback("drawing"))
