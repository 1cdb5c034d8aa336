"""Between a data set's Parquet file and DexGraspNet's folder of .npy files."""

from pathlib import Path

import numpy as np

from simeval.bank import GraspBank, write_bank
from simeval.errors import DataError
from simeval.files import make_folder
from simeval.objects import write_grasps


def export_npy(bank: GraspBank, folder: Path) -> int:
    """Write one `<object code>.npy` an object, in DexGraspNet's format; return how many.

    That format has no place for types and outcomes.

    Raises:
        DataError: the folder can't be made, or has .npy files in it already; an object's code is a path.
    """
    codes = dict.fromkeys(bank.codes.tolist())
    for code in codes:
        if Path(code).name != code:
            raise DataError(f"{bank.source}: object {code!r} can't name a file of a folder")
    make_folder(folder)
    if any(folder.glob("*.npy")):
        raise DataError(f"{folder} has .npy files in it already: name a new folder")
    for code in codes:
        rows = np.flatnonzero(bank.codes == code)
        write_grasps(folder / f"{code}.npy", bank.scales[rows], bank.grasps[rows])
    return len(codes)


def import_bank(bank: GraspBank, path: Path, command: str = "") -> None:
    """Write any bank, such as a folder of .npy files, as a Parquet file."""
    vectors = bank.grasps.to_vectors() if bank.vectors is None else bank.vectors
    meta = {**bank.meta, "data_kind": bank.data_kind, "command": command}
    shapes = bank.shapes if set(bank.objects()) <= set(bank.shapes) else None
    write_bank(
        path, bank.codes.tolist(), bank.scales.tolist(), bank.types.tolist(), vectors, shapes, meta, bank.extra
    )  # fmt: skip
