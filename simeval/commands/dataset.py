"""`simeval dataset`: make sets of grasps that hold, check, convert and label them."""

import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simeval.commands.options import Data, Workers, all_cores, key_values, say, show
from simeval.errors import INTERRUPTED, SettingError
from simeval.files import check_output

if TYPE_CHECKING:
    from simeval.dataset.build import BuildReport
    from simeval.objects import ObjectLibrary

MOST_LINES = 10
BANKS = (".parquet",)

app = typer.Typer(help="Make data sets of grasps.", no_args_is_help=True)


@app.callback()
def _dataset() -> None:
    """Make data sets of grasps."""


@app.command("build")
def build(
    out: Annotated[Path, typer.Option("--out", help="The set: a .parquet file.", metavar="FILE")],
    objects: Annotated[
        str,
        typer.Option(help="embedded, dexgraspnet, dexgraspnet/SPLIT, or N embedded ones.", metavar="WHICH"),
    ] = "embedded",
    scale: Annotated[
        list[float] | None, typer.Option(help="Only this scale; repeatable. Default: all that suit a hand.")
    ] = None,
    scales: Annotated[
        int | None, typer.Option(min=1, help="At most so many scales of each object, drawn from those that suit.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option("--generator", "-g", help="Where grasps come from; default preshape.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the generator; repeatable.", metavar="KEY=VALUE")
    ] = None,
    types: Annotated[str | None, typer.Option(help="Grasp types with commas between; default all.")] = None,
    per_object: Annotated[
        int | None, typer.Option(min=1, help="Grasps kept of an object at a scale, shared among the types.")
    ] = None,
    waves: Annotated[int | None, typer.Option(min=1, help="Candidates of each type an object gets at most.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the candidates.")] = 0,
    failed: Annotated[
        Path | None, typer.Option(help="A second .parquet file, for the grasps that didn't hold.", metavar="FILE")
    ] = None,
    workers: Workers = None,
    data: Data = None,
) -> None:
    """Build a set: generate grasps, simulate `lift` and `six-direction`, keep those that hold and are of their type.

    Ctrl-C writes what is finished. The same command goes on from there.
    """
    from simeval.commands.progress import Bars
    from simeval.dataset.build import BuildProgress, build_dataset
    from simeval.dataset.grow import Recipe
    from simeval.objects import ObjectLibrary

    check_output("--out", out, BANKS)
    if failed:
        check_output("--failed", failed, BANKS)
    library = ObjectLibrary(data)
    given = {
        "generator": generator,
        "types": None if types is None else tuple(kind.strip() for kind in types.split(",")),
        "per_object": per_object,
        "waves": waves,
    }
    recipe = Recipe(
        settings=key_values("--set", settings or []), seed=seed, data=library.data,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )  # fmt: skip
    chosen = choose_objects(library, objects, scale or [], scales)
    begun = time.monotonic()
    with Bars({"building": len(chosen)}, "objects", patience=0) as bars:
        update = bars.callback("building")

        def watch(state: BuildProgress) -> None:
            update(state.done, state.total)

        try:
            workers = all_cores() if workers is None else workers
            report = build_dataset(recipe, chosen, out, _command(), workers, watch, failed)
        except KeyboardInterrupt:
            bars.close()
            say("interrupted: what is finished was written. The same command goes on.")
            raise typer.Exit(INTERRUPTED) from None
    _summarise(report, len(chosen), time.monotonic() - begun)
    say(f"set: {out}")


@app.command("check")
def check(
    bank: Annotated[str, typer.Argument(help="A .parquet file, or a bank's name.")] = "embedded",
    sample: Annotated[int, typer.Option(min=0, help="Grasps to simulate again.", metavar="N")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
    workers: Workers = None,
    data: Data = None,
) -> None:
    """Check a set: limits, near-duplicates, splits, and whether a sample of its grasps holds again.

    Ends with code 1 where it isn't what it says.
    """
    from simeval.bank import load_bank
    from simeval.commands.progress import Bars
    from simeval.dataset.check import check_dataset

    found = load_bank(bank, data)
    with Bars({"trying again": 2 * min(sample, len(found))}, "trials") as bars:
        count = all_cores() if workers is None else workers
        report = check_dataset(found, sample, seed, data, count, bars.callback("trying again"))
    show(f"{report.grasps} grasps of {report.objects} objects at their scales ({found.data_kind} data)")
    show("    " + ", ".join(f"{kind or 'untyped'} {n}" for kind, n in sorted(report.types.items())))
    if report.splits:
        show("    splits: " + ", ".join(f"{split or 'unknown'} {n}" for split, n in sorted(report.splits.items())))
    for protocol, held in sorted(report.held.items()):
        show(f"    {protocol}: {held} of {report.sampled} hold again")
    if not report.same_executor:
        show("    made with another version of the executor: outcomes may differ a little")
    for line in report.differing[:MOST_LINES]:
        show(f"    differs: {line}")
    for fault in report.faults:
        show(f"FAULT: {fault}")
    if report.faults:
        raise typer.Exit(1)
    show("the set is what it says")


@app.command("convert")
def convert(
    bank: Annotated[str, typer.Argument(help="A .parquet file, a folder of .npy files, or a bank's name.")],
    out: Annotated[Path, typer.Option("--out", help="A .parquet file, or a folder for .npy files.", metavar="PATH")],
    data: Data = None,
) -> None:
    """Convert a set to DexGraspNet's .npy files, one an object, or those to a .parquet file."""
    from simeval.bank import load_bank
    from simeval.dataset.convert import export_npy, import_bank

    found = load_bank(bank, data)
    if out.suffix == ".parquet":
        check_output("--out", out, BANKS)
        import_bank(found, out, _command())
        show(f"{len(found)} grasps")
    else:
        show(f"{len(found)} grasps in {export_npy(found, out)} files")
    say(f"set: {out}")


@app.command("label")
def label(
    out: Annotated[Path, typer.Option("--out", help="Where the labelled bank goes: a .parquet file.", metavar="FILE")],
    bank: Annotated[
        str, typer.Argument(help="A .parquet bank, a folder with DexGraspNet's .npy files, or a bank's name.")
    ] = "released",
    measure: Annotated[str, typer.Option(help="paper-28d or commanded.")] = "paper-28d",
    threshold: Annotated[
        float | None, typer.Option(help="Distance from which a grasp is of no type; default: the measure's own.")
    ] = None,
    data: Data = None,
) -> None:
    """Label grasps with types, and keep those that have one.

    `paper-28d` is the source paper's filter: raw distance over 28 numbers to one grasp each of the types cylindrical,
    planar and spherical. `commanded` compares the joints with the postures of all six types.
    """
    from simeval.bank import load_bank
    from simeval.dataset.label import label as label_bank
    from simeval.dataset.label import write_labelled

    check_output("--out", out, BANKS)
    found = load_bank(bank, data)
    labels = label_bank(found, measure, threshold, data)
    write_labelled(out, found, labels, _command())
    show(f"{labels.counts.total()} of {len(found)} grasps have a type ({measure}, references: {labels.references})")
    for kind, count in sorted(labels.counts.items()):
        show(f"    {kind}: {count}")
    say(f"bank: {out}")


def choose_objects(
    library: "ObjectLibrary", which: str, scales: list[float], most: int | None = None
) -> list[tuple[str, float]]:
    """Return (code, scale) pairs: of a source or one of its splits, or a number of embedded ones over all their kinds.

    Embedded objects have their own size, scale 1; DexGraspNet's come at the scales at which they suit a hand: all, or
    `most` of them, drawn by the object's code. Every object comes once before any comes again.

    Raises:
        SimevalError: no such source or split, or nothing is left at these scales.
    """
    if which.isdigit():
        codes: Sequence[str] = library.codes("embedded")
        count = int(which)
        if not 1 <= count <= len(codes):
            raise SettingError(f"--objects {which}: expected 1 to {len(codes)} embedded objects")
        codes = _spread(codes, count)
    else:
        source, _, split = which.partition("/")
        codes = library.codes(source, split or None)
    rounds: dict[int, list[tuple[str, float]]] = {}
    for code in codes:
        for turn, s in enumerate(_scales(library, code, scales)[:most]):
            rounds.setdefault(turn, []).append((code, s))
    pairs = [pair for turn in sorted(rounds) for pair in rounds[turn]]
    if not pairs:
        raise SettingError(f"no object of {which} suits a hand at {', '.join(f'{s:g}' for s in scales) or 'any scale'}")
    return pairs


def _scales(library: "ObjectLibrary", code: str, wanted: list[float]) -> list[float]:
    """Scales of an object, in an order drawn by its code."""
    import numpy as np

    from simeval.objects.embedded import PREFIX

    if code.startswith(PREFIX):
        return wanted or [1.0]
    fitting = [s for s in library.dexgraspnet.row(code).scales if not wanted or s in wanted]
    return np.random.default_rng(list(code.encode())).permutation(fitting).tolist()


def _spread(codes: Sequence[str], count: int) -> list[str]:
    """Return `count` codes: half random objects and half shapes where there are as many, each spread evenly."""
    random = [code for code in codes if "-random-" in code]
    shapes = [code for code in codes if "-random-" not in code]
    few = min(len(shapes), count // 2)
    few = max(few, count - len(random))
    parts = ((random, count - few), (shapes, few))
    return [kind[i * len(kind) // n] for kind, n in parts for i in range(n)]


def _summarise(report: "BuildReport", objects: int, seconds: float) -> None:
    from simeval.commands.progress import duration

    effort = report.effort
    show(f"{effort.kept.total()} grasps of {report.objects} of {objects} objects, in {duration(seconds)} this time")
    for kind in sorted(effort.tried):
        tried, held = effort.tried[kind], effort.held[kind]
        show(f"    {kind}: {effort.kept[kind]} kept of {tried} tried, {held} of which held six directions")
    for (code, scale), reason in report.empty.items():
        show(f"    nothing for {code} at scale {scale:g}: {reason or 'no candidate held'}")


def _command() -> str:
    """The command line, for the bank's metadata: how to make it again; absolute paths, which differ, to their names."""
    return shlex.join(["simeval", *(re.sub(r"(^|=)/.*/", r"\1", word) for word in sys.argv[1:])])
