"""Two runs on the same conditions: what differs, how surely, where, and which trials flipped.

Trials are paired by what both were asked for: object, scale, type, index, protocol, physics and seed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simeval.errors import DataError, SettingError, unknown_name
from simeval.records import TrialRecord
from simeval.report.summary import ALL, PROTOCOLS, UNTYPED, success_metric
from simeval.stats import PairedDifference, paired_difference
from simeval.store import Run

IGNORABLE = ("physics", "seed", "index")
"""What two runs may be told to differ in and still be paired."""
SECURE = "secure"
SUCCESS = "success"

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs: its name and its trials."""

    label: str
    manifest: Mapping[str, Any]
    records: Sequence[TrialRecord]


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison of a metric over the pairs of a group. Rates are fractions, penetration mm, times s."""

    protocol: str  # "secure" for what joins lift and six-direction
    group_by: str  # all, type or object
    group: str
    metric: str
    a: float  # mean of a over the pairs
    b: float
    difference: float  # a − b
    low: float  # 95 % interval
    high: float
    n: int  # pairs
    objects: int
    only_a: int | None  # pairs in which only a succeeded; None: not a rate
    only_b: int | None
    p_value: float  # of changing the signs of whole objects
    mcnemar_p: float  # NaN unless a rate with one pair an object
    detectable: float  # difference that so many pairs show with a power of 80 %
    method: str


@dataclass(frozen=True, slots=True)
class Flip:
    """A condition whose outcome is another."""

    protocol: str
    object: str
    scale: float
    type: str
    index: int
    seed: int
    a: str  # outcome
    b: str
    trial_a: str
    trial_b: str
    success_changed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of a comparison."""

    a: str
    b: str
    rows: list[Row]
    flips: list[Flip]
    unmatched_a: int  # trials without a partner
    unmatched_b: int
    differing: dict[str, tuple[str, str]]  # what else the runs differ in: settings, versions, code


_METRICS: dict[str, Callable[[TrialRecord], float]] = {
    SUCCESS: lambda r: float(r.success),
    "any_direction_success": lambda r: float(r.directions_held >= 1),
    "type_fidelity_achieved": lambda r: float(r.achieved_type == r.grasp_type) if r.grasp_type else math.nan,
    "penetration_mm_mean": lambda r: r.penetration_mm,
    "cpu_s_per_grasp": lambda r: r.cpu_s,
}
"""Metric -> its value in a trial; a later one is one line here. NaN is left out, with its pair."""


def compare_sides(a: Side, b: Side, ignore: Sequence[str] = ()) -> Comparison:
    """Compare two runs, paired.

    Args:
        a: the first run.
        b: the second; differences are a − b.
        ignore: names of `IGNORABLE` in which conditions may differ.

    Raises:
        SettingError: an unknown name in `ignore`.
        DataError: a run has no trials, or the runs share no condition; the message says what differs.
    """
    for name in ignore:
        if name not in IGNORABLE:
            raise unknown_name("part of a condition", name, IGNORABLE)
    keyed = _keyed(a, ignore), _keyed(b, ignore)
    shared = sorted(keyed[0].keys() & keyed[1].keys(), key=str)
    if not shared:
        raise DataError(_nothing_shared(a, b, ignore))
    pairs = [(keyed[0][key], keyed[1][key]) for key in shared]
    rows = []
    for protocol in sorted({x.protocol for x, _ in pairs}, key=_protocol_order):
        own = [pair for pair in pairs if pair[0].protocol == protocol]
        rows += [row for metric in _METRICS if (row := _row(protocol, ALL, ALL, metric, own)) is not None]
        for group_by, name_of in _GROUPS.items():
            rows += _grouped(protocol, group_by, name_of, own)
    rows += _secure_rows(pairs)
    flips = [_flip(x, y) for x, y in pairs if x.outcome != y.outcome]
    return Comparison(
        a.label, b.label, rows, flips, len(keyed[0]) - len(shared), len(keyed[1]) - len(shared),
        differing_settings(a.manifest, b.manifest),
    )  # fmt: skip


def sides(run_a: Run, run_b: Run, name_a: str = "A", name_b: str = "B") -> tuple[Side, Side]:
    """Return two runs as sides whose labels differ."""
    labels = [label_of_run(run) for run in (run_a, run_b)]
    if labels[0] == labels[1]:
        labels = [f"{label} ({name})" for label, name in zip(labels, (name_a, name_b), strict=True)]
    return Side(labels[0], run_a.manifest, run_a.records), Side(labels[1], run_b.manifest, run_b.records)


def join_runs(runs: Sequence[Run], where: str) -> Run:
    """Join the runs of one generator (other protocols, other seeds) into one.

    Raises:
        SettingError: they are of several generators.
    """
    labels = list(dict.fromkeys(label_of_run(run) for run in runs))
    if len(labels) > 1:
        raise SettingError(f"{where} holds runs of several generators: {', '.join(labels)}. Name one run's folder.")
    records = {record.trial_id: record for run in runs for record in run.records}
    return Run(runs[0].manifest, list(records.values()))


def differing_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return what two manifests differ in, name -> both values, without what is of no consequence."""
    found = {}
    flat = [_flatten(m) for m in (a, b)]
    for key in dict.fromkeys([*flat[0], *flat[1]]):
        values = tuple(f.get(key, "(not set)") for f in flat)
        if values[0] != values[1]:
            found[key] = (values[0], values[1])
    return found


def _flatten(manifest: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in manifest.items():
        if not prefix and key in ("volatile", "generator", "variant", "origin", "settings", "physics_digest"):
            continue
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def label_of_run(run: Run) -> str:
    """Return the generator of a run, with its variant."""
    return f"{run.manifest.get('generator', 'unnamed')} {run.manifest.get('variant') or ''}".strip()


def _key(record: TrialRecord, ignore: Sequence[str]) -> Key:
    parts = {"physics": record.physics, "seed": record.seed, "index": record.index}
    return (
        record.object_code, record.scale, record.grasp_type, record.protocol,
        *(value for name, value in parts.items() if name not in ignore),
    )  # fmt: skip


def _keyed(side: Side, ignore: Sequence[str]) -> dict[Key, TrialRecord]:
    if not side.records:
        raise DataError(f"{side.label} has no trials yet. The `simeval run` that began it resumes it.")
    found = {_key(record, ignore): record for record in side.records}
    if len(found) < len(side.records):
        twice = len(side.records) - len(found)
        why = f"--ignore {' --ignore '.join(ignore)} makes conditions the same" if ignore else "conditions occur twice"
        raise SettingError(f"{side.label}: {why}, for {twice} of {len(side.records)} trials; name one run's folder.")
    return found


def _nothing_shared(a: Side, b: Side, ignore: Sequence[str]) -> str:
    """Say in what the conditions of two runs differ, and what to do about it."""
    parts = {
        "objects": lambda r: r.object_code, "scales": lambda r: r.scale, "types": lambda r: r.grasp_type or UNTYPED,
        "protocols": lambda r: r.protocol, "physics": lambda r: r.physics, "seed": lambda r: r.seed,
    }  # fmt: skip
    lines = []
    for name, of in parts.items():
        own, other = ({of(r) for r in side.records} for side in (a, b))
        if not own & other and name not in ignore:
            lines.append(f"  {name}: {_some(own)} in {a.label}, {_some(other)} in {b.label}")
    for key, (x, y) in differing_settings(a.manifest, b.manifest).items():
        if key.startswith(("suite", "physics.", "seed")):
            lines.append(f"  {key}: {x} in {a.label}, {y} in {b.label}")
    hint = "Run both on the same suite, physics and seed"
    hints = [name for name in ("physics", "seed") if any(line.startswith(f"  {name}:") for line in lines)]
    if hints:
        hint += f", or pair them all the same with {' '.join(f'--ignore {name}' for name in hints)}"
    listing = "\n".join(lines) or "  only combinations of object, scale, type, index and protocol"
    return f"{a.label} and {b.label} share no condition. They differ in:\n{listing}\n{hint}."


def _some(values: set[Any]) -> str:
    names = sorted(map(str, values))
    return ", ".join(names[:3]) + (f" … ({len(names)})" if len(names) > 3 else "")


Pairs = Sequence[tuple[TrialRecord, TrialRecord]]

_GROUPS: dict[str, Callable[[TrialRecord], str]] = {
    "type": lambda r: r.grasp_type or UNTYPED,
    "object": lambda r: r.object_code,
}


def _protocol_order(name: str) -> tuple[int, str]:
    return (PROTOCOLS.index(name) if name in PROTOCOLS else len(PROTOCOLS)), name


def _grouped(protocol: str, group_by: str, name_of: Callable[[TrialRecord], str], pairs: Pairs) -> list[Row]:
    groups: dict[str, list[tuple[TrialRecord, TrialRecord]]] = {}
    for pair in pairs:
        groups.setdefault(name_of(pair[0]), []).append(pair)
    if group_by == "type" and list(groups) == [UNTYPED]:
        return []
    found = (_row(protocol, group_by, group, SUCCESS, own) for group, own in sorted(groups.items()))
    return [row for row in found if row is not None]


def _row(protocol: str, group_by: str, group: str, metric: str, pairs: Pairs) -> Row | None:
    """Compare one metric; None where no pair has it."""
    if metric == "any_direction_success" and protocol != "six-direction":
        return None
    value = _METRICS[metric]
    keys = [str(i) for i in range(len(pairs))]
    a, b = ({key: value(pair[side]) for key, pair in zip(keys, pairs, strict=True)} for side in (0, 1))
    cluster_of = {key: pair[0].object_code for key, pair in zip(keys, pairs, strict=True)}
    name = success_metric(protocol) if metric == SUCCESS else metric
    return _as_row(protocol, group_by, group, name, a, b, paired_difference(a, b, cluster_of))


def _as_row(
    protocol: str, group_by: str, group: str, metric: str, a: Mapping[str, float], b: Mapping[str, float],
    found: PairedDifference,
) -> Row | None:  # fmt: skip
    kept = [key for key in a if not math.isnan(a[key] - b[key])]
    if not kept:
        return None
    test = found.mcnemar
    valid = test is not None and found.objects == len(kept)
    return Row(
        protocol, group_by, group, metric,
        sum(a[key] for key in kept) / len(kept), sum(b[key] for key in kept) / len(kept),
        found.estimate.value, found.estimate.low, found.estimate.high, found.estimate.n, found.objects,
        test.only_a if test else None, test.only_b if test else None,
        found.p_value, test.p_value if test and valid else math.nan, found.detectable, found.estimate.method,
    )  # fmt: skip


def _secure_rows(pairs: Pairs) -> list[Row]:
    """Compare what holds in lift and in six-direction."""
    by_request: dict[Key, dict[str, tuple[TrialRecord, TrialRecord]]] = {}
    for pair in pairs:
        r = pair[0]
        key = (r.object_code, r.scale, r.grasp_type, r.index, r.seed, r.physics)
        by_request.setdefault(key, {})[r.protocol] = pair
    both = {str(key): found for key, found in by_request.items() if set(PROTOCOLS) <= found.keys()}
    if not both:
        return []
    a, b = (
        {key: float(all(found[p][side].success for p in PROTOCOLS)) for key, found in both.items()} for side in (0, 1)
    )
    cluster_of = {key: found["lift"][0].object_code for key, found in both.items()}
    row = _as_row(SECURE, ALL, ALL, "secure_success", a, b, paired_difference(a, b, cluster_of))
    return [row] if row else []


def _flip(a: TrialRecord, b: TrialRecord) -> Flip:
    return Flip(
        a.protocol, a.object_code, a.scale, a.grasp_type, a.index, a.seed, a.outcome, b.outcome,
        a.trial_id, b.trial_id, a.success != b.success,
    )  # fmt: skip
