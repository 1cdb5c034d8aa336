"""Users' own recordings: CSV and NPZ files of labelled trials, and a reader for every source.

CSV: a header and a row per sample, in order: `trial,label,subject,session,repetition,time,ch1,ch2`, time in seconds
from the trial's start, channels in volts. NPZ: `signals` (trials, 2, samples), `labels`, `subjects`, `sessions`,
`repetitions` (trials,), `rate` in Hz and, where wanted, `data_kind`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.emg.quality import RATE_TOLERANCE, check_recordings
from simeval.emg.recordings import CHANNELS, Recordings
from simeval.emg.synthetic import make_synthetic
from simeval.emg.uci import read_uci
from simeval.errors import DataError
from simeval.grasp import Array

META = ("trial", "label", "subject", "session", "repetition")
COLUMNS = (*META, "time", *CHANNELS)
ARRAYS = ("signals", "labels", "subjects", "sessions", "repetitions", "rate")
SYNTHETIC = "synthetic"
MOST_REPETITIONS = 2**53


def load_recordings(which: str | Path, data: Path | None = None) -> Recordings:
    """Return checked recordings: `uci` (below `data`), `uci-1`, `uci-2`, `synthetic`, or a .csv or .npz file.

    Raises:
        DataError: there are none of that name, or they can't be used.
    """
    name = str(which)
    if name == SYNTHETIC:
        return make_synthetic()
    if name in ("uci", "uci-1", "uci-2"):
        if data is None:
            raise DataError(
                f"recordings {name!r} need the data's folder: pass --data DIR or set SIMEVAL_DATA=DIR (DIR has "
                "'Database 1' or semg/ in it); synthetic ones need none"
            )
        found = read_uci(data, (1, 2) if name == "uci" else (int(name[-1]),))
    elif name.endswith(".csv"):
        found = read_csv(Path(name))
    elif name.endswith(".npz"):
        found = read_npz(Path(name))
    else:
        raise DataError(f"unknown recordings {name!r}. Available: uci, uci-1, uci-2, synthetic, or a .csv or .npz file")
    check_recordings(found)
    return found


def read_npz(path: Path) -> Recordings:
    """Read trials from an NPZ file; pickled arrays are refused.

    Raises:
        DataError: unreadable, or an array is missing or of the wrong shape.
    """
    arrays = _npz_arrays(path, ARRAYS)
    try:
        return Recordings(
            _real(arrays["signals"]), arrays["labels"].astype(np.str_),
            arrays["subjects"].astype(np.str_), arrays["sessions"].astype(np.str_),
            _whole(arrays["repetitions"]), float(arrays["rate"]), str(arrays.get("data_kind", "real")), str(path),
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None


def write_npz(path: Path, recordings: Recordings) -> None:
    """Write trials as `read_npz` reads them."""
    np.savez_compressed(
        path, signals=recordings.signals, labels=recordings.labels, subjects=recordings.subjects,
        sessions=recordings.sessions, repetitions=recordings.repetitions, rate=recordings.rate,
        data_kind=recordings.data_kind,
    )  # fmt: skip


def read_csv(path: Path) -> Recordings:
    """Read trials from a CSV file, cut to the shortest one.

    Raises:
        DataError: unreadable, a column is missing, a number isn't one, or time doesn't run evenly.
    """
    header, rows = _csv_cells(path)
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(f"{path}: no column {missing[0]!r}; it has {', '.join(header)}. Expected: {', '.join(COLUMNS)}")
    cells = {name: rows[:, header.index(name)] for name in COLUMNS}
    trials, starts = np.unique(cells["trial"], return_index=True)
    trials = trials[np.argsort(starts)]
    numbers = np.stack([_numbers(path, name, cells[name]) for name in ("time", *CHANNELS)])
    try:
        repetitions = _whole(_numbers(path, "repetition", cells["repetition"]))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    parts, meta, rates = [], [], []
    for trial in trials:
        own = np.flatnonzero(cells["trial"] == trial)
        for name in META[1:]:
            if len(set(cells[name][own].tolist())) > 1:
                raise DataError(f"{path}: trial {trial} has more than one {name}")
        rates.append(rate_of(numbers[0, own], f"{path}: trial {trial}"))
        parts.append(numbers[1:, own])
        meta.append([*(str(cells[name][own[0]]) for name in ("label", "subject", "session")), int(repetitions[own[0]])])
    usual = float(np.median(rates))
    for trial, rate in zip(trials, rates, strict=True):
        if abs(rate - usual) > RATE_TOLERANCE * usual:
            raise DataError(f"{path}: trial {trial} has {rate:g} samples per second, others {usual:g}")
    length = min(part.shape[1] for part in parts)
    labels, subjects, sessions = (np.array([m[i] for m in meta]) for i in range(3))
    return Recordings(
        np.stack([part[:, :length] for part in parts]), labels, subjects, sessions,
        np.array([m[3] for m in meta]), usual, "real", str(path),
    )  # fmt: skip


def read_signal(path: Path) -> tuple[Array, float, float]:
    """Read one unlabelled recording for streaming: CSV with `time,ch1,ch2` or NPZ with `signal` (2, samples), `rate`.

    Returns:
        (2, T) V, the rate in Hz, and the first sample's time in s, 0 of an NPZ.

    Raises:
        DataError: unreadable, a channel is missing, or time doesn't run evenly.
    """
    start = 0.0
    if path.suffix == ".npz":
        arrays = _npz_arrays(path, ("signal", "rate"))
        try:
            signal, rate = _real(arrays["signal"]), float(arrays["rate"])
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: {error}") from None
    else:
        header, rows = _csv_cells(path)
        if missing := [name for name in ("time", *CHANNELS) if name not in header]:
            raise DataError(f"{path}: no column {missing[0]!r}; it has {', '.join(header)}. Expected: time, ch1, ch2")
        numbers = [_numbers(path, name, rows[:, header.index(name)]) for name in ("time", *CHANNELS)]
        signal, rate, start = np.stack(numbers[1:]), rate_of(numbers[0], str(path)), float(numbers[0][0])
    if signal.ndim != 2 or len(signal) != len(CHANNELS):
        raise DataError(f"{path}: signal of shape {signal.shape}, expected ({len(CHANNELS)}, samples)")
    return signal, rate, start


def rate_of(time: Array, source: str) -> float:
    """Return samples per second of (T,) times in seconds.

    Raises:
        DataError: fewer than two, or uneven by more than a tenth of a step.
    """
    steps = np.diff(time)
    if not len(steps) or not np.isfinite(steps).all() or steps.min() <= 0:
        raise DataError(f"{source}: time must increase from row to row, and there must be two rows at least")
    step = float(np.median(steps))
    if np.abs(steps - step).max() > 0.1 * step:
        at = int(np.abs(steps - step).argmax())
        raise DataError(f"{source}: time steps from {time[at]:g} to {time[at + 1]:g} s, elsewhere by {step:g} s")
    return 1 / float(steps.mean())


def _npz_arrays(path: Path, wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # numpy and zipfile raise many kinds; numpy advises to unpickle
        reason = "not an NPZ file, or pickled" if "pickle" in str(error) else error
        raise DataError(f"{path} can't be read as NPZ: {reason}") from None
    if missing := [key for key in wanted if key not in arrays]:
        raise DataError(f"{path}: no array {missing[0]!r}; it has {', '.join(sorted(arrays)) or 'none'}")
    return arrays


def _real(values: NDArray[Any]) -> Array:
    if np.iscomplexobj(values):
        raise ValueError("signals are complex, expected volts")
    return np.asarray(values, dtype=np.float64)


def _whole(values: NDArray[Any]) -> NDArray[np.int_]:
    """Repetitions as integers."""
    numbers = values.astype(np.float64)
    if not (np.isfinite(numbers) & (numbers == np.round(numbers)) & (np.abs(numbers) < MOST_REPETITIONS)).all():
        raise ValueError("repetitions must be whole numbers")
    return numbers.astype(np.int_)


def _csv_cells(path: Path) -> tuple[list[str], NDArray[Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets begin theirs with a mark
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as text: {error}") from None
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if line.strip()]
    if len(rows) < 2:
        raise DataError(f"{path}: no rows below the header")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}: line {number} has {len(row)} cells, the header {len(rows[0])}")
    return rows[0], np.array(rows[1:])


def _numbers(path: Path, name: str, cells: NDArray[Any]) -> Array:
    try:
        return cells.astype(np.float64)
    except ValueError as error:
        raise DataError(f"{path}: column {name!r}: {error}") from None
