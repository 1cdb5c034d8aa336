"""One table over many runs and stored tables: per suite the ceilings, the floors, then the others, best first."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from simeval.errors import DataError, SettingError
from simeval.report.summary import ALL, CEILINGS, FLOORS, MetricRow, read_row, summarise
from simeval.report.tables import Grid, interval_note, metric_grid, render
from simeval.store import read_run
from simeval.suites import load_suite

_NAMES = {f.name for f in fields(MetricRow)}
RANKED_BY = ("secure_success", "lift_success", "six_direction_success")
"""The first of these that a generator has ranks it."""


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows of all that was found, and the .json files that hold none."""

    rows: list[MetricRow]
    skipped: list[Path]


def read_entries(paths: Iterable[Path]) -> Entries:
    """Read run folders and the rows of .json files (`simeval table --format json`) below some folders.

    A number that is in several places counts once, the first time; runs come before files.

    Raises:
        DataError: a path doesn't exist, a run can't be read, or there is nothing to rank.
    """
    runs, files = [], []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if path.is_file():
            files.append(path)
            continue
        folders = sorted({p.parent for p in path.rglob("manifest.json")})
        runs += [read_run(folder) for folder in folders]
        files += sorted(p for p in path.rglob("*.json") if not any(p.is_relative_to(folder) for folder in folders))
    rows = summarise([run for run in runs if run.records])
    skipped = []
    for file in dict.fromkeys(files):
        found = _rows(file)
        rows += found
        if not found:
            skipped.append(file)
    unique: dict[tuple[str, str, str, str], MetricRow] = {}
    graspers = {row.suite for row in rows if row.metric in RANKED_BY}  # the rows of classifiers are no rivals
    for row in (row for row in rows if row.suite in graspers):
        if row.group == ALL:
            unique.setdefault((row.suite, row.generator, row.protocol, row.metric), row)
    if not unique:
        raise DataError(
            f"nothing to rank in {', '.join(map(str, paths))}: neither runs nor rows of `simeval table --format json`"
        )
    return Entries(list(unique.values()), skipped)


def render_leaderboard(rows: Sequence[MetricRow], format: str = "md") -> str:
    """Return the ranking in a format of `simeval table`."""
    ordered = ranked(rows)
    grid = metric_grid(ordered, short=False)
    kinds = data_kinds(ordered)
    pairs = list(dict.fromkeys((row.suite, row.generator) for row in ordered))
    place: dict[str, int] = {}
    lines = []
    for (suite, generator), line in zip(pairs, grid.lines, strict=True):
        base = _base(generator)
        kind = "ceiling" if base in CEILINGS else "floor" if base in FLOORS else ""
        if not kind:
            place[suite] = place.get(suite, 0) + 1
        numbers = line[grid.names :]
        lines.append([suite, kinds[suite], kind or str(place[suite]), generator, *numbers])
    shown = Grid(["suite", "data", "rank", "generator", *grid.headers[grid.names :]], lines, 4)
    caption = (
        "Ranked within a suite by secure, else lift, else six-direction success; ceilings and floors aren't ranked. "
        "Brackets: 95 % intervals, objects as clusters; ranks whose intervals overlap may be chance: compare such runs "
        f"with simeval compare{interval_note(ordered)}."
    )
    return render(ordered, [], format, [shown], caption)


def ranked(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """Order rows: by suite, then ceilings, floors and the others, best first."""
    scores: dict[tuple[str, str], float] = {}
    for metric in reversed(RANKED_BY):
        scores |= {(r.suite, r.generator): r.value for r in rows if r.metric == metric and not math.isnan(r.value)}
    special = (*CEILINGS, *FLOORS)

    def key(row: MetricRow) -> tuple[Any, ...]:
        base = _base(row.generator)
        group = special.index(base) if base in special else len(special)
        return row.suite, group, -scores.get((row.suite, row.generator), -1.0), row.generator

    return sorted(rows, key=key)


def data_kinds(rows: Iterable[MetricRow]) -> dict[str, str]:
    """Return the kind of data of each suite, "unknown" for suites that don't come with simeval."""
    kinds = {}
    for suite in dict.fromkeys(row.suite for row in rows):
        try:
            kinds[suite] = str(load_suite(suite.partition(" (")[0]).data_kind)
        except SettingError:
            kinds[suite] = "unknown"
    return kinds


def _base(generator: str) -> str:
    return generator.split(" ")[0]


def _rows(file: Path) -> list[MetricRow]:
    """Rows of a file; none where it holds something else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: {error}") from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(r, dict) and r.keys() >= _NAMES for r in found):
        return []
    return [_row(file, number, r) for number, r in enumerate(found, 1)]


def _row(file: Path, number: int, row: Mapping[str, Any]) -> MetricRow:
    try:
        return read_row(row)
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}, row {number}: {error}") from None
