"""The run folder: a manifest, a journal that takes every finished trial at once, and Parquet parts.

    manifest.json              what was asked for; written once
    journal.jsonl              one JSON line per finished trial since the last part
    parts/part-00000.parquet   trials, 1000 at a time
    .lock                      held by the one run that writes

When `append` returns, a trial survives Ctrl-C and kill −9; when its part is written, power loss.
Records are told apart by trial id, so one that is both in a part and in the journal counts once (the last
written does). Floats, NaN included, come back bit for bit.
"""

import fcntl
import json
import math
import os
import shutil
import struct
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_type_hints

from simeval.errors import DataError, SettingError
from simeval.files import replacing, unfinished_name
from simeval.records import SCHEMA_VERSION, TIMING_FIELDS, TrialRecord

if TYPE_CHECKING:
    import pyarrow as pa

PART_SIZE = 1000  # records in the journal that make a part
VOLATILE = "volatile"  # key of the manifest's part that may differ on resume: times, host, ...
_SCHEMA_KEY = b"simeval_record_schema"
_OPEN: "weakref.WeakSet[RecordStore[Any]]" = weakref.WeakSet()

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Kind(Generic[Record]):
    """What is stored: a dataclass of texts, numbers and lists of floats, one of whose fields names a record."""

    record: type[Record]
    schema: int  # changes whenever the fields do
    key: str  # the field that names a record
    order: tuple[str, ...]  # fields by which records are sorted
    manifest: str  # name of the manifest's file, by which a folder is known to hold this kind
    made_by: str  # the command that makes such a folder


TRIALS = Kind(
    TrialRecord, SCHEMA_VERSION, "trial_id",
    ("object_code", "scale", "grasp_type", "index", "protocol", "physics", "seed", "trial_id"),
    "manifest.json", "simeval run",
)  # fmt: skip
"""The records of runs."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run folder holds."""

    manifest: dict[str, Any]
    records: list[TrialRecord]  # by object, scale, type, index, protocol; one per trial id


class RecordStore(Generic[Record]):
    """A folder of records of one kind, open for writing; a context manager. Build it with `RecordStore.of`.

    Attributes:
        path: the folder.
        manifest: as it was when the run began.
    """

    def __init__(self, path: Path, kind: Kind[Record], manifest: dict[str, Any], lock: int) -> None:
        self.path = path
        self.manifest = manifest
        self._kind = kind
        self._lock = lock
        self._journal = -1
        self._pending: list[Record] = []
        self._done: set[str] = set()
        _OPEN.add(self)

    @classmethod
    def of(cls, kind: Kind[Record], path: Path | str, manifest: Mapping[str, Any]) -> Self:
        """Start a run in a folder, or resume the one that is there.

        Args:
            kind: of its records.
            path: folder; made when it doesn't exist.
            manifest: what was asked for, as JSON types; its "volatile" part is not compared on resume.

        Raises:
            DataError: the folder can't be used, is in use by another run, or holds a file that can't be read.
            SettingError: the folder holds a run with another manifest.
        """
        path = Path(path)
        with _clear_errors(path, _RESUME):
            (path / "parts").mkdir(parents=True, exist_ok=True)
            lock = _take_lock(path)
        try:
            store = cls(path, kind, _settle_manifest(path, kind, manifest), lock)
        except BaseException:
            os.close(lock)
            raise
        try:
            store._load()
        except BaseException:
            store._release()
            raise
        return store

    def _load(self) -> None:
        with _clear_errors(self.path):
            for killed in (self._kind.manifest, "parts/part-*.parquet"):  # whose writers were
                for leftover in (self.path / killed).parent.glob(unfinished_name(Path(killed), "*")):
                    leftover.unlink()
            for part in _parts(self.path):
                self._done.update(_read_part(part, self._kind, [self._kind.key]).column(self._kind.key).to_pylist())
            self._pending, complete = _read_journal(self.path / "journal.jsonl", self._kind)
            self._done.update(getattr(record, self._kind.key) for record in self._pending)
            self._journal = os.open(self.path / "journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.ftruncate(self._journal, complete)  # drop a line cut short, or the next would continue it

    def append(self, record: Record) -> None:
        """Write one finished trial to the journal; every 1000th call also writes a part.

        Raises:
            DataError: it can't be written (disk full, ...); what was written before stays.
        """
        if self._journal < 0:
            raise DataError(f"{self.path} is closed: this record can't be written")
        record = _coerce(record)
        with _clear_errors(self.path / "journal.jsonl", _RESUME):
            before = os.fstat(self._journal).st_size
            try:
                _write(self._journal, json.dumps(_as_dict(record)).encode() + b"\n")
            except BaseException:  # Ctrl-C too
                self._take_back(before)
                raise
        self._pending.append(record)
        self._done.add(getattr(record, self._kind.key))
        if len(self._pending) >= PART_SIZE:
            self._compact()

    def _take_back(self, length: int) -> None:
        """Cut half a line off the journal, so that the next append starts on a new one."""
        try:
            os.ftruncate(self._journal, length)
        except OSError:  # then nothing may follow the half line; as the last one it is tolerated
            os.close(self._journal)
            self._journal = -1

    def done_ids(self) -> set[str]:
        """Ids of the records that are stored."""
        return set(self._done)

    def records(self) -> list[Record]:
        """Every stored record, one per id, in the order of its kind.

        Raises:
            DataError: a file can't be read.
        """
        return read_records(self.path, self._kind)

    def close(self) -> None:
        """Write what the journal holds as a part and release the folder. Closing twice is harmless.

        Raises:
            DataError: the part can't be written; its records stay in the journal.
        """
        try:
            if self._journal >= 0 and self._pending:
                self._compact()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except DataError:
            if error is None:  # or else the first error is the one to report: the journal has all records
                raise

    def _compact(self) -> None:
        """Journal -> part, then empty the journal. After a crash in between, reading counts them once."""
        number = max((int(p.stem.removeprefix("part-")) for p in _parts(self.path)), default=-1) + 1
        part = self.path / "parts" / f"part-{number:05d}.parquet"
        with _clear_errors(part, _RESUME):
            with replacing(part, durable=True) as unfinished:
                unfinished.write_bytes(_encode_part(self._kind, self._pending))
            os.ftruncate(self._journal, 0)
        self._pending = []

    def _release(self) -> None:
        _OPEN.discard(self)
        for name in ("_journal", "_lock"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


class RunStore(RecordStore[TrialRecord]):
    """One run's folder, open for writing; a context manager. Build it with `RunStore.open`."""

    @classmethod
    def open(cls, path: Path | str, manifest: Mapping[str, Any]) -> Self:
        """Start a run in a folder, or resume the one that is there; see `RecordStore.of`."""
        return cls.of(TRIALS, path, manifest)


_OF_A_RUN: dict[str, type] = {"settings": dict, "physics": dict, "versions": dict, "volatile": dict, "protocols": list}
"""What some values of a run's manifest are."""


def delete_run(path: Path) -> None:
    """Delete a run's folder, whatever state it is in, unless it is being written.

    Raises:
        DataError: another run is writing to it, or it can't be deleted.
    """
    with _clear_errors(path):
        lock = _take_lock(path)
        try:
            shutil.rmtree(path)
        finally:
            os.close(lock)


def read_run(path: Path | str) -> Run:
    """Read a run folder without locking or changing it; works while the run is being written.

    Raises:
        DataError: there is no run, or a file in it can't be read.
    """
    path = Path(path)
    manifest = read_manifest(path, TRIALS)
    wrong = [key for key, kind in _OF_A_RUN.items() if not isinstance(manifest.get(key, kind()), kind)]
    if wrong:
        raise DataError(f"{path / TRIALS.manifest} is damaged: {', '.join(wrong)} can't be what a run wrote")
    return Run(manifest, read_records(path, TRIALS))


def same_result(a: TrialRecord, b: TrialRecord) -> list[str]:
    """Names of the fields that differ, timings apart. Floats are compared bit for bit, so NaN equals NaN."""
    a, b = _coerce(a), _coerce(b)  # one that has not been stored may count in integers
    names = (f.name for f in fields(TrialRecord) if f.name not in TIMING_FIELDS)
    return [name for name in names if _bits(getattr(a, name)) != _bits(getattr(b, name))]


def _bits(value: object) -> object:
    if isinstance(value, float):
        return b"nan" if math.isnan(value) else struct.pack("<d", value)
    return [_bits(v) for v in value] if isinstance(value, list | tuple) else value


# Files


@contextmanager
def _clear_errors(path: Path, hint: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror or error}. {hint}".rstrip()) from error


_RESUME = "What was written before stays: put this right and issue the same command again to resume."


def _take_lock(path: Path) -> int:
    lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise DataError(
            f"another run is writing to {path}. Wait for it, or choose another folder with --out."
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _drop_inherited() -> None:
    """Close the files in a forked worker, or it would hold the lock after the run itself has been killed."""
    for store in list(_OPEN):
        store._release()


os.register_at_fork(after_in_child=_drop_inherited)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


# Manifest


def _settle_manifest(path: Path, kind: Kind[Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Write a new run's manifest, or check that it is the one that is there; return what the folder has."""
    wanted: dict[str, Any] = json.loads(json.dumps(dict(manifest)))
    if not (path / kind.manifest).exists():
        if _parts(path) or (path / "journal.jsonl").exists():
            raise DataError(f"{path} holds results but no {kind.manifest}. Choose another folder with --out.")
        with _clear_errors(path, _RESUME), replacing(path / kind.manifest, durable=True) as unfinished:
            unfinished.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        return wanted
    found = read_manifest(path, kind)
    before, now = _flatten(found), _flatten(wanted)
    differing = [key for key in {**before, **now} if before.get(key, "(not set)") != now.get(key, "(not set)")]
    if differing:
        listing = "\n".join(
            f"  {key}: {before.get(key, '(not set)')} there, {now.get(key, '(not set)')} now" for key in differing
        )
        raise SettingError(
            f"{path} holds a run with other settings:\n{listing}\n"
            "Choose another folder with --out, or issue the command that began this run to resume it."
        )
    return found


def _flatten(manifest: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted key -> JSON text of every leaf, but those under "volatile"; text, so that NaN equals NaN."""
    flat: dict[str, str] = {}
    for key, value in manifest.items():
        if not prefix and key == VOLATILE:
            continue
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = json.dumps(value, sort_keys=True)
    return flat


def read_manifest(path: Path, kind: Kind[Any]) -> dict[str, Any]:
    """Read the manifest of a folder of records.

    Raises:
        DataError: there is none, or it can't be read.
    """
    file = path / kind.manifest
    if not os.path.exists(file):
        raise DataError(
            f"{path} is not a run folder: it has no {kind.manifest}. `{kind.made_by} --out {path} …` makes one."
        )
    with _clear_errors(file):
        text = file.read_bytes()
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise DataError(f"{file} holds no JSON object")
    return manifest


# Records


_KNOWN: dict[type, dict[str, Any]] = {}


def _types(record: type) -> dict[str, Any]:
    """Types of a dataclass's fields, by name; found out once."""
    if record not in _KNOWN:
        _KNOWN[record] = get_type_hints(record)
    return _KNOWN[record]


def _as_dict(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _types(type(record))}


def _coerce(record: Record) -> Record:
    """Plain Python values of the declared types, so that JSON and Parquet hold the same record."""
    made = type(record)
    values = {name: _coerce_value(made, name, kind, getattr(record, name)) for name, kind in _types(made).items()}
    return made(**values)


def _coerce_value(made: type, name: str, kind: Any, value: Any) -> Any:
    try:
        if kind is str:
            return str(value).encode("utf-8", "replace").decode()  # no lone surrogates: Parquet takes none
        if kind is float:
            return float(value)
        if kind is int:
            number = int(value)
            if not -(2**63) <= number < 2**63:
                raise ValueError("beyond 64 bits")
            return number
        return [float(v) for v in value]
    except (TypeError, ValueError) as error:
        raise DataError(f"{made.__name__}.{name} can't be stored: {value!r} ({error})") from None


def read_records(path: Path, kind: Kind[Record]) -> list[Record]:
    """Read a folder's records, one per id, in the order of their kind.

    Raises:
        DataError: a file can't be read.
    """
    # The journal first: a run that compacts in between leaves its records in both rather than in neither.
    with _clear_errors(path):
        journal, _ = _read_journal(path / "journal.jsonl", kind)
        rows = [row for part in _parts(path) for row in _read_part(part, kind).to_pylist()]
    unique = {row[kind.key]: kind.record(**row) for row in rows}
    unique.update((getattr(record, kind.key), record) for record in journal)
    return sorted(unique.values(), key=lambda record: tuple(getattr(record, name) for name in kind.order))


def _read_journal(file: Path, kind: Kind[Record]) -> tuple[list[Record], int]:
    """Return the journal's records and the bytes of its complete lines; what follows them was cut short."""
    if not file.exists():
        return [], 0
    data = file.read_bytes()
    complete = data.rfind(b"\n") + 1
    lines = data[:complete].split(b"\n")[:-1]
    return [_parse_line(file, kind, number, line) for number, line in enumerate(lines, 1)], complete


def _parse_line(file: Path, kind: Kind[Record], number: int, line: bytes) -> Record:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}, line {number}: not a JSON record ({error}). Remove the line to go on.") from None
    if not isinstance(row, dict):
        raise DataError(f"{file}, line {number}: not a JSON record ({row!r}). Remove the line to go on.")
    if row.get("schema", kind.schema) != kind.schema:
        raise _other_schema(f"{file}, line {number}", kind, row["schema"])
    types = _types(kind.record)
    wrong = [name for name in {**types, **row} if name not in row or not _fits(types.get(name), row[name])]
    if wrong:
        raise DataError(f"{file}, line {number}: missing, unknown or ill-typed {', '.join(wrong)}. Remove the line.")
    return kind.record(**row)


def _fits(kind: Any, value: object) -> bool:
    if kind is int:
        return type(value) is int and abs(value) < 2**63
    if kind in (str, float):
        return type(value) is kind
    return kind is not None and isinstance(value, list) and all(type(v) is float for v in value)


def _other_schema(where: str, kind: Kind[Any], found: object) -> DataError:
    return DataError(
        f"{where} was written with record schema {found}; this simeval reads schema {kind.schema}. "
        "Read it with the simeval that wrote it (see the manifest), or run again with another --out."
    )


# Parts


def _parts(path: Path) -> list[Path]:
    return sorted(p for p in path.glob("parts/part-*.parquet") if p.stem.removeprefix("part-").isdecimal())


def _schema(kind: Kind[Any]) -> "pa.Schema":
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    columns = [
        pa.field(name, kinds.get(of, pa.list_(pa.float64())), nullable=False)
        for name, of in _types(kind.record).items()
    ]
    return pa.schema(columns, metadata={_SCHEMA_KEY: str(kind.schema).encode()})


def _encode_part(kind: Kind[Record], records: Iterable[Record]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([_as_dict(r) for r in records], schema=_schema(kind))
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def _read_part(file: Path, kind: Kind[Any], columns: list[str] | None = None) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as part:
            metadata = part.schema_arrow.metadata or {}
            if metadata.get(_SCHEMA_KEY) != str(kind.schema).encode():
                raise _other_schema(str(file), kind, metadata.get(_SCHEMA_KEY, b"(none)").decode(errors="replace"))
            if not part.schema_arrow.equals(_schema(kind)):
                raise DataError(f"{file} has other columns than record schema {kind.schema}")
            return part.read(columns=columns)
    except (pa.ArrowException, OSError) as error:  # OSError: also what Arrow raises for a failed checksum
        raise DataError(f"{file} is not a readable Parquet file: {error}") from None
