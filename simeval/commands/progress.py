"""Progress on stderr: bars with ETA in a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

PATIENCE = 2.0
"""Seconds that something may take without a bar."""
LINE_EVERY = 10.0
"""Seconds between the lines where there is no terminal."""


class Bars:
    """A bar for each of some named jobs; all are shown from the start, so that what is to come can be seen.

    Args:
        jobs: name -> how much there is to do, in order.
        unit: what is counted.
        patience: seconds before anything is shown.
    """

    def __init__(self, jobs: dict[str, int], unit: str, patience: float = PATIENCE) -> None:
        self._console = Console(stderr=True)
        self._plain = not self._console.is_terminal
        self._unit = unit
        self._show_at = time.monotonic() + patience
        self._jobs = jobs
        self._tasks: dict[str, TaskID] = {}
        self._begun: set[str] = set()
        self._lines: dict[str, tuple[float, int, float]] = {}  # began, done then, last line
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TimeElapsedColumn(), TextColumn("left"), Remaining(), console=self._console,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bars as they are; what is printed next stands below them."""
        if self._progress.live.is_started:
            self._progress.stop()

    def callback(self, name: str) -> Callable[[int, int], None]:
        """Return what to call with (done, total) of a job."""
        return lambda done, total: self._update(name, done, total)

    def _update(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._plain:
            self._line(name, done, total, now)
            return
        if not self._tasks:
            self._tasks = {n: self._progress.add_task(n, total=t, start=False) for n, t in self._jobs.items()}
        task = self._tasks[name]
        if name in self._begun:
            self._progress.update(task, completed=done, total=total)
        else:  # what a resumed job has done already says nothing about its speed
            self._begun.add(name)
            self._progress.reset(task, completed=done, total=total)
        if now >= self._show_at and done < total and not self._progress.live.is_started:
            self._progress.start()

    def _line(self, name: str, done: int, total: int, now: float) -> None:
        began, first, last = self._lines.setdefault(name, (now, done, max(now, self._show_at - LINE_EVERY)))
        due = now - last >= LINE_EVERY or (done == total and now - began > PATIENCE)
        if not due:
            return
        self._lines[name] = (began, first, now)
        left = (total - done) * (now - began) / max(1, done - first)
        rest = f", about {duration(left)} left" if first < done < total else ""
        print(
            f"{name}: {done} of {total} {self._unit} ({done / max(1, total):.0%}){rest}",
            file=sys.stderr,
            flush=True,
        )


def duration(seconds: float) -> str:
    """Return a time in words: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
