"""Many trials on several cores: a trial that crashes or hangs its worker costs that trial only."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING

from simeval.objects.model import ObjectModel
from simeval.physics.execute import blank_record, execute
from simeval.physics.settings import Physics
from simeval.records import Outcome, Trial, TrialRecord

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

TRIAL_TIMEOUT = 120.0
"""Seconds after which a trial is killed; a usual one takes 0.3 s."""
TASKS_PER_WORKER = 500
"""A worker is replaced after so many trials, so that what Bullet leaks between worlds never adds up."""
CRASH_TRIES = 2
"""A trial whose worker died is tried once more: it may have been the machine, not the trial."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "IGL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Task:
    """A trial and all that is needed to run it."""

    trial: Trial
    model: ObjectModel
    physics: Physics


def run_task(task: Task) -> TrialRecord:
    """Run one task in this process."""
    return execute(task.trial, task.model, task.physics)


def run_tasks(tasks: Iterable[Task], workers: int = 1, timeout: float = TRIAL_TIMEOUT) -> Iterator[TrialRecord]:
    """Yield a record for every task, in the order they finish; `tasks` is drawn only as fast as it is worked off.

    `workers` 0 runs in this process, without protection against crashes or hangs.
    """
    if workers == 0:
        yield from (run_task(task) for task in tasks)
        return
    from pebble import ProcessPool

    waiting = iter(tasks)
    flying: deque[tuple[ProcessFuture, Task, int]] = deque()
    pool = ProcessPool(workers, max_tasks=TASKS_PER_WORKER, initializer=_start_worker, context=get_context("spawn"))
    one_thread = dict.fromkeys(THREAD_VARIABLES, "1")  # read when a worker imports NumPy, so set it here
    before = {name: os.environ.get(name) for name in one_thread}
    os.environ.update(one_thread)
    try:
        exhausted = False
        while flying or not exhausted:
            while not exhausted and len(flying) < 2 * workers + 1:
                task = next(waiting, None)
                if task is None:
                    exhausted = True
                else:
                    flying.append((_schedule(pool, task, timeout), task, 1))
            if not flying:
                break
            future, task, tries = _first_done(flying)
            record = _collect(future, task, timeout)
            if record.outcome == Outcome.CRASHED and tries < CRASH_TRIES:
                flying.append((_schedule(pool, task, timeout), task, tries + 1))
            else:
                yield record
        pool.close()
    finally:
        pool.stop()
        pool.join()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _schedule(pool: "ProcessPool", task: Task, timeout: float) -> "ProcessFuture":
    """Schedule a task with Ctrl-C held back: the first one starts the pool's threads and processes, which inherit that,
    so that an interrupt reaches this process alone, even while a worker is still importing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.schedule(run_task, args=[task], timeout=timeout)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _first_done(flying: deque) -> tuple:
    from concurrent.futures import FIRST_COMPLETED, wait

    wait([f for f, _, _ in flying], return_when=FIRST_COMPLETED)
    for i, entry in enumerate(flying):
        if entry[0].done():
            del flying[i]
            return entry
    raise AssertionError("wait returned without a finished future")


def _collect(future: "object", task: Task, timeout: float) -> TrialRecord:
    from pebble import ProcessExpired

    try:
        return future.result()  # type: ignore[attr-defined]
    except FutureTimeout:
        record = blank_record(task.trial, Outcome.TIMEOUT, f"still running after {timeout:g} s")
        return replace(record, wall_s=timeout, cpu_s=timeout)
    except ProcessExpired as error:
        return blank_record(task.trial, Outcome.CRASHED, f"the worker died (exit code {error.exitcode})")
    except Exception as error:
        return blank_record(task.trial, Outcome.CRASHED, f"{type(error).__name__}: {error}")


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and keep Bullet's C prints out of the terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
