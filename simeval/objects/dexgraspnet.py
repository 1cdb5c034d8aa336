"""DexGraspNet's folder layout: objects (`meshdata`), released grasps (`dataset`), UniDexGrasp's as well."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import numpy as np

from simeval.errors import DataError, unknown_name
from simeval.grasp import GraspBatch
from simeval.objects.build import build_object
from simeval.objects.grasp_files import GraspSet, read_grasps, read_tabletop
from simeval.objects.model import Array, ObjectModel
from simeval.objects.suitability import guess_up, suitable_scales

_GET = "Get it from https://github.com/PKU-EPIC/DexGraspNet, or name another folder: --data or SIMEVAL_DATA."


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """What is known about an object before it is built. Extents and volume are of the unit-size mesh."""

    code: str
    split: str | None  # train, val, test or released; None where no objects.csv says
    category: str | None
    seen_category: bool | None  # whether a train object shares the category; None without categories
    up: tuple[float, float, float]
    extents: tuple[float, float, float]  # sorted
    volume: float
    scales: tuple[float, ...]  # those of DexGraspNet's five at which it suits a hand


class DexGraspNetData:
    """A folder in DexGraspNet's layout, or one with it as `dexgraspnet/`. Files are read when asked for.

    Raises:
        DataError: there is neither `meshdata/` nor `objects.csv` in it.
    """

    def __init__(self, root: str | Path) -> None:
        given = Path(root)
        for folder in (given, given / "dexgraspnet"):
            if (folder / "meshdata").is_dir() or (folder / "objects.csv").is_file():
                self.root = folder
                return
        found = sorted(p.name for p in given.iterdir())[:10] if given.is_dir() else None
        detail = f"found {', '.join(found) or 'an empty folder'}" if found is not None else "no such folder"
        raise DataError(
            f"{given}: no DexGraspNet data, {detail}. Expected meshdata/<code>/coacd/decomposed.obj and "
            f"dataset/<code>.npy in it or in its dexgraspnet/. {_GET}"
        )

    @cached_property
    def _table(self) -> dict[str, ObjectRow]:
        path = self.root / "objects.csv"
        return _read_table(path) if path.is_file() else {}

    @cached_property
    def _codes(self) -> tuple[str, ...]:
        if self._table:
            return tuple(self._table)
        folder = self.root / "meshdata"
        return tuple(sorted(p.name for p in folder.iterdir() if (p / "coacd").is_dir()))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._codes)

    def codes(self, split: str | None = None) -> tuple[str, ...]:
        """Object codes of one split or all: those of objects.csv in its order, else all in meshdata.

        Raises:
            DataError: a split is asked for and there is none of that name.
        """
        if split is None:
            return self._codes
        chosen = tuple(code for code, row in self._table.items() if row.split == split)
        if not chosen:
            splits = sorted({row.split or "" for row in self._table.values()})
            raise DataError(
                f"no object of split {split!r}: " + (f"{self.root / 'objects.csv'} has {', '.join(splits)}"
                if splits else f"{self.root} has no objects.csv to say which object is in which split")
            )  # fmt: skip
        return chosen

    def split(self, code: str) -> str | None:
        """Return the split an object is in (train, val, test, released), None where nothing says."""
        self._check(code)
        return self._table[code].split if code in self._table else None

    def row(self, code: str) -> ObjectRow:
        """Return what is known about an object; without objects.csv it is measured on the mesh."""
        self._check(code)
        return self._table.get(code) or self._measure(code)

    def load(self, code: str, scale: float) -> ObjectModel:
        """Build an object at a scale. Axes as in the mesh, `up` from objects.csv, else `guess_up`.

        Raises:
            SettingError: unknown code.
            DataError: its mesh is missing or unusable.
        """
        self._check(code)
        up = self._table[code].up if code in self._table else guess_up(code)
        return build_object(code, read_pieces(self.root / "meshdata" / code / "coacd"), scale, up)

    def grasp_codes(self) -> tuple[str, ...]:
        """Codes with released grasps in `dataset/`."""
        return tuple(sorted(p.stem for p in (self.root / "dataset").glob("*.npy")))

    def grasps(self, code: str) -> GraspSet:
        """Read `dataset/<code>.npy`.

        Raises:
            DataError: the file is missing, damaged, or holds anything but data.
        """
        if code not in self.grasp_codes():
            have = len(self.grasp_codes())
            other = " It has UniDexGrasp's: tabletop_grasps()." if code in self.tabletop_codes() else ""
            raise DataError(
                f"no grasps of {code!r}: {self.root / 'dataset'} has those of {have} objects.{other} {_GET}"
            )
        return read_grasps(self.root / "dataset" / f"{code}.npy")

    @cached_property
    def _tabletop(self) -> dict[str, Path]:
        for base in (self.root / "unidexgrasp", self.root, self.root.parent / "unidexgrasp"):
            folder = base / "datasetv4.1"
            if folder.is_dir():
                return {f"{p.parent.name}-{p.name}": p for p in sorted(folder.glob("*/*/"))}
        return {}

    def tabletop_codes(self) -> tuple[str, ...]:
        """Codes with UniDexGrasp's tabletop grasps."""
        return tuple(self._tabletop)

    def tabletop_grasps(self, code: str, count: int | None = None) -> GraspSet:
        """Read UniDexGrasp's `datasetv4.1/<source>/<object>/NNNNN.npz`: all, or the first `count` by number.

        Raises:
            DataError: there are none, or a file is damaged.
        """
        if code not in self._tabletop:
            have = ", ".join(list(self._tabletop)[:5]) or "no object"
            raise DataError(f"no UniDexGrasp grasps of {code!r} in {self.root}: found {have}")
        files = sorted(self._tabletop[code].glob("*.npz"), key=lambda p: (len(p.stem), p.stem))[:count]
        rows = [read_tabletop(path) for path in files]
        if not rows:
            raise DataError(f"{self._tabletop[code]}: has no .npz file")
        vectors, scales, planes = (np.array(column) for column in zip(*rows, strict=True))
        return GraspSet(code, scales, GraspBatch.from_vectors(vectors), planes)

    def _check(self, code: str) -> None:
        if code not in self._known:
            raise unknown_name("DexGraspNet object", code, near_codes(code, self._codes), f"In {self.root}.")

    def _measure(self, code: str) -> ObjectRow:
        unit = self.load(code, 1.0)
        corners = np.concatenate([piece.vertices for piece in unit.pieces])
        low, middle, high = sorted(float(e) for e in np.ptp(corners, axis=0))
        extents = (low, middle, high)
        scales = suitable_scales(extents, unit.volume)
        return ObjectRow(code, None, None, None, guess_up(code), extents, unit.volume, scales)


def near_codes(code: str, codes: Sequence[str], count: int = 8) -> list[str]:
    """Return the codes most like one that isn't there (the first ones if none is), for a message."""
    return get_close_matches(code, codes, n=count, cutoff=0.4) or list(codes[:count])


def read_pieces(folder: Path) -> list[tuple[Array, None]]:
    """Read an object's convex pieces: `decomposed.obj` (one `o` group each), else `coacd_convex_piece_*.obj`.

    Raises:
        DataError: neither is there, or a vertex isn't three numbers.
    """
    whole = folder / "decomposed.obj"
    files = [whole] if whole.is_file() else sorted(
        folder.glob("coacd_convex_piece_*.obj"), key=lambda p: (len(p.name), p.name)
    )  # fmt: skip
    if not files:
        found = sorted(p.name for p in folder.iterdir())[:5] if folder.is_dir() else "nothing"
        raise DataError(
            f"{folder}: no mesh. Expected decomposed.obj or coacd_convex_piece_*.obj, found {found}. {_GET}"
        )
    return [(piece, None) for path in files for piece in read_obj_groups(path)]


def read_obj_groups(path: Path) -> list[Array]:
    """Read the vertices (V, 3) of each `o` or `g` group of an OBJ file.

    Raises:
        DataError: unreadable, or a vertex isn't three numbers.
    """
    try:
        text = path.read_text(encoding="ascii", errors="replace")
        chunks = re.split(r"^[og][ \t].*$", text, flags=re.MULTILINE)
        groups = [[line.split()[1:4] for line in chunk.splitlines() if line[:2] == "v "] for chunk in chunks]
        arrays = [np.array(group, dtype=np.float64) for group in groups if group]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable OBJ file ({error})") from None
    if any(array.ndim != 2 or array.shape[1] != 3 for array in arrays):
        raise DataError(f"{path}: a vertex has fewer than 3 coordinates")
    return arrays


def _read_table(path: Path) -> dict[str, ObjectRow]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [_parse_row(row) for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table ({error})") from None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: bad row or missing column ({error}). Columns: code, split, category, seen_category, "
            "up, volume, min_extent, mid_extent, max_extent, scales"
        ) from None
    return {row.code: row for row in rows}


def _parse_row(row: dict[str, str]) -> ObjectRow:
    x, y, z = (float(v) for v in row["up"].split())
    low, middle, high = (float(row[f"{name}_extent"]) for name in ("min", "mid", "max"))
    seen = {"True": True, "False": False}.get(row["seen_category"])
    scales: Sequence[float] = [float(v) for v in row["scales"].split()]
    return ObjectRow(
        row["code"], row["split"] or None, row["category"] or None, seen, (x, y, z), (low, middle, high),
        float(row["volume"]), tuple(scales),
    )  # fmt: skip
