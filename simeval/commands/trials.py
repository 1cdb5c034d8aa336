"""`simeval trials`: from muscle signal to a lifted object, end to end."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from simeval.commands import run_options as o
from simeval.commands.options import Data, Workers, all_cores, key_values, parse_physics, say, show
from simeval.errors import INTERRUPTED, unknown_name

if TYPE_CHECKING:
    from simeval.trials.run import PlannedTrials, TrialsSpec
    from simeval.trials.summary import RowTrials

app = typer.Typer(help="End to end: muscle signal, grasp type, grasp, lift.", no_args_is_help=True)

GENERATOR, SUITE, PREDICTOR = "retrieval", "embedded", "holds"
PROTOCOLS = ("same-session", "calibrated-day", "new-day", "new-person")
POLICIES = ("oracle", "argmax", "reject", "weighted", "random-type", "type-blind")
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Of the curve."""
SIGNAL, ROWS = "The signal", "Rows of the table"


@app.callback()
def _trials() -> None:
    """End to end: muscle signal, grasp type, grasp, lift."""


@app.command("run")
def run(
    generator: Annotated[
        str, Option("--generator", "-g", help="`simeval generators` lists them.", rich_help_panel=o.WHAT)
    ] = GENERATOR,
    suite: o.SuiteName = None,
    data: Data = None,
    objects: o.Objects = None,
    settings: o.Settings = None,
    refine: o.Refine = None,
    emg: Annotated[
        str,
        Option(help="uci, uci-1, uci-2, synthetic, or a .csv or .npz file.", metavar="WHICH", rich_help_panel=SIGNAL),
    ] = "synthetic",
    model: Annotated[
        str,
        Option(
            "--emg-model", metavar="NAME", rich_help_panel=SIGNAL,
            help="A preset, or a folder of `simeval emg train`: its configuration is trained anew in every fold.",
        ),
    ] = "svm",
    protocols: Annotated[
        list[str] | None,
        Option(
            "--emg-protocol", metavar="NAME", rich_help_panel=ROWS,
            help=f"Repeatable; default {', '.join(PROTOCOLS)}. calibrated-day:5 has 5 trials of each grasp.",
        ),
    ] = None,
    policies: Annotated[
        list[str] | None,
        Option(
            "--policy", metavar="NAME", rich_help_panel=ROWS,
            help=f"With settings: reject,threshold=0.8. Repeatable; default {', '.join(POLICIES)}.",
        ),
    ] = None,
    intents: Annotated[
        list[str] | None,
        Option(
            "--intents", metavar="HOW", rich_help_panel=ROWS,
            help="suite: its own requests; uniform: every object with every type. Repeatable; default both.",
        ),
    ] = None,
    predictor: Annotated[
        str, Option(help="Of whether a grasp holds, for `weighted`.", metavar="NAME", rich_help_panel=ROWS)
    ] = PREDICTOR,
    curve: Annotated[
        bool, Option("--curve", help="Also `reject` at a range of thresholds.", rich_help_panel=ROWS)
    ] = False,
    trials: Annotated[int, Option("--trials", "-n", min=1, help="Trials a row.", metavar="N", rich_help_panel=ROWS)] = (
        240
    ),
    seed: Annotated[int, Option(min=0, max=2**31 - 1, help="Of what is drawn.", rich_help_panel=ROWS)] = 0,
    friction: o.Friction = None,
    density: o.Density = None,
    mass: o.Mass = None,
    physics: o.PhysicsItems = None,
    workers: Workers = None,
    timeout: o.Timeout = 120.0,
    out: Annotated[
        Path | None,
        Option(help="Folder for all of it; default runs/trials/<suite>.", metavar="DIR", rich_help_panel=o.HOW),
    ] = None,
    format: Annotated[
        str, Option("--format", "-f", help="md, csv, json or latex.", rich_help_panel=o.HOW)
    ] = "md",
) -> None:  # fmt: skip
    """Run end-to-end trials and show what came of them, and where success was lost.

    A recording that the classifier hasn't met is classified, a policy decides which grasp type to ask the generator
    for, and the grasp is executed. Each grasp is executed once, whoever asks for it. Without options everything is
    built in: synthetic signals, embedded objects. The same command resumes after Ctrl-C.
    """
    from simeval.emg.files import load_recordings
    from simeval.run import RunSpec
    from simeval.suites import load_suite
    from simeval.trials.run import TrialsSpec

    _check_format(format)
    wanted = [*(policies or POLICIES), *(f"reject,threshold={t:g},repeats=0" for t in THRESHOLDS if curve)]
    spec = TrialsSpec(
        run=RunSpec(
            generator, load_suite(suite or SUITE).subset(objects), key_values("--set", settings or []), data,
            parse_physics(physics or [], {"friction": friction, "density": density, "mass_kg": mass}),
            refine=refine or "", workers=all_cores() if workers is None else workers, timeout=timeout, out=out,
        ),
        recordings=load_recordings(emg, data), emg=Path(emg).name, model=model,
        protocols=tuple(dict.fromkeys(protocols or PROTOCOLS)), policies=tuple(dict.fromkeys(wanted)),
        intents=tuple(dict.fromkeys(intents or ("suite", "uniform"))), count=trials, seed=seed,
        predictor=predictor,
    )  # fmt: skip
    run_and_show(spec, format)


def run_and_show(spec: "TrialsSpec", format: str = "md") -> None:
    """Run trials and print their tables; exit with 3 where too many crashed."""
    from simeval.commands.run import CRASHED_TOO_OFTEN
    from simeval.run import CRASH_LIMIT, crash_share
    from simeval.store import read_run
    from simeval.trials.run import plan_trials
    from simeval.trials.summary import read_rows
    from simeval.trials.tables import render_trials, time_line

    planned = plan_trials(spec)
    _announce(planned)
    _execute(planned)
    rows = read_rows([row.folder for row in planned.rows])
    show(render_trials(rows, format).rstrip("\n"))
    say(time_line(rows))
    _explain_failures(rows)
    say(f"results: {planned.grasps.folder}")
    share = crash_share(read_run(planned.grasps.folder).records)
    if share > CRASH_LIMIT:
        say(f"error: {share:.0%} of the grasps crashed or timed out, so the numbers above mean little")
        raise typer.Exit(CRASHED_TOO_OFTEN)


@app.command("table")
def table(
    runs: Annotated[list[Path], typer.Argument(help="Folders with end-to-end trials below them.", metavar="RUN...")],
    format: Annotated[str, Option("--format", "-f", help="md, csv, json or latex.")] = "md",
    figures: Annotated[Path | None, Option(help="Also draw figures, to this folder.", metavar="DIR")] = None,
) -> None:
    """Show the tables of end-to-end trials again; figures too."""
    from simeval.trials.summary import read_rows
    from simeval.trials.tables import render_trials, time_line

    _check_format(format)
    rows = read_rows(runs)
    show(render_trials(rows, format).rstrip("\n"))
    say(time_line(rows))
    if figures is not None:
        from simeval.report.figures import save, style
        from simeval.trials.figures import draw_trials

        with style():
            drawn = draw_trials(rows)
        for drawing in drawn:
            say(f"figure: {save(drawing, figures, ['png'])[0]}")


def _check_format(format: str) -> None:
    from simeval.report.tables import FORMATS

    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)


def _announce(planned: "PlannedTrials") -> None:
    """Say what is run, and which intents are never drawn."""
    spec = planned.spec
    say(
        f"{len(planned.rows)} rows of {spec.count} trials: {len(spec.intents)} ways to draw intents × "
        f"{len(spec.protocols)} protocols × {len(spec.policies)} policies; {spec.recordings.data_kind} signals, "
        f"{spec.run.suite.data_kind} objects"
    )
    for intents, found in planned.choices.items():
        pairs = len(found.pairs) + found.excluded
        left = f", {found.excluded} ({found.excluded / pairs:.1%}) left out" if found.excluded else ""
        say(f"intents {intents}: {len(found.pairs)} of {pairs} pairs of object and type{left}")


def _execute(planned: "PlannedTrials") -> None:
    from simeval.commands.progress import Bars
    from simeval.trials.run import CLASSIFYING, TRYING, TrialsInterrupted, execute_trials

    with Bars({CLASSIFYING: len(planned.spec.protocols), TRYING: planned.total}, "", patience=0) as bars:
        watch = {name: bars.callback(name) for name in (CLASSIFYING, TRYING)}
        try:
            execute_trials(planned, lambda name, done, total: watch[name](done, total))
        except TrialsInterrupted as stop:
            bars.close()
            say(f"interrupted: what was done is stored in {stop.folder}")
            say("The same command resumes it.")
            raise typer.Exit(INTERRUPTED) from None


def _explain_failures(rows: "list[RowTrials]") -> None:
    """Say why trials failed that never came to a simulation's verdict, most frequent first."""
    from collections import Counter

    unexplained = ("POLICY_FAILED", "GENERATOR_FAILED", "CRASHED")
    reasons = Counter((r.outcome, r.reason) for row in rows for r in row.records if r.outcome in unexplained)
    total = sum(len(row.records) for row in rows)
    for (outcome, reason), times in reasons.most_common(3):
        say(f"{outcome} {times} of {total}: {reason}")
