"""What a trial costs: `python -m simeval.benchmarks.throughput [--data DIR]`.

Prints CPU-seconds a grasp for each protocol, trials a second with 1 and 2 workers, and, with `--memory N`, the memory
of one process over N trials. With data: released DexGraspNet grasps; without: grasps of embedded objects.
"""

import argparse
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from simeval.bank import load_bank
from simeval.errors import clear_exit
from simeval.objects import ObjectLibrary
from simeval.physics.pool import Task, run_task, run_tasks
from simeval.physics.settings import Physics
from simeval.records import Condition, Trial

PROTOCOLS = ("six-direction-first", "six-direction", "lift")


def tasks(protocol: str, count: int, data: Path | None, physics: Physics) -> Iterator[Task]:
    """`count` trials spread evenly over the bank, grasps of one object side by side as in a run."""
    bank = load_bank("released" if data else "embedded", data)
    library = ObjectLibrary(data)
    for i in np.unique(np.linspace(0, len(bank) - 1, count).round().astype(int)).tolist():
        code, scale = bank.codes[i], float(bank.scales[i])
        model = library.load(code, scale)
        condition = Condition(code, scale, None, i, protocol, physics.digest, 0)
        yield Task(Trial(condition, bank.grasps[i], model.digest), model, physics)


def cpu_per_grasp(count: int, data: Path | None) -> None:
    """Print the mean CPU time of each protocol, in one worker, and what stopping early saves and changes."""
    for protocol in PROTOCOLS:
        for physics in (Physics(), replace(Physics(), stop_early=False)):
            if protocol == "lift" and not physics.stop_early:
                continue
            records = list(run_tasks(tasks(protocol, count, data, physics), 1))
            held = [r.success for r in records]
            name = protocol + ("" if physics.stop_early else ", no early stop")
            print(
                f"{name:36s} {np.mean([r.cpu_s for r in records]):.3f} CPU-s a grasp, {np.mean(held):6.1%} succeed, "
                f"{np.mean([r.steps for r in records]):.0f} steps, n = {len(records)}"
            )


def scaling(count: int, data: Path | None) -> None:
    """Print trials a second for 1 and 2 workers; the workers' start is not counted."""
    rates = []
    for workers in (1, 2):
        work = list(tasks("six-direction", count, data, Physics()))
        finished = [time.perf_counter() for _ in run_tasks(work, workers)]
        warm = 2 * workers + 2
        rates.append((len(finished) - 1 - warm) / (finished[-1] - finished[warm]))
        print(f"{workers} worker(s): {rates[-1]:.2f} trials a second")
    print(f"scaling from 1 to 2 workers: {rates[1] / rates[0]:.2f}")


def memory(count: int, data: Path | None) -> None:
    """Print this process's memory while it runs `count` trials (a pool's workers are replaced every 500).

    With few solver iterations and long steps, which cost time and not memory.
    """
    base = list(tasks("six-direction-first", 64, data, Physics(iterations=10, timestep=0.01)))
    for k, task in enumerate(islice(cycle(base), count)):
        run_task(task)
        if k % max(1, count // 10) == 0 or k == count - 1:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{k + 1:6d} trials: {_resident():.0f} MiB now, {peak:.0f} MiB at most", flush=True)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Parse options and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("SIMEVAL_DATA"))
    parser.add_argument("--grasps", type=int, default=100)
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="run N trials in one process")
    options = parser.parse_args()
    data = Path(options.data) if options.data else None
    print(f"{'real: released DexGraspNet grasps' if data else 'embedded objects'}, {options.grasps} grasps a row")
    if options.memory:
        memory(options.memory, data)
        return
    cpu_per_grasp(options.grasps, data)
    scaling(options.grasps, data)


if __name__ == "__main__":
    with clear_exit():
        main()
