"""What happens in a trial, moment by moment, to be drawn: a record has where the hand was sent, not where it went."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simeval.grasp import Array
from simeval.objects.model import ObjectModel
from simeval.physics.execute import execute, object_frame
from simeval.physics.pool import TASKS_PER_WORKER, TRIAL_TIMEOUT, Task, run_jobs
from simeval.physics.protocols import palm_rise
from simeval.physics.world import World, bullet
from simeval.records import TrialRecord


class Moment(NamedTuple):
    """What is to be seen at one time. The palm stays where the grasp has it; the world turns around it."""

    time: float  # s simulated
    rotation: Array  # (3, 3) object to world, which is the object's frame before the trial
    origin: Array  # (3,) m, the object's origin in the world
    joints: Array  # (22,) rad
    rise: float  # m, palm above where it began


@dataclass(slots=True)
class Motion:
    """One run of a trial. Nothing moved where a trial ended before its simulation began."""

    record: TrialRecord
    moments: list[Moment] = field(default_factory=list)
    held: int | None = None  # index of the moment at which the squeeze was complete
    contacts: Array = field(default_factory=lambda: np.zeros((0, 3)))  # (C, 3) m, points that were pushed on then


def record_motion(task: Task) -> Motion:
    """Run a trial in this process and keep what is to be seen of it, some 20 to 40 moments a simulated second."""
    watcher = _Watcher(task)
    record = execute(task.trial, task.model, task.physics, watcher.look)
    return Motion(record, watcher.moments, watcher.held, watcher.contacts)


def record_motions(tasks: Iterable[Task], workers: int) -> Iterator[tuple[Task, Motion | None, str]]:
    """Yield (task, its motion or None, why there is none) in the order they finish, each in a process it may crash.

    `workers` 0 runs in this process, without protection against crashes or hangs.
    """
    yield from run_jobs(record_motion, tasks, workers, TRIAL_TIMEOUT, TASKS_PER_WORKER)


class _Watcher:
    def __init__(self, task: Task) -> None:
        self.moments: list[Moment] = []
        self.held: int | None = None
        self.contacts = np.zeros((0, 3))
        self._model: ObjectModel = task.model
        self._lifted = task.trial.condition.protocol == "lift"

    def look(self, world: World) -> None:
        """Keep a moment."""
        if not self.moments:
            self._listen(world)
        turn, origin = object_frame(self._model, world.state())
        time = world.steps * world.physics.timestep
        rise = palm_rise(time) if self._lifted else 0.0
        self.moments.append(Moment(time, turn, origin, world.joints(), rise))

    def _listen(self, world: World) -> None:
        """Be told when the squeeze is complete: that is when, and only when, a protocol asks who pushes."""
        pushes = world.pushes

        def heard() -> dict[int, Array]:
            self.look(world)
            self.held = len(self.moments) - 1
            points = bullet().getContactPoints(world.hand, world.object)
            self.contacts = np.array([c[6] for c in points if c[9] > 0]).reshape(-1, 3)
            return pushes()

        world.pushes = heard  # type: ignore[method-assign]
