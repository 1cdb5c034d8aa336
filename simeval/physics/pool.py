"""Many trials, or other jobs, on several cores: one that crashes or hangs its worker costs that one only."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

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
"""A job whose worker died is tried once more: it may have been the machine, not the job."""

TIMED_OUT = "timed out"

Job = TypeVar("Job")
Result = TypeVar("Result")

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
    for task, record, reason in run_jobs(run_task, tasks, workers, timeout, TASKS_PER_WORKER):
        if record is not None:
            yield record
        elif reason == TIMED_OUT:
            lost = blank_record(task.trial, Outcome.TIMEOUT, f"still running after {timeout:g} s")
            yield replace(lost, wall_s=timeout, cpu_s=timeout)
        else:
            yield blank_record(task.trial, Outcome.CRASHED, reason)


def run_jobs(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, timeout: float, jobs_per_worker: int
) -> Iterator[tuple[Job, Result | None, str]]:
    """Yield (job, its result or None, why there is none), in the order they finish.

    Args:
        function: of a module, so that workers can import it.
        jobs: drawn only as fast as they are worked off.
        workers: processes; 0 runs in this one, without protection against crashes or hangs.
        timeout: seconds after which a job's worker is killed; the reason is then `TIMED_OUT`.
        jobs_per_worker: after which a worker is replaced.
    """
    if workers == 0:
        yield from ((job, function(job), "") for job in jobs)
        return
    from pebble import ProcessPool

    waiting = iter(jobs)
    flying: deque[tuple[ProcessFuture, Job, int]] = deque()
    pool = ProcessPool(workers, max_tasks=jobs_per_worker, initializer=_start_worker, context=get_context("spawn"))
    one_thread = dict.fromkeys(THREAD_VARIABLES, "1")  # read when a worker imports NumPy, so set it here
    before = {name: os.environ.get(name) for name in one_thread}
    os.environ.update(one_thread)
    try:
        exhausted = False
        while flying or not exhausted:
            while not exhausted and len(flying) < 2 * workers + 1:
                try:
                    job = next(waiting)
                except StopIteration:
                    exhausted = True
                else:
                    flying.append((_schedule(pool, function, job, timeout), job, 1))
            if not flying:
                break
            future, job, tries = _first_done(flying)
            result, reason = _collect(future)
            if result is None and reason != TIMED_OUT and tries < CRASH_TRIES:
                flying.append((_schedule(pool, function, job, timeout), job, tries + 1))
            else:
                yield job, result, reason
        pool.close()
    finally:
        pool.stop()
        pool.join()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _schedule(pool: "ProcessPool", function: Callable, job: object, timeout: float) -> "ProcessFuture":
    """Schedule a job with Ctrl-C held back: the first one starts the pool's threads and processes, which inherit that,
    so that an interrupt reaches this process alone, even while a worker is still importing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.schedule(function, args=[job], timeout=timeout)
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


def _collect(future: "ProcessFuture") -> tuple[Any, str]:
    from pebble import ProcessExpired

    try:
        return future.result(), ""
    except FutureTimeout:
        return None, TIMED_OUT
    except ProcessExpired as error:
        return None, f"the worker died (exit code {error.exitcode})"
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and keep Bullet's C prints out of the terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
