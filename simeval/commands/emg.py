"""`simeval emg`: train, evaluate and stream classifiers of surface EMG."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simeval.commands.options import Device, key_values, say, show
from simeval.errors import INTERRUPTED, DataError, SettingError, unknown_name

if TYPE_CHECKING:
    from simeval.emg.models.config import Config
    from simeval.emg.summary import EmgRow
    from simeval.grasp import Array

app = typer.Typer(help="Surface EMG to grasp types: train, evaluate, stream.", no_args_is_help=True)

FORMATS = ("table", "json")
USUAL = ("chronological", "leave-one-day-out", "leave-one-subject-out")
SHIPPED = "general"
DATA_HELP = "Folder with the UCI recordings (has 'Database 1' or semg/ in it)."
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="SIMEVAL_DATA", exists=True, file_okay=False, help=DATA_HELP, metavar="DIR"),
]
Which = Annotated[
    str, typer.Option("--recordings", help="uci, uci-1, uci-2, synthetic, or a .csv or .npz file.", metavar="WHICH")
]


@app.callback()
def _emg() -> None:
    """Surface EMG to grasp types: train, evaluate, stream."""


@app.command("train")
def train(
    out: Annotated[Path, typer.Option("--out", help="Folder for config.json and model.safetensors.", metavar="DIR")],
    model: Annotated[str, typer.Option(help="A preset: general, lda, svm, band-net, resnet18, …")] = SHIPPED,
    recordings: Which = "uci",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting of the preset; repeatable.", metavar="KEY=VALUE")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    device: Device = "cpu",
    data: Data = None,
) -> None:
    """Train a classifier on all trials of some recordings."""
    from simeval.devices import check_device
    from simeval.emg.files import load_recordings
    from simeval.emg.models.presets import preset
    from simeval.emg.models.store import WEIGHTS, save_classifier, train_classifier
    from simeval.files import check_writable, make_folder

    check_device(device)
    config = _changed(preset(model), key_values("--set", settings or []))
    found = load_recordings(recordings, data)
    make_folder(out)
    check_writable(out / WEIGHTS)
    say(f"training {model} on {len(found)} {found.data_kind} trials")
    save_classifier(out, train_classifier(config, found, seed, device))
    say(f"weights: {out}")


@app.command("evaluate")
def evaluate(
    protocols: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol", help="Repeatable; default: those of one day, a new day and a new person.", metavar="NAME"
        ),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="Repeatable; default lda, svm and band-net.", metavar="NAME")
    ] = None,
    recordings: Which = "synthetic",
    seeds: Annotated[int, typer.Option(min=1, help="How many, from 0.")] = 1,
    work: Annotated[Path, typer.Option("--work", help="Finished folds are kept here.", metavar="DIR")] = Path(
        "runs/emg"
    ),
    device: Device = "cpu",
    format: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    data: Data = None,
) -> None:
    """Train and test classifiers by protocols; the same command goes on where a stopped one was."""
    from simeval.commands.progress import Bars
    from simeval.emg.evaluate import evaluate as run
    from simeval.emg.files import load_recordings
    from simeval.emg.summary import summarise
    from simeval.files import json_text

    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    found = load_recordings(recordings, data)
    wanted = protocols or [p for p in USUAL if _possible(p, found)]
    if not wanted:
        raise DataError(f"{recordings}: too few trials for {', '.join(USUAL)}: they need several of each grasp")
    with Bars({"folds": 1}, "folds") as bars:
        try:
            tested = run(
                found, wanted, models or ["lda", "svm", "band-net"], seeds, work, bars.callback("folds"), device=device
            )
        except KeyboardInterrupt:
            bars.close()
            say("interrupted: finished folds are kept. The same command goes on.")
            raise typer.Exit(INTERRUPTED) from None
    rows = summarise(tested, found, Path(recordings).stem)
    show(json_text([asdict(row) for row in rows]).rstrip("\n") if format == "json" else _table(rows))


@app.command("stream")
def stream(
    source: Annotated[str, typer.Argument(help="A .csv or .npz file, or - for NDJSON on stdin.", metavar="FILE|-")],
    model: Annotated[
        str, typer.Option(help="A folder of `simeval emg train`, or general, the model that is shipped.")
    ] = SHIPPED,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="hop_s, smoothing, threshold, agreeing; repeatable.", metavar="KEY=VALUE"),
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="Stop at the first stable decision.")] = False,
) -> None:
    """Decide what grasp is meant, window by window: one line of JSON per decision on stdout.

    NDJSON: `{"time": 0.0, "ch1": [V, …], "ch2": [V, …]}` at 500 Hz, as many samples a line as come at once.
    """
    from pydantic import ValidationError

    from simeval.configuration import first_problem
    from simeval.emg.models.presets import shipped
    from simeval.emg.models.store import load_classifier
    from simeval.emg.stream import Stream, StreamSettings

    try:
        chosen = StreamSettings.model_validate(key_values("--set", settings or []))
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "extra_forbidden":
            name = str(problem["loc"][0])
            raise unknown_name("stream setting", name, StreamSettings.model_fields) from None
        raise SettingError(f"--set {first_problem(error)}") from None
    if model != SHIPPED and not Path(model).is_dir():
        raise unknown_name("model", model, [SHIPPED], "A folder that `simeval emg train` wrote works too.")
    trained = load_classifier(shipped() if model == SHIPPED else Path(model))
    begun: Stream | None = None
    spent, stable_at, heard = [], None, 0
    for at, samples in _chunks(source):
        begun = begun or Stream(trained, chosen, at or 0.0)
        heard += samples.shape[1]
        for decision in begun.push(samples):
            show(decision.to_json())
            spent.append(decision.compute_ms)
            if decision.stable and stable_at is None:
                stable_at = decision.time_s
                say(f"first stable decision: {decision.label} at {stable_at:g} s")
        if first and stable_at is not None:
            break
    if not spent:
        raise DataError(f"{source}: {heard} samples, a decision needs {trained.window}: too short")
    spent.sort()
    p95 = spent[min(len(spent) - 1, int(0.95 * len(spent)))]
    say(f"{len(spent)} decisions; {spent[len(spent) // 2]:.1f} ms each (95 %: {p95:.1f} ms)")
    if stable_at is None:
        say("no stable decision")


def _chunks(source: str) -> "Iterator[tuple[float | None, Array]]":
    """(time of the first sample, (2, M) samples) of a file or of stdin."""
    from simeval.emg.files import read_signal
    from simeval.emg.quality import check_rate
    from simeval.emg.stream import read_ndjson

    if source == "-":
        yield from read_ndjson(sys.stdin)
        return
    signal, rate, start = read_signal(Path(source))
    check_rate(rate, source)
    yield start, signal


def _table(rows: "list[EmgRow]") -> str:
    """One line per model, protocol and group: accuracy with its interval, recall, precision, F1, ECE."""
    from simeval.emg.summary import METRICS

    found: dict[tuple[str, str, str], dict[str, EmgRow]] = {}
    for row in rows:
        found.setdefault((row.protocol, row.group, row.generator), {})[row.metric] = row
    lines = [
        f"{'protocol':34}{'group':7}{'model':18}{'accuracy %':>22}{'recall':>8}{'prec.':>7}{'F1':>7}{'ECE':>7}{'n':>8}"
    ]
    for (protocol, group, model), own in found.items():
        a = own["accuracy"]
        accuracy = f"{100 * a.value:.1f} [{100 * a.low:.1f}, {100 * a.high:.1f}]"
        rest = "".join(f"{100 * own[m].value:>{w}.1f}" for m, w in zip(METRICS[1:], (8, 7, 7, 7), strict=True))
        lines.append(f"{protocol:34}{group:7}{model:18}{accuracy:>22}{rest}{a.n:>8}")
    return "\n".join([*lines, f"{rows[0].data_kind} data; brackets: 95 % intervals, sessions as clusters"])


def _possible(protocol: str, recordings: Any) -> bool:
    from simeval.emg.protocols import make_splits

    try:
        return bool(make_splits(protocol, recordings))
    except DataError:
        return False


def _changed(config: "Config", changes: dict[str, str]) -> "Config":
    """Return a configuration with some values replaced; keys like `width` or `augment.noise`."""
    from pydantic import ValidationError

    from simeval.configuration import change_values, first_problem

    values = config.model_dump(mode="json")
    change_values(values, changes, lambda key: unknown_name("setting", key, config.model_dump(mode="json")))
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        raise SettingError(f"--set {first_problem(error)}") from None
