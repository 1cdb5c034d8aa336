"""Files that appear when they are complete, and what JSON makes of numbers that are none."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from simeval.errors import DataError, SettingError


@contextmanager
def completed(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, of the same suffix, to write to; it takes the place of `path` when all went well.

    Raises:
        DataError: it can't be written (disk full, no permission).
    """
    try:
        with replacing(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Do what `completed` does, leaving errors as they are.

    Args:
        path: the file to replace.
        durable: whether it must survive power loss from then on, or else the old one.

    Raises:
        OSError: it can't be written.
    """
    unfinished = path.with_name(unfinished_name(path, str(os.getpid())))
    try:
        yield unfinished
        if durable:
            _to_disk(unfinished)
        os.replace(unfinished, path)
    finally:
        with suppress(OSError):
            unfinished.unlink()
    if durable:
        _to_disk(path.parent)  # or the new name may be lost


def make_folder(path: Path) -> None:
    """Make a folder where there is none.

    Raises:
        DataError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: can't be made a folder ({error.strerror})") from None


def check_output(option: str, path: Path, suffixes: Sequence[str]) -> None:
    """Check the file that an option names, before the work whose result it is to hold.

    Raises:
        SettingError: its name ends in none of the suffixes.
        DataError: its folder isn't there.
    """
    if path.suffix.lower() not in suffixes:
        raise SettingError(f"{option} {path}: expected a file name that ends in {' or '.join(suffixes)}")
    if not path.absolute().parent.is_dir():
        raise DataError(f"{option} {path}: there is no folder {path.absolute().parent}")


def check_writable(path: Path) -> None:
    """Say that no file can be made there before the work whose result it is to hold, not after it.

    Raises:
        DataError: none can.
    """
    probe = path.with_name(unfinished_name(path, str(os.getpid())))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror}") from None


def unfinished_name(path: Path, writer: str) -> str:
    """Return the name of a file until it is complete; with "*" for the writer, the pattern of what killed ones left."""
    return f".{path.stem}-{writer}{path.suffix.lower()}"


def _to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def plain(value: Any) -> Any:
    """Return JSON types with None for numbers that are not finite, which JSON doesn't have; lists and dicts too."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, indent: int = 1) -> str:
    """Return a value as JSON, as `plain` has it, with a line break at its end."""
    return json.dumps(plain(value), indent=indent, allow_nan=False) + "\n"
