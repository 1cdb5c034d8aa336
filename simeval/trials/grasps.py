"""Grasps, each made once and executed once, whoever asks: rows, protocols, policies and seeds share them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from simeval.grasp import Array, GraspBatch
from simeval.metrics.penetration import measure
from simeval.objects import ObjectLibrary, ObjectModel
from simeval.physics.closing import make_plan
from simeval.physics.execute import invalid
from simeval.physics.pool import Task
from simeval.records import Condition, Trial
from simeval.registry import load_predictor
from simeval.run import PlannedRun
from simeval.store import RecordStore
from simeval.suites import Request
from simeval.tasks import attempt, digest
from simeval.taxonomy import grasp_type as known_type
from simeval.trials.policies import Predictor
from simeval.trials.records import NAN, Generated

PROTOCOL = "lift"
_ARRAYS = {"rotation": (3, 3), "translation": (3,), "joints": (22,), "pregrasp": (22,), "squeeze": (22,), "score": ()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: so many grasps of one object, of a type or of any."""

    object_code: str
    scale: float
    grasp_type: str | None
    count: int


@dataclass
class Grasps:
    """What a planned run's generator gives, from the store where it has been asked before.

    Args:
        planned: generator, refiner, physics.
        store: of what it gave.
        library: of objects.
        predictor: name of what predicts whether grasps hold.
    """

    planned: PlannedRun
    store: RecordStore[Generated]
    library: ObjectLibrary
    predictor: str
    _known: dict[str, Generated] = field(init=False)
    _chances: dict[Asked, tuple[Array, float]] = field(default_factory=dict)
    _predictor: Predictor | None = None

    def __post_init__(self) -> None:
        self._known = {found.request_id: found for found in self.store.records()}

    def model(self, asked: Asked) -> ObjectModel:
        """Return the object."""
        return self.library.load(asked.object_code, asked.scale)

    def generated(self, asked: Asked) -> Generated:
        """Return what the generator gave; whatever it does wrong is a reason, not an error."""
        model = self.model(asked)
        key = digest_of(asked, model)
        if key not in self._known:
            found = self._generate(asked, model, key)
            self.store.append(found)
            self._known[key] = found
        return self._known[key]

    def batch(self, asked: Asked) -> GraspBatch:
        """Return the grasps that there are."""
        return batch_of(self.generated(asked))

    def chances(self, asked: Asked) -> tuple[Array, float]:
        """Return (N,) predicted probabilities that the grasps hold, and the CPU s that they took when asked first."""
        if asked not in self._chances:
            if self._predictor is None:
                self._predictor = load_predictor(self.predictor)
            found, begun = self.batch(asked), time.thread_time()
            odds = np.zeros(0)
            if len(found):
                odds = self._predictor.scores(self.model(asked), known_type(asked.grasp_type or ""), found)
            chances = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
            self._chances[asked] = chances, time.thread_time() - begun
        return self._chances[asked]

    def trial(self, asked: Asked, index: int) -> Trial:
        """Return the trial of one of the grasps; without a grasp where the generator gave too few."""
        found, physics = self.generated(asked), self.planned.spec.physics
        condition = Condition(
            asked.object_code, asked.scale, asked.grasp_type, index, PROTOCOL, physics.digest,
            self.planned.spec.suite.seed,
        )  # fmt: skip
        grasp = batch_of(found)[index] if index < found.found else None
        return Trial(condition, grasp, found.object_digest, "" if grasp is not None else found.reason)

    def task(self, trial: Trial) -> Task:
        """Return what a worker needs."""
        c = trial.condition
        return Task(trial, self.library.load(c.object_code, c.scale), self.planned.spec.physics)

    def command_seconds(self, trial: Trial) -> float:
        """CPU seconds from a grasp to the joint angles that are commanded first; NaN where there is no sound grasp."""
        g, model = trial.grasp, self.task(trial).model
        if g is None or invalid(g):
            return NAN
        begun = time.thread_time()
        pose = g.rotation[0], g.translation[0]
        depth = measure(model, *pose, g.joints[0])
        pregrasp, squeeze = (None if value is None else value[0] for value in (g.pregrasp, g.squeeze))
        make_plan(model, *pose, g.joints[0], pregrasp, squeeze, self.planned.spec.physics, depth)
        return time.thread_time() - begun

    def _generate(self, asked: Asked, model: ObjectModel, key: str) -> Generated:
        request = Request(object=asked.object_code, scale=asked.scale, type=asked.grasp_type or "", count=asked.count)
        refiner = _Timed(self.planned.refiner) if self.planned.refiner else None
        begun = time.thread_time()
        found, reason = attempt(replace(self.planned, refiner=refiner), request, model)
        spent = time.thread_time() - begun
        refined = refiner.seconds if refiner else NAN
        return Generated(
            key, asked.object_code, asked.scale, asked.grasp_type or "", asked.count, model.digest,
            reason if len(found) < asked.count else "", len(found),
            generate_s=spent - (refiner.seconds if refiner else 0.0), refine_s=refined, **_flat(found),
        )  # fmt: skip


class _Timed:
    """A refiner and the CPU seconds that it takes."""

    def __init__(self, refiner: object) -> None:
        self._refiner, self.seconds = refiner, 0.0

    def refine(self, model: ObjectModel, grasps: GraspBatch, grasp_type: str | None, seed: int) -> GraspBatch:
        begun = time.thread_time()
        try:
            return self._refiner.refine(model, grasps, grasp_type, seed)  # type: ignore[attr-defined]
        finally:
            self.seconds += time.thread_time() - begun


def digest_of(asked: Asked, model: ObjectModel) -> str:
    """Id of a request of an object with this geometry."""
    values = [asked.object_code, asked.scale, asked.grasp_type, asked.count, model.digest]
    return digest([*values, "a"]) + digest([*values, "b"])  # 16 digits: 8 alone would meet in a hundred thousand


def batch_of(found: Generated) -> GraspBatch:
    """Return stored grasps, bit for bit."""
    values: Mapping[str, list[float]] = {name: getattr(found, name) for name in _ARRAYS}
    arrays = {
        name: np.array(values[name]).reshape(found.found, *tail) if values[name] or name in _REQUIRED else None
        for name, tail in _ARRAYS.items()
    }
    return GraspBatch(**arrays)  # type: ignore[arg-type]


_REQUIRED = ("rotation", "translation", "joints")


def _flat(found: GraspBatch) -> dict[str, list[float]]:
    return {name: [] if (v := getattr(found, name)) is None else v.ravel().tolist() for name in _ARRAYS}
