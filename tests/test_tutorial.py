"""The tutorial, followed word for word: an empty folder, its files, its commands, its table."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from offline import can_build, environment
from pages import ROOT, blocks

PAGE = ROOT / "docs" / "tutorial.md"
SIMEVAL = "from simeval.cli import main"
PIP = "from pip._internal.cli.main import main"
BY_HAND = """sys.path.insert(0, {tests!r})
from offline import install_by_hand
from pathlib import Path
assert sys.argv[1:] == ["install", "-e", "."], sys.argv
main = lambda: install_by_hand(Path.cwd(), Path({site!r}))"""


def make_environment(folder: Path) -> dict[str, str]:
    """Make a virtual environment that has all that is installed here; what is installed into it stays there."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "all_of_here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    pip = PIP if can_build() else BY_HAND.format(tests=str(ROOT / "tests"), site=str(site))
    for name, lines in {"simeval": SIMEVAL, "pip": pip}.items():
        script = folder / "bin" / name
        script.write_text(
            f"#!{folder}/bin/python\nimport sys\n{lines}\nif __name__ == '__main__':\n    sys.exit(main())\n"
        )
        script.chmod(0o755)
    found = environment()
    return found | {"PATH": f"{folder / 'bin'}:{found['PATH']}"}


def test_the_tutorial_word_for_word(tmp_path: Path) -> None:
    variables, folder = make_environment(tmp_path / "venv"), tmp_path / "empty"
    folder.mkdir()
    printed = {}
    for block in blocks(PAGE):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            continue
        assert block.language == "sh", f"{block} is neither a file nor a command"
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", block.text],
            cwd=folder, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed[block.text.split("\n")[0]] = done.stdout
    assert "beside  —  grasps-from-beside (beside:Beside)" in printed["pip install -e ."]
    table = printed["simeval run --generator beside --objects 2"]
    rows = [line.split(" | ")[0] for line in table.split("\n\n")[0].split("\n")[2:]]
    assert rows == ["| replay", "| open-hand", "| random", "| scoop", "| beside"]
    shown = [line.split(" | ")[0] for line in PAGE.read_text(encoding="utf-8").split("\n") if line.startswith("| ")]
    assert shown == ["| generator", "| ---", *rows]
    assert (folder / "failure.png").stat().st_size > 10_000
    assert "reproduced bit for bit" in printed["python failures.py"]
    assert "A is preshape, B is beside" in printed["simeval run --generator preshape --objects 2 --no-references"]
