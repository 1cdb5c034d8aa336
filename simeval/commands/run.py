"""`simeval run`: a generator and its suite's references, then the table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from simeval.commands import run_options as o
from simeval.commands.options import Data, Workers, all_cores, key_values, parse_physics, say
from simeval.errors import INTERRUPTED, SettingError, SimevalError

if TYPE_CHECKING:
    from simeval.mesh_suite import MeshObject
    from simeval.run import PlannedRun, RunSpec
    from simeval.store import Run
    from simeval.suites import Suite

DEFAULT_SUITE = "embedded"
DEFAULT_MESH_GRASPS = 10
CRASHED_TOO_OFTEN = 3  # exit code


def run(
    generator: o.Generator,
    suite: o.SuiteName = None,
    data: Data = None,
    objects: o.Objects = None,
    grasps: o.Grasps = None,
    types: o.GraspTypes = None,
    settings: o.Settings = None,
    protocol: o.Protocols = None,
    refine: o.Refine = None,
    pose_noise: o.Noise = None,
    seed: o.Seed = None,
    no_references: o.NoReferences = False,
    friction: o.Friction = None,
    density: o.Density = None,
    mass: o.Mass = None,
    physics: o.PhysicsItems = None,
    mesh: o.MeshFile = None,
    mesh_scale: o.MeshScale = None,
    mesh_up: o.MeshUp = None,
    decompose: o.Decompose = None,
    workers: Workers = None,
    timeout: o.Timeout = 120.0,
    out: o.Out = None,
    fresh: o.Fresh = False,
) -> None:
    """Run a generator over a suite and show how many of its grasps hold.

    The suite's references, a ceiling and floors that should fail, are run too; they are stored, so only once.
    Issue the same command again to resume it after Ctrl-C or a crash.
    """
    from simeval.mesh_suite import MeshObject
    from simeval.noise import PoseNoise
    from simeval.run import RunSpec

    of_mesh = {"--mesh-scale": mesh_scale, "--mesh-up": mesh_up, "--decompose": decompose}
    own = None
    if mesh:
        _refuse({"--suite": suite, "--objects": objects}, "doesn't go with --mesh, which is a suite of one object")
        own = MeshObject(mesh, 1.0 if mesh_scale is None else mesh_scale, mesh_up or "z", decompose or "auto")
    else:
        _refuse(of_mesh, "is about a mesh, and there is no --mesh")
    spec = RunSpec(
        generator=generator,
        suite=_suite(own, suite or DEFAULT_SUITE, objects, grasps, types or (), seed),
        settings=key_values("--set", settings or []),
        data=data,
        physics=parse_physics(physics or [], {"friction": friction, "density": density, "mass_kg": mass}),
        protocols=tuple(dict.fromkeys(protocol or [])),
        refine=refine or "",
        pose_noise=None if pose_noise is None else PoseNoise.parse(pose_noise),
        workers=all_cores() if workers is None else workers,
        timeout=timeout,
        out=out,
        mesh=own,
    )
    run_and_show(spec, references=not no_references, fresh=fresh)


def run_and_show(spec: "RunSpec", references: bool = True, fresh: bool = False) -> None:
    """Run a spec after its suite's references, print the table; exit with 3 after too many crashes."""
    from simeval.commands.show import print_table
    from simeval.run import CRASH_LIMIT, crash_share
    from simeval.store import delete_run, read_run

    plans = _plan(spec, references)
    own = plans[-1]
    if fresh and own.folder.exists():
        delete_run(own.folder)
    count, protocols = spec.suite.count, " + ".join(own.protocols)
    say(f"suite {spec.suite.name}: {len(own.objects)} objects at their scales, {count} grasps, {protocols}")
    _execute(plans)
    runs = [read_run(plan.folder) for plan in plans]
    print_table(runs)
    _explain_failures(runs[-1])
    say(f"results: {own.folder}")
    share = crash_share(runs[-1].records)
    if share > CRASH_LIMIT:
        say(f"error: {share:.0%} of the trials crashed or timed out, so the numbers above mean little")
        raise typer.Exit(CRASHED_TOO_OFTEN)


def _suite(
    own: "MeshObject | None", name: str, objects: int | None, grasps: int | None, types: Sequence[str],
    seed: int | None,
) -> "Suite":  # fmt: skip
    from simeval.suites import load_suite
    from simeval.taxonomy import grasp_type as known_type

    if own:
        for kind in types:
            known_type(kind)
        suite = own.suite(grasps or DEFAULT_MESH_GRASPS, types)
    else:
        suite = load_suite(name).subset(objects, grasps, types)
    return suite if seed is None else suite.model_copy(update={"seed": seed})


def _refuse(options: Mapping[str, object], why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise SettingError(f"{name} {why}")


def _plan(spec: "RunSpec", references: bool) -> list["PlannedRun"]:
    """Return the runs that are needed, checked; the one that was asked for last."""
    from dataclasses import replace

    from simeval.commands.progress import Bars
    from simeval.run import load_objects, plan_run

    if spec.mesh and spec.mesh.decompose != "hull":
        say(f"loading {spec.mesh.path}: if it isn't convex, CoACD splits it, once; that can take minutes")
    with Bars({"loading": len(spec.suite.requests)}, "objects") as bars:
        objects = load_objects(spec, bars.callback("loading"))
    own = plan_run(spec, objects)
    plans = {}
    for name in spec.suite.references if references else []:
        try:
            planned = plan_run(replace(spec, generator=name, settings={}, refine="", pose_noise=None), objects)
        except SimevalError as error:
            hint = "--no-references leaves them out."
            raise SettingError(f"reference {name!r} of suite {spec.suite.name!r}: {error} {hint}") from error
        plans[planned.folder] = planned
    plans.pop(own.folder, None)
    return [*plans.values(), own]


def _execute(plans: list["PlannedRun"]) -> None:
    from simeval.commands.progress import Bars
    from simeval.run import RunInterrupted, execute_plan

    names = _names(plans)
    stored: dict[str, int] = {}
    with Bars({name: plan.total for name, plan in names.items()}, "trials", patience=0) as bars:
        for name, plan in names.items():
            update = bars.callback(name)

            def watch(done: int, total: int, name: str = name, update: object = update) -> None:
                stored.setdefault(name, done)
                update(done, total)  # type: ignore[operator]

            try:
                execute_plan(plan, watch)
            except RunInterrupted as stop:
                bars.close()
                say(f"interrupted: {name} has {stop.done} of {stop.total} trials in {stop.folder}")
                say("The same command resumes it.")
                raise typer.Exit(INTERRUPTED) from None
    for name, plan in names.items():
        if stored[name] == plan.total:
            say(f"{name}: nothing to do, its {plan.total} trials are stored in {plan.folder}")


def _names(plans: list["PlannedRun"]) -> dict[str, "PlannedRun"]:
    """Plans by generator and variant, with the folder's name where two share these."""
    labels = [f"{plan.spec.generator} {plan.manifest['variant']}".rstrip() for plan in plans]
    return {
        label if labels.count(label) == 1 else f"{label} ({plan.folder.name})": plan
        for label, plan in zip(labels, plans, strict=True)
    }


def _explain_failures(found: "Run") -> None:
    """Say why trials failed that never came to a simulation's verdict, most frequent first."""
    reasons = Counter((r.outcome, r.reason) for r in found.records if r.outcome in ("GENERATOR_FAILED", "CRASHED"))
    for (outcome, reason), times in reasons.most_common(3):
        say(f"{outcome} {times} of {len(found.records)}: {reason}")
    if len(reasons) > 3:
        say(f"… and {len(reasons) - 3} other reasons; the records have them (column reason)")
