import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from report_runs import quick_run

from simeval.cli import main
from simeval.errors import DataError
from simeval.motion import record_motion
from simeval.physics.render import film_times, render_film
from simeval.replay import StoredTrial, restore_trial, run_folders
from simeval.store import read_run
from simeval.video import write_film


def simeval(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> StoredTrial:
    """A trial in which something moves, but not for long."""
    runs = tmp_path_factory.mktemp("video")
    quick_run(runs)
    found = [(f, read_run(f), r) for f in run_folders([runs]) for r in read_run(f).records if r.steps]
    return restore_trial(*min(found, key=lambda each: each[2].steps))


def pictures(count: int = 6) -> list[np.ndarray]:
    return [np.full((32, 48, 3), 40 * k, dtype=np.uint8) for k in range(count)]


@pytest.mark.parametrize(("name", "package"), [("a.gif", "imageio"), ("a.mp4", "imageio_ffmpeg")])
def test_films_have_every_picture(tmp_path: Path, name: str, package: str) -> None:
    pytest.importorskip(package)
    import imageio.v2 as imageio

    write_film(tmp_path / name, pictures(), 20)
    with imageio.get_reader(tmp_path / name) as reader:
        found = [np.asarray(frame)[..., :3].mean() for frame in reader]
    np.testing.assert_allclose(found, [40 * k for k in range(6)], atol=6)
    assert [f.name for f in tmp_path.iterdir()] == [name]


def test_a_film_shows_the_trial_at_its_own_speed(trial: StoredTrial) -> None:
    motion = record_motion(trial.task)
    assert trial.trial.grasp is not None
    moments = [motion.moments[0], motion.moments[-1]._replace(time=motion.moments[0].time + 0.1)]
    assert len(film_times(moments)) == 22  # 0.1 s and the second for which the last one stays
    seen = list(render_film(trial.model, trial.trial.grasp, moments))
    assert [np.array_equal(picture, seen[0]) for picture in seen] == [True] * 2 + [False] * 20
    assert seen[0].shape == (480, 480, 3)


def test_replay_films_a_trial(trial: StoredTrial, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("imageio")
    assert simeval("replay", trial.record.trial_id, "--run", trial.folder, "--video", tmp_path / "a.gif") == 0
    out = capfd.readouterr().out
    assert "film: " in out
    assert "reproduced bit for bit" in out
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF89a")


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("a.avi", (), "ends in .gif or .mp4"),
        ("nowhere/a.gif", (), "there is no folder"),
        ("/proc/a.gif", (), "/proc/a.gif can't be written"),
        ("a.gif", ("imageio",), "needs imageio: pip install 'simeval[view]'"),
        ("a.mp4", ("imageio_ffmpeg",), "needs imageio-ffmpeg: pip install 'simeval[view]'. A .gif needs no ffmpeg."),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(
    trial: StoredTrial, tmp_path: Path, name: str, missing: tuple[str, ...], message: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = lambda package: None if package in missing else sys  # noqa: E731
    monkeypatch.setattr("simeval.video.find_spec", found)
    assert util.find_spec is not found
    assert simeval("replay", trial.record.trial_id, "--run", trial.folder, "--video", tmp_path / name) == 2
    out, err = capfd.readouterr()
    assert message in err
    assert out == ""


def test_a_film_that_fails_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("imageio")

    def some() -> object:
        yield pictures()[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left"):
        write_film(tmp_path / "a.gif", some(), 20)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
