"""A film of three end-to-end trials: `python -m simeval.benchmarks.end_to_end_video RUN... --video FILE`.

Side by side: a success, an object lifted with another type than the meant one, a failure; RUN are folders of
`simeval trials run`. Rendered by PyBullet's software renderer, so that no screen is needed.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simeval.errors import DataError, clear_exit
from simeval.grasp import Array
from simeval.motion import Motion, record_motion
from simeval.physics.render import FILM_FRAMES_PER_S, draw, film_times
from simeval.replay import StoredObjects, StoredTrial, find_trial, restore_trial
from simeval.trials.records import EndToEnd, Fate
from simeval.trials.summary import read_rows
from simeval.video import check_film, write_film

Picture = NDArray[np.uint8]
WANTED = (Fate.RIGHT, Fate.OTHER, Fate.PHYSICS)
SIZE = 320
LINE = 18  # pixels of a line of text


@dataclass(frozen=True)
class Clip:
    """A trial and what happened in it."""

    record: EndToEnd
    stored: StoredTrial
    motion: Motion

    @property
    def words(self) -> list[str]:
        """What is written below it."""
        r = self.record
        decided = f"decoded: {r.decided_type or 'no type'} ({max(r.posterior):.0%})"
        return [f"meant: {r.intent}", decided, str(r.fate)]


def choose(paths: Sequence[Path], policy: str = "argmax") -> list[tuple[Path, EndToEnd]]:
    """Return a trial of each fate wanted, of one policy: the first, on an object that isn't shown yet where possible.

    Raises:
        DataError: there is none of some fate.
    """
    found: list[tuple[Path, EndToEnd]] = []
    folders = sorted({f.parent for path in paths for f in path.rglob("end_to_end.json")})
    trials = [(folder, r) for folder in folders for row in read_rows([folder]) for r in row.records]
    own = [(folder.parent.parent, r) for folder, r in trials if r.policy == policy]
    for fate in WANTED:
        shown = {r.object_code for _, r in found}
        there = [each for each in own if each[1].fate == fate]
        if not there:
            raise DataError(f"no trial of policy {policy!r} among {len(own)} is: {fate}")
        found.append(min(there, key=lambda each: (each[1].object_code in shown, each[1].number)))
    return found


def record_clips(chosen: Sequence[tuple[Path, EndToEnd]], data: Path | None) -> list[Clip]:
    """Run the trials again to see what moved."""
    clips, objects = [], StoredObjects(data)
    for folder, record in chosen:
        stored = restore_trial(*find_trial([folder], record.grasp_trial), objects)
        clips.append(Clip(record, stored, record_motion(stored.task)))
    return clips


def pictures(clips: Sequence[Clip], size: int = SIZE, every: int = 1) -> Iterator[Picture]:
    """Yield pictures (size + text, size × clips, 3), one in `every`; a clip that is over stays as it ended."""
    times = [film_times(clip.motion.moments) for clip in clips]
    captions = [_text(clip.words, size) for clip in clips]
    last: list[tuple[int, Picture] | None] = [None] * len(clips)
    for frame in range(0, max(map(len, times)), every):
        for i, clip in enumerate(clips):
            index = _moment(clip, times[i], frame)
            kept = last[i]
            if kept is None or kept[0] != index:
                last[i] = index, _draw(clip, index, size)
        shown = [each[1] for each in last if each is not None]
        yield np.concatenate(
            [np.concatenate([picture, words]) for picture, words in zip(shown, captions, strict=True)], axis=1
        )


def _moment(clip: Clip, times: Array, frame: int) -> int:
    at = times[min(frame, len(times) - 1)]
    return int(np.searchsorted([m.time for m in clip.motion.moments], at + 1e-9, side="right")) - 1


def _draw(clip: Clip, index: int, size: int) -> Picture:
    grasp = clip.stored.trial.grasp
    assert grasp is not None
    return draw(clip.stored.model, grasp.rotation[0], grasp.translation[0], clip.motion.moments[index], size)


def _text(lines: Sequence[str], width: int) -> Picture:
    """Dark words on white, as a picture (LINE × lines, width, 3)."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, LINE * len(lines)), "white")
    pen = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        pen.text((6, 3 + LINE * i), line, fill=(30, 30, 30))
    return np.asarray(image, dtype=np.uint8)


def main() -> None:
    """Choose three trials, run them again and film them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of `simeval trials run`")
    parser.add_argument("--video", type=Path, default=Path("results/end_to_end.gif"), help=".gif or .mp4")
    parser.add_argument("--data", type=Path, help="data folder, where the objects aren't embedded")
    parser.add_argument("--policy", default="argmax")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels of a panel")
    parser.add_argument("--every", type=int, default=2, help="one picture in so many is shown")
    options = parser.parse_args()
    check_film(options.video)
    clips = record_clips(choose(options.runs, options.policy), options.data)
    for clip in clips:
        print(f"{clip.record.trial_id}, {clip.record.object_code}: {'; '.join(clip.words)}")
    write_film(options.video, pictures(clips, options.size, options.every), FILM_FRAMES_PER_S / options.every)
    print(f"film: {options.video}")


if __name__ == "__main__":
    with clear_exit():
        main()
