import json
from pathlib import Path

import pytest
from test_compare import call, stored
from test_tables import run

from simeval.errors import DataError
from simeval.report.leaderboard import read_entries, render_leaderboard
from simeval.report.summary import summarise
from simeval.report.tables import render


def test_ceilings_floors_then_best_first(tmp_path: Path) -> None:
    for name, held in (("weak", 20), ("replay", 100), ("strong", 90), ("scoop", 0)):
        stored(tmp_path / name, run(name, held))
    rows = read_entries([tmp_path]).rows
    lines = [line.split(" | ") for line in render_leaderboard(rows).split("\n")[2:6]]
    assert [(cells[2], cells[3]) for cells in lines] == [
        ("ceiling", "replay"), ("floor", "scoop"), ("1", "strong"), ("2", "weak"),
    ]  # fmt: skip


def test_rows_of_files_and_of_runs_are_joined_and_count_once(tmp_path: Path) -> None:
    stored(tmp_path / "runs" / "a", run("a"))
    (tmp_path / "a.json").write_text(render(summarise([run("a")]), [], "json"))
    (tmp_path / "b.json").write_text(render(summarise([run("b", suite="embedded")]), [], "json"))
    (tmp_path / "study.json").write_text('{"command": "x"}')
    entries = read_entries([tmp_path])
    assert entries.skipped == [tmp_path / "study.json"]
    assert sorted({(r.generator, r.suite) for r in entries.rows}) == [("a", "quick"), ("b", "embedded")]
    assert sum(r.metric == "lift_success" and r.generator == "a" for r in entries.rows) == 1
    text = render_leaderboard(entries.rows)
    assert "| embedded | embedded | 1 | b |" in text
    assert "| quick | unknown | 1 | a |" in text
    assert len(json.loads(render_leaderboard(entries.rows, "json"))) == len(entries.rows)
    assert r"\toprule" in render_leaderboard(entries.rows, "latex")


def test_nothing_to_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="nothing to rank"):
        read_entries([tmp_path])
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match=r"x\.json is not JSON"):
        read_entries([tmp_path])
    assert call("table", "--leaderboard", tmp_path / "none") == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_the_committed_results_rank() -> None:
    results = Path(__file__).parent.parent / "results"
    text = render_leaderboard(read_entries([results]).rows)
    for suite in ("embedded", "released", "unidexgrasp"):
        assert f"| {suite} | {'embedded' if suite == 'embedded' else 'real'} | ceiling | replay" in text
    assert "| svm |" not in text  # a classifier of signals is no rival
