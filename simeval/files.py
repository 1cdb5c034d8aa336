"""Files that appear when they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simeval.errors import DataError


@contextmanager
def completed(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, of the same suffix, to write to; it takes the place of `path` when all went well.

    Raises:
        DataError: it can't be written (disk full, no permission).
    """
    unfinished = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix.lower()}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
