"""The gate: is a run no worse than a baseline, by a margin that was stated beforehand?

A baseline with every trial's outcome is compared pair by pair; one with rates only (`simeval table --format json`) by
the difference of two independent rates. Not worse means: no trial that succeeded fails now, or the lower end of the
95 % interval of the difference lies above −margin (non-inferiority, one-sided at 2.5 %: ICH E9, 3.3.2).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from simeval.errors import DataError, SettingError
from simeval.files import completed, json_text
from simeval.records import Outcome, TrialRecord
from simeval.report.compare import ALL, Comparison, Flip, Row, Side, compare_sides, label_of_run
from simeval.report.summary import MetricRow, read_row, success_metric, summarise
from simeval.stats import Estimate, independent_difference
from simeval.store import Run

FORMAT = "simeval-baseline-1"
MARGIN = 0.1
COLUMNS = (
    "condition_id", "object_code", "scale", "grasp_type", "index", "protocol", "physics", "seed", "outcome", "trial_id",
)  # fmt: skip
_KINDS = {name: kind for name, kind in get_type_hints(TrialRecord).items() if name in COLUMNS}
_MANIFEST = (
    "generator", "variant", "suite", "suite_version", "suite_digest", "data_kind", "physics", "executor_digest", "seed",
    "versions", "fingerprint",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of one protocol. Rates are fractions."""

    protocol: str
    passed: bool
    why: str
    run: float
    baseline: float
    difference: float  # run − baseline
    low: float
    high: float
    n: int  # pairs; without pairs the smaller number of trials
    lost: int | None  # trials that succeeded and don't now; None without pairs
    gained: int | None
    paired: bool


@dataclass(frozen=True, slots=True)
class GateResult:
    """Verdicts, and every trial whose success changed."""

    passed: bool
    margin: float
    verdicts: list[Verdict]
    flips: list[Flip]  # a is the run, b the baseline
    differing: dict[str, tuple[str, str]]


def write_baseline(run: Run, path: Path, command: str) -> None:
    """Write a run's outcomes, one line a trial.

    Raises:
        DataError: the run has no trials, or the file can't be written.
    """
    if not run.records:
        raise DataError("the run has no trials yet: there is nothing to make a baseline of")
    kept = {key: run.manifest[key] for key in _MANIFEST if key in run.manifest}
    trials = ",\n".join(json.dumps([getattr(r, name) for name in COLUMNS]) for r in run.records)
    head = json.dumps({"format": FORMAT, "command": command, "manifest": kept, "columns": COLUMNS}, indent=1)
    with completed(path) as unfinished:
        unfinished.write_text(f'{head[:-2]},\n "trials": [\n{trials}\n]}}\n', encoding="utf-8")


def read_baseline(path: Path) -> Side | list[MetricRow]:
    """Read a baseline: a side with its trials, or the rows of a table.

    Raises:
        DataError: there is no such file, or it is neither.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "`simeval gate --run RUN --write FILE` makes one."
        raise DataError(f"--baseline {path}: {error.strerror}. {hint}") from error
    except ValueError as error:
        raise DataError(f"--baseline {path} is not JSON: {error}") from None
    if isinstance(found, dict) and found.get("format") == FORMAT:
        return _side(found, path)
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise DataError(
            f"--baseline {path} is no baseline: neither of `simeval gate --write` nor of `simeval table --format json`"
        )
    try:
        return [read_row(row) for row in found]
    except KeyError as error:
        raise DataError(f"--baseline {path} is no table of `simeval table --format json`: no {error} in it") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"--baseline {path}: {error}") from None


def gate(
    run: Run, baseline: Side | Sequence[MetricRow], margin: float = MARGIN, max_lost: int | None = None
) -> GateResult:
    """Compare a run with a baseline.

    Args:
        run: the run to judge.
        baseline: what `read_baseline` gave.
        margin: how much worse a success rate may be, as a fraction.
        max_lost: also fail where more trials than this succeeded in the baseline and don't now; None: no limit.

    Raises:
        SettingError: a margin that is none, or a limit that needs pairs where there are none.
        DataError: the run lacks conditions, protocols or trials of the baseline.
    """
    if not 0 < margin < 1:
        raise SettingError(f"--margin {margin:g}: expected a fraction between 0 and 1, such as 0.05 for 5 points")
    if isinstance(baseline, Side):
        return _paired(run, baseline, margin, max_lost)
    if max_lost is not None:
        raise SettingError("--max-lost needs a baseline with trials (`simeval gate --write`); this one has rates only")
    return _unpaired(run, baseline, margin)


def label_of(baseline: Side | Sequence[MetricRow]) -> str | None:
    """Return the generator, with its variant, that a baseline is of; None where it has several."""
    if isinstance(baseline, Side):
        return baseline.label
    names = {row.generator for row in baseline}
    return names.pop() if len(names) == 1 else None


def _paired(run: Run, baseline: Side, margin: float, max_lost: int | None) -> GateResult:
    own = Side("the run", run.manifest, run.records)
    found: Comparison = compare_sides(own, baseline)
    if found.unmatched_b:
        total = len(baseline.records)
        raise DataError(
            f"the run lacks {found.unmatched_b} of the baseline's {total} conditions. If it was interrupted, the same "
            "`simeval run` resumes it; if the suite has changed, make a new baseline with `simeval gate --write`."
        )
    rows = [r for r in found.rows if r.group_by == ALL and r.metric == success_metric(r.protocol)]
    verdicts = [_verdict_of_pairs(row, margin, max_lost) for row in rows]
    flips = [flip for flip in found.flips if flip.success_changed]
    return GateResult(all(v.passed for v in verdicts), margin, verdicts, flips, found.differing)


def _verdict_of_pairs(row: Row, margin: float, max_lost: int | None) -> Verdict:
    lost, gained = int(row.only_b or 0), int(row.only_a or 0)
    if max_lost is not None and lost > max_lost:
        passed, why = False, f"{lost} trials lost, {max_lost} allowed"
    elif lost == 0:
        passed, why = True, "no trial lost"
    else:
        passed, why = _judge(row.difference, row.low, margin)
    return Verdict(
        row.protocol, passed, why, row.a, row.b, row.difference, row.low, row.high, row.n, lost, gained, True
    )


def _judge(difference: float, low: float, margin: float) -> tuple[bool, str]:
    points = f"{100 * margin:g} points"
    if low > -margin:
        return True, f"not worse by {points} or more"
    if difference <= -margin:
        return False, f"worse by {points} or more"
    return False, f"can't exclude that it is worse by {points}: more trials, or a wider margin, would tell"


def _unpaired(run: Run, rows: Sequence[MetricRow], margin: float) -> GateResult:
    own = {(r.protocol, r.metric): r for r in summarise([run])}
    label = label_of_run(run)
    names = sorted({row.generator for row in rows})
    mine = [row for row in rows if row.generator == label and row.group == ALL]
    if not mine:
        raise DataError(f"the baseline has no rows of {label!r}; it has: {', '.join(names)}")
    verdicts = []
    for row in mine:
        if row.metric != success_metric(row.protocol):
            continue
        now = own.get((row.protocol, row.metric))
        if now is None:
            raise DataError(f"the baseline has {row.metric} and the run hasn't: run protocol {row.protocol} too")
        if not all(map(math.isfinite, (row.value, row.low, row.high))):
            raise DataError(f"the baseline's {row.metric} has no value, or no interval")
        if not (0 <= row.low <= row.value <= row.high <= 1 and row.n > 0):
            raise DataError(
                f"the baseline's {row.metric} is no rate: {row.value:g} [{row.low:g}, {row.high:g}] of {row.n}"
            )
        if row.suite != now.suite:
            raise DataError(f"the baseline is of suite {row.suite!r}, the run of {now.suite!r}: they don't compare")
        a, b = (Estimate(r.value, r.low, r.high, r.n, "") for r in (now, row))
        found = independent_difference(a, b)
        passed, why = _judge(found.value, found.low, margin)
        verdicts.append(
            Verdict(
                row.protocol, passed, why, a.value, b.value, found.value, found.low, found.high, found.n,
                None, None, False,
            )
        )  # fmt: skip
    if not verdicts:
        raise DataError(f"the baseline has no success rate of {label!r}")
    return GateResult(all(v.passed for v in verdicts), margin, verdicts, [], {})


def _side(found: Mapping[str, Any], path: Path) -> Side:
    manifest = found.get("manifest")
    columns, trials = found.get("columns"), found.get("trials")
    if not isinstance(manifest, dict) or not isinstance(trials, list) or columns != list(COLUMNS):
        raise DataError(f"--baseline {path} is not whole: `simeval gate --write` makes it anew")
    records = []
    for number, values in enumerate(trials, 1):
        if not isinstance(values, list) or len(values) != len(COLUMNS):
            raise DataError(f"--baseline {path}: trial {number} has not {len(COLUMNS)} values")
        wrong = [name for name, value in zip(COLUMNS, values, strict=True) if type(value) is not _KINDS[name]]
        if wrong:
            raise DataError(f"--baseline {path}: trial {number} has ill-typed {', '.join(wrong)}")
        record = TrialRecord(**dict(zip(COLUMNS, values, strict=True)))
        if record.outcome not in set(Outcome):
            raise DataError(f"--baseline {path}: trial {number} has the unknown outcome {record.outcome!r}")
        records.append(record)
    return Side(label_of_run(Run(manifest, records)), manifest, records)


def render_gate(result: GateResult, format: str = "text") -> str:
    """Return a verdict as text, or as JSON."""
    if format == "json":
        return json_text(asdict(result))
    lines = []
    for v in result.verdicts:
        counts = f"{v.n} pairs, {v.lost} lost, {v.gained} gained" if v.paired else f"unpaired, {v.n} trials"
        lines.append(
            f"{'pass' if v.passed else 'FAIL'}  {v.protocol}: {100 * v.run:.1f} % now, {100 * v.baseline:.1f} % in the "
            f"baseline, {100 * v.difference:+.1f} points [{100 * v.low:+.1f}, {100 * v.high:+.1f}] ({counts}): {v.why}"
        )
    for flip in result.flips:
        lines.append(
            f"  {'gained' if flip.a == Outcome.LIFTED else 'lost'}  {flip.protocol} {flip.object} at {flip.scale:g}, "
            f"{flip.type or 'any type'}, grasp {flip.index}: {flip.b} then, {flip.a} now (trial {flip.trial_a})"
        )
    if result.flips and result.differing:
        lines.append(
            "different since: " + "; ".join(f"{k} {b} then, {a} now" for k, (a, b) in result.differing.items())
        )
    lines.append(f"gate {'passed' if result.passed else 'FAILED'} (margin {100 * result.margin:g} points)")
    return "\n".join(lines) + "\n"
