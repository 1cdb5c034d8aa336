"""From end-to-end trials to numbers: rates, losses and differences, each with its interval; stage times.

Every trial is in the denominator of every rate, however it ended, but for `accepted_success`, whose `n` says how many
were decided. Intervals are clustered by object and by subject, or by session where a single subject is tested; those of
references, which hear no signal, by object alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simeval.errors import DataError
from simeval.report.summary import MetricRow
from simeval.stats import Estimate, rate
from simeval.store import read_manifest, read_records
from simeval.trials.records import END_TO_END, STAGES, EndToEnd, Fate
from simeval.trials.signals import PROTOCOLS
from simeval.two_way import two_way_difference, two_way_mean, two_way_rate

RIGHT_LIFTED, LIFTED, RIGHT_TYPE = "right_lifted_success", "lifted_success", "right_type_rate"
ACHIEVED, REJECTED, ACCEPTED, HEARD = "achieved_type_rate", "rejected_rate", "accepted_success", "signals_mean"
ORDER = ("oracle", "argmax", "reject", "weighted", "random-type", "type-blind")
"""Policies that come first."""
BASES = ("oracle", "argmax")
"""Policies that the others' differences are from: what is lost to a wrong decision, what is won by a policy."""
_OF_A_ROW = ("generator", "refine", "suite", "intents", "protocol", "policy")
"""What every row's manifest says in words."""
_TELLING = ("grasps", "emg", "emg_model_name", "emg_digest", "predictor", "seed", "count")
"""Keys of a row's manifest in which rows of one generator may differ; `grasps` names its settings and the physics."""
TARGET_S = 0.5
"""CPU seconds from signal to first command, without refinement, on one core."""
_KNOWN = tuple(PROTOCOLS)
FATES: dict[Fate, str] = {fate: f"share_{fate.name.lower()}_rate" for fate in Fate}


@dataclass(frozen=True, slots=True)
class RowTrials:
    """One row's trials, and what was asked for."""

    manifest: dict[str, Any]
    records: list[EndToEnd]
    told: str = ""  # what tells it from others of its name

    @property
    def generator(self) -> str:
        """Generator and refiner, and what else it takes to tell it from others."""
        refine = self.manifest["refine"]
        told = f" [{self.told}]" if self.told else ""
        return self.manifest["generator"] + (f" +refine {refine}" if refine else "") + told

    @property
    def suite(self) -> str:
        """Suite, and how intents were drawn where not from its requests."""
        return self.manifest["suite"] + (" (uniform)" if self.manifest["intents"] == "uniform" else "")


def read_rows(paths: Iterable[Path]) -> list[RowTrials]:
    """Read rows, in the tables' order: each path is the folder of one, or has some below it.

    Raises:
        DataError: a path doesn't exist or has none.
    """
    folders: dict[Path, Path] = {}  # once each, however often they are named
    for path in paths:
        below = sorted(file.parent for file in path.rglob(END_TO_END.manifest))
        if not below:
            what = "has no end-to-end trials in it" if path.is_dir() else "no such folder"
            raise DataError(f"{path}: {what}. `simeval trials run` prints the folder that it writes.")
        folders |= {folder.resolve(): folder for folder in below}
    found = [RowTrials(_manifest(f), read_records(f, END_TO_END)) for f in folders.values()]
    return sorted(_tell_apart(found), key=_place)


def _tell_apart(rows: Sequence[RowTrials]) -> list[RowTrials]:
    """Add to the names of rows that would be one line of a table what they differ in."""
    told = []
    for row in rows:
        rivals = [r for r in rows if (r.generator, r.suite) == (row.generator, row.suite)]
        lines = {(r.manifest["protocol"], r.manifest["policy"]) for r in rivals}
        values = {key: {str(r.manifest.get(key)) for r in rivals} for key in _TELLING}
        differing = [key for key, found in values.items() if len(found) > 1 and len(lines) < len(rivals)]
        told.append(replace(row, told=", ".join(f"{key}={row.manifest.get(key)}" for key in differing)))
    return told


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder, END_TO_END)
    missing = [key for key in _OF_A_ROW if not isinstance(manifest.get(key), str)]
    if missing:
        raise DataError(f"{folder / END_TO_END.manifest} is damaged: it doesn't say {', '.join(missing)}")
    return manifest


def _place(row: RowTrials) -> tuple[Any, ...]:
    m = row.manifest
    orders = (("protocol", _KNOWN), ("policy", ORDER))
    ranks = [names.index(m[key]) if m[key] in names else len(names) for key, names in orders]
    return row.generator, m["suite"], m["intents"], ranks[0], m["protocol"], ranks[1], m["policy"]


def summarise(rows: Sequence[RowTrials]) -> list[MetricRow]:
    """Return every number of every row; `group` is the policy."""
    return [
        MetricRow(
            row.generator, row.suite, row.manifest["protocol"], row.manifest["policy"], metric,
            found.value, found.low, found.high, found.n,
        )
        for row in rows for metric, found in _metrics(row, rows)
    ]  # fmt: skip


def _metrics(row: RowTrials, rows: Sequence[RowTrials]) -> Iterable[tuple[str, Estimate]]:
    records = row.records
    yield RIGHT_LIFTED, _rate(records, lambda r: r.fate == Fate.RIGHT)
    yield LIFTED, _rate(records, lambda r: r.lifted)
    yield RIGHT_TYPE, _rate(records, lambda r: r.right_type)
    yield ACHIEVED, _rate(records, lambda r: r.achieved_type == r.intent)
    yield REJECTED, _rate(records, lambda r: r.fate == Fate.UNDECIDED)
    yield ACCEPTED, _rate([r for r in records if r.fate != Fate.UNDECIDED], lambda r: r.fate == Fate.RIGHT)
    yield HEARD, two_way_mean([float(r.heard) for r in records], *_clusters(records), least=0.0)
    for fate, metric in FATES.items():
        yield metric, _rate(records, lambda r, fate=fate: r.fate == fate)  # type: ignore[misc]
    for base in BASES:
        other = next((o for o in rows if o.manifest["policy"] == base and _comparable(row, o)), None)
        if other is not None and other is not row:
            yield f"{RIGHT_LIFTED}_minus_{base}", difference(row.records, other.records)


def difference(a: Sequence[EndToEnd], b: Sequence[EndToEnd]) -> Estimate:
    """Difference in right type and lifted, a − b, over the scenes that both have."""
    objects, signals = _clusters(a)
    return two_way_difference(
        {str(r.number): float(r.fate == Fate.RIGHT) for r in a},
        {str(r.number): float(r.fate == Fate.RIGHT) for r in b},
        {str(r.number): name for r, name in zip(a, objects, strict=True)},
        {str(r.number): name for r, name in zip(a, signals, strict=True)},
    )  # fmt: skip


def _comparable(a: RowTrials, b: RowTrials) -> bool:
    """Whether equal numbers are the same scene and recording."""
    keys = ("grasps", "suite_digest", "intents", "emg_digest", "emg_model", "protocol", "seed", "count")
    return all(a.manifest[key] == b.manifest[key] for key in keys)


def _rate(records: Sequence[EndToEnd], holds: Callable[[EndToEnd], bool]) -> Estimate:
    held = [holds(r) for r in records]
    objects, signals = _clusters(records)
    return two_way_rate(held, objects, signals) if any(r.heard for r in records) else rate(held, objects)


def _clusters(records: Sequence[EndToEnd]) -> tuple[list[str], list[str]]:
    """Objects, and who or when the signals are from."""
    several = len({r.subject for r in records}) > 1
    return [r.object_code for r in records], [r.subject if several else r.session for r in records]


# Losses and outcomes


def losses(records: Sequence[EndToEnd]) -> dict[Fate, float]:
    """Share of trials of each fate; they sum to one."""
    counted = Counter(r.fate for r in records)
    return {fate: counted[fate] / len(records) if records else float("nan") for fate in Fate}


def outcome_matrix(records: Sequence[EndToEnd]) -> tuple[list[str], list[str], np.ndarray]:
    """Intents (R), outcomes (C) and counts (R, C); lifted ones apart by whether the type was right."""
    intents = sorted({r.intent for r in records})
    names = [_ended(r) for r in records]
    columns = sorted(set(names), key=lambda name: (name not in tuple(Fate), name))
    counts = np.zeros((len(intents), len(columns)), dtype=int)
    for record, name in zip(records, names, strict=True):
        counts[intents.index(record.intent), columns.index(name)] += 1
    return intents, columns, counts


def _ended(record: EndToEnd) -> str:
    return str(record.fate) if record.lifted else record.outcome


def stage_times(rows: Sequence[RowTrials]) -> dict[str, tuple[float, float, int]]:
    """Median, 95th percentile [CPU s] and number of the trials that have a time, by stage; "chain" is without refining.

    Of policies that listen only, as the references know or guess the type.
    """
    records = [r for row in rows for r in row.records if r.heard]
    found = {}
    for name in (*STAGES, "chain_s"):
        values = np.array([getattr(r, name) for r in records])
        values = values[np.isfinite(values)]
        if len(values):
            found[name] = (float(np.median(values)), float(np.percentile(values, 95)), len(values))
    return found
