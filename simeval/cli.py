"""The command line. Starting it imports typer and nothing heavier; each command imports what it needs."""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from simeval.commands import compare, dataset, doctor, emg, listing, replay, report, run, show, train, trials
from simeval.errors import clear_exit

DEBUG = "SIMEVAL_DEBUG"

app = typer.Typer(
    name="simeval",
    help="Do the grasps hold? A PyBullet ShadowHand harness for grasp generators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("table")(show.table)
app.command("report")(report.report)
app.command("figures")(report.figures)
app.command("compare")(compare.compare)
app.command("gate")(compare.gate)
app.command("replay")(replay.replay)
app.command("generators")(listing.generators)
app.command("suites")(listing.suites)
app.command("objects")(listing.objects)
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.add_typer(dataset.app, name="dataset")
app.add_typer(emg.app, name="emg")
app.add_typer(trials.app, name="trials")


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help=f"Show tracebacks; also {DEBUG}=1.")] = False,
) -> None:
    """Do the grasps hold? A PyBullet ShadowHand harness for grasp generators."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `simeval` command.

    Exits with 0 done, 1 failed check, 2 bad input, 3 too many crashes, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != "--debug"]  # allowed anywhere, not only before the command
    debug = len(words) < len(given) or os.environ.get(DEBUG, "0") not in ("", "0")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # not every terminal has — and ≥
    _set_up_logging(debug)
    with clear_exit(debug):
        app(words)


def _set_up_logging(debug: bool) -> None:
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.addLevelName(logging.WARNING, "warning")
    logging.getLogger("simeval").setLevel(logging.DEBUG if debug else logging.WARNING)


if __name__ == "__main__":
    main()
