import csv
import io
import json
import math
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from simeval.errors import SettingError
from simeval.records import Outcome, TrialRecord
from simeval.report.summary import read_row
from simeval.report.tables import MetricRow, html_tables, outcome_counts, render, rich_table, summarise
from simeval.stats import rate
from simeval.store import Run

OBJECTS, GRASPS = 20, 5
NAN = math.nan


def trial(generator: str, protocol: str, obj: int, index: int, outcome: str, **changes: Any) -> TrialRecord:
    values: dict[str, Any] = {
        "trial_id": f"{generator}/{protocol}/{obj}/{index}", "condition_id": f"{protocol}/{obj}/{index}",
        "object_code": f"object-{obj:02d}", "scale": 0.1, "grasp_type": ("", "pinch")[index % 2],
        "index": index, "protocol": protocol, "physics": "p", "seed": 0, "outcome": outcome, "cpu_s": 0.25,
    }  # fmt: skip
    return TrialRecord(**values | changes)


def manifest(generator: str, **changes: Any) -> dict[str, Any]:
    return {
        "generator": generator, "variant": "", "suite": "quick", "settings": {}, "data_kind": "embedded",
        "physics": {"friction": 1.0, "density": 500.0, "mass_kg": None}, "seed": 0,
        "versions": {"simeval": "0.1.0", "pybullet": "3.2.7"},
    } | changes  # fmt: skip


def run(generator: str, held: int = 80, protocols: Sequence[str] = ("lift", "six-direction"), **changes: Any) -> Run:
    """100 trials a protocol, of which the first `held` hold."""
    records = []
    for protocol in protocols:
        for i in range(OBJECTS * GRASPS):
            outcome = Outcome.LIFTED if i < held else Outcome.SLIPPED
            directions = NAN if protocol == "lift" else (6.0 if i < held else 2.0)
            records.append(
                trial(
                    generator + str(changes), protocol, i // GRASPS, i % GRASPS, outcome,
                    directions_held=directions, penetration_mm=1.0 + i % 3,
                )
            )  # fmt: skip
    return Run(manifest(generator, **changes), records)


def numbers(rows: Sequence[MetricRow], metric: str) -> list[tuple[float, int]]:
    return [(row.value, row.n) for row in rows if row.metric == metric]


def test_every_metric_of_two_protocols() -> None:
    rows = summarise([run("retrieval", 80)])
    assert {(r.protocol, r.metric) for r in rows} == {
        ("lift", "lift_success"), ("six-direction", "six_direction_success"), ("secure", "secure_success"),
        ("six-direction", "any_direction_success"),
        *((p, m) for p in ("lift", "six-direction") for m in
          ("type_fidelity_commanded", "type_fidelity_achieved", "penetration_mm_mean", "penetration_mm_p95",
           "crash_rate", "cpu_s_per_grasp")),
    }  # fmt: skip
    assert numbers(rows, "lift_success") == numbers(rows, "six_direction_success") == [(0.8, 100)]
    assert numbers(rows, "any_direction_success") == [(1.0, 100)]
    assert numbers(rows, "crash_rate") == [(0.0, 100)] * 2
    assert {(r.generator, r.suite, r.group) for r in rows} == {("retrieval", "quick", "all")}


def test_success_has_the_clustered_interval() -> None:
    row = next(r for r in summarise([run("retrieval", 80)]) if r.metric == "lift_success")
    expected = rate([i < 80 for i in range(100)], [i // GRASPS for i in range(100)])
    assert (row.value, row.low, row.high) == (expected.value, expected.low, expected.high)
    assert row.low < 0.65  # whole objects fail here: far wider than Wilson's 0.71


@pytest.mark.parametrize("outcome", [o for o in Outcome if o != Outcome.LIFTED])
def test_every_requested_trial_is_in_the_denominator(outcome: Outcome) -> None:
    bad = [trial("g", p, 0, i, outcome, cpu_s=NAN) for p in ("lift", "six-direction") for i in range(3)]
    good = [
        trial("g", p, 1, 0, Outcome.LIFTED, penetration_mm=2.0, directions_held=6.0) for p in ("lift", "six-direction")
    ]
    rows = summarise([Run(manifest("g"), bad + good)])
    for metric in ("lift_success", "six_direction_success", "secure_success", "any_direction_success"):
        assert numbers(rows, metric) == [(0.25, 4)]
    assert numbers(rows, "penetration_mm_mean") == numbers(rows, "penetration_mm_p95") == [(2.0, 1)] * 2
    crashed = outcome in (Outcome.CRASHED, Outcome.TIMEOUT)
    assert numbers(rows, "crash_rate") == [(0.75 if crashed else 0.0, 4)] * 2
    assert outcome_counts([Run(manifest("g"), bad)])[0].counts == {outcome: 3}


def test_secure_joins_what_ran_in_both_protocols() -> None:
    lifted, slipped = Outcome.LIFTED, Outcome.SLIPPED
    lifts = [trial("g", "lift", 0, i, o) for i, o in enumerate([lifted, lifted, slipped, lifted])]
    sixes = [trial("g", "six-direction", 0, i, o) for i, o in enumerate([lifted, slipped, lifted])]
    other_seed = trial("g", "six-direction", 0, 3, lifted, seed=1)
    rows = summarise([Run(manifest("g"), lifts), Run(manifest("g", seed=1), [*sixes, other_seed])])
    assert numbers(rows, "secure_success") == [(pytest.approx(1 / 3), 3)]
    assert numbers(summarise([Run(manifest("g"), lifts)]), "secure_success") == []


def test_ceilings_then_floors_then_the_rest_as_given() -> None:
    names = ["retrieval", "scoop", "energy", "diffusion", "open-hand", "replay", "random"]
    rows = summarise([run(name) for name in names])
    expected = ["replay", "energy", "open-hand", "random", "scoop", "retrieval", "diffusion"]
    assert list(dict.fromkeys(r.generator for r in rows)) == expected
    assert list(dict.fromkeys(r.generator for r in outcome_counts([run(n) for n in names]))) == expected


def test_variants_and_settings_are_rows_of_their_own() -> None:
    runs = [
        run("retrieval"),
        run("retrieval", variant="+noise 5mm,5deg"),
        run("energy", settings={"steps": 10}),
        run("energy", settings={"steps": 20}, physics={"friction": 0.6, "density": 500.0}),
    ]
    labels = [r.generator for r in summarise(runs) if r.metric == "lift_success"]
    assert labels[2:] == ["retrieval", "retrieval +noise 5mm,5deg"]
    assert labels[0] == "energy [friction=1.0, mass_kg=null, steps=10]"
    assert labels[1] == "energy [friction=0.6, mass_kg=default, steps=20]"


def test_runs_of_one_generator_are_joined_and_no_trial_counts_twice() -> None:
    lift, six = run("g", protocols=("lift",)), run("g", protocols=("six-direction",))
    assert summarise([lift, six, lift]) == summarise([run("g")])
    second_seed = [trial("g2", "lift", i // 5, i % 5, Outcome.SLIPPED, seed=1) for i in range(100)]
    joined = summarise([lift, Run(manifest("g", seed=1), second_seed)])
    assert numbers(joined, "lift_success") == [(0.4, 200)]
    assert "seeds 0, 1" in render([], outcome_counts([lift, Run(manifest("g", seed=1), second_seed)]), "md")


def test_runs_that_tried_other_grasps_in_the_same_conditions_are_rows_of_their_own() -> None:
    whole = run("g", protocols=("lift",))
    first = [replace(r, trial_id="another", outcome=Outcome.SLIPPED) for r in whole.records[:1]]
    rows = summarise([whole, Run(manifest("g", suite_digest="few"), first)])
    assert [(r.generator, r.n) for r in rows if r.metric == "lift_success"] == [
        ("g [requests=]", 100), ("g [requests=few]", 1),
    ]  # fmt: skip
    other_weights = Run(manifest("g", fingerprint="new"), whole.records)
    labels = [r.generator for r in summarise([whole, other_weights]) if r.metric == "lift_success"]
    assert labels == ["g [fingerprint=default]", "g [fingerprint=new]"]


def test_a_setting_named_like_a_physical_one_is_none() -> None:
    runs = [run("g", settings={"friction": n}) for n in ("1", "2")]
    assert len([r for r in summarise(runs) if r.metric == "lift_success"]) == 2


def test_order_of_records_does_not_matter() -> None:
    made = run("g", 70)
    shuffled = random.Random(0).sample(made.records, len(made.records))
    assert summarise([made]) == summarise([Run(made.manifest, shuffled)])


def test_groups() -> None:
    by_type = [r for r in summarise([run("g", 50)], "type") if r.metric == "lift_success"]
    assert [(r.group, r.n) for r in by_type] == [("pinch", 40), ("untyped", 60)]
    by_object = [r for r in summarise([run("g", 50)], "object") if r.metric == "lift_success"]
    assert [r.group for r in by_object] == [f"object-{i:02d}" for i in range(OBJECTS)]
    assert [r.value for r in by_object] == [1.0] * 10 + [0.0] * 10
    assert all(r.high - r.low > 0.4 for r in by_object)  # Wilson of 5 grasps


def test_json_is_the_rows_with_null_for_nan() -> None:
    rows = summarise([Run(manifest("g"), [trial("g", "lift", 0, 0, Outcome.GENERATOR_FAILED, cpu_s=NAN)])])
    found = json.loads(render(rows, [], "json"))
    assert [list(row) for row in found] == [
        ["generator", "suite", "protocol", "group", "metric", "value", "low", "high", "n"]
    ] * len(rows)
    expected = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()} for r in rows]
    assert found == expected
    assert any(row["value"] is None for row in found)


def test_csv_round_trips() -> None:
    rows = summarise([run("g, with a comma")])
    found = list(csv.DictReader(io.StringIO(render(rows, [], "csv"))))
    assert [(r["generator"], float(r["value"]), int(r["n"])) for r in found] == [
        (r.generator, r.value, r.n) for r in rows
    ]


def test_markdown_shows_intervals_outcomes_and_conditions() -> None:
    runs = [run("a|b", 80), run("replay", 100)]
    text = render(summarise(runs), outcome_counts(runs), "md")
    lines = text.split("\n")
    assert lines[0].startswith("| generator | lift % | six-direction % | secure % | any direction % |")
    assert lines[2].startswith("| replay | 100.0 [87.5, 100.0] |")
    assert lines[3].startswith(r"| a\|b | 80.0 [")
    assert lines[3].endswith("| 100 |")
    assert r"| a\|b | lift | embedded | 20 | 80 | 100 |" in lines
    assert lines[-2].startswith(
        "Suite quick; embedded data; friction 1, density 500 kg/m³; seed 0; simeval 0.1.0, pybullet 3.2.7;"
    )
    widths = {line.replace(r"\|", "").count("|") for line in lines[:4]}
    assert len(widths) == 1


def test_latex_is_escaped_and_balanced() -> None:
    runs = [run("my_gen & 50% #1 {x} ~^\\"), run("[odd]", physics={"mass_kg": 0.1})]
    text = render(summarise(runs), outcome_counts(runs), "latex")
    assert r"my\_gen \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} &" in text
    assert "\n{}[odd] & 80.0 [" in text
    assert r"kg/m\textsuperscript{3} | mass 0.1 kg" not in text
    assert r"\textbar{} mass 0.1 kg" in text
    for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
        assert text.count(command) == 2
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    rows = [line.replace(r"\&", "") for line in text.split("\n") if line.endswith(r"\\")]
    assert {row.count("&") for row in rows[:3]} == {11}


def test_missing_numbers_are_dashes() -> None:
    runs = [run("a"), run("b", protocols=("lift",))]
    lines = render(summarise(runs), outcome_counts(runs), "md").split("\n")
    assert "| b | 80.0 [57.3, 92.3] | – | – | – |" in lines[3]


def test_later_metrics_get_a_column() -> None:
    row = MetricRow("g", "quick", "lift", "all", "collision_rate", 0.5, 0.4, 0.6, 10)
    assert "| collision rate % | n |\n" in render([row], [], "md")
    assert "| 50.0 [40.0, 60.0] |" in render([row], [], "md")


def test_nothing_to_show() -> None:
    assert summarise([]) == []
    assert json.loads(render([], [], "json")) == []
    for name in ("md", "latex", "csv"):
        assert render([], [], name)
    with pytest.raises(SettingError, match=r"'markdown'.*csv, json, latex, md"):
        render([], [], "markdown")


@pytest.mark.parametrize("group_by", [None, "type", "object"])
def test_terminal_table_fits_100_columns(group_by: Any) -> None:
    from rich.console import Console

    runs = [run("diffusion-rt", variant="+noise 5mm,5deg"), run("replay", 100), run("energy", 100)]
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(rich_table(summarise(runs, group_by), outcome_counts(runs)))
    text = console.export_text()
    assert max(map(len, text.split("\n"))) <= 100
    assert "[87.5, 100.0]" in text or group_by
    assert "diffusion-rt" in text
    assert "SLIPPED 20, LIFTED 80" in text


def test_an_end_that_nothing_bounds_is_said_so_and_comes_back() -> None:
    known = MetricRow("g", "quick", "lift", "all", "penetration_mm_mean", 0.5, 0.4, 0.6, 10)
    above, below, nothing = (
        replace(known, metric="penetration_mm_p95", low=low, high=high)
        for low, high in ((0.4, math.inf), (-math.inf, 0.6), (math.nan, math.nan))
    )
    for row, cell, tex in (
        (known, "0.50 [0.40, 0.60]", "0.50 [0.40, 0.60]"), (above, "0.50 [≥ 0.40]", r"0.50 [$\geq$ 0.40]"),
        (below, "0.50 [≤ 0.60]", r"0.50 [$\leq$ 0.60]"), (nothing, "0.50", "0.50"),
    ):  # fmt: skip
        text = render([row], [], "md")
        assert f"| {cell} |" in text
        assert ("[≥ x]: too few trials to say how large it may be at most" in text) == (row is above)
        assert f" {tex} &" in render([row], [], "latex")
        assert f">{cell}<" in html_tables([row], [])
        [plain] = json.loads(render([row], [], "json"))
        assert [plain["low"], plain["high"]] == [v if math.isfinite(v) else None for v in (row.low, row.high)]
        [line] = csv.DictReader(io.StringIO(render([row], [], "csv")))
        for stored in (plain, line):
            assert str(read_row(stored)) == str(row)  # as text, since NaN equals nothing


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here to compile with")
def test_latex_compiles_as_it_is_pasted(tmp_path: Path) -> None:
    runs = [run("my_gen & 50% #1 {x} ~^\\ <|>"), run("[odd]", physics={"mass_kg": 0.1})]
    body = render(summarise(runs), outcome_counts(runs), "latex")
    document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}" + body + "\\end{document}"
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
