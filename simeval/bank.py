"""Grasp banks: tables of grasps known for objects, which other generators replay, open or transfer.

A bank is DexGraspNet's released grasps, UniDexGrasp's tabletop grasps, or a Parquet file that `write_bank` made,
with one row per grasp: `object`, `scale`, `type`, `grasp` (28 float32 or float64 in the order of `grasp.VECTOR_NAMES`)
and, for retrieval, the object's bounding box `low`, `high` [m], centre of mass `center` [m],
`volume` [m³] and `up`.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simeval.errors import DataError, SimevalError, unknown_name
from simeval.files import completed
from simeval.grasp import VECTOR_NAMES, Array, GraspBatch
from simeval.objects.dexgraspnet import DexGraspNetData
from simeval.objects.grasp_files import GraspSet, read_grasps
from simeval.objects.model import ObjectModel
from simeval.records import digest_arrays

if TYPE_CHECKING:
    import pyarrow as pa

BANK_SCHEMA = 1
DATA_BANKS = ("released", "unidexgrasp")
"""Banks that are DexGraspNet's own data. Those that come with simeval are named by their files, see `bank_names`; any
other is the path of a Parquet file or of a folder with DexGraspNet's .npy files."""
DEFAULT_BANK = "embedded"
_SHAPE_VECTORS = ("low", "high", "center", "up")
_META_KEY = b"simeval_bank"
_BUILD = "`simeval dataset build` makes one."


class ObjectShape(NamedTuple):
    """What retrieval compares of an object, in its own frame at its scale."""

    low: Array  # (3,) m, bounding box
    high: Array  # (3,) m
    center: Array  # (3,) m, of mass
    volume: float  # m³
    up: Array  # (3,) unit


@dataclass(frozen=True, slots=True, eq=False)
class GraspBank:
    """A table of grasps, in file order."""

    source: str  # where it comes from: a path, as the user would name it
    data_kind: str  # "embedded" (no download) or "real" (DexGraspNet's objects)
    codes: NDArray[np.str_]  # (N,) object of each grasp
    scales: Array  # (N,)
    types: NDArray[np.str_]  # (N,) a name of simeval.taxonomy, "" where nobody said
    grasps: GraspBatch  # N
    shapes: Mapping[tuple[str, float], ObjectShape] = field(default_factory=dict)  # may lack some or all
    meta: Mapping[str, Any] = field(default_factory=dict)  # how it was made: versions, command, physics
    vectors: Array | None = None  # (N, 28) as in the file, in the order of VECTOR_NAMES; None where it isn't one file
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # (N,) columns that only data sets have

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def digest(self) -> str:
        """16 hex digits that name the contents."""
        names = np.array([f"{c}\t{t}" for c, t in zip(self.codes, self.types, strict=True)], dtype="U")
        return digest_arrays(names, self.scales, self.grasps.joints, self.grasps.rotation, self.grasps.translation)

    @property
    def has_types(self) -> bool:
        """Whether any grasp says its type."""
        return bool((self.types != "").any())

    def objects(self) -> list[tuple[str, float]]:
        """Codes and scales that have grasps, in file order."""
        pairs = zip(self.codes.tolist(), self.scales.tolist(), strict=True)
        return list(dict.fromkeys(pairs))

    def counts(self) -> dict[tuple[str, float, str], int]:
        """Number of grasps by object, scale and type."""
        found: dict[tuple[str, float, str], int] = {}
        for key in zip(self.codes.tolist(), self.scales.tolist(), self.types.tolist(), strict=True):
            found[key] = found.get(key, 0) + 1
        return found

    def rows(self, code: str, scale: float, grasp_type: str | None = None) -> NDArray[np.intp]:
        """Rows of an object at a scale, in file order; of one type, or of all."""
        match = (self.codes == code) & np.isclose(self.scales, scale, rtol=1e-4)
        return np.flatnonzero(match if grasp_type is None else match & (self.types == grasp_type))

    def for_object(self, code: str, scale: float, grasp_type: str | None = None) -> GraspBatch:
        """Grasps of an object at a scale, in file order; of one type, or of all (none: an empty batch)."""
        return self.grasps[self.rows(code, scale, grasp_type)]


def bank_names() -> list[str]:
    """Names of all banks: those that come with simeval, and DexGraspNet's data."""
    return [*sorted(_shipped()), *DATA_BANKS]


def load_bank(bank: str | Path = "", data: Path | None = None, codes: Collection[str] | None = None) -> GraspBank:
    """Read a bank, by name or path; "" is the embedded one. `codes` limits it to some objects.

    Args:
        bank: `released` (DexGraspNet's `dataset/*.npy`), `unidexgrasp` (its tabletop grasps), one that comes with
            simeval (`embedded`, …), the path of a .parquet file, of a folder with .npy files, or of a run's folder.
        data: folder with DexGraspNet's data; by default the one SIMEVAL_DATA names.
        codes: objects to read; reading a folder of thousands takes minutes.

    Raises:
        SettingError: no bank has this name.
        DataError: its file or data isn't there, or is damaged.
    """
    name = str(bank) or DEFAULT_BANK
    wanted = None if codes is None else frozenset(codes)
    if name == "unidexgrasp":
        found = _dexgraspnet(data)
        have = [c for c in found.tabletop_codes() if wanted is None or c in wanted]
        return _from_sets((found.tabletop_grasps(c) for c in have), f"{found.root} (UniDexGrasp)")
    path = _path(name, data)
    if path.suffix == ".parquet" or _is_run(path):
        whole = _read_run(path, _changed(path)) if _is_run(path) else _read_parquet(path, _changed(path))
        return whole if wanted is None else _select(whole, np.flatnonzero(np.isin(whole.codes, list(wanted))))
    kept = [p for p in _grasp_files(path) if wanted is None or p.stem in wanted]
    return _from_sets((read_grasps(p) for p in kept), str(path))


@lru_cache(maxsize=8)
def object_bank(bank: str, data: Path | None, code: str) -> GraspBank:
    """Return the rows of one object, kept per process. Arguments and errors as in `load_bank`."""
    return load_bank(bank, data, (code,))


def bank_fingerprint(bank: str | Path = "", data: Path | None = None) -> str:
    """16 hex digits that name a bank's files; those of a folder are read, not parsed. Errors as in `load_bank`."""
    name = str(bank) or DEFAULT_BANK
    if name == "unidexgrasp":
        return load_bank(name, data).digest
    path = _path(name, data)
    if _is_run(path):
        return load_bank(name, data).digest
    if path.suffix == ".parquet":
        _read_parquet(path, _changed(path))  # a damaged one is to be found before anything is tried; kept for later
    content = hashlib.sha256()
    for file in [path] if path.suffix == ".parquet" else _grasp_files(path):
        content.update(file.name.encode() if path.is_dir() else b"")
        content.update(file.read_bytes())
    return content.hexdigest()[:16]


def write_bank(
    path: str | Path,
    codes: Sequence[str],
    scales: Sequence[float],
    types: Sequence[str],
    vectors: Array,
    shapes: Mapping[tuple[str, float], ObjectShape] | None = None,
    meta: Mapping[str, Any] | None = None,
    extra: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write a bank as Parquet, atomically.

    Args:
        path: a file that ends in .parquet.
        codes: object of each grasp (N).
        scales: (N).
        types: (N), "" where there is none.
        vectors: (N, 28), in the order of `grasp.VECTOR_NAMES`. `load_bank` gives exactly
            `GraspBatch.from_vectors(vectors)`: grasps that were tried in any other form are not the same bit for bit.
        shapes: by code and scale, for retrieval; of every object or of none.
        meta: how the grasps were made, as JSON types; `data_kind` says "embedded" or "real".
        extra: (N,) further columns by name, numbers or text.

    Vectors that are float32 numbers, all of them, are stored as such, in half the space.

    Raises:
        DataError: it can't be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    flat: NDArray[np.floating] = np.ascontiguousarray(vectors, dtype=np.float64)
    with np.errstate(over="ignore"):
        single = flat.astype(np.float32)
    if np.array_equal(single, flat):
        flat = single
    keys = [(code, float(scale)) for code, scale in zip(codes, scales, strict=True)]
    columns: dict[str, Any] = {
        "object": pa.array(list(codes), pa.string()),
        "scale": pa.array([scale for _, scale in keys], pa.float64()),
        "type": pa.array(list(types), pa.string()),
        "grasp": pa.FixedSizeListArray.from_arrays(flat.ravel(), len(VECTOR_NAMES)),
    }
    if shapes:
        for name in _SHAPE_VECTORS:
            rows = np.array([getattr(shapes[key], name) for key in keys], dtype=np.float64)
            columns[name] = pa.FixedSizeListArray.from_arrays(rows.ravel(), 3)
        columns["volume"] = pa.array([shapes[key].volume for key in keys], pa.float64())
    for name, column in (extra or {}).items():
        values = np.asarray(column)
        columns[name] = pa.array(values.astype(np.float32) if values.dtype.kind == "f" else values.tolist())
    facts = {"schema": BANK_SCHEMA, "vector": list(VECTOR_NAMES), **(meta or {})}
    table = pa.table(columns).replace_schema_metadata({_META_KEY: json.dumps(facts, sort_keys=True)})
    with completed(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)


def shape_of(model: ObjectModel) -> ObjectShape:
    """Return what retrieval compares of an object."""
    vertices = model.surface.vertices
    return ObjectShape(vertices.min(axis=0), vertices.max(axis=0), model.center_of_mass, model.volume, model.up)


def _path(name: str, data: Path | None) -> Path:
    """File or folder of a bank that is not a named set of npz files."""
    if name in _shipped():
        return _shipped()[name]
    if name == DEFAULT_BANK:
        raise DataError(f"the {name} bank is missing: simeval comes with {', '.join(_shipped()) or 'none'}. {_BUILD}")
    if name == "released":
        return _dexgraspnet(data).root / "dataset"
    path = Path(name)
    if path.suffix == ".parquet" and not path.is_file():
        raise DataError(f"no bank {path}: there is no such file. {_BUILD}")
    if path.suffix != ".parquet" and not path.is_dir():
        hint = "A path to a .parquet file, to a folder with .npy grasp files, or to a run works too."
        raise unknown_name("bank", name, bank_names(), hint)
    return path


def _shipped() -> dict[str, Path]:
    folder = Path(str(files("simeval.generators") / "banks"))
    return {path.stem: path for path in sorted(folder.glob("*.parquet"))}


def _dexgraspnet(data: Path | None) -> DexGraspNetData:
    from simeval.objects.library import ObjectLibrary

    return ObjectLibrary(data).dexgraspnet


def _grasp_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.npy"))
    if not found:
        raise DataError(f"no bank in {folder}: it has no .npy file; expected DexGraspNet's <object code>.npy")
    return found


def _from_sets(sets: Iterable[GraspSet], source: str) -> GraspBank:
    found = list(sets)
    codes = np.array([s.code for s in found for _ in range(len(s))], dtype=np.str_)
    scales = np.concatenate([s.scales for s in found]) if found else np.zeros(0)
    grasps = GraspBatch.concatenate([s.grasps for s in found])
    return GraspBank(source, "real", codes, scales, np.full(len(codes), "", dtype=np.str_), grasps)


def _is_run(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def _changed(path: Path) -> int:
    """When a file, or what is in a folder, changed last [ns]."""
    return max(p.stat().st_mtime_ns for p in (path, *path.rglob("*")))


@lru_cache(maxsize=4)
def _read_run(path: Path, _modified: int) -> GraspBank:
    """Read the grasps that a run tried, by their index in their condition; kept as long as the run doesn't change."""
    from simeval.replay import stored_grasp
    from simeval.store import read_run

    run = read_run(path)
    tried = {(r.object_code, r.scale, r.grasp_type, r.index): r for r in reversed(run.records) if r.joints}
    records = [tried[key] for key in sorted(tried)]
    if not records:
        raise DataError(f"no bank in the run {path}: no grasp was tried")
    grasps = GraspBatch.concatenate([stored_grasp(r) for r in records])
    codes = np.array([r.object_code for r in records], dtype=np.str_)
    types = np.array([r.grasp_type for r in records], dtype=np.str_)
    kind = str(run.manifest.get("data_kind", "real"))
    return GraspBank(str(path), kind, codes, np.array([r.scale for r in records]), types, grasps)


def _select(bank: GraspBank, rows: NDArray[np.intp]) -> GraspBank:
    return GraspBank(
        bank.source, bank.data_kind, bank.codes[rows], bank.scales[rows], bank.types[rows], bank.grasps[rows],
        bank.shapes, bank.meta, None if bank.vectors is None else bank.vectors[rows],
        {name: column[rows] for name, column in bank.extra.items()},
    )  # fmt: skip


@lru_cache(maxsize=4)
def _read_parquet(path: Path, _modified: int) -> GraspBank:
    """Read a bank file; kept per process as long as the file doesn't change."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        meta = json.loads((table.schema.metadata or {}).get(_META_KEY, b"{}"))
        if meta.get("schema") != BANK_SCHEMA or meta.get("vector") != list(VECTOR_NAMES):
            found = f"schema {meta.get('schema')}" if meta else "a Parquet file of something else"
            raise DataError(f"{path} is no grasp bank of schema {BANK_SCHEMA}: found {found}. {_BUILD}")
        return _parse(path, table, meta)
    except SimevalError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:  # ValueError: JSON's too
        raise DataError(f"{path} can't be read as a grasp bank ({type(error).__name__}: {error}). {_BUILD}") from None


def _parse(path: Path, table: "pa.Table", meta: Mapping[str, Any]) -> GraspBank:
    import pyarrow.compute as pc

    missing = [name for name in table.column_names if table[name].null_count]
    if missing:
        raise DataError(f"{path} lacks values in {', '.join(missing)}. {_BUILD}")
    if any(size != len(VECTOR_NAMES) for size in pc.list_value_length(table["grasp"]).to_pylist()):
        raise DataError(f"{path} holds a grasp that isn't {len(VECTOR_NAMES)} numbers. {_BUILD}")
    vectors = _column(table, "grasp").reshape(-1, len(VECTOR_NAMES))
    if not np.isfinite(vectors).all():
        raise DataError(f"{path} holds a grasp that is not finite. {_BUILD}")
    codes = np.array(table["object"].to_pylist(), dtype=np.str_)
    scales = _column(table, "scale")
    types = np.array(table["type"].to_pylist(), dtype=np.str_)
    shapes = dict(_shapes(table, codes, scales)) if "low" in table.column_names else {}
    kind = str(meta.get("data_kind", "real"))
    known = {"object", "scale", "type", "grasp", "volume", *_SHAPE_VECTORS}
    extra = {n: np.array(table[n].to_pylist()) for n in table.column_names if n not in known}
    grasps = GraspBatch.from_vectors(vectors)
    return GraspBank(str(path), kind, codes, scales, types, grasps, shapes, meta, vectors, extra)


def _shapes(
    table: "pa.Table", codes: NDArray[np.str_], scales: Array
) -> Iterator[tuple[tuple[str, float], ObjectShape]]:
    low, high, center, up = (_column(table, name).reshape(-1, 3) for name in _SHAPE_VECTORS)
    volume = _column(table, "volume")
    for i, key in enumerate(zip(codes.tolist(), scales.tolist(), strict=True)):
        yield key, ObjectShape(low[i], high[i], center[i], float(volume[i]), up[i])


def _column(table: "pa.Table", name: str) -> Array:
    """Numbers of a column, lists joined end to end."""
    column = table[name].combine_chunks()
    flat = column.flatten() if hasattr(column, "flatten") and column.type.num_fields else column
    return np.array(flat.to_numpy(zero_copy_only=False), dtype=np.float64)
