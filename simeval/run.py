"""One run: a generator meets every request of a suite, each grasp is a trial, each trial a stored record.

Everything that can be wrong with the input is found before the first trial (`plan_run`); whatever a generator
does wrong afterwards is a recorded outcome. Issuing the same run again resumes it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simeval.errors import DataError, SettingError, plugin_fault, unknown_name
from simeval.generator import Generator, Refiner
from simeval.manifest import effective_settings, make_manifest, run_folder
from simeval.mesh_suite import MeshObject
from simeval.noise import PoseNoise
from simeval.objects import ObjectLibrary, ObjectModel
from simeval.physics.execute import PROTOCOLS
from simeval.physics.pool import TRIAL_TIMEOUT, run_tasks
from simeval.physics.settings import Physics
from simeval.records import Outcome, TrialRecord
from simeval.registry import REFINERS, generator_origin, load_factory, make_generator, make_refiner, settings_of
from simeval.store import RunStore
from simeval.suites import Suite
from simeval.tasks import digest, tasks

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
Objects = Mapping[tuple[str, float], ObjectModel]
"""Objects by code and scale."""

CRASH_LIMIT = 0.05
"""Share of trials that may crash or time out before a run counts as failed."""
POOL_TRIES = 3
"""Pools of workers that may break in a row, for example because a worker was killed while it was given a task."""
POOL_BROKE = "the pool of workers broke down"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to run, on what, how. `suite` is the subset that is meant, not the whole."""

    generator: str
    suite: Suite
    settings: Mapping[str, str] = field(default_factory=dict)  # the generator's, as text
    data: Path | None = None  # None: SIMEVAL_DATA
    physics: Physics = field(default_factory=Physics)
    protocols: tuple[str, ...] = ()  # none: the suite's
    refine: str = ""  # a refiner and its settings, as text; "": none
    pose_noise: PoseNoise | None = None
    workers: int = 1  # processes; 0 runs the trials in this one
    timeout: float = TRIAL_TIMEOUT  # s a trial may take
    out: Path | None = None  # folder for run folders; None: runs/<suite>
    mesh: MeshObject | None = None  # the suite's only object, where that is a user's own


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run whose input has been checked. `folder` exists once it has been executed."""

    spec: RunSpec
    objects: Objects
    generator: Generator
    refiner: Refiner | None
    manifest: dict[str, Any]
    folder: Path

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that every grasp goes through."""
        return self.spec.protocols or tuple(self.spec.suite.protocols)

    @property
    def total(self) -> int:
        """Number of trials."""
        return self.spec.suite.count * len(self.protocols)


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run: what was done is stored, the same run resumes it."""

    def __init__(self, folder: Path, done: int, total: int) -> None:
        super().__init__(f"{folder}: {done} of {total} trials done")
        self.folder, self.done, self.total = folder, done, total


def execute_run(spec: RunSpec, progress: Progress | None = None) -> Path:
    """Check, run or resume a run; return its folder.

    Raises:
        SimevalError: an object, setting, protocol or the run folder can't be used; no trial has been run.
        RunInterrupted: Ctrl-C.
    """
    return execute_plan(plan_run(spec, load_objects(spec)), progress)


def load_objects(spec: RunSpec, progress: Progress | None = None) -> Objects:
    """Load every object of the suite at every scale asked for.

    Raises:
        SimevalError: one is unknown or unusable, or its data isn't there.
    """
    library = ObjectLibrary(spec.data)
    keys = list(dict.fromkeys((r.object, r.scale) for r in spec.suite.requests))
    objects: dict[tuple[str, float], ObjectModel] = {}
    for done, (code, scale) in enumerate(keys):
        if progress:
            progress(done, len(keys))
        objects[code, scale] = spec.mesh.load() if spec.mesh else library.load(code, scale)
    if progress:
        progress(len(keys), len(keys))
    return objects


def plan_run(spec: RunSpec, objects: Objects) -> PlannedRun:
    """Check everything that can be checked before the first trial, and name the run's folder.

    Raises:
        SimevalError: unknown generator, setting or protocol, a bank or data that isn't there, a request
            listed twice.
    """
    suite = spec.suite
    for protocol in spec.protocols or suite.protocols:
        if protocol not in PROTOCOLS:
            raise unknown_name("protocol", protocol, PROTOCOLS)
    listed = Counter((r.object, r.scale, r.type) for r in suite.requests)
    repeated = [key for key, times in listed.items() if times > 1]
    if repeated:
        raise SettingError(f"suite {suite.name!r} lists {repeated[0]} more than once: join the counts")
    settings = dict(spec.settings)
    transfers = getattr(load_factory(spec.generator), "transfers", False)
    bank = (transfers and suite.training) or suite.bank
    if bank and "bank" in settings_of(spec.generator):
        settings.setdefault("bank", bank)
    generator = make_generator(spec.generator, settings, ObjectLibrary(spec.data).data)
    refiner = make_refiner(spec.refine, spec.data) if spec.refine else None
    spec = replace(spec, settings=settings)
    manifest = make_manifest(
        spec.generator, effective_settings(spec.generator, settings), suite,
        spec.protocols or suite.protocols, spec.physics, spec.pose_noise,
        digest([m.digest for m in objects.values()]), spec.refine,
    )  # fmt: skip
    fingerprint = fingerprint_of(generator, f"generator {spec.generator!r}")
    if fingerprint:  # what the settings only name: the contents of a bank, weights
        manifest["fingerprint"] = fingerprint
    if refiner:
        told = generator_origin(spec.refine.partition(",")[0].strip(), REFINERS)
        manifest["refiner"] = f"{told} {fingerprint_of(refiner, f'refiner {spec.refine!r}')}".rstrip()
    volatile: dict[str, Any] = {"workers": spec.workers, "timeout": spec.timeout}
    if spec.mesh:
        manifest |= {"data_kind": "own mesh", "mesh": spec.mesh.as_dict()}
        volatile["mesh_path"] = str(spec.mesh.path.absolute())
    manifest["volatile"] |= volatile
    return PlannedRun(spec, objects, generator, refiner, manifest, run_folder(manifest, spec.out))


def fingerprint_of(plugin: object, what: str) -> str:
    """What a plug-in says its settings only name, such as weights; empty where it says nothing.

    Raises:
        SettingError: it fails to say it.
    """
    try:
        return str(getattr(plugin, "fingerprint", None) or "")
    except BaseException as error:
        raise SettingError(f"{what} has no fingerprint: {plugin_fault(error)}") from error


def execute_plan(planned: PlannedRun, progress: Progress | None = None) -> Path:
    """Run what is missing of a planned run; return its folder.

    Raises:
        DataError: the folder can't be used or written to; what was written before stays.
        RunInterrupted: Ctrl-C.
    """
    with RunStore.open(planned.folder, planned.manifest) as store:
        try:
            with_new_pools(
                planned.folder, lambda: len(store.done_ids()), lambda: _run_missing(planned, store, progress)
            )
        except KeyboardInterrupt:
            raise RunInterrupted(planned.folder, len(store.done_ids()), planned.total) from None
    return planned.folder


def with_new_pools(folder: Path, done: Callable[[], int], work: Callable[[], None]) -> None:
    """Do some work that is kept as it goes, with another pool of workers where one breaks down.

    Raises:
        DataError: it broke `POOL_TRIES` times without anything done in between.
    """
    broken = 0
    while broken < POOL_TRIES:
        before = done()
        try:
            return work()
        except RuntimeError as error:
            if "Pool" not in str(error):  # pebble's only name for it
                raise
            log.warning("%s (%s); starting another", POOL_BROKE, error)
            broken = 0 if done() > before else broken + 1
    raise DataError(f"{folder}: {POOL_BROKE} {POOL_TRIES} times in a row. The same command resumes the run.")


def _run_missing(planned: PlannedRun, store: RunStore, progress: Progress | None) -> None:
    """Run every trial of which the store has no record."""
    done = len(store.done_ids())

    def keep(record: TrialRecord) -> None:
        nonlocal done
        store.append(record)
        done += 1
        if progress:
            progress(done, planned.total)

    if progress:
        progress(done, planned.total)
    recorded = {r.condition_id: r.trial_id for r in store.records()} if done else {}
    spec = planned.spec
    results: Any = run_tasks(tasks(planned, recorded, keep), spec.workers, spec.timeout)
    with closing(results):  # stops the pool, whatever happens here
        for record in results:
            keep(record)


def crash_share(records: list[TrialRecord]) -> float:
    """Share of trials that crashed or timed out."""
    lost = sum(r.outcome in (Outcome.CRASHED, Outcome.TIMEOUT) for r in records)
    return lost / len(records) if records else 0.0
