"""`simeval train`: weights for a generator that learns."""

from pathlib import Path
from typing import Annotated

import typer

from simeval.commands.options import Data, Device, key_values, say
from simeval.errors import INTERRUPTED, DataError


def train(
    name: Annotated[str, typer.Argument(help="What to train: diffusion, predictor.")],
    dataset: Annotated[
        str, typer.Option("--dataset", help="A .parquet file of grasps, or a bank's name.", metavar="SET")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for weights, configuration and curve.", metavar="DIR")],
    preset: Annotated[str, typer.Option(help="A preset's name or .json file.", metavar="PRESET")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of the preset; repeatable.", metavar="train.steps=1000"),
    ] = None,
    device: Device = "cpu",
    data: Data = None,
) -> None:
    """Train a generator on a set of grasps; never on objects of the val, test or released split.

    Issue the same command again to resume it.
    """
    from simeval.bank import load_bank
    from simeval.commands.progress import Bars
    from simeval.objects import ObjectLibrary
    from simeval.registry import TRAINERS, load_factory

    train_on = load_factory(name, TRAINERS)
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out}: there is a file of that name")
    found = load_bank(dataset, data)
    bars = {what: Bars({what: 1}, what, patience=0) for what in ("objects", "steps")}

    def watch(what: str, done: int, total: int) -> None:
        bars[what].callback(what)(done, total)
        if done == total:
            bars[what].close()

    try:
        train_on(found, preset, key_values("--set", settings or []), out, ObjectLibrary(data).data, device, watch)
    except KeyboardInterrupt:
        say("interrupted. The same command goes on from what was stored.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for bar in bars.values():
            bar.close()
    say(f"weights: {out}")
