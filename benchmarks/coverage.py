"""Do 95 % intervals cover? `python -m simeval.benchmarks.coverage [--repeats 1000]`.

Draws experiments whose truth is known and counts how often the intervals of simeval.stats hold it, for 20 to 2,000
trials of 5 to 200 objects; writes results/coverage.md and .json. No physics, no data; seeded, so it repeats.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simeval.benchmarks.study import markdown_table, write_page
from simeval.commands.options import all_cores
from simeval.commands.progress import Bars
from simeval.errors import SettingError, clear_exit
from simeval.stats import (
    Estimate,
    clustered_mean,
    clustered_percentile,
    independent_difference,
    paired_difference,
    rate,
    wilson,
)
from simeval.two_way import two_way_difference, two_way_rate

Array = NDArray[np.float64]

DESIGNS = (
    (20, 5), (20, 10), (20, 20), (100, 5), (100, 20), (100, 50), (500, 5), (500, 20), (500, 100),
    (2000, 5), (2000, 20), (2000, 50), (2000, 200),
)  # fmt: skip
"""(trials, objects)."""
CORRELATIONS = (0.0, 0.1, 0.3, 0.6)
FLIPS = {"many flips": (0.3, 0.3), "few flips": (0.05, 0.1), "few objects flip": (0.05, 0.3)}
"""Share of conditions drawn anew for the second generator, and its intra-object correlation."""
WITHIN = 0.8  # spread of the logarithm of a value within an object; the penetration of released grasps has 0.8 in all
BETWEEN = 0.4
SHARPEST = 0.02  # rates are drawn from 2 to 98 %
CROSSED = ((100, 20), (500, 20), (500, 100), (2000, 50), (2000, 200))
"""(trials, objects) that people take part in too: all objects with all people, as evenly as it goes."""
PEOPLE = {"5 people, alike": (5, 0.3), "5 people": (5, 0.8), "20 people": (20, 0.8)}
"""Number of people, and the spread between them of the log odds; that between objects is `OBJECT_SPREAD`."""
OBJECT_SPREAD = 0.8
LOG_ODDS_OF_FLIPS = -2.0
MANY = 20
"""Objects from which on a cell counts as one of many: results/coverage.md says how many of these are as wanted."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What was simulated."""

    method: str
    case: str
    n: int
    objects: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of experiments whose interval held the truth; `width` is the median one, missing where it's infinite."""

    method: str
    case: str
    n: int
    objects: int
    repeats: int
    coverage: float
    width: float | None


def cells() -> list[Cell]:
    """All that is simulated."""
    found = [Cell("wilson", "independent trials", n, n) for n in (20, 50, 100, 500, 2000)]
    for n, k in DESIGNS:
        found += [Cell("rate", f"correlation {c:g}", n, k) for c in CORRELATIONS if c == 0 or n > k]
        found += [Cell("rate", case, n, k) for case in ("logit-normal", "hopeless objects") if n > k]
    for method in ("mean", "p95"):
        found += [Cell(method, "lognormal", n, k) for n, k in DESIGNS]
    found += [Cell("mean", "normal", n, k) for n, k in DESIGNS]
    for case in FLIPS:
        found += [Cell("paired difference", case, n, k) for n, k in DESIGNS]
    for n, k in DESIGNS:
        found += [Cell("difference", f"correlation {c:g}", n, k) for c in (0.1, 0.3) if n > k]
    for method in ("two-way rate", "two-way difference"):
        found += [Cell(method, case, n, k) for n, k in CROSSED for case in PEOPLE]
    return found


def experiments(cell: Cell, repeats: int) -> Iterator[tuple[float, Estimate]]:
    """Yield (truth, estimate) of simulated experiments."""
    key = [ord(c) for c in f"{cell.method} {cell.case}"]
    rng = np.random.default_rng([*key, cell.n, cell.objects])
    names = np.repeat(np.arange(cell.objects), cell.n // cell.objects).tolist()
    draw = {
        "wilson": _independent, "rate": _rate, "mean": _mean, "p95": _p95, "paired difference": _paired,
        "difference": _difference, "two-way rate": _two_way, "two-way difference": _two_way_paired,
    }[cell.method]  # fmt: skip
    for _ in range(repeats):
        yield draw(rng, cell, names)


Draw = Callable[[np.random.Generator, Cell, list[int]], tuple[float, Estimate]]


def _truth(rng: np.random.Generator) -> float:
    return rng.uniform(SHARPEST, 1 - SHARPEST)


def _independent(rng: np.random.Generator, cell: Cell, names: list[int]) -> tuple[float, Estimate]:
    p = _truth(rng)
    return p, wilson(rng.binomial(cell.n, p), cell.n)


def _rate(rng: np.random.Generator, cell: Cell, names: list[int]) -> tuple[float, Estimate]:
    if cell.case == "logit-normal":  # objects' log odds, not their rates, are spread: not the model of `rate`
        centre = rng.normal(0, 1.5)
        own = 1 / (1 + np.exp(-rng.normal(centre, 1, cell.objects)))
        truth = _logit_normal_mean(centre, 1.0)
    elif cell.case == "hopeless objects":  # nothing works on a third of them, on the others any trial may hold
        p = rng.uniform(0.3, 1)
        own, truth = np.where(rng.random(cell.objects) < 1 / 3, 0.0, p), 2 / 3 * p
    else:
        truth, correlation = _truth(rng), float(cell.case.split()[-1])
        own = _beta(rng, truth, correlation, cell.objects)
    return truth, rate((rng.random(cell.n) < own[names]).astype(float), names)


def _beta(rng: np.random.Generator, mean: float, correlation: float, size: int) -> Array:
    if correlation == 0:
        return np.full(size, mean)
    concentration = 1 / correlation - 1
    return rng.beta(mean * concentration, (1 - mean) * concentration, size)


def _logs(rng: np.random.Generator, cell: Cell, names: list[int]) -> Array:
    return rng.normal(0, BETWEEN, cell.objects)[names] + rng.normal(0, WITHIN, cell.n)


def _mean(rng: np.random.Generator, cell: Cell, names: list[int]) -> tuple[float, Estimate]:
    if cell.case == "normal":
        return 0.0, clustered_mean(_logs(rng, cell, names), names)
    return math.exp((BETWEEN**2 + WITHIN**2) / 2), clustered_mean(np.exp(_logs(rng, cell, names)), names)


def _p95(rng: np.random.Generator, cell: Cell, names: list[int]) -> tuple[float, Estimate]:
    truth = math.exp(1.6448536269514722 * math.hypot(BETWEEN, WITHIN))
    return truth, clustered_percentile(np.exp(_logs(rng, cell, names)), names)


def _paired(rng: np.random.Generator, cell: Cell, names: list[int]) -> tuple[float, Estimate]:
    """Generator b does as a does, but where an object's own share of conditions is drawn anew with a rate of 50 %."""
    flips, correlation = FLIPS[cell.case]
    base = rng.beta(2, 1, cell.objects)[names]
    a = rng.random(cell.n) < base
    anew = rng.random(cell.n) < _beta(rng, flips, correlation, cell.objects)[names]
    b = np.where(anew, rng.random(cell.n) < 0.5, a)
    conditions = [str(i) for i in range(cell.n)]
    first, second = (dict(zip(conditions, map(float, x), strict=True)) for x in (a, b))
    found = paired_difference(first, second, dict(zip(conditions, names, strict=True)), resamples=1)
    return flips * (2 / 3 - 1 / 2), found.estimate


def _difference(rng: np.random.Generator, cell: Cell, names: list[int]) -> tuple[float, Estimate]:
    """Two generators on objects of their own, `cell.objects` each, the rates of both drawn evenly."""
    correlation, truths, found = float(cell.case.split()[-1]), [], []
    for _ in range(2):
        truths.append(_truth(rng))
        own = _beta(rng, truths[-1], correlation, cell.objects)[names]
        found.append(rate((rng.random(cell.n) < own).astype(float), names))
    return truths[0] - truths[1], independent_difference(*found)


def _two_way(rng: np.random.Generator, cell: Cell, names: list[int]) -> tuple[float, Estimate]:
    centre = rng.normal(0, 1.5)
    own, people = _crossed(rng, cell, names, centre)
    return _mean_share(cell, centre), two_way_rate((rng.random(cell.n) < own).astype(float), names, people)


def _two_way_paired(rng: np.random.Generator, cell: Cell, names: list[int]) -> tuple[float, Estimate]:
    """As `_paired`, but the share of conditions drawn anew depends on object and person."""
    anew, people = _crossed(rng, cell, names, LOG_ODDS_OF_FLIPS)
    a = rng.random(cell.n) < rng.beta(2, 1, cell.objects)[names]
    b = np.where(rng.random(cell.n) < anew, rng.random(cell.n) < 0.5, a)
    first, second, objects, persons = (
        dict(zip(map(str, range(cell.n)), x, strict=True)) for x in (a * 1.0, b * 1.0, names, people)
    )
    return _mean_share(cell, LOG_ODDS_OF_FLIPS) * (2 / 3 - 1 / 2), two_way_difference(first, second, objects, persons)


def _crossed(rng: np.random.Generator, cell: Cell, names: list[int], centre: float) -> tuple[Array, list[int]]:
    """Trials' own rates (N,), whose log odds are spread between objects and people, and their people."""
    count, spread = PEOPLE[cell.case]
    people = np.arange(cell.n) % count
    odds = centre + rng.normal(0, OBJECT_SPREAD, cell.objects)[names] + rng.normal(0, spread, count)[people]
    return 1 / (1 + np.exp(-odds)), people.tolist()


def _mean_share(cell: Cell, centre: float) -> float:
    return _logit_normal_mean(centre, math.hypot(OBJECT_SPREAD, PEOPLE[cell.case][1]))


def _logit_normal_mean(centre: float, spread: float) -> float:
    """Mean of a rate whose log odds are normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    return float((weights / (1 + np.exp(-centre - spread * nodes))).sum() / weights.sum())


def simulate(cell: Cell, repeats: int) -> Coverage:
    """Return how often the interval of a cell covers."""
    repeats = repeats // 2 if cell.method == "p95" else repeats  # each asks for twenty rates
    hits, widths = 0, []
    for truth, found in experiments(cell, repeats):
        # an experiment that yields no interval (all values equal) counts as a miss
        hits += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    width = float(np.median(widths))
    return Coverage(**asdict(cell), repeats=repeats, coverage=hits / repeats, width=width if width < 1e9 else None)


def page(found: list[Coverage], command: str) -> str:
    """Return the page in Markdown."""
    repeats = max(c.repeats for c in found)
    error = 100 * math.sqrt(0.95 * 0.05 / repeats)
    of_all, of_many = (_counts_text(part) for part in (found, [c for c in found if c.objects >= MANY]))
    parts = [
        "# Coverage of the 95 % intervals\n",
        f"Made by `{command}` (simulated data, {repeats} experiments a number, so ± {error:.1f} points is one's "
        f"standard error; of p95, half as many, ± {math.sqrt(2) * error:.1f}). Wanted: 93 to 97 %. {of_all}; with at "
        f"least {MANY} objects: {of_many}. Too wide is the lesser evil; why a number is off, its section says, and "
        "what else was tried, `simeval/stats.py`. On average over the cases, whose truths a reader doesn't know:\n",
        _averages(found),
    ]
    for method, note in NOTES.items():
        own = [c for c in found if c.method == method]
        cases = list(dict.fromkeys(c.case for c in own))
        table = {(c.n, c.objects, c.case): c for c in own}
        rows = [
            [n, k, *(_cell(table.get((n, k, case))) for case in cases)]
            for n, k in dict.fromkeys((c.n, c.objects) for c in own)
        ]
        parts += [
            f"## {method}\n",
            note + "\n",
            markdown_table(["trials", "objects", *(f"{c} %" for c in cases)], rows),
        ]
    return "\n".join(parts)


def _averages(found: list[Coverage]) -> str:
    """A row for each method: its mean coverage, every case counting alike."""
    rows = []
    for method in NOTES:
        own = [c for c in found if c.method == method]
        parts = [c for c in own if c.objects < MANY], [c for c in own if c.objects >= MANY]
        means = [f"{100 * float(np.mean([c.coverage for c in part])):.1f}" if part else "–" for part in parts]
        rows.append([method, *means, *_counts(own)])
    return markdown_table(
        ["method", f"under {MANY} objects %", f"{MANY} and more %", "93 to 97 %", "below", "above"], rows
    )


def _counts(found: list[Coverage]) -> tuple[int, int, int]:
    """How many are as wanted, below that and above."""
    low, high = (sum(c.coverage < 0.93 for c in found), sum(c.coverage > 0.97 for c in found))
    return len(found) - low - high, low, high


def _counts_text(found: list[Coverage]) -> str:
    good, low, high = _counts(found)
    return f"{good} of {len(found)} lie there, {low} below, {high} above"


NOTES = {
    "wilson": "`wilson`; true rates drawn evenly from 2 to 98 %. In brackets: the median width of the interval.",
    "rate": (
        "`rate`; true rates drawn evenly from 2 to 98 %, objects' own rates beta-distributed about them with the "
        "correlation named; in the last two columns not: log odds spread normally, and a third of the objects on "
        "which nothing works. Where trials are independent (0), few objects can't show it, so the interval is "
        "wider than need be; of 5 objects, none is hopeless in 13 % of the experiments, and nothing in the data tells."
    ),
    "mean": (
        "`clustered_mean`; values whose logarithm has a spread of 0.4 between objects and 0.8 within, about that of "
        "penetrations, and the logarithms themselves. In points: mm, s, … Of values so skewed, few objects make the "
        "interval a little too narrow."
    ),
    "p95": "`clustered_percentile` on the same values, half as many experiments. –: the upper end is infinite.",
    "paired difference": (
        "`paired_difference` of outcomes; 30 or 5 % of the conditions, more on some objects than others (correlation "
        "0.3, 0.1, 0.3), are drawn anew for the second generator. Where few conditions flip there are one or two to "
        "learn from, and the interval is wider than need be, or, of many trials of 5 objects, too narrow; where all "
        "that flip are of a few objects (last column), there are often none of those among up to 50, and nothing in "
        "the data tells."
    ),
    "difference": (
        "`independent_difference` of two `rate`s, each drawn evenly from 2 to 98 %, each of so many trials and objects "
        "of its own. As wide as the intervals that it is made of: with 5 objects wider than need be."
    ),
    "two-way rate": (
        "`two_way_rate`: objects and people both have a say in the log odds (spread between objects "
        f"{OBJECT_SPREAD:g}, between people {PEOPLE['5 people'][1]:g}, between alike ones "
        f"{PEOPLE['5 people, alike'][1]:g}). Five people can't show how alike they are: there it is wider than need be."
    ),
    "two-way difference": (
        "`two_way_difference` of outcomes, of which a share is drawn anew for the second generator that depends on "
        "object and person, as above."
    ),
}


def _cell(found: Coverage | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found.coverage:.1f} ({'–' if found.width is None else f'{found.width:.3f}'})"


def main() -> None:
    """Simulate, then write the page and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--workers", type=int, default=all_cores())
    options = parser.parse_args()
    if options.repeats < 2:
        raise SettingError(f"--repeats must be at least 2, found {options.repeats}")
    options.out.mkdir(parents=True, exist_ok=True)
    work, found = cells(), []
    with ProcessPoolExecutor(options.workers) as pool, Bars({"coverage": len(work)}, "cells") as bars:
        show = bars.callback("coverage")
        for done in pool.map(simulate, work, [options.repeats] * len(work)):
            found.append(done)
            show(len(found), len(work))
    command = "python -m simeval.benchmarks.coverage"
    command += "" if options.repeats == parser.get_default("repeats") else f" --repeats {options.repeats}"
    note = {"command": command, "data_kind": "simulated", "coverage": [asdict(c) for c in found]}
    write_page(options.out, "coverage", note, page(found, command))


if __name__ == "__main__":
    with clear_exit():
        main()
