"""`simeval replay`: run a stored trial again and see whether the same comes out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simeval.commands.options import Data, Meshes, show
from simeval.errors import DataError, SettingError
from simeval.files import check_output

if TYPE_CHECKING:
    from simeval.motion import Motion
    from simeval.replay import StoredTrial


def replay(
    trial_id: Annotated[str, typer.Argument(help="Id of a trial, or its first digits.")],
    run: Annotated[
        list[Path], typer.Option("--run", help="Run folder, or a folder of some; repeatable.", metavar="RUN")
    ],
    data: Data = None,
    mesh: Meshes = None,
    image: Annotated[Path | None, typer.Option(help="Also draw it, to a .png file.", metavar="FILE")] = None,
    video: Annotated[Path | None, typer.Option(help="Also film it: .gif or .mp4 (extra view).", metavar="FILE")] = None,
    view: Annotated[bool, typer.Option("--view", help="Also show it in 3D, in the browser of this machine.")] = False,
) -> None:
    """Run a stored trial again and compare bit for bit; exit with 1 where the result is another."""
    from simeval.replay import StoredObjects, find_trial, restore_trial, run_folders
    from simeval.store import same_result

    _check_outputs(image, video, view)
    stored = restore_trial(*find_trial(run_folders(run), trial_id), StoredObjects(data, mesh or []))
    record = stored.record
    if view:
        from simeval.report.report import check_can_be_shown

        check_can_be_shown(record)
    what = f"{record.object_code} at {record.scale:g}, {record.grasp_type or 'any type'}, grasp {record.index}"
    show(f"trial {record.trial_id} of {stored.folder}: {what}, {record.protocol}")
    motion = _watch(stored) if image or video or view else None
    now = motion.record if motion else stored.run()
    if motion:
        _show_motion(stored, motion, image, video, view)
    differing = same_result(record, now)
    for name in differing:
        show(f"  {name}: {getattr(record, name)} stored, {getattr(now, name)} now")
    if differing:
        show(f"not reproduced. {_difference(stored)}")
        raise typer.Exit(1)
    measured = f"slip {1e3 * now.slip_m:.1f} mm, {now.steps} steps, {now.cpu_s:.2f} CPU s"
    show(f"reproduced bit for bit: {now.outcome}{f' ({now.reason})' if now.reason else ''}, {measured}")


def _check_outputs(image: Path | None, video: Path | None, view: bool) -> None:
    """Find out what can't be drawn before anything is run."""
    if image is not None:
        check_output("--image", image, (".png",))
    if video is not None:
        from simeval.video import check_film

        check_film(video)
    if view:
        from simeval.report.viewer import check_display

        check_display()


def _watch(stored: "StoredTrial") -> "Motion":
    from simeval.motion import record_motions

    [(_, motion, reason)] = record_motions([stored.task], workers=1)
    if motion is None:
        raise SettingError(f"nothing to see of trial {stored.record.trial_id}: {reason}")
    return motion


def _show_motion(
    stored: "StoredTrial", motion: "Motion", image: Path | None, video: Path | None, view: bool
) -> None:  # fmt: skip
    if not motion.moments and (image or video):
        raise SettingError(
            f"no picture of trial {stored.record.trial_id}: it ended before its simulation began "
            f"({motion.record.outcome}: {motion.record.reason}). --view shows its grasp."
        )
    if image:
        _draw(stored, motion, image)
    if video:
        _film(stored, motion, video)
    if view:
        from simeval.report.viewer import open_viewer

        show(f"viewer: {open_viewer(stored, motion)}")


def _draw(stored: "StoredTrial", motion: "Motion", image: Path) -> None:
    import matplotlib.image

    from simeval.physics.render import render_strip

    assert stored.trial.grasp is not None
    looks = [moment for i, moment in enumerate(motion.moments) if i != motion.held]  # evenly spaced
    try:
        matplotlib.image.imsave(image, render_strip(stored.model, stored.trial.grasp, looks))
    except OSError as error:
        raise DataError(f"{image} can't be written: {error}") from error
    show(f"picture: {image}")


def _film(stored: "StoredTrial", motion: "Motion", video: Path) -> None:
    from simeval.commands.progress import Bars
    from simeval.physics.render import FILM_FRAMES_PER_S, film_times, render_film
    from simeval.video import write_film

    assert stored.trial.grasp is not None
    total = len(film_times(motion.moments))
    with Bars({"filming": total}, "pictures") as bars:
        pictures = render_film(stored.model, stored.trial.grasp, motion.moments, bars.callback("filming"))
        write_film(video, pictures, FILM_FRAMES_PER_S)
    show(f"film: {video}, {total / FILM_FRAMES_PER_S:.1f} s as simulated")


def _difference(stored: "StoredTrial") -> str:
    """Say what is another than when the run was made, or that nothing is."""
    from simeval.manifest import executor_digest, versions
    from simeval.store import read_run

    manifest = read_run(stored.folder).manifest
    then, now = manifest.get("versions", {}), versions()
    changed = [f"{name} {then[name]} then, {now[name]} now" for name in now if then.get(name, now[name]) != now[name]]
    if manifest.get("executor_digest") != executor_digest():
        changed.append("the code of simeval's physics has changed")
    return f"Since the run: {'; '.join(changed)}." if changed else "Versions are those of the run."
