"""What a terminal shows, and the lines that stand in place of bars where there is none."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import rich.console
from report_runs import record, store
from rich.console import Console

from simeval.cli import main
from simeval.commands import progress
from simeval.commands.progress import Bars, duration
from simeval.records import Outcome


def shown(monkeypatch: pytest.MonkeyPatch, module: object, terminal: bool) -> io.StringIO:
    """What the consoles that a module makes from now on write."""
    text = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module, "Console", lambda **_: Console(file=text, force_terminal=terminal, width=100))
    return text


def test_bars_of_all_jobs_stand_from_the_first_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, progress, terminal=True)
    with Bars({"drawing": 3, "trying": 7}, "trials", patience=0) as bars:
        update = bars.callback("drawing")
        update(1, 3)
        first = text.getvalue()
        for part in ("drawing", "1/3", "trying", "0/7", "trials"):
            assert part in first
        update(3, 3)
    assert "3/3" in text.getvalue()


def test_what_is_done_at_once_or_soon_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, progress, terminal=True)
    for patience, done in ((0, 3), (60, 1)):
        with Bars({"drawing": 3}, "trials", patience) as bars:
            bars.callback("drawing")(done, 3)
    assert text.getvalue() == ""


def test_without_a_terminal_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(monkeypatch, progress, terminal=False)
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with Bars({"trying": 10, "drawing": 2}, "trials") as bars:
        for clock[0], name, done, total in (
            (0.0, "trying", 4, 10), (9.0, "trying", 5, 10), (10.0, "trying", 6, 10), (19.0, "trying", 8, 10),
            (30.0, "trying", 10, 10), (30.0, "drawing", 1, 2), (31.0, "drawing", 2, 2),
        ):  # fmt: skip
            bars.callback(name)(done, total)
    assert capsys.readouterr().err.splitlines() == [
        "trying: 6 of 10 trials (60%), about 20 s left",  # 2 in 10 s: the first 4 were stored
        "trying: 10 of 10 trials (100%)",
    ]
    assert text.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (40, "40 s"), (100, "2 min"), (720, "12 min"), (5400, "1 h 30 min"), (12_000, "3 h 20 min")],
)
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize("format", [None, "md"])
def test_a_table_has_rules_in_a_terminal_unless_a_format_is_asked_for(
    format: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store(tmp_path / "run", [record("steady", i, "o", Outcome.LIFTED) for i in range(3)], "steady")
    text = shown(monkeypatch, rich.console, terminal=True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit) as stop:
        main(["table", str(run), *([] if format is None else ["--format", format])])
    assert not stop.value.code
    drawn, plain = text.getvalue(), capsys.readouterr().out
    if format is None:
        assert "────" in drawn
        assert "LIFTED 3" in drawn
        assert plain == ""
    else:
        assert "\n| steady " in plain
        assert drawn == ""
