"""`simeval replay`: run a stored trial again and see whether the same comes out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simeval.commands.options import Data, show
from simeval.errors import DataError, SettingError

if TYPE_CHECKING:
    from simeval.replay import StoredTrial


def replay(
    trial_id: Annotated[str, typer.Argument(help="Id of a trial, or its first digits.")],
    run: Annotated[
        list[Path], typer.Option("--run", help="Run folder, or a folder of some; repeatable.", metavar="RUN")
    ],
    data: Data = None,
    mesh: Annotated[
        Path | None, typer.Option(help="The run's mesh, where it isn't where it was.", metavar="FILE")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Also draw it, to a .png file.", metavar="FILE")] = None,
) -> None:
    """Run a stored trial again and compare bit for bit; exit with 1 where the result is another."""
    from simeval.replay import find_trial, restore_trial, run_folders
    from simeval.store import same_result

    if image is not None and image.suffix.lower() != ".png":
        raise SettingError(f"--image {image}: expected a file name that ends in .png")
    if image is not None and not image.absolute().parent.is_dir():
        raise DataError(f"--image {image}: there is no folder {image.absolute().parent}")
    stored = restore_trial(*find_trial(run_folders(run), trial_id), data, mesh)
    record = stored.record
    what = f"{record.object_code} at {record.scale:g}, {record.grasp_type or 'any type'}, grasp {record.index}"
    show(f"trial {record.trial_id} of {stored.folder}: {what}, {record.protocol}")
    now = stored.run()
    if image is not None:
        _draw(stored, image)
    differing = same_result(record, now)
    for name in differing:
        show(f"  {name}: {getattr(record, name)} stored, {getattr(now, name)} now")
    if differing:
        show(f"not reproduced. {_difference(stored)}")
        raise typer.Exit(1)
    measured = f"slip {1e3 * now.slip_m:.1f} mm, {now.steps} steps, {now.cpu_s:.2f} CPU s"
    show(f"reproduced bit for bit: {now.outcome}{f' ({now.reason})' if now.reason else ''}, {measured}")


def _draw(stored: "StoredTrial", image: Path) -> None:
    from simeval.physics.render import render_trial

    try:
        render_trial(stored.trial, stored.model, stored.physics, image)
    except ValueError as error:
        raise SettingError(f"no picture of trial {stored.record.trial_id}: {error}") from None
    show(f"picture: {image}")


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
