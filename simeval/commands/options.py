"""Options that several commands share, and how `key=value` is read."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simeval.errors import SettingError, unknown_name

if TYPE_CHECKING:
    from simeval.physics.settings import Physics

DATA_HELP = "Folder with DexGraspNet's data (has meshdata/ or dexgraspnet/ in it)."
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="SIMEVAL_DATA", exists=True, file_okay=False, help=DATA_HELP, metavar="DIR"),
]
Meshes = Annotated[
    list[Path] | None,
    typer.Option("--mesh", help="A mesh of yours that isn't where it was at the run; repeatable.", metavar="FILE"),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", min=0, help="Processes; all cores by default, 0: no other process."),
]
Device = Annotated[str, typer.Option("--device", help="Where networks are trained: cpu or cuda.")]
SIMULATED = {
    "friction": (1e-6, 100), "torsional_friction": (0, 1), "density": (0.1, 1e5), "mass_kg": (1e-4, 100),
    "timestep": (1e-5, 0.05), "iterations": (1, 100_000), "solver_residual": (1e-12, 1),
    "contact_distance": (1e-6, 0.1), "torque_scale": (1e-3, 1000), "servo_time": (1e-4, 10), "opening_rad": (0, 3),
    "squeeze_rad": (0, 3),
}  # fmt: skip
"""Ranges of physical settings, in their units; outside them what Bullet computes means nothing. `Physics` itself
refuses what can't be simulated at all; its file is part of the executor's digest, which names every run."""


def all_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def key_values(option: str, given: Iterable[str]) -> dict[str, str]:
    """Read `key=value` items.

    Raises:
        SettingError: one isn't of that form, or a key is given twice.
    """
    found: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key:
            raise SettingError(f"{option} {item!r}: expected key=value")
        if key in found:
            raise SettingError(f"{option} sets {key!r} twice: {found[key]!r} and {value!r}")
        found[key] = value.strip()
    return found


def parse_physics(given: Iterable[str], shortcuts: dict[str, float | None]) -> "Physics":
    """Build Physics from `--physics key=value` items and from options of their own (None: not given).

    Raises:
        SettingError: unknown name, a value of the wrong type or range, or one setting given twice.
    """
    from typing import get_type_hints

    from pydantic import TypeAdapter, ValidationError

    from simeval.physics.settings import Physics

    hints = get_type_hints(Physics)
    values: dict[str, object] = {}
    for key, text in key_values("--physics", given).items():
        if key not in Physics.names():
            raise unknown_name("physical setting", key, Physics.names())
        try:
            plain = None if text.lower() == "none" else text
            values[key] = TypeAdapter(hints[key]).validate_python(plain)
        except ValidationError as error:
            raise SettingError(f"--physics {key}={text!r}: {error.errors()[0]['msg']}") from None
        if values[key] != values[key]:
            raise SettingError(f"--physics {key}={text!r}: not a number")
    for key, number in shortcuts.items():
        if number is None:
            continue
        if key in values:
            raise SettingError(f"{key} is given twice: by --physics {key}={values[key]} and by its own option")
        values[key] = number
    if "mass_kg" in values and "density" in values and values["mass_kg"] is not None:
        raise SettingError("density and mass are both given; choose one")
    physics = Physics(**values)  # type: ignore[arg-type]
    for key, (low, high) in SIMULATED.items():
        value = values.get(key)
        if isinstance(value, int | float) and not low <= value <= high:
            raise SettingError(f"{key} must be from {low:g} to {high:g} to be simulated, found {value:g}")
    return physics


def show(text: str) -> None:
    """Print a part of the result to stdout; end quietly where nobody reads it any more (`… | head`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def say(text: str) -> None:
    """Print a line to stderr, where what isn't the result goes."""
    print(text, file=sys.stderr, flush=True)
