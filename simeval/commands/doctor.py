"""`simeval doctor`: is everything there that simeval needs, and does a trial run?"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from simeval.commands.options import all_cores, show
from simeval.errors import DataError, SimevalError

if TYPE_CHECKING:
    from simeval.physics.pool import Task

EXTRAS = {
    "mesh": ("coacd", "splits your own non-convex meshes into convex pieces"),
    "view": ("imageio", "pictures and videos of trials"),
}
"""Optional extra -> a distribution of it, and what it is for."""
OBJECT = "embedded-cylinder-05"
PALM = (0.0, 0.04, -0.09)
"""Palm origin beside the cylinder, metres, in the palm's own axes."""
CLOSED = 0.85
"""How far the fingers are from their preshape to the posture of a cylindrical grasp."""


def doctor() -> None:
    """Show versions, cores, data and extras, and run one trial; exit with 1 where something doesn't work."""
    checks: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("versions", _versions), ("machine", _machine), ("data", _data), ("extras", _extras),
        ("generators", _generators), ("hand in PyBullet", _hand), ("one trial", _trial),
    ]  # fmt: skip
    broken = 0
    for name, check in checks:
        try:
            lines = list(check())
        except Exception as error:  # whatever is broken here is what was asked for
            broken += 1
            lines = [
                f"BROKEN: {error}" if isinstance(error, SimevalError) else f"BROKEN: {type(error).__name__}: {error}"
            ]
        show(f"{name}: {lines[0]}")
        for line in lines[1:]:
            show(f"    {line}")
    if broken:
        show(f"{broken} of {len(checks)} checks failed")
        raise typer.Exit(1)
    show("all is well")


def _versions() -> Iterator[str]:
    from simeval.manifest import PACKAGES, versions

    found = versions()
    missing = [name for name in PACKAGES if name not in found]
    if missing:
        raise DataError(f"not installed: {', '.join(missing)}. pip install simeval brings them all")
    yield ", ".join(f"{name} {version}" for name, version in found.items())


def _machine() -> Iterator[str]:
    from simeval.objects.mesh import cache_folder

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield f"{all_cores()} cores, {memory:.1f} GiB of memory"
    yield f"cache: {cache_folder()}{'' if cache_folder().is_dir() else ' (made when needed)'}"


def _data() -> Iterator[str]:
    from simeval.objects import ObjectLibrary

    rows = ObjectLibrary().summary()
    yield f"{rows[0]['objects']:,} embedded objects, which need no download"
    for row in rows[1:]:
        found = f"{row['objects']:,} objects in {row['path']}, released grasps of {row['grasps']}"
        yield f"{row['source']}: {row['problem'] or found}"


def _extras() -> Iterator[str]:
    from importlib.metadata import PackageNotFoundError, version

    yield "optional, each by pip install 'simeval[NAME]'"
    for name, (distribution, purpose) in EXTRAS.items():
        try:
            yield f"{name}: installed ({distribution} {version(distribution)}), {purpose}"
        except PackageNotFoundError:
            yield f"{name}: not installed, {purpose}"


def _generators() -> Iterator[str]:
    from simeval.registry import generator_names, load_factory

    names = generator_names()
    if not names:
        raise DataError("none is registered: reinstall simeval (pip install -e . in its folder)")
    broken = []
    for name in names:
        try:
            load_factory(name)
        except SimevalError as error:
            broken.append(str(error))
    if broken:
        raise DataError("\n    ".join(broken))
    yield ", ".join(names)


def _hand() -> Iterator[str]:
    from simeval.grasp import JOINT_COUNT
    from simeval.hand import urdf_path
    from simeval.physics.world import bullet, quiet_c_output

    with quiet_c_output():
        client = bullet()
        client.resetSimulation()
        body = client.loadURDF(str(urdf_path()), useFixedBase=True)
        joints = client.getNumJoints(body)
        client.resetSimulation()
    if joints != JOINT_COUNT:
        raise DataError(f"{urdf_path()} has {joints} joints in PyBullet, expected {JOINT_COUNT}")
    yield f"{joints} joints, from {urdf_path()}"


def _trial() -> Iterator[str]:
    from simeval.physics.pool import run_tasks
    from simeval.records import Outcome

    record = next(iter(run_tasks([trial_task()], workers=1)))
    if record.outcome in (Outcome.CRASHED, Outcome.TIMEOUT):
        raise DataError(f"{record.outcome}: {record.reason}")
    took = f"{1e3 * record.wall_s:.0f} ms, {record.steps} steps"
    yield f"{OBJECT}, {record.protocol}: {record.outcome} in {took}"


def trial_task() -> "Task":
    """Return a trial that needs no data and no generator: a hand-made grasp of an embedded object."""
    import numpy as np

    from simeval.grasp import GraspBatch
    from simeval.objects import load_embedded
    from simeval.physics.pool import Task
    from simeval.physics.settings import Physics
    from simeval.records import Condition, Trial
    from simeval.taxonomy import grasp_type

    kind, physics, model = grasp_type("cylindrical"), Physics(), load_embedded(OBJECT)
    across = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # the cylinder lies across the palm, thumb end up
    joints = kind.preshape + CLOSED * (kind.posture - kind.preshape)
    grasp = GraspBatch(across[None], (across @ PALM)[None], joints[None])
    condition = Condition(OBJECT, 1.0, kind.name, 0, "lift", physics.digest, 0)
    return Task(Trial(condition, grasp, model.digest), model, physics)
