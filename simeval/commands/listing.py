"""`simeval generators`, `suites` and `objects`: what there is."""

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simeval.commands.options import Data, show
from simeval.errors import SettingError, SimevalError

if TYPE_CHECKING:
    from simeval.objects import ObjectLibrary, ObjectModel


def generators() -> None:
    """List the generators and refiners, where they come from and their settings."""
    from simeval.registry import GROUP, REFINERS, generator_names, generator_origin, refiner_names

    for name in generator_names():
        show(f"{name}  —  {generator_origin(name)}")
        _describe(name, GROUP, "--set ", " ")
    if not generator_names():
        raise SettingError("no generator is registered: reinstall simeval (pip install -e .)")
    for name in refiner_names():
        show(f"--refine {name}  —  {generator_origin(name, REFINERS)}")
        _describe(name, REFINERS, f"--refine {name},", ",")


def _describe(name: str, group: str, prefix: str, between: str) -> None:
    from simeval.registry import load_factory, settings_of

    try:
        summary = (inspect.getdoc(load_factory(name, group)) or "").split("\n")[0]
        settings = [_setting(p) for key, p in settings_of(name, group).items() if key != "data"]
    except SimevalError as error:  # one that is broken doesn't hide the others
        show(f"    {error}")
        return
    if summary:
        show(f"    {summary}")
    if settings:
        show(f"    {prefix}{between.join(settings)}")


def suites() -> None:
    """List the suites that come with simeval."""
    from simeval.suites import load_suite, suite_names

    for name in suite_names():
        suite = load_suite(name)
        objects = len({r.object for r in suite.requests})
        size = f"{objects} objects, {suite.count} grasps"
        show(f"{name}  —  {suite.data_kind} data, {size}, version {suite.version}")
        show(f"    {suite.description}")
        if suite.references:
            show(f"    references: {', '.join(suite.references)}")


def objects(
    data: Data = None,
    source: Annotated[str | None, typer.Option(help="List one source's objects: embedded, dexgraspnet.")] = None,
    split: Annotated[str | None, typer.Option(help="Only DexGraspNet's train, val, test or released.")] = None,
    code: Annotated[str | None, typer.Option(help="Show one object.", metavar="CODE")] = None,
    scale: Annotated[float | None, typer.Option(help="At this scale, metres per unit of its mesh.")] = None,
) -> None:
    """Show where objects come from, list their codes, or show one."""
    from simeval.objects import ObjectLibrary

    library = ObjectLibrary(data)
    if code is None and scale is not None:
        raise SettingError("--scale goes with --code")
    if code is not None and (source or split):
        raise SettingError("--code shows one object; --source and --split list many")
    if code is not None:
        _show_object(library, code, scale)
    elif source or split:
        for found in library.codes(source or "dexgraspnet", split):
            show(found)
    else:
        _show_sources(library)


def _setting(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_KEYWORD:
        return "…"
    return f"{parameter.name}={'(needed)' if parameter.default is parameter.empty else parameter.default}"


def _show_sources(library: "ObjectLibrary") -> None:
    for row in library.summary():
        if row["problem"]:
            show(f"{row['source']}  —  {row['problem']}")
            continue
        show(f"{row['source']}  —  {row['objects']:,} objects, {row['path']}")
        if row["splits"]:
            show("    splits: " + ", ".join(f"{name} {count}" for name, count in row["splits"].items()))
        if row["grasps"] or row["tabletop_grasps"]:
            show(f"    released grasps of {row['grasps']} objects, tabletop grasps of {row['tabletop_grasps']}")


def _show_object(library: "ObjectLibrary", code: str, scale: float | None) -> None:
    from simeval.objects.embedded import PREFIX
    from simeval.objects.library import is_mesh
    from simeval.physics.settings import Physics

    facts: list[tuple[str, Any]] = []
    if scale is None and not code.startswith(PREFIX):
        scale = 0.1  # in the middle of DexGraspNet's five
        facts.append(("note", "no --scale given, so 0.1"))
    model = library.load(code, 1.0 if scale is None else scale)
    if not code.startswith(PREFIX) and not is_mesh(code) and library.data is not None:
        row = library.dexgraspnet.row(code)
        facts += [("split", row.split or "unknown"), ("category", row.category or "unknown")]
        facts += [("scales that suit a hand", " ".join(f"{s:g}" for s in row.scales) or "none")]
    facts += _measures(model, Physics().density)
    show(code)
    for name, value in facts:
        show(f"    {name}: {value}")


def _measures(model: "ObjectModel", density: float) -> list[tuple[str, Any]]:
    vertices = model.surface.vertices
    sides = " × ".join(f"{1e3 * side:.1f}" for side in vertices.max(axis=0) - vertices.min(axis=0))
    return [
        ("scale", f"{model.scale:g}"),
        ("extents x y z", f"{sides} mm"),
        ("mass", f"{1e3 * model.mass(density):.1f} g at {density:g} kg/m³"),
        ("volume", f"{1e6 * model.volume:.2f} cm³"),
        ("centre of mass", " ".join(f"{1e3 * x:.1f}" for x in model.center_of_mass) + " mm"),
        ("convex pieces", len(model.pieces)),
        ("up", " ".join(f"{x:g}" for x in model.up)),
        ("digest", model.digest),
    ]
