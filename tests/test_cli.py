import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import fake_generators
import pytest
import trimesh

from simeval.cli import main
from simeval.commands.doctor import OBJECT
from simeval.emg.files import write_npz
from simeval.emg.synthetic import make_synthetic
from simeval.errors import SettingError, SimevalError
from simeval.physics.settings import Physics
from simeval.records import Outcome
from simeval.store import read_run, same_result

FAKES = Path(fake_generators.__file__)
SUITE = f"""
name = "tiny"
version = 1
description = "for tests"
data_kind = "embedded"
protocols = ["lift"]
references = ["fingerprinted"]
requests = [["{OBJECT}", 1.0, "", 3], ["{OBJECT}", 0.9, "hook", 3]]
"""
BUILD = ["dataset", "build", "--out"]
QUICK = ("--physics", "iterations=10", "--physics", "timestep=0.01", "--workers", "0")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    monkeypatch.delenv("SIMEVAL_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "tiny.toml").write_text(SUITE)
    fake_generators.CALLS.clear()
    with fake_generators.registered():
        yield tmp_path


def simeval(*arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return int(stop.value.code or 0)


def run(*arguments: object) -> int:
    return simeval("run", "-g", "steady", "--suite", "tiny.toml", *QUICK, *arguments)


def run_folder(name: str = "steady", below: Path = Path("runs")) -> Path:
    [folder] = [path for path in below.rglob(f"{name}-*") if path.is_dir()]
    return folder


def test_run_shows_the_table_with_references_and_resumes(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--grasps", 1) == 0
    out, err = capfd.readouterr()
    folder = run_folder()
    assert re.search(r"^\| steady ", out, re.MULTILINE)
    assert re.search(r"^\| fingerprinted ", out, re.MULTILINE)
    assert f"results: {folder}" in err
    assert "error" not in err
    assert folder.parent == Path("runs/tiny")
    assert [len(read_run(f).records) for f in (folder, run_folder("fingerprinted"))] == [2, 2]
    calls = len(fake_generators.CALLS)
    assert run("--grasps", 1) == 0
    again, err = capfd.readouterr()
    assert again == out
    assert "steady: nothing to do, its 2 trials are stored" in err
    assert len(fake_generators.CALLS) == calls
    assert run("--grasps", 1, "--fresh") == 0
    assert len(fake_generators.CALLS) == calls + 2  # the references are kept
    next(folder.glob("parts/*.parquet")).write_bytes(b"half a par")
    assert run("--grasps", 1) == 2
    assert run("--grasps", 1, "--fresh") == 0
    assert len(read_run(folder).records) == 2


def test_a_reference_with_other_settings_is_told_from_it(capfd: pytest.CaptureFixture[str]) -> None:
    what = ("run", "-g", "fingerprinted", "--suite", "tiny.toml", *QUICK, "--grasps", 1)
    assert simeval(*what) == 0  # the reference itself
    capfd.readouterr()
    assert simeval(*what, "--set", "weights=b") == 0
    told = re.findall(
        r"^fingerprinted \((.*)\): nothing to do, its 2 trials are stored in (.*)", capfd.readouterr().err, re.M
    )
    assert [Path(folder).name == name for name, folder in told] == [True]


def test_output_survives_a_terminal_that_lacks_a_character() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simeval.cli", "suites"], capture_output=True, check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"dexgraspnet-test" in done.stdout
    assert b"?" in done.stdout


def test_a_mesh_of_ones_own_is_shown_where_there_is_other_data(capfd: pytest.CaptureFixture[str]) -> None:
    trimesh.creation.box((0.05, 0.05, 0.05)).export("cube.obj")
    Path("meshdata").mkdir()
    assert simeval("objects", "--code", "cube.obj", "--scale", 1, "--data", ".") == 0
    assert "50.0 × 50.0 × 50.0 mm" in capfd.readouterr().out


def test_options_of_run_reach_the_run() -> None:
    what = ("--type", "hook", "--grasps", 2, "--objects", 1, "--set", "spread=0", "--set", "bank=b=c")
    how = ("--friction", 0.6, "--mass", 0.1, "--protocol", "six-direction-first", "--pose-noise", "1mm")
    assert run("--no-references", *what, *how, "--seed", 7, "--timeout", 9, "--out", "out") == 0
    assert not Path("runs").exists()
    [folder] = list(Path("out").iterdir())
    stored = read_run(folder)
    m = stored.manifest
    assert folder.name.startswith("steady-noise-1mm-0deg-")
    assert m["settings"] == {"bank": "b=c", "spread": "0", "wait": "0.0"}
    assert (m["physics"]["friction"], m["physics"]["mass_kg"], m["physics"]["iterations"]) == (0.6, 0.1, 10)
    assert (m["seed"], m["protocols"]) == (7, ["six-direction-first"])
    assert (m["volatile"]["timeout"], m["volatile"]["workers"]) == (9.0, 0)
    assert [(r.grasp_type, r.index, r.seed) for r in stored.records] == [("hook", 0, 7), ("hook", 1, 7)]
    assert stored.records[0].physics == Physics(friction=0.6, mass_kg=0.1, iterations=10, timestep=0.01).digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "--generator"),
        (["run", "-g", "stedy", "--suite", "tiny.toml"], "Did you mean 'steady'?"),
        (["run", "-g", "steady", "--suite", "tinny"], "unknown suite 'tinny'"),
        (["run", "-g", "steady", "--suite", "other.toml"], "no suite file other.toml"),
        (["run", "-g", "steady", "--suite", "released"], "--data DIR"),
        (["run", "-g", "steady", "--suite", "released", "--data", "nowhere"], "nowhere"),
        (["run", "-g", "steady", "--suite", "released", "--data", "."], "no DexGraspNet data"),
        (["--objects", "0"], "--objects"),
        (["--grasps", "many"], "--grasps"),
        (["--type", "pinch"], "no request of type 'pinch'; it has: (any), hook"),
        (["--type", "hook", "--type", "pinch"], "no request of type 'pinch'"),
        (["--set", "spread"], "expected key=value"),
        (["--set", "=1"], "expected key=value"),
        (["--set", "spraed=1"], "Did you mean 'spread'?"),
        (["--set", "spread=x"], "spread='x'"),
        (["--set", "wait=1", "--set", "wait=2"], "'wait' twice"),
        (["--set", "bank=nowhere"], "no bank 'nowhere'"),
        (["--protocol", "lfit"], "Did you mean 'lift'?"),
        (["--physics", "frction=1"], "Did you mean 'friction'?"),
        (["--physics", "friction=high"], "friction='high'"),
        (["--physics", "friction"], "expected key=value"),
        (["--physics", "iterations=1.5"], "iterations='1.5'"),
        (["--physics", "iterations=0"], "iterations must be at least 1"),
        (["--physics", "squeeze_rad=nan"], "not a number"),
        (["--physics", "squeeze_rad=inf"], "squeeze_rad must be from 0 to 3"),
        (["--physics", "iterations=100000000000"], "iterations must be from 1 to 100000"),
        (["--mass", "1e-30"], "mass_kg must be from 0.0001 to 100"),
        (["--density", "1e-300"], "density must be from 0.1"),
        (["--physics", "friction=none"], "friction="),
        (["--physics", "friction=1", "--friction", "2"], "friction is given twice"),
        (["--friction", "-1"], "friction must be a positive number"),
        (["--friction", "nan"], "friction must be a positive number"),
        (["--density", "0"], "density must be a positive number"),
        (["--mass", "inf"], "mass_kg must be a positive number"),
        (["--mass", "1", "--density", "2"], "density and mass are both given"),
        (["--pose-noise", "5"], "write for example 5mm,5deg"),
        (["--pose-noise", "5mm,5mm"], "can't read '5mm'"),
        (["--pose-noise", ".mm"], "can't read '.mm'"),
        (["--pose-noise", "1.mm,9999999e999999deg"], "can't read '9999999e999999deg'"),
        (["--seed", "-1"], "--seed"),
        (["--workers", "-1"], "--workers"),
        (["--timeout", "0"], "--timeout"),
        (["--out", "tiny.toml"], "tiny.toml"),
        (["--mesh-up", "x"], "there is no --mesh"),
        (["--unheard-of"], "--unheard-of"),
        (
            ["run", "-g", "steady", "--mesh", "can.obj", "--suite", "tiny.toml"],
            "--suite doesn't go with --mesh",
        ),
        (["run", "-g", "steady", "--mesh", "can.obj", "--objects", "1"], "--objects doesn't go with --mesh"),
        (["run", "-g", "steady", "--mesh", "can.obj"], "can.obj: no such file"),
        (["run", "-g", "steady", "--mesh", "tiny.toml"], "not a mesh file"),
        (["run", "-g", "steady", "--mesh", "can.obj", "--mesh-scale", "0"], "positive number"),
        (["run", "-g", "steady", "--mesh", "can.obj", "--mesh-up", "up"], "unknown up axis 'up'"),
        (["run", "-g", "steady", "--mesh", "can.obj", "--decompose", "all"], "unknown decomposition 'all'"),
        (["run", "-g", "steady", "--mesh", "can.obj", "--type", "pinch"], "unknown grasp type 'pinch'"),
        (["table"], "RUN"),
        (["table", "nowhere"], "nowhere: no such folder"),
        (["table", "."], "has no run in it"),
        (["table", ".", "--format", "xls"], "unknown format 'xls'"),
        (["table", ".", "--by", "size"], "unknown grouping 'size'"),
        (["replay", "abc"], "--run"),
        (["replay", "abc", "--run", "."], "has no run in it"),
        (["replay", "abc", "--run", ".", "--image", "a.jpg"], "ends in .png"),
        (["replay", "abc", "--run", ".", "--image", "nowhere/a.png"], "there is no folder"),
        (["objects", "--source", "ycb"], "unknown object source 'ycb'"),
        (["objects", "--source", "embedded", "--split", "test"], "no splits"),
        (["objects", "--split", "test"], "--data DIR"),
        (["objects", "--code", "embedded-mgu-03"], "embedded-mug-03"),
        (["objects", "--scale", "1"], "--scale goes with --code"),
        (["objects", "--code", "a", "--split", "test"], "--code shows one object"),
        (["objects", "--code", OBJECT, "--scale", "-1"], "scale"),
        (["dataset", "build"], "--out"),
        ([*BUILD, "bank.csv"], "ends in .parquet"),
        ([*BUILD, "nowhere/b.parquet"], "there is no folder"),
        ([*BUILD, "b.parquet", "--objects", "0"], "expected 1 to 884"),
        ([*BUILD, "b.parquet", "--objects", "ycb"], "unknown object source 'ycb'"),
        ([*BUILD, "b.parquet", "--objects", "embedded/train"], "no splits"),
        ([*BUILD, "b.parquet", "--objects", "dexgraspnet/train"], "--data DIR"),
        ([*BUILD, "b.parquet", "--types", "hook,pinch"], "unknown grasp type 'pinch'"),
        ([*BUILD, "b.parquet", "-g", "stedy"], "Did you mean 'steady'?"),
        ([*BUILD, "b.parquet", "-g", "steady", "--set", "sprad=1"], "Did you mean 'spread'?"),
        ([*BUILD, "b.parquet", "--per-object", "0"], "--per-object"),
        ([*BUILD, "b.parquet", "-g", "failing", "--set", "how=none", "-j", "0", "--objects", "1"], "holds"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    start = [] if not arguments[0].startswith("--") else ["run", "-g", "steady", "--suite", "tiny.toml"]
    code = simeval(*start, *arguments)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert message in " ".join(re.sub(r"[│╭╰─╮╯]", " ", err).split())
    assert "Traceback" not in err
    assert not Path("runs").exists()


def test_a_broken_reference_is_named_and_can_be_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    Path("tiny.toml").write_text(SUITE.replace("fingerprinted", "failing"))
    assert run("--grasps", 1) == 2
    err = capfd.readouterr().err
    assert "reference 'failing' of suite 'tiny'" in err
    assert "--no-references" in err
    assert run("--grasps", 1, "--no-references") == 0


def test_failures_of_the_generator_are_explained(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    arguments = (
        "run",
        "-g",
        "failing",
        "--suite",
        "tiny.toml",
        *QUICK,
        "--no-references",
        "--set",
        "how=raises",
    )
    assert simeval(*arguments) == 0
    assert "\nGENERATOR_FAILED 6 of 6: RuntimeError: out of ideas\n" in capfd.readouterr().err
    assert "Traceback" not in caplog.text
    assert simeval(*arguments, "--fresh", "--debug") == 0
    assert "in generate" in caplog.text


def test_too_many_crashes_exit_with_3(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    import simeval.run
    from simeval.physics.execute import blank_record

    lost = lambda tasks, *_: (blank_record(t.trial, Outcome.TIMEOUT, "too slow") for t in tasks)  # noqa: E731
    monkeypatch.setattr(simeval.run, "run_tasks", lost)
    assert run("--no-references") == 3
    out, err = capfd.readouterr()
    assert "TIMEOUT" in out
    assert "100% of the trials crashed or timed out" in err


@pytest.mark.parametrize(
    ("arguments", "work"),
    [
        ([*BUILD, "b.parquet", "-g", "steady", "--objects", "1", "-j", "0"], "simeval.dataset.build.build_dataset"),
        (["train", "predictor", "--dataset", "embedded", "--out", "w"], "simeval.generators.predictor.train.train_on"),
        (["emg", "evaluate", "--recordings", "emg.npz", "--work", "w"], "simeval.emg.evaluate.evaluate"),
    ],
    ids=["dataset build", "train", "emg evaluate"],
)
def test_an_interrupt_ends_with_130_and_says_how_to_go_on(
    arguments: list[str], work: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    write_npz(Path("emg.npz"), make_synthetic(subjects=2, sessions=2, repetitions=2, seconds=0.5))
    monkeypatch.setattr(work, interrupted)
    code = simeval(*arguments)
    out, err = capfd.readouterr()
    assert (code, out) == (130, "")
    assert err.startswith("interrupted")
    assert "The same command goes on" in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--debug", "table", "."], ["table", ".", "--debug"]):
        with pytest.raises(SimevalError, match="no run in it"):
            main(arguments)
    monkeypatch.setenv("SIMEVAL_DEBUG", "1")
    with pytest.raises(SettingError, match="unknown format"):
        main(["table", ".", "--format", "xls"])


def test_table_of_runs(capfd: pytest.CaptureFixture[str]) -> None:
    run("--grasps", 1)
    capfd.readouterr()
    assert simeval("table", "runs", "--format", "json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert {r["generator"] for r in rows} == {"steady", "fingerprinted"}
    assert {r["group"] for r in rows} == {"all"}
    assert simeval("table", run_folder(), "--by", "type", "-f", "csv") == 0
    assert "steady,tiny,lift,hook,lift_success" in capfd.readouterr().out
    assert simeval("table", run_folder(), "--by", "object", "--format", "latex") == 0
    assert r"\begin{tabular}" in capfd.readouterr().out
    assert simeval("table", run_folder(), run_folder().parent) == 0
    assert capfd.readouterr().out.count("\n| steady ") == 2  # metrics and outcomes; the run isn't counted twice


def test_replay_verifies_bit_for_bit(capfd: pytest.CaptureFixture[str]) -> None:
    run("--grasps", 1, "--set", "spread=0.001")
    records = read_run(run_folder()).records
    capfd.readouterr()
    assert simeval("replay", records[0].trial_id[:9], "--run", "runs", "--image", "grasp.png") == 0
    assert Path("grasp.png").read_bytes().startswith(b"\x89PNG")
    assert f"reproduced bit for bit: {records[0].outcome}" in capfd.readouterr().out
    part = next(run_folder().glob("parts/*.parquet"))
    part.unlink()
    changed = [
        replace(records[0], slip_m=records[0].slip_m + 1e-15),
        replace(records[1], rotation=[]),
    ]
    (run_folder() / "journal.jsonl").write_text("".join(json.dumps(asdict(r)) + "\n" for r in changed))
    assert simeval("replay", records[0].trial_id, "--run", run_folder()) == 1
    out = capfd.readouterr().out
    assert "slip_m: " in out
    assert "not reproduced. Versions are those of the run." in out
    assert simeval("replay", records[1].trial_id, "--run", run_folder()) == 2
    assert "has no grasp to replay" in capfd.readouterr().err
    assert simeval("replay", "", "--run", run_folder()) == 2
    assert "2 trials begin with ''" in capfd.readouterr().err
    assert simeval("replay", "zz", "--run", "runs") == 2
    assert "no trial 'zz' among the 4 of 2 runs" in capfd.readouterr().err


def test_generators_lists_settings_and_shows_broken_ones(capfd: pytest.CaptureFixture[str]) -> None:
    assert simeval("generators") == 0
    out = capfd.readouterr().out
    assert "Grasps around a cylinder, shaken a little by the request's seed.\n" in out
    assert "--set bank= spread=0.002 wait=0.0" in out
    assert "--set how=(needed)" in out
    assert "'broken' from ? (fake_generators:NotThere) can't be imported" in out


def test_objects_and_suites(capfd: pytest.CaptureFixture[str]) -> None:
    assert simeval("objects") == 0
    out = capfd.readouterr().out
    assert "embedded  —  884 objects, built in" in out
    assert "dexgraspnet  —  needs DexGraspNet's data: pass --data DIR" in out
    assert simeval("objects", "--source", "embedded") == 0
    assert OBJECT in capfd.readouterr().out.split("\n")
    assert simeval("objects", "--code", OBJECT, "--scale", 2) == 0
    assert "extents x y z: 70.0 × 70.0 × 320.0 mm" in capfd.readouterr().out
    assert simeval("suites") == 0
    assert "released  —  real data, 3 objects, 699 grasps" in capfd.readouterr().out


def test_doctor_finds_what_is_broken(capfd: pytest.CaptureFixture[str]) -> None:
    assert simeval("doctor") == 1
    out = capfd.readouterr().out
    assert "generators: BROKEN: generator 'broken'" in out
    assert "1 of 7 checks failed" in out
    assert "set SIMEVAL_DATA=DIR" in out
    assert f"one trial: {OBJECT}, lift: " in out


def test_dataset_build_writes_a_bank(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from simeval.bank import load_bank
    from simeval.commands import dataset

    monkeypatch.setattr(dataset, "choose_objects", lambda *_: [(OBJECT, 1.0), (OBJECT, 1.05)])
    monkeypatch.setattr(sys, "argv", ["x/simeval", "dataset", "build", "--out", "/tmp/a b/c.parquet"])
    what = ("--types", "cylindrical, tip", "--per-object", 1, "--seed", 3, "-g", "steady", "--set", "spread=0")
    assert simeval(*BUILD, "bank.parquet", *what, "-j", 0) == 0
    out, err = capfd.readouterr()
    assert "grasps of 2 of 2 objects" in out
    assert "set: bank.parquet" in err
    bank = load_bank("bank.parquet")
    assert bank.objects() == [(OBJECT, 1.0), (OBJECT, 1.05)]
    assert set(bank.types) <= {"cylindrical", "tip"}
    assert len(bank) == 2
    assert bank.meta["command"] == "simeval dataset build --out c.parquet"
    assert (bank.meta["seed"], bank.meta["settings"]) == (3, {"spread": "0"})


def test_objects_for_a_bank() -> None:
    from simeval.commands.dataset import choose_objects
    from simeval.objects import ObjectLibrary

    library = ObjectLibrary()
    assert len(choose_objects(library, "embedded", [])) == 884
    some = choose_objects(library, "40", [0.9, 1.1])
    assert len(set(some)) == 80
    assert {s for _, s in some} == {0.9, 1.1}
    assert len({code.rpartition("-")[0] for code, _ in some}) > 10


def test_starting_imports_nothing_heavy() -> None:
    code = (
        "import sys, simeval.cli; "
        "heavy = {'numpy', 'torch', 'scipy', 'pybullet', 'pyarrow', 'pydantic', 'trimesh', 'pebble'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_reader_that_leaves_is_no_error() -> None:
    command = [
        sys.executable,
        "-c",
        "from simeval.cli import main; main()",
        "objects",
        "--source",
        "embedded",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def children(pid: int) -> list[int]:
    return [int(c) for f in Path(f"/proc/{pid}/task").glob("*/children") for c in f.read_text().split()]


def stored(folder: Path) -> int:
    return sum(len(f.read_bytes().splitlines()) for f in folder.rglob("journal.jsonl"))


def test_refining_is_a_row_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    what = ("-g", "steady", "--suite", "tiny.toml", "--protocol", "six-direction", "-j", 0)
    assert simeval("run", *what, "--refine", "energy,steps=2") == 0
    out = capfd.readouterr().out
    assert "steady +refine energy,steps=2" in out
    for wrong in ("nothing", "energy,steps", "energy,steps=x", "energy,far=1"):
        assert simeval("run", *what, "--refine", wrong) == 2
    assert "steps" in capfd.readouterr().err


def test_killed_and_interrupted_runs_resume_to_the_same_records(here: Path) -> None:
    what = ["run", "-g", "steady", "--suite", "tiny.toml", "--no-references", "--set", "wait=100"]
    arguments = [*what, "--physics", "iterations=10", "--physics", "timestep=0.01"]
    command = [sys.executable, str(FAKES), *arguments, "-j", "2", "--out"]
    (here / "tiny.toml").write_text(SUITE.replace('"", 3]', '"", 20]'))  # more than the pool takes at once

    def start() -> "subprocess.Popen[str]":
        before = stored(here / "out")
        # where the tests run in the background SIGINT is ignored, and in all that they start
        heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            [*command, "out"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heeds
        )
        deadline = time.monotonic() + 60
        while stored(here / "out") <= before and not (here / "waiting").exists():  # for the hooks: without, no run ends
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    process = start()
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert len(workers) == 3  # two and multiprocessing's resource tracker
    kept = stored(here / "out")
    (here / "waiting").unlink(missing_ok=True)
    process = start()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert re.search(r"interrupted: steady has \d+ of 23 trials in out/steady-\w+\nThe same command resumes it", err)
    assert "Traceback" not in err
    (here / "go").touch()
    done = subprocess.run([*command, "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert simeval(*arguments, "-j", 0, "--out", "whole") == 0
    resumed, whole = (read_run(run_folder(below=here / name)).records for name in ("out", "whole"))
    assert kept >= 1
    assert len(resumed) == len(whole) == 23
    assert [same_result(a, b) for a, b in zip(resumed, whole, strict=True)] == [[]] * 23
    deadline = time.monotonic() + 60
    while any("Z" not in state(pid) for pid in workers):  # those of the killed process end by themselves
        assert time.monotonic() < deadline
        time.sleep(0.1)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
