"""Same trials, same bits: `python -m simeval.benchmarks.identity [--data DIR] [--trials 200]`.

Runs trials in order, shuffled, with 1 and 2 workers, in this process, and each alone in a fresh process; prints how
many records differ in any field but the timings. Exit code 1 when one does.
"""

import argparse
import os
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from simeval.benchmarks.throughput import tasks
from simeval.commands.progress import Bars
from simeval.errors import clear_exit
from simeval.physics.pool import Task, run_tasks
from simeval.physics.settings import Physics
from simeval.records import TrialRecord
from simeval.store import same_result


def alone(work: Iterable[Task]) -> Iterator[TrialRecord]:
    """Run each task in a process of its own."""
    for task in work:
        yield from run_tasks([task], 1)


def main() -> None:
    """Run the same trials in every way and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("SIMEVAL_DATA"))
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    data = Path(options.data) if options.data else None
    half = options.trials // 2
    work = [task for protocol in ("lift", "six-direction") for task in tasks(protocol, half, data, Physics())]
    shuffled = random.Random(0).sample(work, len(work))
    ways = {
        "in order, 1 worker": lambda: run_tasks(work, 1),
        "shuffled, 1 worker": lambda: run_tasks(shuffled, 1),
        "in order, 2 workers": lambda: run_tasks(work, 2),
        "shuffled, 2 workers": lambda: run_tasks(shuffled, 2),
        "in this process": lambda: run_tasks(work, 0),
        "each alone": lambda: alone(work),
    }
    first: dict[str, TrialRecord] = {}
    worst = 0
    with Bars(dict.fromkeys(ways, len(work)), "trials") as bars:
        for name, way in ways.items():
            show = bars.callback(name)
            found: dict[str, TrialRecord] = {}
            for record in way():
                found[record.trial_id] = record
                show(len(found), len(work))
            first = first or found
            differing = sum(t not in found or bool(same_result(found[t], first[t])) for t in first)
            worst = max(worst, differing)
            print(f"{name}: {len(found)} records, {differing} differ from the first way's", flush=True)
    sys.exit(1 if worst else 0)


if __name__ == "__main__":
    with clear_exit():
        main()
