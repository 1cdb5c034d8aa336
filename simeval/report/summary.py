"""From runs to numbers: one row per generator, protocol, group and metric, with its interval.

Every requested trial is in the denominator of every rate, however it ended. Penetration and CPU time are over
the trials that have one; `n` says how many.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from simeval.records import Outcome, TrialRecord
from simeval.stats import Estimate, clustered_mean, clustered_percentile, rate
from simeval.store import Run

CEILINGS = ("replay", "energy")
FLOORS = ("open-hand", "random", "scoop")
PROTOCOLS = ("lift", "six-direction")  # those that come first; any other follows by name
ALL = "all"  # the group of everything
UNTYPED = "untyped"  # the group of trials that asked for no type
_BLIND = 0xB11D
GroupBy = Literal["type", "object"] | None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One number of a table. Rates are fractions, penetrations mm, times s; NaN where there is nothing.

    In CSV and JSON numbers that aren't finite are empty cells and nulls: `low` and `high` both empty mean that there is
    no interval, one of them alone that nothing bounds it there (few trials don't bound a 95th percentile from above).
    """

    generator: str  # with its variant, and the settings that tell it from others of its name
    suite: str
    protocol: str  # "secure" for what joins lift and six-direction
    group: str
    metric: str
    value: float
    low: float  # 95 % interval; infinite where nothing bounds it
    high: float
    n: int


def read_row(values: Mapping[str, Any]) -> MetricRow:
    """Return a row from what CSV or JSON hold of it; other keys are left out.

    Raises:
        KeyError: a value is missing.
        TypeError, ValueError: one isn't what it should be.
    """
    value, low, high = (math.nan if values[k] in (None, "") else float(values[k]) for k in ("value", "low", "high"))
    if math.isnan(low) != math.isnan(high):
        low, high = (-math.inf, high) if math.isnan(low) else (low, math.inf)
    generator, suite, protocol, group, metric = (
        str(values[k]) for k in ("generator", "suite", "protocol", "group", "metric")
    )
    return MetricRow(generator, suite, protocol, group, metric, value, low, high, int(values["n"]))


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """How one generator's trials of one protocol ended, and under which conditions."""

    generator: str
    suite: str
    protocol: str
    n: int
    counts: dict[str, int]  # outcome -> trials, in the order of `Outcome`, without zeros
    data_kind: str  # real, embedded or synthetic
    conditions: str  # friction, mass, ... in words
    seeds: tuple[int, ...]
    versions: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """The runs that make one row: same generator, variant, suite, settings and versions."""

    label: str
    suite: str
    manifest: Mapping[str, Any]  # of the first run
    seeds: tuple[int, ...]
    records: list[TrialRecord]


def summarise(runs: Sequence[Run], group_by: GroupBy = None) -> list[MetricRow]:
    """Return all metrics of all generators: ceilings, then floors, then the others in the order given.

    Runs of one generator under the same settings (other protocols, other seeds) are joined; a trial that is
    in several counts once. Where settings, physics or versions differ, the generator's name says how.

    Args:
        runs: what `read_run` gave.
        group_by: None for one group of everything, "type" or "object" for one group each.
    """
    rows = []
    for entry in _entries(runs):
        for group, records in _groups(entry.records, group_by).items():
            for protocol, metric, found in _metrics(records):
                rows.append(
                    MetricRow(
                        entry.label, entry.suite, protocol, group, metric,
                        found.value, found.low, found.high, found.n,
                    )
                )  # fmt: skip
    return rows


def can_be_shown(record: TrialRecord) -> bool:
    """Whether a trial has a grasp, of finite numbers."""
    return bool(record.rotation) and bool(np.isfinite([*record.rotation, *record.translation, *record.joints]).all())


def success_metric(protocol: str) -> str:
    """Name of the metric that is the share of a protocol's trials that succeed."""
    return f"{protocol.replace('-', '_')}_success"


def type_blind(runs: Sequence[Run], group_by: GroupBy = None, seed: int = 0) -> list[MetricRow]:
    """Return the type fidelities that the same grasps have where the types are drawn at random: what chance gives.

    Each trial that asked for a type gets one drawn, by `seed`, from all that its run asked for; in the order of the
    trials' ids. Rows as in `summarise`, "type-blind" in the generator's name.
    """
    blind = []
    for run in runs:
        records = sorted(run.records, key=lambda r: r.trial_id)
        asked = [r.grasp_type for r in records if r.grasp_type]
        drawn = iter(np.random.default_rng([_BLIND, seed]).choice(asked, len(asked)).tolist() if asked else [])
        records = [replace(r, grasp_type=next(drawn)) if r.grasp_type else r for r in records]
        variant = f"{run.manifest.get('variant') or ''} type-blind".lstrip()
        blind.append(Run({**run.manifest, "variant": variant}, records))
    return [row for row in summarise(blind, group_by) if row.metric.startswith("type_fidelity")]


def outcome_counts(runs: Sequence[Run]) -> list[OutcomeRow]:
    """Return how often each outcome occurred, per generator and protocol, in the order of `summarise`."""
    rows = []
    for entry in _entries(runs):
        for protocol, records in _by_protocol(entry.records).items():
            counted = Counter(r.outcome for r in records)
            names = [*(str(o) for o in Outcome if o in counted), *sorted(set(counted) - set(Outcome))]
            rows.append(
                OutcomeRow(
                    entry.label, entry.suite, protocol, len(records), {name: counted[name] for name in names},
                    str(entry.manifest.get("data_kind", "unknown")), _conditions(entry.manifest),
                    entry.seeds, _versions(entry.manifest),
                )
            )  # fmt: skip
    return rows


def records_by_name(runs: Sequence[Run]) -> dict[str, list[TrialRecord]]:
    """Return the trials behind each generator's rows of `summarise`, in its order; several suites are named, too."""
    entries = _entries(runs)
    several = len({entry.suite for entry in entries}) > 1
    return {f"{e.label} ({e.suite})" if several else e.label: e.records for e in entries}


# Metrics


def _metrics(records: Sequence[TrialRecord]) -> Iterable[tuple[str, str, Estimate]]:
    """Yield (protocol, metric, estimate); a later metric of the records is one line here."""
    by_protocol = _by_protocol(records)
    for protocol, trials in by_protocol.items():
        yield protocol, success_metric(protocol), _rate(trials, lambda r: r.success)
        if protocol == "six-direction":
            yield protocol, "any_direction_success", _rate(trials, lambda r: r.directions_held >= 1)
        typed = [r for r in trials if r.grasp_type]
        if typed:
            yield protocol, "type_fidelity_commanded", _rate(typed, lambda r: r.commanded_type == r.grasp_type)
            yield protocol, "type_fidelity_achieved", _rate(typed, lambda r: r.achieved_type == r.grasp_type)
        yield protocol, "penetration_mm_mean", _mean(trials, lambda r: r.penetration_mm)
        yield protocol, "penetration_mm_p95", _p95(trials, lambda r: r.penetration_mm)
        yield protocol, "crash_rate", _rate(trials, lambda r: r.outcome in (Outcome.CRASHED, Outcome.TIMEOUT))
        yield protocol, "cpu_s_per_grasp", _mean(trials, lambda r: r.cpu_s)
    both = _secure(by_protocol.get("lift", []), by_protocol.get("six-direction", []))
    if both:
        held = [lift.success and six.success for lift, six in both]
        yield "secure", "secure_success", rate(held, [lift.object_code for lift, _ in both])


def _secure(lifts: Iterable[TrialRecord], sixes: Iterable[TrialRecord]) -> list[tuple[TrialRecord, TrialRecord]]:
    """Pair the trials of the same request in both protocols; those that ran in one only are left out."""
    held = {_request(r): r for r in sixes}
    return [(r, held[_request(r)]) for r in lifts if _request(r) in held]


def _request(record: TrialRecord) -> tuple[str, float, str, int, int]:
    return record.object_code, record.scale, record.grasp_type, record.index, record.seed


def _rate(records: Sequence[TrialRecord], holds: Callable[[TrialRecord], bool]) -> Estimate:
    return rate([holds(r) for r in records], [r.object_code for r in records])


def _mean(records: Sequence[TrialRecord], number: Callable[[TrialRecord], float]) -> Estimate:
    return clustered_mean([float(number(r)) for r in records], [r.object_code for r in records], least=0.0)


def _p95(records: Sequence[TrialRecord], number: Callable[[TrialRecord], float]) -> Estimate:
    return clustered_percentile([float(number(r)) for r in records], [r.object_code for r in records])


# Grouping


def _by_protocol(records: Iterable[TrialRecord]) -> dict[str, list[TrialRecord]]:
    found: dict[str, list[TrialRecord]] = {}
    for record in records:
        found.setdefault(record.protocol, []).append(record)
    order = {name: i for i, name in enumerate(PROTOCOLS)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _groups(records: Sequence[TrialRecord], group_by: GroupBy) -> dict[str, list[TrialRecord]]:
    if group_by is None:
        return {ALL: list(records)}
    found: dict[str, list[TrialRecord]] = {}
    for record in records:
        name = record.object_code if group_by == "object" else record.grasp_type or UNTYPED
        found.setdefault(name, []).append(record)
    return dict(sorted(found.items()))


def _entries(runs: Sequence[Run]) -> list[_Entry]:
    joined: dict[str, list[Run]] = {}
    for run in runs:
        m = run.manifest
        key = json.dumps([m.get("generator"), m.get("variant"), m.get("suite"), _distinguishing(m)])
        joined.setdefault(key, []).append(run)
    entries = [_join(part) for group in joined.values() for part in _without_repeats(group)]
    return sorted(_tell_apart(entries), key=lambda e: _rank(str(e.manifest.get("generator", ""))))


def _without_repeats(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs to be joined; each by itself where one condition was tried with several grasps, which would count twice."""
    tried: dict[tuple[object, ...], str] = {}
    keyed = (((*_request(r), r.protocol, r.physics), r.trial_id) for run in runs for r in run.records)
    if all(tried.setdefault(key, trial) == trial for key, trial in keyed):
        return [list(runs)]
    asked = [str(run.manifest.get("suite_digest", "")) for run in runs]
    names = [text if asked.count(text) == 1 else f"{text}, {i}" for i, text in enumerate(asked, 1)]
    return [
        [Run({**run.manifest, "settings": {**(run.manifest.get("settings") or {}), "requests": name}}, run.records)]
        for run, name in zip(runs, names, strict=True)
    ]


def _join(runs: Sequence[Run]) -> _Entry:
    manifest = runs[0].manifest
    name, variant = str(manifest.get("generator", "unnamed")), str(manifest.get("variant") or "")
    records = {record.trial_id: record for run in runs for record in run.records}
    seeds = sorted({int(run.manifest["seed"]) for run in runs if run.manifest.get("seed") is not None})
    label = f"{name} {variant}".rstrip()
    return _Entry(label, str(manifest.get("suite", "")), manifest, tuple(seeds), list(records.values()))


def _tell_apart(entries: Sequence[_Entry]) -> list[_Entry]:
    """Add the settings that differ to the labels of entries that would else share one."""
    told = []
    for entry in entries:
        rivals = [_distinguishing(e.manifest) for e in entries if (e.label, e.suite) == (entry.label, entry.suite)]
        label = entry.label + _told(_distinguishing(entry.manifest), rivals)
        told.append(_Entry(label, entry.suite, entry.manifest, entry.seeds, entry.records))
    return told


def names_but_for(runs: Sequence[Run], keys: Collection[str]) -> list[str]:
    """Name each run by its generator, with suite and settings where others have other ones, but for some settings."""
    known = [
        {"suite": str(run.manifest.get("suite"))}
        | {k: v for k, v in _distinguishing(run.manifest).items() if k not in keys}
        for run in runs
    ]
    plain = [" ".join(filter(None, (str(r.manifest.get(k) or "") for k in ("generator", "variant")))) for r in runs]
    names = []
    for own, name in zip(known, plain, strict=True):
        names.append(name + _told(own, [k for k, other in zip(known, plain, strict=True) if other == name]))
    return names


def _told(own: Mapping[str, str], rivals: Sequence[Mapping[str, str]]) -> str:
    """What tells one of some rivals from the others, in brackets, with a space before them; nothing where all agree."""
    differing = [k for k in sorted({k for r in rivals for k in r}) if len({r.get(k) for r in rivals}) > 1]
    return " [" + ", ".join(f"{k}={own.get(k, 'default')}" for k in differing) + "]" if differing else ""


def _distinguishing(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What two runs of one generator may differ in and then are two rows, as key -> text."""
    flat = {"data_kind": str(manifest.get("data_kind", "unknown"))}
    flat |= {key: str(manifest[key]) for key in ("fingerprint", "refiner", "executor_digest") if key in manifest}
    for part in ("settings", "physics", "versions"):
        values = manifest.get(part)
        for key, value in (values if isinstance(values, Mapping) else {}).items():
            if key not in ("protocol", "protocols", "workers"):  # runs that differ in these are joined
                name = str(key) if str(key) not in flat else f"{part}.{key}"
                flat[name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return dict(sorted(flat.items()))


def _rank(generator: str) -> int:
    order = (*CEILINGS, *FLOORS)
    return order.index(generator) if generator in order else len(order)


# Conditions in words


def _conditions(manifest: Mapping[str, Any]) -> str:
    physics = manifest.get("physics")
    physics = physics if isinstance(physics, Mapping) else {}
    words = []
    if "friction" in physics:
        words.append(f"friction {_number(physics['friction'])}")
    if physics.get("mass_kg") is not None:
        words.append(f"mass {_number(physics['mass_kg'])} kg")
    elif "density" in physics:
        words.append(f"density {_number(physics['density'])} kg/m³")
    return ", ".join(words)


def _versions(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions")
    return ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, Mapping) else ""


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and math.isfinite(value) else str(value)
