"""Pictures to a film file: GIF with imageio alone, MP4 with imageio-ffmpeg beside it (both are in the extra `view`)."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.errors import SettingError
from simeval.files import check_output, check_writable, completed

SUFFIXES = (".gif", ".mp4")
NEEDED = {".gif": ("imageio",), ".mp4": ("imageio", "imageio_ffmpeg")}


def check_film(path: Path) -> None:
    """Find out, before anything is run, whether a film can be written to a path.

    Raises:
        SettingError: unknown kind of film, or a package is missing; the message says how to install it.
        DataError: the folder doesn't exist, or nothing can be written to it.
    """
    check_output("--video", path, SUFFIXES)
    missing = [name.replace("_", "-") for name in NEEDED[path.suffix.lower()] if find_spec(name) is None]
    if missing:
        other = " A .gif needs no ffmpeg." if missing == ["imageio-ffmpeg"] else ""
        raise SettingError(f"--video {path} needs {' and '.join(missing)}: pip install 'simeval[view]'.{other}")
    check_writable(path)


def write_film(path: Path, pictures: Iterable[NDArray[np.uint8]], frames_per_s: float) -> None:
    """Write pictures (height, width, 3) as a film; the file appears when it is complete.

    Args:
        path: what `check_film` has accepted.
        pictures: all of one size.
        frames_per_s: speed. GIF viewers know steps of 10 ms only.

    Raises:
        DataError: it can't be written (disk full, no permission, ffmpeg fails).
    """
    import imageio.v2 as imageio

    suffix = path.suffix.lower()
    fps: dict[str, Any] = {"fps": frames_per_s, "codec": "libx264"}
    kind = {"duration": 1e3 / frames_per_s, "loop": 0} if suffix == ".gif" else fps
    writer: Any
    with completed(path) as unfinished, imageio.get_writer(unfinished, **kind) as writer:
        for picture in pictures:
            writer.append_data(picture)
