"""End-to-end trials: who is trained on, what is drawn, that every trial counts, and that grasps are shared."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_generators
import numpy as np
import pytest
from test_generators import PLUGIN, install
from typer import Exit

from simeval import registry
from simeval.cli import main
from simeval.commands.doctor import OBJECT
from simeval.emg.evaluate import Runner
from simeval.emg.models import presets
from simeval.emg.models.config import ClassicalConfig
from simeval.emg.models.presets import preset
from simeval.emg.protocols import make_splits
from simeval.emg.recordings import LABELS, Recordings
from simeval.emg.synthetic import make_synthetic
from simeval.errors import DataError, SettingError
from simeval.physics.settings import Physics
from simeval.records import Outcome
from simeval.run import RunSpec
from simeval.store import read_records, read_run
from simeval.suites import Request, Suite
from simeval.trials import decide as decide_module
from simeval.trials import run as run_module
from simeval.trials.draws import choices, draw_scenes, draw_signals
from simeval.trials.policies import ArgMax, Decision, Reject, Rejection, Situation, Weighted
from simeval.trials.records import END_TO_END, STAGES, EndToEnd, Fate, Undecided
from simeval.trials.run import TrialsInterrupted, TrialsSpec, execute_trials, plan_trials
from simeval.trials.signals import classify, splits_of

QUICK = Physics(iterations=10, timestep=0.01)
ALL = ("oracle", "argmax", "reject,threshold=0.6", "weighted", "random-type", "type-blind")


@pytest.fixture(autouse=True)
def fakes() -> Iterator[None]:
    fake_generators.CALLS.clear()
    with fake_generators.registered():
        yield


@pytest.fixture(scope="module")
def recordings() -> Recordings:
    return make_synthetic(subjects=2, sessions=2, repetitions=10, seconds=0.5)


@pytest.fixture(scope="module")
def emg_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emg")


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is fitted fast."""
    config = ClassicalConfig(kind="lda", features=("hudgins", "spectral-moments"), samples=250)
    monkeypatch.setitem(presets.PRESETS, "lda", config)


@pytest.fixture(autouse=True)
def classified_once(emg_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings are classified once for all tests."""
    planned = plan_trials

    def elsewhere(spec: TrialsSpec) -> Any:
        return replace(planned(spec), work=emg_folder)

    monkeypatch.setattr(sys.modules[__name__], "plan_trials", elsewhere)
    monkeypatch.setattr(run_module, "plan_trials", elsewhere)


def suite(**changes: Any) -> Suite:
    requests = [Request(object=OBJECT, scale=s, type=t, count=1) for s in (1.0, 0.9) for t in ("tip", "hook")]
    facts = dict(name="small", version=1, description="", data_kind="embedded", protocols=["lift"])
    return Suite(**(facts | {"requests": requests} | changes))  # type: ignore[arg-type]


def spec(out: Path, recordings: Recordings, generator: str = "steady", **changes: Any) -> TrialsSpec:
    run = RunSpec(generator, suite(), physics=QUICK, workers=0, out=out)
    made = TrialsSpec(run, recordings, "synthetic", "lda", ("new-person",), ("argmax",), count=12)
    return replace(made, **changes)


def results(planned: run_module.PlannedTrials) -> dict[tuple[str, str, str], list[EndToEnd]]:
    return {(r.intents, r.protocol, r.policy): read_records(r.folder, END_TO_END) for r in planned.rows}


def timeless(records: dict[tuple[str, str, str], list[EndToEnd]]) -> str:
    return repr({key: [replace(r, **dict.fromkeys(STAGES, 0.0)) for r in own] for key, own in records.items()})


def execute(spec: TrialsSpec) -> dict[tuple[str, str, str], list[EndToEnd]]:
    planned = plan_trials(spec)
    execute_trials(planned)
    return results(planned)


# Who is trained on


@pytest.mark.parametrize(
    "protocol", ["same-session", "calibrated-day:2", "new-day", "calibrated-person:1", "new-person"]
)
def test_no_trial_is_tested_on_a_person_or_day_that_was_trained_on(
    protocol: str, recordings: Recordings, emg_folder: Path
) -> None:
    splits = {split.fold: split for split in splits_of(protocol, recordings, 0)}
    signals = classify(protocol, recordings, preset("lda"), 0, emg_folder)
    assert len(set(signals.rows.tolist())) == len(signals.rows)
    for scene in draw_scenes(choices(suite(), "suite"), 40, 3):
        order = draw_signals(signals, recordings, scene, 3)
        assert {str(recordings.labels[signals.rows[i]]) for i in order} == {scene.intent}
        assert len({str(recordings.sessions[signals.rows[i]]) for i in order}) == 1
        for i in order:
            split, row = splits[str(signals.folds[i])], signals.rows[i]
            known = recordings[split.train]
            assert row in split.test
            assert row not in split.train
            assert row not in split.calibration
            if "day" in protocol:
                assert recordings.sessions[row] not in known.sessions
            if "person" in protocol:
                assert recordings.subjects[row] not in known.subjects


def test_classified_recordings_are_kept_and_are_those_of_the_classifier(
    recordings: Recordings, emg_folder: Path
) -> None:
    signals = classify("new-day", recordings, preset("lda"), 0, emg_folder)
    split = make_splits("leave-one-day-out", recordings, 0)[0]
    wanted = Runner(recordings).classifier(preset("lda"), split, 0).predict_proba(recordings.signals[split.test])
    np.testing.assert_allclose(signals.posteriors[signals.folds == split.fold], wanted, atol=1e-9)
    again = classify("new-day", recordings, preset("lda"), 0, emg_folder)
    np.testing.assert_array_equal(signals.posteriors, again.posteriors)
    np.testing.assert_array_equal(signals.seconds, again.seconds)  # not measured again, so not made again


# What is drawn


def test_scenes_are_the_suites_requests_evenly_or_every_pair() -> None:
    found = choices(suite(), "suite")
    assert (len(found.pairs), found.excluded) == (4, 8)
    scenes = draw_scenes(found, 10, 0)
    assert sorted(Counter((s.scale, s.intent) for s in scenes).values()) == [2, 2, 3, 3]
    assert draw_scenes(found, 6, 0) == draw_scenes(found, 10, 0)[:6] != draw_scenes(found, 6, 1)
    everything = choices(suite(), "uniform")
    assert len(everything.pairs) == len(set(everything.pairs)) == 2 * len(LABELS)
    with pytest.raises(SettingError, match="no request that names a type"):
        choices(suite(requests=[Request(object=OBJECT, scale=1, count=1)]), "suite")


def test_rows_share_their_scenes(tmp_path: Path, recordings: Recordings) -> None:
    found = execute(spec(tmp_path, recordings, protocols=("new-person", "new-day"), policies=("oracle", "argmax")))

    def column(*names: str) -> list[list[object]]:
        return [[tuple(getattr(r, n) for n in names) for r in own] for own in found.values()]

    scenes = column("number", "object_code", "scale", "intent")
    assert all(own == scenes[0] for own in scenes)
    heard = {key: own for key, own in zip(found, column("recording"), strict=True)}
    assert heard["suite", "new-day", "oracle"] == heard["suite", "new-day", "argmax"]


# Denominators


class Awkward:
    """A policy that misbehaves in a way that is chosen."""

    def __init__(self, how: str) -> None:
        self.how = how

    def decide(self, situation: Situation) -> Decision | Rejection:
        situation.listen()
        answers: dict[str, Any] = {
            "gives up": Rejection("not today"), "nothing": None, "unknown type": Decision("pinch"),
            "beyond": Decision("tip", 2, 2), "none of them": Decision("tip", 0), "a share": Decision("tip", 2, 0.5),
        }  # fmt: skip
        if self.how == "raises":
            raise ZeroDivisionError("a bug\nin it")
        if self.how == "exits":
            raise SystemExit(0)
        return answers[self.how]


@pytest.mark.parametrize(
    ("how", "outcome", "reason"),
    [
        ("gives up", Undecided.REJECTED, "not today"),
        ("nothing", Undecided.POLICY_FAILED, "decide() gave None"),
        ("unknown type", Undecided.POLICY_FAILED, "no grasp type 'pinch'"),
        ("beyond", Undecided.POLICY_FAILED, "grasp 2 of 2"),
        ("none of them", Undecided.POLICY_FAILED, "0 grasps were asked for"),
        ("a share", Undecided.POLICY_FAILED, "'float' object cannot be interpreted as an integer"),
        ("raises", Undecided.POLICY_FAILED, "ZeroDivisionError: a bug in it"),
        ("exits", Undecided.POLICY_FAILED, "SystemExit: 0"),
    ],
)
def test_whatever_a_policy_does_its_trials_count(
    how: str, outcome: str, reason: str, tmp_path: Path, recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(decide_module.REFERENCES, "awkward", lambda scene, seed: Awkward(how))
    [own] = execute(spec(tmp_path, recordings, policies=("awkward",), count=5)).values()
    assert [r.number for r in own] == list(range(5))
    assert {(r.outcome, r.fate) for r in own} == {(str(outcome), Fate.UNDECIDED)}
    assert all(reason in r.reason for r in own)


def test_numbers_of_numpy_are_numbers(tmp_path: Path, recordings: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Best:
        def decide(self, situation: Situation) -> Decision:
            three: Any = np.int64(3)
            scores = np.arange(len(situation.chances("tip", three))) == 1
            assert len(situation.grasps("tip", three)) == len(scores)
            return Decision("tip", three, np.argmax(scores))  # type: ignore[arg-type]

    monkeypatch.setitem(decide_module.REFERENCES, "best", lambda scene, seed: Best())
    [own] = execute(spec(tmp_path, recordings, policies=("best",), count=4)).values()
    assert {(r.asked, r.index, r.outcome in set(Outcome)) for r in own} == {(3, 1, True)}


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ("raises", Outcome.GENERATOR_FAILED),
        ("none", Outcome.GENERATOR_FAILED),
        ("type", Outcome.GENERATOR_FAILED),
        ("nan", Outcome.INVALID_GRASP),
    ],
)
def test_whatever_a_generator_does_its_trials_count(
    how: str, outcome: str, tmp_path: Path, recordings: Recordings
) -> None:
    run = replace(spec(tmp_path, recordings, "failing").run, settings={"how": how})
    found = execute(spec(tmp_path, recordings, run=run, policies=("oracle", "argmax")))
    assert {r.outcome for own in found.values() for r in own} == {str(outcome)}
    assert [len(own) for own in found.values()] == [12, 12]
    assert {r.fate for r in found["suite", "new-person", "oracle"]} == {Fate.GENERATION}
    wrong = [r for r in found["suite", "new-person", "argmax"] if not r.right_type]
    assert {r.fate for r in wrong} <= {Fate.INTENT}


def test_crashed_and_hung_simulations_count(
    tmp_path: Path, recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simeval.physics.execute import blank_record

    def lost(tasks: Any, workers: int, timeout: float) -> Iterator[Any]:
        for i, task in enumerate(tasks):
            yield blank_record(task.trial, (Outcome.CRASHED, Outcome.TIMEOUT)[i % 2], "gone")

    monkeypatch.setattr(run_module, "run_tasks", lost)
    [own] = execute(spec(tmp_path, recordings, policies=("oracle",))).values()
    assert len(own) == 12
    assert {r.outcome for r in own} == {"CRASHED", "TIMEOUT"}
    assert {r.fate for r in own} == {Fate.PHYSICS}


# Determinism, resume, sharing


def test_each_grasp_is_made_and_executed_once_whoever_asks(tmp_path: Path, recordings: Recordings) -> None:
    asked = spec(
        tmp_path, recordings, protocols=("new-person", "new-day"), policies=ALL, intents=("suite", "uniform"), count=6
    )
    planned = plan_trials(asked)
    execute_trials(planned)
    calls = [(r.object.scale, r.grasp_type, r.count) for r in fake_generators.CALLS]
    assert len(calls) == len(set(calls)) <= 2 * 7
    tried = read_run(planned.grasps.folder).records
    assert len(tried) == len({r.trial_id for r in tried}) == len(calls)
    shared = results(planned)
    assert {r.grasp_trial for own in shared.values() for r in own if r.grasp_trial} == {r.trial_id for r in tried}
    execute_trials(planned)
    assert len(fake_generators.CALLS) == len(calls)
    fewer = replace(asked, policies=("weighted", "argmax"), protocols=("new-day",), intents=("uniform",))
    alone = execute(replace(fewer, run=replace(asked.run, out=tmp_path / "alone")))
    assert timeless(alone) == timeless({key: shared[key] for key in alone})


def test_a_stopped_run_goes_on_and_gives_the_same(tmp_path: Path, recordings: Recordings) -> None:
    asked = spec(tmp_path / "a", recordings, policies=("argmax", "reject"))
    planned = plan_trials(asked)

    def stop(what: str, done: int, total: int) -> None:
        if what == run_module.TRYING and done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(TrialsInterrupted):
        execute_trials(planned, stop)
    partly = sum(map(len, results(planned).values()))
    assert 5 <= partly < planned.total
    calls = len(fake_generators.CALLS)
    execute_trials(planned)
    again = [(r.object.scale, r.grasp_type) for r in fake_generators.CALLS]
    assert len(again) == len(set(again)) > calls - 1
    whole = execute(replace(asked, run=replace(asked.run, out=tmp_path / "b")))
    assert timeless(results(planned)) == timeless(whole)


def test_another_seed_draws_anew_and_shares_the_grasps(tmp_path: Path, recordings: Recordings) -> None:
    first = execute(spec(tmp_path, recordings, policies=("oracle",)))
    calls = len(fake_generators.CALLS)
    second = execute(spec(tmp_path, recordings, policies=("oracle",), seed=1))
    assert timeless(first) != timeless(second)
    assert len(fake_generators.CALLS) == calls


def test_every_stage_is_timed(tmp_path: Path, recordings: Recordings) -> None:
    asked = spec(tmp_path, recordings)
    refining = replace(asked, run=replace(asked.run, refine="energy,steps=2,copies=1"))
    [plain], [refined] = (execute(each).values() for each in (asked, refining))
    for record in (*plain, *refined):
        for name in ("classify_s", "decide_s", "generate_s", "command_s", "execute_s", "chain_s"):
            assert getattr(record, name) >= 0, name
    assert all(np.isnan(record.refine_s) for record in plain)
    assert all(record.refine_s > 0 for record in refined)


# Policies


class Said:
    """A situation with given posteriors and chances."""

    def __init__(self, *posteriors: dict[str, float], chances: dict[str, list[float]] | None = None) -> None:
        self.posteriors = [np.array([p.get(label, 0.0) for label in LABELS]) for p in posteriors]
        self.known, self.heard = chances or {}, 0

    def listen(self) -> np.ndarray | None:
        self.heard += 1
        return self.posteriors[self.heard - 1] if self.heard <= len(self.posteriors) else None

    def grasps(self, grasp_type: str | None, count: int) -> Any:
        raise NotImplementedError

    def chances(self, grasp_type: str, count: int) -> np.ndarray:
        return np.array(self.known.get(grasp_type, [])[:count])


def test_argmax_and_reject() -> None:
    unsure, sure = {"tip": 0.5, "hook": 0.4}, {"hook": 0.9}
    assert ArgMax().decide(Said(unsure, sure)) == Decision("tip")
    assert Reject(0.6, 2).decide(Said(unsure, sure)) == Decision("hook")
    situation = Said(unsure, unsure, sure)
    assert isinstance(Reject(0.6, 1).decide(situation), Rejection)
    assert situation.heard == 2
    assert Reject(0.0, 0).decide(Said(unsure)) == Decision("tip")
    assert isinstance(Reject(0.6, 5).decide(Said(unsure)), Rejection)  # where there are no more signals


def test_weighted_weighs_types_by_what_is_predicted() -> None:
    posterior = {"tip": 0.5, "hook": 0.4, "lateral": 0.05}
    chances = {"tip": [0.1, 0.6], "hook": [0.5, 0.9], "lateral": [1.0, 1.0]}
    assert Weighted().decide(Said(posterior, chances=chances)) == Decision("hook", 1, 0)
    assert Weighted(candidates=2).decide(Said(posterior, chances=chances)) == Decision("hook", 2, 1)
    assert Weighted(least=0.45).decide(Said(posterior, chances=chances)) == Decision("tip", 1, 0)
    assert Weighted().decide(Said(posterior)) == Decision("tip", 1, 0)  # nobody has a grasp


def test_policies_are_made_by_name_and_say_what_is_wrong() -> None:
    assert registry.make_policy("reject,threshold=0.9,repeats=1").threshold == 0.9  # type: ignore[attr-defined]
    for text, message in (
        ("rejct", "Did you mean 'reject'"), ("reject,treshold=1", "Did you mean 'threshold'"),
        ("reject,threshold", "can't read 'threshold'"), ("reject,threshold=2", "must be 0 to 1"),
        ("weighted,candidates=0", "at least 1"), ("reject,repeats=-1", "0 or more"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=re.escape(message)):
            registry.make_policy(text)


def test_a_strangers_policy_is_found_and_decides(tmp_path: Path) -> None:
    target = tmp_path / "site"
    install(PLUGIN, target, tmp_path)
    script = (
        "import numpy as np\n"
        "from simeval.registry import POLICIES, generator_origin, make_policy\n"
        "class Said:\n"
        "    def listen(self): return np.array([0.1, 0.5, 0.4, 0, 0, 0])\n"
        "decision = make_policy('second-guess,rank=1').decide(Said())\n"
        "print(generator_origin('second-guess', POLICIES), decision.grasp_type)\n"
    )
    path = f"import sys; sys.path.insert(0, {str(target)!r})\n"
    done = subprocess.run([sys.executable, "-c", path + script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"stranger-grasps (stranger_grasps:SecondGuess) {LABELS[2]}", done.stderr


# The command


def simeval(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "argmx"], "Did you mean 'argmax'"),
        (["--policy", "oracle,threshold=1"], "oracle has no settings"),
        (["--emg-model", "nowhere"], "unknown model 'nowhere'"),
        (["--emg-model", "."], "config.json"),
        (["--emg-protocol", "new-dya"], "Did you mean 'new-day'"),
        (["--emg-protocol", "new-day:5"], "only calibrated ones have a number"),
        (["--emg-protocol", "calibrated-day:3"], "of 1, 2, 5, 10, 20"),
        (["--emg", "one.npz"], "leave-one-day-out needs a subject with several sessions"),
        (["--emg", "nowhere.csv"], "no such file"),
        (["--emg", "uci"], "--data DIR"),
        (["--suite", "untyped.toml", "--intents", "suite"], "no request that names a type"),
        (["--intents", "sometimes"], "unknown way to draw intents"),
        (["-g", "stedy"], "Did you mean 'steady'"),
        (["--predictor", "hold"], "Did you mean 'holds'"),
        (["--format", "xls"], "unknown format"),
        (["--trials", "0"], "--trials"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, recordings: Recordings, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from simeval.emg.files import write_npz

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    write_npz(tmp_path / "one.npz", recordings[recordings.sessions == recordings.sessions[0]])
    facts = 'name = "untyped"\nversion = 1\ndescription = ""\ndata_kind = "embedded"\n'
    (tmp_path / "untyped.toml").write_text(f'{facts}requests = [["{OBJECT}", 1.0, "", 1]]')
    start = ["-g", "steady"] if "-g" not in arguments else []
    assert simeval("trials", "run", *start, "--emg-protocol", "new-day", *arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in " ".join(re.sub(r"[│╭╰─╮╯]", " ", err).split())
    assert "Traceback" not in err
    assert not list(tmp_path.glob("runs/**/*.parquet"))


def test_the_command_runs_prints_and_shows_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], emg_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simeval.emg.files.make_synthetic", lambda: make_synthetic(2, 2, 10, 0.5))
    physics = ("--physics", "iterations=10", "--physics", "timestep=0.01", "--workers", 0)
    what = ("--objects", 1, "--trials", 8, "--emg-model", "lda", "--emg-protocol", "new-day", "--intents", "suite")
    rows = ("--policy", "argmax", "--policy", "oracle", "--curve")
    assert simeval("trials", "run", "-g", "steady", *what, *rows, *physics) == 0
    out, err = capfd.readouterr()
    assert re.search(r"^\| argmax +\| .* \| 8 \|$", out, re.MULTILINE)
    assert "2 of 6 pairs of object and type, 4 (66.7%) left out" in err
    assert "signal to first command" in err
    [folder] = [line.split(": ")[1] for line in err.splitlines() if line.startswith("results: ")]
    assert simeval("trials", "table", folder, "--figures", "figures") == 0
    again, err = capfd.readouterr()
    assert sorted(again.splitlines()) == sorted(out.splitlines())
    assert {f.stem for f in Path("figures").iterdir()} == {
        "end_to_end_losses", "end_to_end_outcomes", "end_to_end_rejection",
    }  # fmt: skip
    assert simeval("table", "runs") == 0  # the grasps are a run like any other, the rows aren't in its way
    assert simeval("trials", "table", "figures") == 2
    assert "has no end-to-end trials" in capfd.readouterr().err
    next(Path(folder).rglob("end_to_end.json")).write_text("{}")
    assert simeval("trials", "table", folder) == 2
    assert "end_to_end.json is damaged: it doesn't say generator" in capfd.readouterr().err


@pytest.mark.parametrize(("how", "code"), [("interrupted", 130), ("crashed", 3)])
def test_exit_codes(
    how: str, code: int, tmp_path: Path, recordings: Recordings, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from simeval.commands.trials import run_and_show
    from simeval.physics.execute import blank_record

    def lost(tasks: Any, workers: int, timeout: float) -> Iterator[Any]:
        for task in tasks:
            if how == "interrupted":
                raise KeyboardInterrupt
            yield blank_record(task.trial, Outcome.CRASHED, "gone")

    monkeypatch.setattr(run_module, "run_tasks", lost)
    with pytest.raises(Exit) as stop:
        run_and_show(spec(tmp_path, recordings, count=4))
    assert stop.value.exit_code == code
    expected = {"interrupted": "The same command resumes it.", "crashed": "100% of the grasps crashed"}
    assert expected[how] in capfd.readouterr().err


def test_recordings_that_hold_out_no_trial_of_a_grasp_are_refused(tmp_path: Path, recordings: Recordings) -> None:
    some = recordings[recordings.labels != "hook"]
    with pytest.raises(DataError, match="new-person holds out no recording of hook"):
        plan_trials(spec(tmp_path, some))
