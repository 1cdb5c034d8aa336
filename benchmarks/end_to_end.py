"""How often the whole chain lifts with the meant grasp: `python -m simeval.benchmarks.end_to_end --data DIR`.

Signals to types to grasps to lifts, over protocols, generators and policies, and where success is lost. What is
finished is kept below runs/trials; the same command goes on. Writes `end_to_end.md`, its numbers as `end_to_end.json`
and the figures. `--embedded` runs the same on synthetic signals and embedded objects, which needs no data.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from simeval.benchmarks.study import Entry, study_parser, write_page
from simeval.commands.progress import Bars
from simeval.commands.trials import THRESHOLDS
from simeval.emg.files import load_recordings
from simeval.emg.recordings import Recordings
from simeval.errors import SimevalError, clear_exit
from simeval.report.figures import Drawing, save, style
from simeval.report.summary import MetricRow
from simeval.report.tables import markdown
from simeval.run import RunSpec
from simeval.suites import load_suite
from simeval.trials.figures import draw_trials
from simeval.trials.records import Fate
from simeval.trials.run import CLASSIFYING, TRYING, TrialsSpec, execute_trials, plan_trials
from simeval.trials.summary import FATES, LIFTED, RIGHT_LIFTED, RowTrials, read_rows, summarise
from simeval.trials.tables import caption, loss_grid, success_grid, time_grid, time_line

COMMAND = "python -m simeval.benchmarks.end_to_end --data DIR"
SUITE, TRIALS, SEED = "dexgraspnet-test", 1200, 0
REFERENCES = ("oracle", "random-type", "type-blind")
CURVE = tuple(f"reject,threshold={t:g},repeats=0" for t in THRESHOLDS)


@dataclass(frozen=True)
class Chain(Entry):
    """A generator, and the policies that it is run with."""

    policies: tuple[str, ...] = ("argmax",)


@dataclass(frozen=True)
class Signal:
    """A protocol, on the recordings that have what it needs."""

    protocol: str
    recordings: str
    model: str


@dataclass(frozen=True)
class Part:
    """Some generators with some signals."""

    entries: tuple[Chain, ...]
    signals: tuple[Signal, ...]
    intents: tuple[str, ...] = ("suite",)


BEST = Chain(
    "diffusion, best of 16, refined", "diffusion", {"best_of": "16"}, refine="energy,copies=24",
    policies=(*REFERENCES, "argmax", "reject", "weighted", *CURVE),
)  # fmt: skip
"""The generator that leads in results/generators.md."""
CLASSICAL = Chain("retrieval", "retrieval", policies=BEST.policies)
SOURCES = tuple(
    Chain(f"{name}, paper", "diffusion", {"weights": weights, "contact": "false"}, policies=("oracle", "argmax"))
    for name, weights in (("diffusion", "paper"), ("diffusion-rt", "paper-rt"), ("diffusion-pca", "paper-pca"))
)
"""The source system's generators."""
SAME_SESSION = Signal("same-session", "uci", "svm")
NEW_DAY_CALIBRATED = Signal("calibrated-day:5", "uci-2", "ensemble-plain")
NEW_DAY = Signal("new-day", "uci-2", "band-net-plain")
NEW_PERSON = Signal("new-person", "uci-1", "lda")
NOTES = (
    "Protocols differ in recordings and model, not in the protocol alone: "
    + "; ".join(
        f"`{s.protocol}` {s.recordings} by {s.model}" for s in (SAME_SESSION, NEW_DAY_CALIBRATED, NEW_DAY, NEW_PERSON)
    )
    + ". `…-plain` are networks as they were before those of emg.md, trained without blended trials. *Refined* is "
    "`--refine energy,copies=24`, in generators.md *refined more*. The models of the source system (`paper`) answer "
    "three of the six types: the others end as no sound grasp. `type-blind` decides on no type, so none is right: look "
    "at the achieved one. The first generator leads in generators.md on these same objects, and the classifiers were "
    "chosen with emg.md, on these same recordings: expect a little less elsewhere.\n"
)
PARTS = (
    Part((BEST, CLASSICAL), (SAME_SESSION, NEW_DAY_CALIBRATED, NEW_DAY, NEW_PERSON)),
    Part((BEST, CLASSICAL), (SAME_SESSION,), ("uniform",)),
    Part(SOURCES, (SAME_SESSION,)),
)
"""What the page has. Rows of a generator share their grasps, so that more of them cost little."""
EMBEDDED = (
    Part(
        (Chain("retrieval", "retrieval", policies=(*REFERENCES, "argmax", "reject", "weighted", *CURVE)),),
        tuple(Signal(p, "synthetic", "svm") for p in ("same-session", "calibrated-day:5", "new-day", "new-person")),
        ("suite", "uniform"),
    ),
)
"""The same on what is built in."""


def specs(options: Namespace) -> list[tuple[str, TrialsSpec]]:
    """Return what is to be run, with its name."""
    loaded: dict[str, Recordings] = {}
    found = []
    suite = load_suite("embedded" if options.embedded else SUITE)
    for part in EMBEDDED if options.embedded else PARTS:
        for entry in part.entries:
            for signal in part.signals:
                if signal.recordings not in loaded:
                    loaded[signal.recordings] = load_recordings(signal.recordings, options.data)
                run = RunSpec(
                    entry.generator, suite, entry.settings, options.data, refine=entry.refine, workers=options.workers,
                    out=options.work,
                )  # fmt: skip
                spec = TrialsSpec(
                    run, loaded[signal.recordings], signal.recordings, signal.model, (signal.protocol,),
                    entry.policies, part.intents, options.trials, SEED,
                )  # fmt: skip
                found.append((f"{entry.name}, {signal.protocol}", spec))
    return found


def run(options: Namespace) -> tuple[list[RowTrials], list[str]]:
    """Run what is missing; return the rows and why others are left out."""
    folders: dict[Path, str] = {}
    left_out: list[str] = []
    for name, spec in specs(options):
        try:
            planned = plan_trials(spec)
        except SimevalError as error:  # weights or data that aren't there yet
            left_out.append(f"{name}: {error}")
            print(f"left out: {left_out[-1]}")
            continue
        with Bars({CLASSIFYING: 1, name: planned.total}, "", patience=0) as bars:
            watch = {CLASSIFYING: bars.callback(CLASSIFYING), TRYING: bars.callback(name)}
            execute_trials(planned, lambda what, done, total, watch=watch: watch[what](done, total))  # type: ignore[misc]
        folders |= {row.folder: name.rpartition(", ")[0] for row in planned.rows}
    return [_named(row, name) for f, name in folders.items() for row in read_rows([f])], left_out


def _named(row: RowTrials, name: str) -> RowTrials:
    """A row under its entry's name, which says more than the generator's."""
    return replace(row, manifest={**row.manifest, "generator": name, "refine": ""})


def page(rows: Sequence[RowTrials], numbers: Sequence[MetricRow], left_out: Sequence[str], command: str) -> str:
    """Return the page as Markdown; `numbers` are those of all rows."""
    main = _shown(rows)
    keys = {(row.generator, row.suite, row.manifest["protocol"], row.manifest["policy"]) for row in main}
    found = [n for n in numbers if (n.generator, n.suite, n.protocol, n.group) in keys]
    kind = " and ".join(sorted({f"{r.manifest['emg_kind']} signals, {r.manifest['data_kind']} objects" for r in rows}))
    blocks = [
        "# End to end: from muscle signal to a lifted object\n",
        f"Made by `{command}` on **{kind}**. What a trial, a policy and each number is: "
        "[docs/end_to_end.md](../docs/end_to_end.md).\n",
        markdown([success_grid(found)], caption(main)),
        "References hear no signal: they are the same for every protocol and shown once. Rows that hear signals have "
        "wide intervals where few people or days were there to be tested: `− oracle` and `− argmax`, over the same "
        "scenes, say more.\n",
        *_reading(found),
        NOTES,
        "## Where success is lost\n",
        markdown([loss_grid(found)], "Shares of all trials, in %; each trial is in one column."),
        "![losses](end_to_end_losses.png)\n",
        "![intents and outcomes](end_to_end_outcomes.png)\n",
        "## Success against rejection\n",
        "![success against rejection](end_to_end_rejection.png)\n",
        "Bars: 95 % intervals, objects as clusters alone, so of these recordings; the table has those for other people "
        "and days.\n",
        "## Time\n",
        markdown([time_grid(main)], time_line(main) + "."),
    ]
    if left_out:
        blocks += ["## Left out\n", "".join(f"- {reason}\n" for reason in left_out)]
    return "\n".join(blocks)


def _shown(rows: Sequence[RowTrials]) -> list[RowTrials]:
    """The table's rows: without the thresholds of the curve, and each reference once for all protocols."""
    seen = set()
    kept = []
    for row in rows:
        policy = row.manifest["policy"]
        key = (row.generator, row.suite, policy)
        if policy in CURVE or (policy in REFERENCES and key in seen):
            continue
        seen.add(key)
        kept.append(row)
    return kept


def _reading(found: Sequence[MetricRow]) -> list[str]:
    """What the first generator's rows say, in a line for each protocol."""
    own = {
        (r.protocol, r.group, r.metric): f"{100 * r.value:.1f} %"
        for r in found if (r.generator, r.suite) == (found[0].generator, found[0].suite)
    }  # fmt: skip
    lines = []
    for protocol in dict.fromkeys(p for p, policy, _ in own if policy == "argmax"):
        right, lifted, lost = (own[protocol, "argmax", m] for m in (RIGHT_LIFTED, LIFTED, FATES[Fate.PHYSICS]))
        line = f"- {found[0].generator}, {protocol}: the meant type is asked for and lifts in {right} of the trials, "
        line += f"any in {lifted}; {lost} are lost because a grasp of the right type doesn't hold."
        if repeated := own.get((protocol, "reject", RIGHT_LIFTED)):
            line += f" Where unsure signals are repeated or nothing is done (`reject`): {repeated}."
        lines.append(line)
    drawn = [t for (_, policy, metric), t in own.items() if (policy, metric) == ("random-type", RIGHT_LIFTED)]
    lines += [f"- A type drawn at random, without any signal, is the meant one and lifts in {t}." for t in drawn[:1]]
    return ["\n".join(lines) + "\n"]


def drawings(rows: Sequence[RowTrials]) -> list[Drawing]:
    """The figures: losses and outcomes by argmax and the references, the first generator's curve of thresholds."""
    shown = [row for row in _shown(rows) if row.manifest["policy"] in (*REFERENCES, "argmax")]
    curve = [
        row for row in rows
        if row.manifest["policy"] in CURVE and (row.generator, row.suite) == (rows[0].generator, rows[0].suite)
    ]  # fmt: skip
    return [d for d in draw_trials(shown) if "rejection" not in d.name] + [
        d for d in draw_trials(curve) if "rejection" in d.name
    ]


def main() -> None:
    """Run what is missing, then write the page, its numbers and figures."""
    parser = study_parser(__doc__, needs_data=False)
    parser.add_argument("--embedded", action="store_true", help="synthetic signals and embedded objects")
    parser.add_argument("--trials", type=int, default=TRIALS, help="trials a row")
    parser.add_argument("--work", type=Path, help="what is finished is kept here; default runs/trials/<suite>")
    options = parser.parse_args()
    rows, left_out = run(options)
    if not rows:
        raise SystemExit("nothing could be run")
    out: Path = options.out
    found = summarise(rows)
    command = f"{COMMAND}{' --embedded' if options.embedded else ''}".replace(" --data DIR --embedded", " --embedded")
    kinds = sorted({row.manifest["data_kind"] for row in rows})
    numbers = {
        "command": command, "data_kind": " | ".join(kinds), "trials": options.trials, "left_out": left_out,
        "manifests": [row.manifest for row in rows if row.manifest["policy"] == "argmax"],
        "rows": [asdict(row) for row in found],
    }  # fmt: skip
    write_page(out, "end_to_end", numbers, page(rows, found, left_out, command))
    with style():
        drawn = drawings(rows)
    for drawing in drawn:
        save(drawing, out, ["png"])


if __name__ == "__main__":
    with clear_exit():
        main()
