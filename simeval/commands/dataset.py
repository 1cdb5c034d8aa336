"""`simeval dataset`: make banks of grasps that hold, and label grasps with types."""

import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simeval.commands.options import Data, Workers, all_cores, key_values, say, show
from simeval.errors import DataError, SettingError

if TYPE_CHECKING:
    from simeval.dataset import BuildReport
    from simeval.objects import ObjectLibrary

INTERRUPTED = 130  # exit code

app = typer.Typer(help="Make data sets of grasps.", no_args_is_help=True)


@app.callback()
def _dataset() -> None:
    """Make data sets of grasps."""


@app.command("build")
def build(
    out: Annotated[Path, typer.Option("--out", help="The bank: a .parquet file.", metavar="FILE")],
    objects: Annotated[
        str,
        typer.Option(help="embedded, dexgraspnet, dexgraspnet/SPLIT, or N embedded ones.", metavar="WHICH"),
    ] = "embedded",
    scale: Annotated[
        list[float] | None, typer.Option(help="Only this scale; repeatable. Default: all that suit a hand.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option("--generator", "-g", help="Where grasps come from; default preshape.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the generator; repeatable.", metavar="KEY=VALUE")
    ] = None,
    types: Annotated[str | None, typer.Option(help="Grasp types with commas between; default all.")] = None,
    per_object: Annotated[int | None, typer.Option(min=1, help="Grasps kept of an object at a scale.")] = None,
    waves: Annotated[int | None, typer.Option(min=1, help="Candidates of each type an object gets at most.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the candidates.")] = 0,
    workers: Workers = None,
    data: Data = None,
) -> None:
    """Build a bank: generate grasps, simulate `lift`, keep those that were lifted.

    Issue the same command again to resume it.
    """
    from simeval.commands.progress import Bars
    from simeval.dataset import BuildProgress, BuildSpec, build_bank
    from simeval.objects import ObjectLibrary

    _check_out(out)
    library = ObjectLibrary(data)
    chosen = {
        "generator": generator,
        "types": None if types is None else tuple(kind.strip() for kind in types.split(",")),
        "per_object": per_object,
        "waves": waves,
    }
    spec = BuildSpec(
        objects=choose_objects(library, objects, scale or []), settings=key_values("--set", settings or []), seed=seed,
        workers=all_cores() if workers is None else workers, data=library.data,
        **{name: value for name, value in chosen.items() if value is not None},  # type: ignore[arg-type]
    )  # fmt: skip
    begun = time.monotonic()
    with Bars({"building": len(spec.objects)}, "objects", patience=0) as bars:
        update = bars.callback("building")

        def watch(state: BuildProgress) -> None:
            update(state.done, state.total)

        try:
            report = build_bank(spec, out, _command(), watch)
        except KeyboardInterrupt:
            bars.close()
            say("interrupted. The same command resumes it.")
            raise typer.Exit(INTERRUPTED) from None
    _summarise(report, len(spec.objects), time.monotonic() - begun)
    say(f"bank: {out}")


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
    from simeval.label import label as label_bank
    from simeval.label import write_labelled

    _check_out(out)
    found = load_bank(bank, data)
    labels = label_bank(found, measure, threshold, data)
    write_labelled(out, found, labels, _command())
    show(f"{labels.counts.total()} of {len(found)} grasps have a type ({measure}, references: {labels.references})")
    for kind, count in sorted(labels.counts.items()):
        show(f"    {kind}: {count}")
    say(f"bank: {out}")


def _check_out(out: Path) -> None:
    if out.suffix != ".parquet":
        raise SettingError(f"--out {out}: expected a file name that ends in .parquet")
    if not out.absolute().parent.is_dir():
        raise DataError(f"--out {out}: there is no folder {out.absolute().parent}")


def choose_objects(library: "ObjectLibrary", which: str, scales: list[float]) -> list[tuple[str, float]]:
    """Return (code, scale) pairs: of a source or one of its splits, or a number of embedded ones over all their kinds.

    Embedded objects have their own size, scale 1; DexGraspNet's come at every scale at which they suit a hand.

    Raises:
        SimevalError: no such source or split, or nothing is left at these scales.
    """
    if which.isdigit():
        codes = library.codes("embedded")
        count = int(which)
        if not 1 <= count <= len(codes):
            raise SettingError(f"--objects {which}: expected 1 to {len(codes)} embedded objects")
        return [(code, s) for code in _spread(codes, count) for s in scales or [1.0]]
    source, _, split = which.partition("/")
    codes = library.codes(source, split or None)
    if source == "embedded":
        return [(code, s) for code in codes for s in scales or [1.0]]
    pairs = [(code, s) for code in codes for s in library.dexgraspnet.row(code).scales if not scales or s in scales]
    if not pairs:
        raise SettingError(f"no object of {which} suits a hand at {', '.join(f'{s:g}' for s in scales) or 'any scale'}")
    return pairs


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

    show(f"{report.kept.total()} grasps of {report.objects} of {objects} objects, in {duration(seconds)}")
    for kind in sorted({*report.tried, *report.kept}):
        tried, lifted = report.tried[kind], report.lifted[kind]
        share = f"{lifted / tried:.0%} of {tried} tried now lifted" if tried else "none tried now"
        show(f"    {kind or 'any type'}: {report.kept[kind]} kept, {share}")


def _command() -> str:
    """The command line, for the bank's metadata: how to make it again; absolute paths, which differ, to their names."""
    return shlex.join(["simeval", *(re.sub(r"(^|=)/.*/", r"\1", word) for word in sys.argv[1:])])
