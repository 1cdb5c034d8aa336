"""Is the report of a large run small and quick? `python -m simeval.benchmarks.report_size [--trials 2000]`.

Stores made-up outcomes of shipped grasps, nothing simulated, as runs of two generators; makes their report as
`simeval report` does (24 trials run again for the 3D view) and opens it in a headless Chromium. Prints the report's
size, the time to make it and the time until it stands; exit code 1 where one is beyond its limit.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from simeval.bank import load_bank
from simeval.benchmarks.study import markdown_table
from simeval.commands.options import all_cores
from simeval.errors import clear_exit
from simeval.manifest import versions
from simeval.objects import ObjectLibrary
from simeval.physics.execute import blank_record
from simeval.physics.settings import Physics
from simeval.records import Condition, Outcome, Trial, TrialRecord
from simeval.store import RunStore
from simeval.taxonomy import GRASP_TYPES

LIMIT_MB, LIMIT_MADE_S, LIMIT_OPENED_S = 15, 60, 3
GENERATORS = ("first", "second")
PROTOCOLS = ("lift", "six-direction")
OUTCOMES = (Outcome.LIFTED, Outcome.SLIPPED, Outcome.DROPPED, Outcome.NO_CONTACT)
SHIFT = 1e-3  # m, spread of the wrists about those of the bank
OPENINGS = 3


def records(generator: int, count: int, objects: int) -> Iterator[TrialRecord]:
    """Yield `count` records of grasps near those of the embedded bank, with outcomes and numbers drawn at random."""
    bank, library, physics = load_bank("embedded"), ObjectLibrary(size=objects), Physics()
    rng, types = np.random.default_rng(generator), list(GRASP_TYPES)
    for number in range(-(-count // len(PROTOCOLS))):
        code, scale = bank.objects()[number % objects]
        own = np.flatnonzero((bank.codes == code) & (bank.scales == scale))
        grasp = bank.grasps[int(own[number // objects % len(own)])]
        grasp = grasp.with_(translation=grasp.translation + rng.normal(0, SHIFT, (1, 3)))
        model = library.load(code, scale)
        for protocol in PROTOCOLS:
            kind = types[number % len(types)]
            condition = Condition(code, scale, kind, number, protocol, physics.digest, 0)
            trial = Trial(condition, grasp, model.digest)
            yield _measured(blank_record(trial, rng.choice(OUTCOMES, p=(0.6, 0.2, 0.1, 0.1)), ""), rng, types)


def _measured(record: TrialRecord, rng: np.random.Generator, types: list[str]) -> TrialRecord:
    """Fill in what a simulation would have measured."""
    slip, tilt, depth, held, cpu = rng.lognormal(-1, 0.8, 5).tolist()
    six = float(rng.integers(7)) if record.protocol == "six-direction" else record.directions_held
    return replace(
        record, slip_m=0.02 * slip, tilt_rad=tilt, penetration_mm=depth, penetration_held_mm=held, cpu_s=cpu,
        directions_held=six, achieved_type=str(rng.choice(types)), contacts="ffdistal,mfdistal,thdistal",
    )  # fmt: skip


def store(folder: Path, trials: int, objects: int) -> None:
    """Write a run of each generator."""
    for number, name in enumerate(GENERATORS):
        manifest = {
            "generator": name, "variant": "", "suite": "made-up", "settings": {}, "data_kind": "synthetic",
            "physics": Physics().as_dict(), "seed": 0, "versions": versions(),
        }  # fmt: skip
        with RunStore.open(folder / name, manifest) as opened:
            for record in islice(records(number, trials // len(GENERATORS), objects), trials // len(GENERATORS)):
                opened.append(record)


def make(runs: Path, page: Path, workers: int) -> tuple[float, float]:
    """Make the report in a process of its own; return the seconds it took, and those of processors."""
    before, started = os.times(), time.perf_counter()
    words = ["report", str(runs), "-o", str(page), "-j", str(workers)]
    subprocess.run([sys.executable, "-m", "simeval.cli", *words], check=True)
    took, after = time.perf_counter() - started, os.times()
    return took, after.children_user + after.children_system - before.children_user - before.children_system


def opening_times(page: Path) -> list[float]:
    """Seconds until the page stands, its pictures too, in each of some openings; none where there is no Chromium."""
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (browser and driver):
        return []
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
                     "--enable-unsafe-swiftshader"):  # fmt: skip
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        found = []
        for _ in range(OPENINGS):
            chrome.get(page.as_uri())  # returns after the load event
            script = "return performance.timing.loadEventEnd - performance.timing.navigationStart"
            found.append(chrome.execute_script(script) / 1e3)
        return found
    finally:
        chrome.quit()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--workers", type=int, default=all_cores())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, page = Path(folder) / "runs", Path(folder) / "report.html"
        store(runs, options.trials, options.objects)
        made, busy = make(runs, page, options.workers)
        opened = opening_times(page)
        size = page.stat().st_size / 1e6
    rows = [
        ["size [MB]", f"{size:.2f}", LIMIT_MB],
        ["made in [s]", f"{made:.1f} ({busy:.1f} of processors)", LIMIT_MADE_S],
    ]
    rows.append([f"opened in [s], best of {OPENINGS}", f"{min(opened):.2f}" if opened else "–", LIMIT_OPENED_S])
    print(markdown_table([f"report of {options.trials} trials", "found", "limit"], rows))
    if size > LIMIT_MB or made > LIMIT_MADE_S or (opened and min(opened) > LIMIT_OPENED_S):
        raise SystemExit(1)


if __name__ == "__main__":
    with clear_exit():
        main()
