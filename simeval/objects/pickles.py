"""Read .npy and .npz files that hold pickles, admitting data only: no file can run code.

Python's own unpickler calls whatever a file names. This one keeps a list of the opcodes that build data,
and of the few NumPy names that arrays and scalars are written with; those names resolve to stand-ins that
check their arguments and build plain arrays and numbers. Everything else is refused.
"""

import io
import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from simeval.errors import DataError

MAX_BYTES = 512 * 2**20  # of one file or archive member, unpacked
_DTYPE = re.compile(r"[<>|=]?([?biufSU]\d{0,4}|O8?|V0)")
_OPCODES = (  # noqa: SIM905
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 "
    "FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES BINBYTES8 SHORT_BINBYTES UNICODE BINUNICODE "
    "BINUNICODE8 SHORT_BINUNICODE LIST EMPTY_LIST APPEND APPENDS TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_TUPLE DICT "
    "EMPTY_DICT SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL "
    "REDUCE BUILD"
).split()


def load_npy_dicts(path: str | Path) -> list[dict[str, Any]]:
    """Read a .npy file that holds a 1-D object array of dicts (DexGraspNet's `dataset/<code>.npy`).

    Values come back as plain Python numbers, strings, lists, tuples and dicts, and as numeric NumPy arrays.

    Raises:
        DataError: the file is missing, truncated, not such an array, or names anything but data.
    """
    items = load_npy(path)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{path}: expected an array of dicts, found {_kind(items)}")
    return items


def load_npy(path: str | Path) -> Any:
    """Read one .npy file: a numeric array as it is, a 1-D object array as a list, a 0-d one as its item."""
    return parse_npy(_read(Path(path)), str(path))


def load_npz(path: str | Path) -> dict[str, Any]:
    """Read the members of a .npz file, each as `load_npy` would; `{}` if it has none."""
    members = {}
    try:
        with zipfile.ZipFile(io.BytesIO(_read(Path(path)))) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > MAX_BYTES:
                raise DataError(f"{path}: unpacks to {total:,} bytes, more than {MAX_BYTES:,}")
            for info in archive.infolist():
                with archive.open(info) as stream:
                    data = stream.read(info.file_size + 1)
                members[info.filename.removesuffix(".npy")] = parse_npy(data, f"{path}:{info.filename}")
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable .npz archive ({error})") from None
    except Exception as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a readable .npz archive ({type(error).__name__}: {error})") from None
    return members


def parse_npy(data: bytes, where: str) -> Any:
    """Parse the bytes of a .npy file; `where` names them in errors. Returns as `load_npy` does."""
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        shape, fortran, dtype = read_header(stream)  # literals only, at most 10,000 characters
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{where}: not a .npy file ({text[:120]})") from None
    body = data[stream.tell() :]
    if any(n < 0 for n in shape):
        raise DataError(f"{where}: the header says shape {shape}")
    if dtype.kind == "O":
        return _objects(load_pickle(body, where), shape, where)
    if dtype.hasobject or dtype.kind not in "biufSU":
        raise DataError(f"{where}: holds {dtype}, expected numbers, strings or objects")
    if math.prod(shape) * dtype.itemsize != len(body):
        raise DataError(f"{where}: the header says {dtype} {shape}, the file holds {len(body)} bytes of data")
    try:
        return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C").copy()
    except ValueError:  # items of no size, or more of them than can be counted
        raise DataError(f"{where}: the header says {dtype} {shape}") from None


def load_pickle(data: bytes, where: str) -> Any:
    """Unpickle data, refusing everything else; `where` names them in errors.

    Raises:
        DataError: the pickle is truncated, or names a function or class (the message says which).
    """
    try:
        return _plain(_DataUnpickler(io.BytesIO(data), encoding="latin1").load(), [len(data) + 1000])
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except RecursionError:
        raise DataError(f"{where}: nested too deeply") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{where}: damaged or truncated pickle ({type(error).__name__}: {error})") from None


class _StandIn:
    """What a permitted NumPy name resolves to: immutable, so that no file can alter it for the next one."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise DataError(f"the pickle tries to set {name!r} on {type(self).__name__}")


class _NdarrayType(_StandIn):
    __slots__ = ()


class _Dtype:
    """numpy.dtype(name, align, copy), then BUILD with (version, byte order, …)."""

    __slots__ = ("value",)

    def __init__(self, name: str) -> None:
        self.value = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(state[2:5]):  # subarrays and fields are not data we know
            raise DataError(f"the pickle holds an unusual dtype {state!r:.80}")
        self.value = self.value.newbyteorder(order)


class _MakeDtype(_StandIn):
    __slots__ = ()

    def __call__(self, name: Any, *_: Any) -> _Dtype:
        if not isinstance(name, str) or not _DTYPE.fullmatch(name) or "V" in name:
            raise DataError(f"the pickle holds dtype {name!r:.80}, expected numbers, strings or objects")
        return _Dtype(name)


class _Array:
    """An array being unpickled: `_reconstruct` makes it empty, BUILD fills it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not all(type(n) is int and n >= 0 for n in shape):
            raise DataError(f"the pickle holds an array of shape {shape!r:.80}")
        count = math.prod(shape)
        if dtype.value.kind == "O":
            if not isinstance(data, list) or len(data) != count or len(shape) > 1:
                raise DataError(f"the pickle holds an object array of shape {shape} and {_kind(data)}")
            self.value = data if shape else data[0]
            return
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, bytes) or len(raw) != count * dtype.value.itemsize:
            raise DataError(f"the pickle holds a {dtype.value} array of shape {shape} and {_kind(data)}")
        order = "F" if fortran else "C"
        self.value = np.frombuffer(raw, dtype.value).reshape(shape, order=order).copy()  # type: ignore[call-overload]


class _Reconstruct(_StandIn):
    __slots__ = ()

    def __call__(self, subtype: Any, *_: Any) -> _Array:
        if not isinstance(subtype, _NdarrayType):
            raise DataError("the pickle reconstructs something that is not a plain array")
        return _Array()


class _Scalar(_StandIn):
    __slots__ = ()

    def __call__(self, dtype: Any, data: Any) -> Any:
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(dtype, _Dtype) or dtype.value.kind not in "biuf" or not isinstance(raw, bytes):
            raise DataError("the pickle holds a scalar that is no number")
        if len(raw) != dtype.value.itemsize:
            raise DataError(f"the pickle holds a {dtype.value} of {len(raw)} bytes")
        return np.frombuffer(raw, dtype.value)[0].item()


class _Encode(_StandIn):
    """_codecs.encode(text, "latin1"): how protocols 0 to 2 write bytes."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = None) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise DataError(f"the pickle encodes with {encoding!r:.40}")
        return text.encode("latin1")


_GLOBALS: dict[tuple[str, str], _StandIn] = {
    ("numpy", "ndarray"): _NdarrayType(),
    ("numpy", "dtype"): _MakeDtype(),
    ("_codecs", "encode"): _Encode(),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Reconstruct() for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar() for core in ("core", "_core")},
}


class _DataUnpickler(pickle._Unpickler):
    """The standard library's unpickler in Python (whose memo a file can't inflate), with fewer opcodes."""

    dispatch = {  # noqa: RUF012
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _OPCODES
    }

    def find_class(self, module: str, name: str) -> _StandIn:
        try:
            return _GLOBALS[module, name]
        except (KeyError, TypeError):
            raise DataError(
                f"refused: the pickle names {module}.{name}. Only arrays, numbers, strings, dicts and lists "
                "are read, because anything else could run code; get the file from its authors' own site"
            ) from None


def _plain(value: Any, budget: list[int]) -> Any:
    """Replace stand-ins by what they built. The budget stops a small file that shares lists to look huge."""
    budget[0] -= 1
    if budget[0] < 0:
        raise DataError("the pickle repeats itself to more items than it has bytes")
    if isinstance(value, _Array):
        return _plain(value.value, budget) if isinstance(value.value, (list, dict, tuple)) else value.value
    if isinstance(value, dict):
        return {key: _plain(item, budget) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item, budget) for item in value)
    if isinstance(value, (_StandIn, _Dtype)):
        raise DataError(f"the pickle holds a bare {type(value).__name__.strip('_')}")
    return value


def _objects(value: Any, shape: tuple[int, ...], where: str) -> Any:
    """Check an object array's content against the shape in its header."""
    if shape == ():
        return value
    if len(shape) != 1 or not isinstance(value, list) or len(value) != shape[0]:
        raise DataError(f"{where}: the header says an object array {shape}, the pickle holds {_kind(value)}")
    return value


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size:,} bytes, more than {MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None


def _kind(value: Any) -> str:
    if isinstance(value, (list, tuple, str, bytes)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return f"a {type(value).__name__}"
