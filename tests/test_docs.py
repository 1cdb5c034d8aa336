"""Every block of the README and of docs/ runs, every link leads somewhere, and what they list is all there is.

A page's blocks run in its order, in one folder: Python as it is, files are written, commands are run in a small
version, by the tables below. A block or command that none of them covers fails.
"""

import glob
import json
import os
import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from pages import PAGES, ROOT, Block, blocks, commands

from simeval.bank import load_bank
from simeval.cli import main
from simeval.emg.files import ARRAYS, COLUMNS, write_npz
from simeval.emg.stream import Decision, StreamSettings
from simeval.emg.synthetic import make_synthetic
from simeval.generators.predictor import train as training
from simeval.records import TrialRecord
from simeval.replay import run_folders
from simeval.report.summary import MetricRow
from simeval.report.tables import markdown, metric_grid
from simeval.store import read_run
from simeval.suites import load_suite
from simeval.trials.records import EndToEnd

ELSEWHERE = {"tutorial.md": "test_tutorial.py follows it word for word"}
NOT_RUN = {
    "pytest": "these tests",
    "simeval gate --baseline results/gate_embedded.json --run runs/gate": "wants all of a run, which .ci/run makes",
}
SMALL = {
    "simeval run --generator preshape --mesh cup.obj": "{itself} --grasps 1 --protocol six-direction -j 0",
    "simeval run --generator preshape --mesh cup_mm.stl": "{itself} --grasps 1 --protocol six-direction -j 0",
    "simeval run --generator retrieval --set bank=grasps.parquet": "{itself} {quick} --no-references",
    "simeval run --generator diffusion": "{itself} {quick} --no-references",
    "simeval run --generator retrieval --set by=points": "{itself} {quick} --no-references",
    "simeval run --generator replay": "{itself} {quick} --no-references",
    "simeval run": "{itself} {quick}",
    "simeval report": "{itself} --trials 1 -j 0",
    "simeval dataset build": "{itself} --objects 2 --scale 1 --types planar,hook --per-object 4 --waves 1 -j 0",
    "simeval dataset check": "{itself} --sample 1 -j 0",
    "simeval train diffusion": "{itself} {tiny}",
    "simeval figures": "{itself} --format png",
    "simeval emg evaluate --recordings uci": "{itself} --recordings uci-1 --protocol leave-one-subject-out --model lda",
    "simeval emg evaluate": "{itself} --protocol leave-one-day-out --model lda",
    "simeval emg train": "{itself} --model lda",
}
"""Beginning of a command -> what is executed in its place; the longest that fits counts. {itself}: the command."""
TINY = "--set model.network.width=64 --set model.network.blocks=1 --set train.steps=2 --set train.batch=4"
QUICK = "--objects 1 --grasps 1 --protocol six-direction -j 0"
PREDICTOR_STEPS = 20  # in place of thousands; `simeval train predictor` has no setting for it
AS_IT_IS = (
    "simeval table", "simeval replay", "simeval compare", "simeval gate", "simeval doctor",
    "simeval generators", "simeval objects", "simeval dataset convert", "simeval dataset label",
    "simeval train predictor", "simeval trials run", "simeval trials table", "simeval emg stream",
)  # fmt: skip
"""Beginnings of commands that are executed as they are."""
DATA = "SIMEVAL_DATA"
NEEDS_DATA = re.compile(r"\bDIR\b")  # stands for its folder


def small(command: str) -> str:
    """Return what is executed in place of a command; fails where no table has it."""
    fits = [start for start in (*SMALL, *AS_IT_IS) if f"{command} ".startswith(f"{start} ")]
    assert fits, f"no table of this test says how to run {command!r}"
    longest = max(fits, key=len)
    return SMALL.get(longest, "{itself}").format(itself=command, quick=QUICK, tiny=TINY)


def shell_commands(block: Block) -> list[str]:
    """Commands of a shell block, or of the `run:` lines of a workflow."""
    text = block.text if block.language == "sh" else "\n".join(re.findall(r"- run: (.*)", block.text))
    return commands(text)


def check_pip(words: list[str]) -> None:
    """Check that `pip install …` names what there is: this package, its extras, versions that it takes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [word for word in words[2:] if word != "-e"]
    assert words[:2] == ["pip", "install"], words
    assert wanted, words
    for word in wanted:
        parts = re.fullmatch(r"(\.|[A-Za-z][\w.-]*?)(?:\[([\w,]+)\])?(?:==([\d.]+))?", word)
        assert parts, f"not a requirement: {word!r}"
        if parts[1] in (".", project["name"]):
            assert set((parts[2] or "").split(",")) <= {"", *project["optional-dependencies"]}, word
        else:
            assert any(re.match(rf"{parts[1]}\b", known) for known in project["dependencies"]), word


def fill_in(word: str) -> str:
    """Return what stands for a placeholder of the pages."""
    if word == "my-generator":
        return "scoop"
    found = re.search("RUN_A|RUN_B|TRIAL_ID", word)
    if not found:
        return word
    runs = run_folders([Path("runs/embedded")])
    known = {"RUN_A": runs[0], "RUN_B": runs[-1], "TRIAL_ID": read_run(runs[0]).records[0].trial_id}
    return word.replace(found[0], str(known[found[0]]))


def run_command(command: str, data: str = "") -> None:
    """Run one command, small, in the current folder; file patterns and placeholders are filled in."""
    words = shlex.split(NEEDS_DATA.sub(data, small(command)) if data else small(command))
    assert words[0] == "simeval", command
    words = [found for word in words[1:] for found in (glob.glob(word) if "*" in word else [word])]
    words = [fill_in(word) for word in words]
    try:
        main(words)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 0, f"simeval {' '.join(words)} ended with {code}"


def run_block(block: Block) -> None:
    """Run a block that needs no data; fails where it is of no known kind."""
    if block.language == "python":
        exec(compile(block.text, str(block), "exec"), {"__name__": "block"})
    elif block.language == "toml":
        tomllib.loads(block.text)
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
            load_suite(block.file)
    elif block.language in ("sh", "yaml"):
        found = shell_commands(block)
        assert found, f"{block} has no command"
        for command in found:
            words = shlex.split(command)
            if words[0] == "pip":
                check_pip(words)
            elif command not in NOT_RUN and not NEEDS_DATA.search(command):
                run_command(command)
    else:
        pytest.fail(f"{block}: nothing says how to run a block of {block.language or 'no language'}")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages take for granted: a run, a mesh, recordings. One for all pages."""
    import trimesh

    folder = tmp_path_factory.mktemp("pages")
    (folder / "results").symlink_to(ROOT / "results")
    cup = trimesh.creation.cylinder(radius=0.03, height=0.1)
    cup.export(folder / "cup.obj")
    cup.apply_scale(1000).export(folder / "cup_mm.stl")
    recordings = make_synthetic()
    write_npz(folder / "own.npz", recordings)
    signal = recordings.signals[0]
    rows = np.column_stack([np.arange(signal.shape[1]) / recordings.rate, signal.T])
    np.savetxt(folder / "live.csv", rows, delimiter=",", header="time,ch1,ch2", comments="")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_command("simeval run --generator retrieval")
    return folder


RUN_HERE = [page for page in PAGES if page.name not in ELSEWHERE]


@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.stem)
def test_blocks_run(page: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(training, "STEPS", PREDICTOR_STEPS)
    for block in blocks(page):
        run_block(block)


WITH_DATA = [
    pytest.param(command, id=command)
    for page in RUN_HERE
    for block in blocks(page)
    if block.language == "sh"
    for command in shell_commands(block)
    if NEEDS_DATA.search(command)
]


@pytest.mark.parametrize("command", WITH_DATA)
@pytest.mark.skipif(DATA not in os.environ, reason=f"needs the data sets: {DATA} isn't set")
def test_command_with_data(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_command(command, os.environ[DATA])


def test_no_table_has_what_no_page_needs() -> None:
    used = [
        c for page in RUN_HERE for block in blocks(page) if block.language != "python" for c in shell_commands(block)
    ]
    for start in (*SMALL, *AS_IT_IS, *NOT_RUN):
        assert any(f"{command} ".startswith(f"{start} ") for command in used), start
    assert set(ELSEWHERE) <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readmes_table_is_the_stored_one() -> None:
    rows = json.loads((ROOT / "results" / "embedded.json").read_text())
    rows = [MetricRow(**{k: float("inf") if v is None else v for k, v in row.items()}) for row in rows]
    table = markdown([metric_grid(rows, short=False)], "").strip()
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


def test_data_formats_name_every_column_and_field() -> None:
    page = (ROOT / "docs" / "data_formats.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    records = {field.name for field in fields(TrialRecord)}
    rows = {field.name for field in fields(MetricRow)}
    bank = {"object", "scale", "type", "grasp", "low", "high", "center", "volume", "up", *load_bank("embedded").extra}
    for what in (records, rows, bank, set(ARRAYS), set(COLUMNS)):
        assert what <= named, sorted(what - named)


def test_data_formats_name_what_end_to_end_trials_and_streams_write() -> None:
    page = (ROOT / "docs" / "data_formats.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    for kind in (EndToEnd, Decision):
        assert {field.name for field in fields(kind)} <= named
    assert set(StreamSettings.model_fields) <= named


def test_data_formats_name_every_key_of_a_manifest(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "data_formats.md").read_text(encoding="utf-8")))
    for folder in run_folders([Path("runs")]):
        assert set(read_run(folder).manifest) <= named, folder


def results_files() -> list[Path]:
    """Files of results/, its list of contents apart."""
    return [path for path in sorted((ROOT / "results").iterdir()) if path.is_file() and path.name != "README.md"]


def named_commands(path: Path) -> set[str]:
    """Commands that a page or file of results/ says it was made by."""
    if path.suffix == ".md":
        text = " ".join(path.read_text(encoding="utf-8").split())
        found = [part for part in re.findall(r"[Mm]ade by (.*?)(?:\. |$)", text)]
        return {c for part in found for c in re.findall(r"`((?:simeval|python -m) [^`]+)`", part)}
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        return {content["command"]} if isinstance(content, dict) and "command" in content else set()
    return set()


def test_every_result_can_be_made_again() -> None:
    page = (ROOT / "docs" / "reproducing.md").read_text(encoding="utf-8")
    stated = set(re.findall(r"`((?:simeval|python -m) [^`]+)`", page)) - {"simeval gate"}
    for path in results_files():
        assert f"(../results/{path.name})" in page, f"docs/reproducing.md lacks {path.name}"
    named = set().union(*(named_commands(path) for path in (ROOT / "results").iterdir()))
    assert stated == named
