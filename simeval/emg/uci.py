"""The UCI recordings "sEMG for Basic Hand Movements" (doi 10.24432/C5TK53), from their MATLAB files.

`Database 1/{female_1,…,male_2}.mat`: five people, 30 trials of a grasp, 6 s. `Database 2/male_day_{1,2,3}.mat`: one
man, three days, 100 trials of a grasp, 5 s. 500 Hz, volts, keys `{cyl,hook,lat,palm,spher,tip}_ch{1,2}`.
"""

from pathlib import Path

import numpy as np

from simeval.emg.recordings import RATE, Recordings, concatenate
from simeval.errors import DataError, unknown_name
from simeval.grasp import Array
from simeval.taxonomy import GRASP_TYPES

DATABASES = {1: "Database 1", 2: "Database 2"}
MAN = "male_day"
"""The subject of Database 2. Whether he is among those of Database 1 is not published."""
KEYS = {kind.name: kind.label for kind in GRASP_TYPES.values()}


def find_uci(data: Path) -> Path:
    """Return the folder with the databases: `data` itself or `semg` in it.

    Raises:
        DataError: there is none.
    """
    for folder in (data, data / "semg"):
        if any((folder / name).is_dir() for name in DATABASES.values()):
            return folder
    raise DataError(
        f"{data}: no 'Database 1' or 'Database 2' here or in semg/. Unpack UCI's 'sEMG for Basic Hand Movements' "
        "(doi 10.24432/C5TK53) there, or give --data DIR; recordings of your own are read from a .csv or .npz file."
    )


def read_uci(data: Path, databases: tuple[int, ...] = (1, 2)) -> Recordings:
    """Read the databases, each trial cut to the shortest one's length where both are asked for.

    Raises:
        DataError: no such folder, or a file that can't be read.
    """
    folder = find_uci(data)
    files = []
    for number in databases:
        if number not in DATABASES:
            raise unknown_name("database", str(number), map(str, DATABASES))
        files += sorted((folder / DATABASES[number]).glob("*.mat"))
    if not files:
        raise DataError(f"{folder}: no .mat file of {' or '.join(DATABASES[n] for n in databases)}")
    return concatenate([read_session(file) for file in files])


def read_session(path: Path) -> Recordings:
    """Read one file: all trials of one person on one day.

    Raises:
        DataError: unreadable, or a key is missing, unknown or of the wrong shape.
    """
    found = _arrays(path)
    wanted = {f"{key}_ch{channel}" for key in KEYS.values() for channel in (1, 2)}
    if unknown := sorted(found.keys() - wanted):
        raise DataError(f"{path}: unknown key {unknown[0]!r}. Available: {', '.join(sorted(wanted))}")
    if missing := sorted(wanted - found.keys()):
        raise DataError(
            f"{path}: no {missing[0]!r} (a missing channel?); it has {', '.join(sorted(found)) or 'nothing'}"
        )
    shapes = {key: value.shape for key, value in found.items()}
    shape = shapes["cyl_ch1"]
    for key, other in shapes.items():
        if len(other) != 2 or other[1] != shape[1] or other[0] != shapes[key[:-1] + "1"][0]:
            raise DataError(f"{path}: {key} has shape {other}, others {shape}; expected (trials, samples)")
    signals: list[Array] = []
    labels: list[str] = []
    repetitions: list[int] = []
    for name, key in KEYS.items():
        signals.append(np.stack([found[f"{key}_ch1"], found[f"{key}_ch2"]], axis=1))
        labels += [name] * len(signals[-1])
        repetitions += range(len(signals[-1]))
    session = path.stem
    subject = MAN if session.startswith(f"{MAN}_") else session
    count = len(labels)
    return Recordings(
        np.concatenate(signals), np.array(labels), np.full(count, subject), np.full(count, session),
        np.array(repetitions), RATE, "real", "UCI sEMG for Basic Hand Movements",
    )  # fmt: skip


def _arrays(path: Path) -> dict[str, Array]:
    from scipy.io import loadmat

    try:
        found = loadmat(path, appendmat=False)
        return {k: np.asarray(v, dtype=np.float64) for k, v in found.items() if not k.startswith("__")}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # scipy raises many kinds for a damaged file
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{path} can't be read as a MATLAB file ({reason}): download it again") from None
