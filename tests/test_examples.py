"""Every numbered example runs and prints what it is about."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
PRINTS = {
    "01_run_a_generator": "secure_success",
    "02_your_own_mesh": "tin.stl: [66. 66. 90.] mm",
    "03_your_own_grasps": "six-direction  grasp 2: LIFTED",
    "04_read_records": "slip of those lifted",
    "05_compare_two_generators": "preshape − retrieval",
    "06_report": "2 trials in 3D",
}
"""What the output of each has in it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: those that ask for the same run find it there."""
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize("name", PRINTS)
def test_example(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert PRINTS[name] in capsys.readouterr().out


def test_all_are_run() -> None:
    assert sorted(PRINTS) == sorted(path.stem for path in FOLDER.glob("*.py"))
