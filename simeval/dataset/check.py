"""Check a data set: do its grasps hold again, and is it what it says?"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simeval.bank import GraspBank
from simeval.dataset.grow import distinct
from simeval.errors import DataError, SettingError, SimevalError
from simeval.hand import load_hand
from simeval.manifest import executor_digest
from simeval.objects import ObjectLibrary
from simeval.physics.pool import Task, run_tasks
from simeval.physics.settings import Physics
from simeval.records import Condition, Outcome, Trial, TrialRecord

PROTOCOLS = ("lift", "six-direction")
LIMIT_TOLERANCE = 1e-6  # rad, what float32 takes from a joint limit


@dataclass(slots=True)
class CheckReport:
    """What was found. `faults` says what is wrong; without any the set is as it says."""

    grasps: int
    objects: int  # each scale counted
    types: Counter[str]
    splits: Counter[str]  # objects by DexGraspNet split, "" where no table says
    sampled: int = 0  # grasps tried again
    held: Counter[str] = field(default_factory=Counter)  # of those, by protocol
    differing: list[str] = field(default_factory=list)  # trials whose outcome or type isn't the stored one
    same_executor: bool = True  # whether the set was made with this very executor
    faults: list[str] = field(default_factory=list)


def check_dataset(
    bank: GraspBank, sample: int, seed: int = 0, data: Path | None = None, workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:  # fmt: skip
    """Look through all of a set and simulate a random sample of its grasps again.

    Args:
        bank: a set that `build_dataset` made, or any bank (then only `lift` is expected to succeed).
        sample: how many grasps to try again, in both protocols.
        seed: of the sample.
        data: folder with DexGraspNet's data, where the set is of its objects.
        workers: processes.
        progress: called with (done, total) trials.

    Raises:
        DataError: an object of the sample can't be loaded, the set is empty or of grasps that failed.
        SettingError: `sample` is below 0.
    """
    if sample < 0:
        raise SettingError(f"the sample must be at least 0, found {sample}")
    if not len(bank):
        raise DataError(f"{bank.source} holds no grasp")
    if "achieved" in bank.extra:
        raise DataError(f"{bank.source} holds the grasps of a build that failed: they promise nothing to check")
    library = ObjectLibrary(data)
    report = CheckReport(len(bank), len(bank.objects()), Counter(bank.types.tolist()), _splits(bank, library))
    report.same_executor = bank.meta.get("executor_digest") == executor_digest()
    report.faults += _static_faults(bank)
    if len({split for split in report.splits if split}) > 1:
        report.faults.append(f"objects of several splits in one set: {', '.join(sorted(report.splits))}")
    rows = np.sort(np.random.default_rng(seed).choice(len(bank), min(sample, len(bank)), replace=False))
    report.sampled = len(rows)
    total = len(rows) * len(PROTOCOLS)
    for done, record in enumerate(run_tasks(_tasks(bank, rows, library), workers), start=1):
        report.held[record.protocol] += record.success
        if _differs(bank, record):
            told = f"{record.object_code} at {record.scale:g}, row {record.index}, {record.protocol}"
            report.differing.append(f"{told}: {record.outcome}, as {record.achieved_type or 'no type'}")
        if progress:
            progress(done, total)
    if report.differing:
        report.faults.append(f"{len(report.differing)} of {total} trials did not end as stored")
    return report


def _splits(bank: GraspBank, library: ObjectLibrary) -> Counter[str]:
    try:
        known = library.dexgraspnet
    except SimevalError:  # no data: nothing is known about splits
        return Counter()
    there = set(known.codes())
    return Counter(known.split(code) or "" for code in dict.fromkeys(bank.codes.tolist()) if code in there)


def _static_faults(bank: GraspBank) -> list[str]:
    faults = []
    excess = load_hand().clip(bank.grasps.joints)[1].max(axis=1)
    if (excess > LIMIT_TOLERANCE).any():
        faults.append(f"{int((excess > LIMIT_TOLERANCE).sum())} grasps have joints beyond their limits")
    twice = 0
    for code, scale, kind in bank.counts():
        own = bank.for_object(code, scale, kind)
        twice += len(own) - len(distinct(own))
    if twice:
        faults.append(f"{twice} grasps are near-duplicates of another of the same object and type")
    return faults


def _tasks(bank: GraspBank, rows: NDArray[np.intp], library: ObjectLibrary) -> Iterator[Task]:
    try:
        physics = Physics(**bank.meta.get("physics", {}))
    except TypeError:
        made = bank.meta.get("versions", {}).get("simeval", "?")
        raise DataError(
            f"{bank.source} was made with physical settings that this version of simeval doesn't have: install its own "
            f"(simeval {made})"
        ) from None
    for i in rows.tolist():
        code, scale, kind = str(bank.codes[i]), float(bank.scales[i]), str(bank.types[i]) or None
        model = library.load(code, scale)
        for protocol in PROTOCOLS:
            condition = Condition(code, scale, kind, i, protocol, physics.digest, 0)
            yield Task(Trial(condition, bank.grasps[i], model.digest), model, physics)


def _differs(bank: GraspBank, record: TrialRecord) -> bool:
    stored = bank.extra.get(record.protocol.replace("-", "_"))
    if stored is None:  # a bank: only that it lifts was promised
        return record.protocol == "lift" and not record.success
    outcome = Outcome(str(stored[record.index]))
    return record.outcome != outcome or record.achieved_type != record.grasp_type
