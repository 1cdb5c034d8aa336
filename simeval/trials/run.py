"""Run end-to-end trials: plan and check, decide, execute each grasp once, record every trial.

runs/trials/<suite>/emg/…                        classified recordings
runs/trials/<suite>/<generator>-<digest>/        the grasps that were tried: a run as `simeval run` makes them
    generated/                                   what the generator gave
    rows/<intents>-<protocol>-<policy>-<digest>/ end-to-end trials
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simeval.emg.evaluate import digest as recordings_digest
from simeval.emg.models.config import Config
from simeval.emg.models.store import find_config
from simeval.emg.recordings import Recordings
from simeval.manifest import RUNS, slug
from simeval.objects import ObjectLibrary
from simeval.physics.pool import Task, run_tasks
from simeval.records import TrialRecord
from simeval.registry import POLICIES, generator_origin, load_predictor
from simeval.run import PlannedRun, RunSpec, fingerprint_of, plan_run, with_new_pools
from simeval.store import VOLATILE, RecordStore, RunStore
from simeval.suites import Request, Suite
from simeval.taxonomy import GRASP_TYPES
from simeval.trials.decide import REFERENCES, Decider, Maker, Pending, complete, make_maker
from simeval.trials.draws import Choices, Scene, choices, draw_scenes, uniform_sister
from simeval.trials.grasps import PROTOCOL, Grasps
from simeval.trials.records import END_TO_END, GENERATED, EndToEnd
from simeval.trials.signals import Signals, check_labels, classify, one_core, splits_of

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
FOLDER = RUNS / "trials"
EMG_FOLDER = "emg"
PREDICTOR = "holds"
GENERATED_FOLDER, ROWS_FOLDER = "generated", "rows"
CLASSIFYING, TRYING = "classifying", "end to end"


@dataclass(frozen=True, slots=True)
class TrialsSpec:
    """What to run. `run` says which generator on which suite, and how grasps are refined and executed."""

    run: RunSpec  # its protocols and pose noise aren't used; `out` is the folder of all end-to-end trials
    recordings: Recordings
    emg: str  # what the recordings are called
    model: str  # a preset, or a folder of `simeval emg train`, whose configuration is trained anew in every fold
    protocols: tuple[str, ...]
    policies: tuple[str, ...]  # with settings, as text
    intents: tuple[str, ...] = ("suite",)
    count: int = 240  # trials a row
    seed: int = 0  # of what is drawn
    predictor: str = PREDICTOR


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a way to draw intents, a protocol and a policy."""

    intents: str
    protocol: str
    policy: str
    manifest: dict[str, Any]
    folder: Path


@dataclass(frozen=True, slots=True)
class PlannedTrials:
    """Trials whose input has been checked."""

    spec: TrialsSpec
    grasps: PlannedRun
    config: Config
    makers: Mapping[str, Maker]  # policy -> what makes its decisions
    choices: Mapping[str, Choices]  # by way to draw intents
    rows: list[Row]
    library: ObjectLibrary
    work: Path  # of classified recordings

    @property
    def total(self) -> int:
        """Number of trials."""
        return len(self.rows) * self.spec.count


class TrialsInterrupted(KeyboardInterrupt):
    """Ctrl-C: what was done is stored, the same command resumes it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


def plan_trials(spec: TrialsSpec) -> PlannedTrials:
    """Check everything that can be checked before the first trial.

    Raises:
        SimevalError: unknown generator, policy, protocol, model or setting; recordings or a suite without what a
            protocol needs; an object that can't be loaded.
    """
    makers = {policy: make_maker(policy) for policy in spec.policies}
    predictor = fingerprint_of(load_predictor(spec.predictor), f"predictor {spec.predictor!r}")
    found = {intents: choices(spec.run.suite, intents) for intents in spec.intents}
    for protocol in spec.protocols:
        check_labels(protocol, splits_of(protocol, spec.recordings, spec.seed), spec.recordings)
    config = find_config(spec.model)
    base = spec.run.out or FOLDER / slug(spec.run.suite.name)
    space = _space(spec.run.suite)
    keys = {(request.object, request.scale) for request in space.requests}
    library = ObjectLibrary(spec.run.data, size=max(64, len(keys)))
    objects = {key: library.load(*key) for key in sorted(keys)}
    planned = plan_run(replace(spec.run, suite=space, protocols=(PROTOCOL,), out=base), objects)
    content = recordings_digest(spec.recordings)
    rows = [
        _row(spec, config, content, found[intents], intents, protocol, policy, planned.folder, predictor)
        for intents in spec.intents for protocol in spec.protocols for policy in spec.policies
    ]  # fmt: skip
    return PlannedTrials(spec, planned, config, makers, found, rows, library, base / EMG_FOLDER)


def execute_trials(planned: PlannedTrials, progress: Progress | None = None) -> Path:
    """Run what is missing; return the folder of the grasps, which has the rows in it.

    Raises:
        DataError: a folder can't be used or written to; what was written before stays.
        TrialsInterrupted: Ctrl-C.
    """
    folder = planned.grasps.folder
    try:
        signals = _classify(planned, progress)
        with ExitStack() as stack:
            tried = stack.enter_context(RunStore.open(folder, planned.grasps.manifest))
            made = stack.enter_context(RecordStore.of(GENERATED, folder / GENERATED_FOLDER, planned.grasps.manifest))
            stores = [stack.enter_context(RecordStore.of(END_TO_END, r.folder, r.manifest)) for r in planned.rows]
            grasps = Grasps(planned.grasps, made, planned.library, planned.spec.predictor)
            work = _Work(planned, signals, grasps, tried, stores, progress)
            with_new_pools(folder, work.done, work.run)
    except KeyboardInterrupt:
        raise TrialsInterrupted(folder) from None
    return folder


class _Work:
    """What is missing, decided and executed; trials that wait for the same grasp wait for one execution."""

    def __init__(
        self, planned: PlannedTrials, signals: Mapping[str, Signals], grasps: Grasps, tried: RunStore,
        stores: list[RecordStore[EndToEnd]], progress: Progress | None,
    ) -> None:  # fmt: skip
        self._planned, self._signals, self._grasps = planned, signals, grasps
        self._tried, self._stores, self._progress = tried, stores, progress
        self._records = {record.trial_id: record for record in tried.records()}
        self._waiting: dict[str, list[tuple[RecordStore[EndToEnd], Pending]]] = {}

    def done(self) -> int:
        """How many trials are stored."""
        return sum(len(store.done_ids()) for store in self._stores)

    def run(self) -> None:
        """Run what is missing."""
        self._waiting = {}
        run = self._planned.spec.run
        self._report()
        with one_core():
            results: Any = run_tasks(self._tasks(), run.workers, run.timeout)
            with closing(results):  # stops the pool, whatever happens here
                for record in results:
                    self._settle(record)
                    self._report()

    def _tasks(self) -> Iterator[Task]:
        """Decide every trial that is missing; yield each grasp that has not been executed, once."""
        scenes = {
            intents: draw_scenes(found, self._planned.spec.count, self._planned.spec.seed)
            for intents, found in self._planned.choices.items()
        }
        for row, store in zip(self._planned.rows, self._stores, strict=True):
            yield from self._row_tasks(row, store, scenes[row.intents])
            self._report()

    def _row_tasks(self, row: Row, store: RecordStore[EndToEnd], scenes: list[Scene]) -> Iterator[Task]:
        spec, done = self._planned.spec, store.done_ids()
        decider = Decider(
            row.intents, row.protocol, row.policy, self._planned.makers[row.policy], self._signals[row.protocol],
            spec.recordings, self._grasps, spec.seed,
        )  # fmt: skip
        for scene in scenes:
            if trial_id(row, scene) in done:
                continue
            pending = decider.decide(scene, trial_id(row, scene))
            if pending.trial is None:
                store.append(pending.record)
                continue
            key = pending.trial.trial_id
            new = key not in self._records and key not in self._waiting
            self._waiting.setdefault(key, []).append((store, pending))
            if key in self._records:
                self._settle(self._records[key], known=True)
            elif new and pending.trial.grasp is None:
                self._settle(pending.failure())
            elif new:
                yield self._grasps.task(pending.trial)

    def _settle(self, record: TrialRecord, known: bool = False) -> None:
        """Store what became of a grasp, and every trial that waited for it."""
        if not known:
            self._tried.append(record)
            self._records[record.trial_id] = record
        for store, pending in self._waiting.pop(record.trial_id, []):
            store.append(complete(pending, record))

    def _report(self) -> None:
        if self._progress:
            self._progress(TRYING, self.done(), self._planned.total)


def trial_id(row: Row, scene: Scene) -> str:
    """16 hex digits that name a trial: its row's folder, which names all that was asked for, and its number."""
    return hashlib.sha256(f"{row.folder.name} {scene.number}".encode()).hexdigest()[:16]


def _classify(planned: PlannedTrials, progress: Progress | None) -> dict[str, Signals]:
    spec = planned.spec
    counts = [len(splits_of(protocol, spec.recordings, spec.seed)) for protocol in spec.protocols]
    found = {}
    for i, protocol in enumerate(spec.protocols):

        def report(done: int, total: int, before: int = sum(counts[:i])) -> None:
            if progress:
                progress(CLASSIFYING, before + done, sum(counts))

        found[protocol] = classify(protocol, spec.recordings, planned.config, spec.seed, planned.work, report)
    return found


def _space(suite: Suite) -> Suite:
    """Every request that a policy can come to: all objects, all types and none. So rows share a run folder."""
    objects = dict.fromkeys((r.object, r.scale) for s in (suite, uniform_sister(suite)) for r in s.requests)
    kinds = (*GRASP_TYPES, "")
    requests = [Request(object=code, scale=scale, type=kind, count=1) for code, scale in objects for kind in kinds]
    return suite.model_copy(update={"requests": requests, "name": f"{suite.name} (end to end)"})


def _row(
    spec: TrialsSpec, config: Config, recordings: str, found: Choices, intents: str, protocol: str, policy: str,
    folder: Path, predictor: str,
) -> Row:  # fmt: skip
    name = policy.partition(",")[0]
    manifest: dict[str, Any] = {
        "generator": spec.run.generator, "grasps": folder.name, "refine": spec.run.refine,
        "suite": spec.run.suite.name, "suite_digest": spec.run.suite.digest, "data_kind": spec.run.suite.data_kind,
        "intents": intents, "objects_of": found.suite, "pairs": len(found.pairs), "excluded": found.excluded,
        "emg": spec.emg, "emg_digest": recordings, "emg_kind": spec.recordings.data_kind,
        "emg_model": config.model_dump(mode="json"), "emg_model_name": spec.model, "protocol": protocol,
        "policy": policy, "policy_origin": policy_origin(name), "predictor": spec.predictor, "seed": spec.seed,
        "predictor_fingerprint": predictor,
    }  # fmt: skip
    content = hashlib.sha256(json.dumps(manifest | {"count": spec.count}, sort_keys=True).encode()).hexdigest()[:8]
    manifest |= {"count": spec.count, VOLATILE: {"workers": spec.run.workers}}
    name = slug(f"{intents}-{protocol}-{policy}")
    return Row(intents, protocol, policy, manifest, folder / ROWS_FOLDER / f"{name}-{content}")


def policy_origin(name: str) -> str:
    """Distribution and `module:attr` that a policy comes from; the references are part of simeval."""
    return "simeval" if name in REFERENCES else generator_origin(name, POLICIES)
