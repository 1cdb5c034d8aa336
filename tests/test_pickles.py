"""The reader of pickled .npy and .npz files: data comes through, code never runs."""

import io
import os
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simeval.errors import DataError
from simeval.objects.pickles import load_npy, load_npy_dicts, load_npz, load_pickle, parse_npy

HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"


def npy_bytes(body: bytes, descr: str = "|O", shape: str = "(1,)") -> bytes:
    header = HEADER.format(descr, shape).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


class WithState:
    """Pickles as a call followed by BUILD with a state."""

    def __init__(self, function: Any, args: tuple, state: Any) -> None:
        self.call = (function, args, state)

    def __reduce__(self) -> Any:
        return self.call


def exploits(marker: Path) -> dict[str, bytes]:
    """Pickles that call, or at least name, what isn't data; most would create `marker`."""
    touch = f"touch '{marker}'"
    code = f"open({str(marker)!r}, 'w').close()"
    glob = "c{}\n{}\n".format
    return {
        "os.system": pickle.dumps(Call(os.system, touch)),
        "protocol 0": pickle.dumps(Call(os.system, touch), protocol=0),
        "eval": pickle.dumps(Call(eval, code)),
        "exec": pickle.dumps(Call(exec, code)),
        "open": pickle.dumps(Call(open, str(marker), "w")),
        "subprocess": pickle.dumps(Call(subprocess.check_call, ["touch", str(marker)])),
        "nested": pickle.dumps({"qpos": [{"x": (1, Call(os.system, touch))}], "scale": 0.1}),
        "in array": pickle.dumps(np.array([{"qpos": Call(os.system, touch)}], dtype=object)),
        "getattr": (glob("builtins", "getattr") + "(" + glob("builtins", "__import__")).encode()
        + f"(S'os'\ntRS'system'\ntR(S\"{touch}\"\ntR.".encode(),
        "numpy.save": pickle.dumps(Call(np.save, str(marker), np.zeros(1))),
        "numpy.load": pickle.dumps(Call(np.load, str(marker), None, True)),
        "runstring": (glob("numpy.testing._private.utils", "runstring") + f'(S"{code}"\n(dtR.').encode(),
        "lib.npyio": (glob("numpy.lib.npyio", "DataSource") + f"(S'{marker}'\ntR.").encode(),
        "copyreg": (glob("copyreg", "_reconstructor") + f"({glob('os', 'system')}NNtR.").encode(),
        "ndarray.tofile": (glob("numpy", "ndarray.tofile") + f"(S'{marker}'\ntR.").encode(),
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0fcore.os.system\x93" + pickle.dumps((touch,), 4)[2:-1]
        + b"R.",
        "INST": f"(S\"{touch}\"\nios\nsystem\n.".encode(),
        "OBJ": ("(" + glob("os", "system") + f'S"{touch}"\no.').encode(),
        "NEWOBJ": b"\x80\x02c" + b"subprocess\nPopen\n(]" + b"(U\x05touchU" + bytes([len(str(marker))])
        + str(marker).encode() + b"et\x81.",
        "persistent id": b"Pos.system\n.",
        "extension": b"\x80\x02\x82\x01.",
    }  # fmt: skip


NAMES = list(exploits(Path("x")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrapped", ["npy", "npz", "raw"])
def test_no_code_runs(name: str, wrapped: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    payload = exploits(marker)[name]
    before = set(tmp_path.iterdir())
    if wrapped == "npy":
        (tmp_path / "x.npy").write_bytes(npy_bytes(payload))
        before |= {tmp_path / "x.npy"}
        with pytest.raises(DataError, match=r"x\.npy"):
            load_npy_dicts(tmp_path / "x.npy")
    elif wrapped == "npz":
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("qpos.npy", npy_bytes(payload, shape="()"))
        before |= {tmp_path / "x.npz"}
        with pytest.raises(DataError, match="qpos"):
            load_npz(tmp_path / "x.npz")
    else:
        with pytest.raises(DataError):
            load_pickle(payload, "x")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["os.system", "exec", "getattr", "runstring", "nested", "INST", "OBJ", "open"])
def test_payloads_are_real(name: str, tmp_path: Path) -> None:
    # what the tests above refuse does run in Python's own unpickler, or they would prove nothing
    marker = tmp_path / "ran"
    pickle.loads(exploits(marker)[name])
    assert marker.exists()


def test_error_names_the_global() -> None:
    with pytest.raises(DataError, match=r"refused: the pickle names (posix|nt)\.system"):
        load_pickle(pickle.dumps(Call(os.system, "true")), "x")


@pytest.mark.parametrize(
    "state",
    [
        b"}(U\x08__call__K\x01u",  # a dict state
        b"(N}(U\x08__call__K\x01utb"[:-1],  # a slots state
    ],
)
@pytest.mark.parametrize("name", ["numpy\nndarray", "numpy\ndtype", "numpy.core.multiarray\n_reconstruct"])
def test_permitted_names_cannot_be_altered(name: str, state: bytes) -> None:
    with pytest.raises(DataError):
        load_pickle(b"\x80\x02c" + name.encode() + b"\n" + state + b"b.", "x")
    array = load_pickle(pickle.dumps(np.arange(3.0)), "x")
    assert np.array_equal(array, [0, 1, 2])


DATA = [
    {"qpos": {"WRJTx": 0.1, "robot0:FFJ3": -0.5}, "scale": np.float64(0.06)},
    {
        "qpos": {},
        "scale": 0.1,
        "extra": [1, True, None, "text", (1.5, 2)],
        "array": np.arange(6.0).reshape(2, 3),
    },
]


@pytest.mark.parametrize("protocol", range(5))  # NumPy writes 3 and 4
def test_data_comes_through(protocol: int) -> None:
    got = load_pickle(pickle.dumps(DATA, protocol=protocol), "x")
    assert got[0] == {"qpos": {"WRJTx": 0.1, "robot0:FFJ3": -0.5}, "scale": 0.06}
    assert got[1]["extra"] == [1, True, None, "text", (1.5, 2)]
    assert np.array_equal(got[1]["array"], np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5, dtype=np.int16), np.array(3.5, np.float32), np.asfortranarray(np.eye(3)),
        np.array(["a", "bc"]), np.array([True, False]), np.arange(3, dtype=">f8"), np.zeros((0, 3)),
        np.array([], dtype=object),
    ],
)  # fmt: skip
def test_arrays_come_through(array: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    assert np.array_equal(parse_npy(stream.getvalue(), "x"), array.tolist() if array.dtype == object else array)
    if array.dtype != object and array.size:
        for protocol in (0, 2, 4):
            assert np.array_equal(load_pickle(pickle.dumps(array, protocol), "x"), array)


@pytest.mark.parametrize("core", [b"cnumpy._core.", b"cnumpy.core."])
def test_old_and_new_module_names(core: bytes) -> None:
    data = pickle.dumps(np.array(DATA, dtype=object), protocol=2)
    data = data.replace(b"cnumpy._core.", core).replace(b"cnumpy.core.", core)
    assert len(load_pickle(data, "x")) == 2


def test_npz_members(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    np.savez(path, qpos=np.array({"WRJTx": 1.0}, dtype=object), scale=np.float32(12.5), plane=np.zeros(4))
    members = load_npz(path)
    assert members["qpos"] == {"WRJTx": 1.0}
    assert members["scale"] == 12.5
    assert members["plane"].shape == (4,)


def test_every_truncation_is_an_error() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array(DATA, dtype=object), allow_pickle=True)
    data = stream.getvalue()
    for end in range(len(data)):
        with pytest.raises(DataError):
            parse_npy(data[:end], "x")


def test_no_flipped_byte_escapes() -> None:
    data = pickle.dumps(np.array(DATA, dtype=object), protocol=2)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        try:
            load_pickle(bytes(damaged), "x")
        except DataError:
            continue


def _array_state(shape: object, dtype: str, data: object) -> bytes:
    reconstruct = np.zeros(1).__reduce__()[0]
    return pickle.dumps(
        WithState(reconstruct, (np.ndarray, (0,), b"b"), (1, shape, np.dtype(dtype), False, data)), protocol=2
    )


@pytest.mark.parametrize(
    "data",
    [
        npy_bytes(b"", "<f8", "(1000000000000,)"),
        npy_bytes(b"\0" * 8, "<f8", "(-1,)"),
        npy_bytes(b"", "<f8", "(9223372036854775807, 9223372036854775807)"),
        npy_bytes(pickle.dumps([1, 2]), shape="(99999999,)"),
        npy_bytes(pickle.dumps([1, 2]), shape="(1, 2)"),
        npy_bytes(b"\0" * 16, "[('a', 'O'), ('b', '<f8')]"),
        npy_bytes(b"\0" * 8, "<M8[s]"),
        npy_bytes(b"", "<U0", "(3,)"),
        npy_bytes(b"", "<f8", f"(0, {10**30})"),
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000) + b"{" * 60000,
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{",
        b"\x93NUMPY\x09\x00" + b"\0" * 100,
        b"", b"\x93NUM", b"PK\x03\x04", b"hello, this is text", b"\x89PNG\r\n\x1a\n" + b"\0" * 200,
    ],
)  # fmt: skip
def test_bad_npy_files(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.npy"):
        load_npy(path)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02r\xff\xff\xff\x7f.",  # LONG_BINPUT far into the memo
        b"\x80\x02]r\xff\xff\xff\x7f0.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",  # BYTEARRAY8 of 2^63 bytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.",  # BINBYTES8 likewise
        b"\x80\x02" + b"]" + b"".join(b"q%c](h%ch%ce" % (i, i, i) for i in range(60)) + b".",  # 2^60 items
        b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",  # deep
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"I" + b"9" * 100_000 + b"\n.",
        b"\x80\x02N}u.", b".", b"", b"\x80\x09N.", b"\x80\x02h\x05.", b"cnumpy\ndtype\n.",
        _array_state((10**12,), "f8", b""),
        _array_state((10**12,), "O", []),
        _array_state((2,), "O", [1]),
        _array_state((-1,), "f8", b"\0" * 8),
        _array_state("ab", "f8", b"\0" * 8),
        _array_state((1,), "f8", b"\0" * 7),
    ],
)  # fmt: skip
def test_bombs_and_rubbish(data: bytes) -> None:
    with pytest.raises(DataError):
        load_pickle(data, "x")


def test_wrong_content(tmp_path: Path) -> None:
    np.save(tmp_path / "floats.npy", np.zeros(4))
    with pytest.raises(DataError, match="expected an array of dicts, found a float64 array"):
        load_npy_dicts(tmp_path / "floats.npy")
    np.save(tmp_path / "list.npy", np.array([{}, 3], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="expected an array of dicts"):
        load_npy_dicts(tmp_path / "list.npy")
    with pytest.raises(DataError, match="can't be read"):
        load_npy(tmp_path / "missing.npy")
    with pytest.raises(DataError, match="can't be read"):
        load_npy(tmp_path)


def test_bad_archives(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(1000.0))
    whole = path.read_bytes()
    for data in (b"", b"PK\x03\x04", whole[:200], whole[:-10], whole.replace(b"\x93NUMPY", b"\x93NUMPX")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"x\.npz"):
            load_npz(path)
    damaged = bytearray(whole)
    damaged[400] ^= 0xFF  # a CRC error
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"x\.npz"):
        load_npz(path)


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as stream:
        for _ in range(513):
            stream.write(bytes(2**20))
    with pytest.raises(DataError, match="unpacks to"):
        load_npz(path)
