"""Label a bank's grasps with types, by a measure that needs no simulation; what has no type is left out."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simeval.bank import GraspBank, load_bank, write_bank
from simeval.errors import DataError, SettingError, unknown_name
from simeval.grasp import GraspBatch
from simeval.metrics.types import PAPER_THRESHOLD, commanded_types, paper_references, paper_types
from simeval.objects import ObjectLibrary
from simeval.taxonomy import TAXONOMY_VERSION

MEASURES = ("paper-28d", "commanded")
"""`paper-28d` finds the source paper's three types, `commanded` all six; see `simeval.metrics.types`."""


class Labels(NamedTuple):
    """What a measure made of a bank."""

    types: np.ndarray  # (N,) text, "" where it is of none
    measure: str
    threshold: float
    references: str  # where the grasps or postures come from that it compares with

    @property
    def counts(self) -> Counter[str]:
        """Grasps by type, those of none left out."""
        return Counter(self.types[self.types != ""].tolist())


def label(bank: GraspBank, measure: str, threshold: float | None = None, data: Path | None = None) -> Labels:
    """Return the type of each grasp of a bank.

    Args:
        bank: the types it comes with are not looked at.
        measure: one of `MEASURES`.
        threshold: distance from which a grasp is of no type; by default `PAPER_THRESHOLD`, for `commanded` none.
        data: folder with DexGraspNet's data, where `paper-28d` looks for its references; by default SIMEVAL_DATA.

    Raises:
        SettingError: no such measure, or a threshold that is not above 0.
        DataError: the references can't be read.
    """
    if measure not in MEASURES:
        raise unknown_name("measure", measure, MEASURES)
    if threshold is not None and not threshold > 0:
        raise SettingError(f"the threshold must be above 0, found {threshold}")
    if measure == "commanded":
        limit = np.inf if threshold is None else threshold
        return Labels(commanded_types(bank.grasps.joints, limit), measure, limit, "taxonomy")
    limit = PAPER_THRESHOLD if threshold is None else threshold
    grasps, source = _released(bank, data)
    found = paper_types(bank.grasps.to_vectors(), paper_references(grasps), limit)
    return Labels(found, measure, limit, source)


def write_labelled(path: str | Path, bank: GraspBank, labels: Labels, command: str = "") -> None:
    """Write the grasps that have a type as a bank.

    Raises:
        DataError: none has.
    """
    kept = np.flatnonzero(labels.types != "")
    if not len(kept):
        raise DataError(
            f"none of the {len(bank)} grasps of {bank.source} is nearer than {labels.threshold:g} to a reference of "
            f"{labels.measure}: try a larger --threshold"
        )
    keys = set(zip(bank.codes[kept].tolist(), bank.scales[kept].tolist(), strict=True))
    facts = {
        "measure": labels.measure, "references": labels.references, "taxonomy": TAXONOMY_VERSION,
        "threshold": labels.threshold if np.isfinite(labels.threshold) else None,
    }  # fmt: skip
    meta = {**bank.meta, "data_kind": bank.data_kind, "labels": facts, "command": command}
    write_bank(
        path, bank.codes[kept].tolist(), bank.scales[kept].tolist(), labels.types[kept].tolist(),
        bank.grasps[kept].to_vectors(), bank.shapes if keys <= set(bank.shapes) else None, meta,
    )  # fmt: skip


def _released(bank: GraspBank, data: Path | None) -> tuple[GraspBatch | None, str]:
    """Released grasps to choose references from, where there are any, and where they come from."""
    library = ObjectLibrary(data)
    if library.data is None or not library.dexgraspnet.grasp_codes():
        return None, "taxonomy"
    here = bank.source == str(library.dexgraspnet.root / "dataset")
    return (bank if here else load_bank("released", data)).grasps, "released"
