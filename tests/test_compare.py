import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from test_tables import manifest, trial

from simeval.cli import main
from simeval.errors import DataError, SettingError
from simeval.records import Outcome, TrialRecord
from simeval.report.compare import compare_sides, sides
from simeval.report.compare_text import render_comparison
from simeval.report.gate import gate, read_baseline, render_gate, write_baseline
from simeval.report.summary import summarise
from simeval.report.tables import render
from simeval.stats import paired_difference
from simeval.store import Run, RunStore

OBJECTS, GRASPS = 12, 3


def run(name: str, failing: set[int] = frozenset(), grasps: int = GRASPS, **changes: Any) -> Run:  # type: ignore[assignment]
    """A run of two protocols on 12 objects; the lifts numbered in `failing` slip."""
    records = [
        trial(
            name, protocol, i // grasps, i % grasps,
            Outcome.SLIPPED if protocol == "lift" and i in failing else Outcome.LIFTED,
            directions_held=6.0, penetration_mm=1.0, achieved_type="pinch", **changes,
        )
        for protocol in ("lift", "six-direction") for i in range(OBJECTS * grasps)
    ]  # fmt: skip
    return Run(manifest(name), records)


def compared(a: Run, b: Run, **options: Any) -> Any:
    return compare_sides(*sides(a, b), **options)


def row(found: Any, metric: str, group: str = "all") -> Any:
    return next(r for r in found.rows if (r.metric, r.group) == (metric, group))


def stored(folder: Path, made: Run) -> Path:
    with RunStore.open(folder, made.manifest) as store:
        for record in made.records:
            store.append(record)
    return folder


def test_difference_flips_and_groups() -> None:
    found = compared(run("a"), run("b", {0, 1, 2, 5}))
    lift = row(found, "lift_success")
    assert (lift.a, lift.b, lift.n, lift.objects, lift.only_a, lift.only_b) == (
        1.0,
        pytest.approx(32 / 36),
        36,
        12,
        4,
        0,
    )
    assert lift.difference == pytest.approx(4 / 36)
    assert lift.low < lift.difference < lift.high
    assert sorted((f.object, f.index, f.a, f.b) for f in found.flips) == [
        ("object-00", 0, "LIFTED", "SLIPPED"), ("object-00", 1, "LIFTED", "SLIPPED"),
        ("object-00", 2, "LIFTED", "SLIPPED"), ("object-01", 2, "LIFTED", "SLIPPED"),
    ]  # fmt: skip
    assert row(found, "lift_success", "object-00").difference == 1.0
    assert row(found, "lift_success", "object-02").difference == 0.0
    assert row(found, "lift_success", "pinch").n + row(found, "lift_success", "untyped").n == 36
    assert row(found, "secure_success").difference == lift.difference
    keyed = [
        {str(i): float(r.success) for i, r in enumerate(made.records[:36])}
        for made in (run("a"), run("b", {0, 1, 2, 5}))
    ]
    expected = paired_difference(*keyed, {str(i): i // GRASPS for i in range(36)})
    assert (lift.low, lift.high, lift.p_value) == (expected.estimate.low, expected.estimate.high, expected.p_value)


def test_mcnemar_only_where_an_object_has_one_trial() -> None:
    several = row(compared(run("a"), run("b", {0, 1, 2, 5})), "lift_success")
    assert math.isnan(several.mcnemar_p)
    single = row(compared(run("a", grasps=1), run("b", {0, 3, 4, 5, 6, 7}, grasps=1)), "lift_success")
    assert single.mcnemar_p == binomtest(6, 6).pvalue == pytest.approx(single.p_value)


def test_swapping_the_runs_changes_the_sign() -> None:
    a, b = run("a", {7}), run("b", {0, 1, 2, 5})
    one, other = row(compared(a, b), "lift_success"), row(compared(b, a), "lift_success")
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p_value == other.p_value


def test_trials_without_a_partner_are_counted_and_left_out() -> None:
    a, b = run("a"), run("b")
    found = compared(Run(a.manifest, a.records[:40]), Run(b.manifest, b.records[4:]))
    assert (found.unmatched_a, found.unmatched_b) == (4, 32)
    assert row(found, "lift_success").n == 32


def test_runs_that_share_nothing_say_what_differs() -> None:
    other = run("b", physics="q", seed=3)
    other = Run(
        {**other.manifest, "seed": 3, "physics": {"friction": 0.6, "density": 500.0, "mass_kg": None}}, other.records
    )
    with pytest.raises(DataError) as error:
        compared(run("a"), other)
    for words in (
        "share no condition",
        "seed: 0 in a, 3 in b",
        "physics.friction: 1.0 in a, 0.6 in b",
        "--ignore seed",
    ):
        assert words in str(error.value)
    found = compared(run("a"), other, ignore=("physics", "seed"))
    assert row(found, "lift_success").n == 36
    assert found.differing["physics.friction"] == ("1.0", "0.6")
    with pytest.raises(SettingError, match=r"'object'.*index, physics, seed"):
        compared(run("a"), other, ignore=("object",))
    with pytest.raises(SettingError, match="24 of 72 trials"):
        compared(run("a"), other, ignore=("physics", "seed", "index"))


def test_empty_run_is_an_error() -> None:
    with pytest.raises(DataError, match="no trials yet"):
        compared(Run(manifest("a"), []), run("b"))


@pytest.mark.parametrize("format", ["text", "md", "latex"])
def test_people_read_numbers_flips_and_power(format: str) -> None:
    text = render_comparison(compared(run("a_1"), run("b", {0, 1, 2, 5})), format)
    for words in ("11.1", "object-01", "SLIPPED", "36 pairs of 12 objects", "McNemar"):
        assert words in text
    assert ("a\\_1" if format == "latex" else "A is a_1") in text


def test_a_power_beyond_all_differences_is_none() -> None:
    a, b = (Run(found.manifest, [r for r in found.records if r.object_code in ("object-00", "object-01")])
            for found in (run("a"), run("b", {0, 1, 2})))  # fmt: skip
    assert "no difference is sure to be seen" in render_comparison(compared(a, b), "text")


def test_programs_read_rows() -> None:
    found = compared(run("a"), run("b", {0, 1, 2, 5}))
    plain = json.loads(render_comparison(found, "json"))
    assert len(plain["rows"]) == len(found.rows)
    assert len(plain["flips"]) == 4
    lines = list(csv.DictReader(io.StringIO(render_comparison(found, "csv"))))
    assert [float(line["difference"]) for line in lines] == [r.difference for r in found.rows]
    with pytest.raises(SettingError, match=r"'html'.*csv, json, latex, md, text"):
        render_comparison(found, "html")


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = stored(tmp_path / "a", run("a")), stored(tmp_path / "b", run("a", {0, 1, 2, 5, 8, 11, 14}))
    assert call("compare", a, b) == 0
    assert "only A" in capsys.readouterr().out
    assert call("compare", a, tmp_path / "nowhere") == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    base = tmp_path / "base.json"
    assert call("gate", "--run", a, "--write", base) == 0
    assert call("gate", "--run", a, "--baseline", base) == 0
    assert call("gate", "--run", b, "--baseline", base) == 1
    assert "gate FAILED" in capsys.readouterr().out
    assert call("gate", "--run", b, "--baseline", base, "--margin", "0.5") == 0
    assert call("gate", "--run", b, "--baseline", base, "--margin", "0.5", "--max-lost", "6") == 1
    assert call("gate", "--run", a, "--baseline", base, "--margin", "5") == 2
    assert call("gate", "--run", a) == 2
    assert call("gate", "--run", a, "--baseline", tmp_path / "none.json") == 2
    assert "--write FILE` makes one" in capsys.readouterr().err


def call(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_gate_lists_what_was_lost_and_gained(tmp_path: Path) -> None:
    write_baseline(run("a", {3}), tmp_path / "base.json", "made so")
    result = gate(run("a", {0}), read_baseline(tmp_path / "base.json"), margin=0.2)
    lift = next(v for v in result.verdicts if v.protocol == "lift")
    assert (lift.lost, lift.gained, lift.difference) == (1, 1, 0.0)
    assert [(f.object, f.a) for f in result.flips] == [("object-00", "SLIPPED"), ("object-01", "LIFTED")]
    text = render_gate(result)
    assert "lost  lift object-00 at 0.1" in text
    assert "gained  lift object-01 at 0.1" in text
    assert json.loads(render_gate(result, "json"))["passed"] is result.passed is True


def test_gate_fails_where_it_cannot_tell(tmp_path: Path) -> None:
    write_baseline(run("a", grasps=1), tmp_path / "base.json", "")
    result = gate(run("a", {0}, grasps=1), read_baseline(tmp_path / "base.json"))
    assert not result.passed
    assert "can't exclude" in next(v.why for v in result.verdicts if v.protocol == "lift")


def test_gate_against_rates_is_unpaired(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(render(summarise([run("a")]), [], "json"))
    same, worse = (gate(made, read_baseline(path), margin=0.3) for made in (run("a"), run("a", set(range(15)))))
    assert same.passed
    assert not worse.passed
    assert not any(v.paired for v in same.verdicts)
    with pytest.raises(SettingError, match="--max-lost needs"):
        gate(run("a"), read_baseline(path), max_lost=0)
    with pytest.raises(DataError, match="no rows of 'c'; it has: a"):
        gate(run("c"), read_baseline(path))
    for changed, message in (
        ({"suite": "other"}, "the baseline is of suite 'other'"),
        ({"value": -7.0, "low": -9.0, "high": -5.0}, "is no rate: -7"),
        ({"n": -3}, "is no rate"),
    ):
        rows = [row | changed for row in json.loads(render(summarise([run("a")]), [], "json"))]
        path.write_text(json.dumps(rows))
        with pytest.raises(DataError, match=message):
            gate(run("a"), read_baseline(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "no baseline"),
        ('{"format": "simeval-baseline-1"}', "not whole"),
        ("NaN", "no baseline"),
    ],
)
def test_broken_baselines(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(DataError, match=words):
        read_baseline(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("outcome", ["LIFTED"], "trial 1 has ill-typed outcome"), ("object_code", {}, "ill-typed object_code"),
        ("scale", "0.1", "ill-typed scale"), ("index", None, "ill-typed index"),
    ],
)  # fmt: skip
def test_baselines_whose_trials_are_none(tmp_path: Path, column: str, value: object, words: str) -> None:
    path = tmp_path / "b.json"
    write_baseline(run("a"), path, "")
    found = json.loads(path.read_text())
    found["trials"][0][found["columns"].index(column)] = value
    path.write_text(json.dumps(found))
    with pytest.raises(DataError, match=words):
        read_baseline(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": None}, "--baseline"), ({"value": "x"}, "could not convert"), ({"value": None}, "no value"),
        ({"low": None}, "no interval"), ({"group": "mug"}, "no rows of 'a'"), ({"metric": "x"}, "no success rate"),
    ],
)  # fmt: skip
def test_baselines_whose_rows_are_none(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row | changes for row in json.loads(render(summarise([run("a")]), [], "json"))]))
    with pytest.raises(DataError, match=words):
        gate(run("a"), read_baseline(path))
    path.write_text(json.dumps([{"generator": "a"}]))
    with pytest.raises(DataError, match="no 'value' in it"):
        read_baseline(path)


def test_runs_that_are_none_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, base = stored(tmp_path / "good", run("a")), tmp_path / "base.json"
    write_baseline(run("a"), base, "")
    empty, broken = stored(tmp_path / "empty", Run(manifest("a"), [])), stored(tmp_path / "broken", run("a"))
    part = next(broken.glob("parts/*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    other = stored(tmp_path / "other", run("a", physics="q", seed=9))
    (tmp_path / "folder").mkdir()
    for path, words in (
        (empty, "has no trials yet"), (broken, "part-00000.parquet is not a readable Parquet file"),
        (other, "share no condition. They differ in:"), (tmp_path / "folder", "has no run in it"),
        (base, "no such folder"), (tmp_path / "nowhere", "no such folder"),
    ):  # fmt: skip
        for words_of in (("compare", good, path), ("compare", path, good), ("gate", "--run", path, "--baseline", base)):
            assert call(*words_of) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("error: ")
            assert words in err


def test_baseline_with_an_outcome_nobody_knows(tmp_path: Path) -> None:
    made = run("a")
    write_baseline(Run(made.manifest, [replace(made.records[0], outcome="FLEW")]), tmp_path / "b.json", "")
    with pytest.raises(DataError, match="trial 1 has the unknown outcome 'FLEW'"):
        read_baseline(tmp_path / "b.json")


def test_gate_refuses_a_run_that_is_not_finished(tmp_path: Path) -> None:
    made = run("a")
    write_baseline(made, tmp_path / "b.json", "")
    part: list[TrialRecord] = made.records[:50]
    with pytest.raises(DataError, match="lacks 22 of the baseline's 72"):
        gate(Run(made.manifest, part), read_baseline(tmp_path / "b.json"))
