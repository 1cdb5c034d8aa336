"""`simeval table`, and how every command shows one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from simeval.commands.options import say, show
from simeval.errors import DataError, SettingError, unknown_name

if TYPE_CHECKING:
    from simeval.report.tables import GroupBy
    from simeval.store import Run

GROUPS = ("type", "object")


def table(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders with some below them.", metavar="RUN...")],
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", help="md, csv, json or latex; default: as the terminal needs it, else md."),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="One line per type or per object.", metavar="type|object")
    ] = None,
    leaderboard: Annotated[
        bool, typer.Option("--leaderboard", help="Rank all there is: runs, and the rows in .json files too.")
    ] = False,
) -> None:
    """Show the table of one or more runs."""
    from simeval.replay import run_folders
    from simeval.report.tables import FORMATS
    from simeval.store import read_run

    if format is not None and format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if by is not None and by not in GROUPS:
        raise unknown_name("grouping", by, GROUPS)
    if leaderboard:
        if by is not None:
            raise SettingError("--by doesn't go with --leaderboard, which ranks whole runs")
        _leaderboard(runs, format or "md")
        return
    print_table([read_run(folder) for folder in run_folders(runs)], format, cast("GroupBy", by))


def _leaderboard(paths: list[Path], format: str) -> None:
    from simeval.report.leaderboard import read_entries, render_leaderboard

    entries = read_entries(paths)
    show(render_leaderboard(entries.rows, format).rstrip("\n"))
    if entries.skipped:
        say(f"no rows of a table in: {', '.join(map(str, entries.skipped))}")


def print_table(runs: "list[Run]", format: str | None = None, by: "GroupBy" = None) -> None:
    """Print a table to stdout; without a format it suits the terminal, or is Markdown where there is none."""
    from simeval.report.tables import outcome_counts, render, rich_table, summarise

    if not any(run.records for run in runs):
        raise DataError("no trial has been run: there is nothing to show yet")
    rows, outcomes = summarise(runs, by), outcome_counts(runs)
    if format is None and sys.stdout.isatty():
        from rich.console import Console

        Console().print(rich_table(rows, outcomes))
    else:
        show(render(rows, outcomes, format or "md").rstrip("\n"))
