"""Numbers of end-to-end trials: losses sum to one, intervals know of both groupings, differences are paired."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simeval.emg.recordings import LABELS
from simeval.records import Outcome
from simeval.stats import rate
from simeval.trials.records import EndToEnd, Fate, Undecided
from simeval.trials.summary import RIGHT_LIFTED, RowTrials, losses, outcome_matrix, stage_times, summarise
from simeval.trials.tables import render_trials, time_line
from simeval.two_way import two_way_difference, two_way_rate

ENDINGS = [*Undecided, *Outcome]


def record(number: int, **changes: Any) -> EndToEnd:
    values: dict[str, Any] = dict(
        trial_id=f"{number:016x}", number=number, object_code=f"o{number % 7}", scale=1.0, intent=LABELS[number % 6],
        intents="suite", protocol="new-day", policy="argmax", recording=number, subject="a", session=f"s{number % 3}",
        fold="f", posterior=[1 / 6] * 6, heard=1, decided_type=LABELS[number % 6], asked=1,
        outcome=str(Outcome.LIFTED), classify_s=0.01, decide_s=0.001, generate_s=0.2, command_s=0.02, execute_s=0.5,
    )  # fmt: skip
    return EndToEnd(**(values | changes))


def row(records: list[EndToEnd], **changes: Any) -> RowTrials:
    manifest = {
        "generator": "steady", "refine": "", "grasps": "g", "suite": "small", "suite_digest": "d", "intents": "suite",
        "data_kind": "embedded", "pairs": 3, "excluded": 1, "emg": "synthetic", "emg_kind": "synthetic",
        "emg_digest": "e", "emg_model": {}, "emg_model_name": "lda", "protocol": "new-day", "policy": "argmax",
        "seed": 0, "count": len(records),
    }  # fmt: skip
    return RowTrials(manifest | changes, records)


def various(count: int, seed: int = 0) -> list[EndToEnd]:
    """Trials that end in every way, with right, wrong and no types."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        outcome = str(rng.choice([str(e) for e in ENDINGS]))
        decided = "" if outcome in list(Undecided) else str(rng.choice(["", *LABELS]))
        found.append(record(number, outcome=outcome, decided_type=decided))
    return found


def test_every_trial_has_one_fate_and_they_sum_to_one() -> None:
    found = losses(various(500))
    assert set(found) == set(Fate)
    assert all(share > 0 for share in found.values())
    assert sum(found.values()) == pytest.approx(1)
    assert all(np.isnan(share) for share in losses([]).values())
    rows = {r.metric: r.value for r in summarise([row(various(500))])}
    assert sum(value for metric, value in rows.items() if metric.startswith("share_")) == pytest.approx(1)


@pytest.mark.parametrize(
    ("decided", "outcome", "fate"),
    [
        ("right", Outcome.LIFTED, Fate.RIGHT), ("wrong", Outcome.LIFTED, Fate.OTHER), ("", Outcome.LIFTED, Fate.OTHER),
        ("right", Outcome.DROPPED, Fate.PHYSICS), ("wrong", Outcome.DROPPED, Fate.INTENT),
        ("wrong", Outcome.GENERATOR_FAILED, Fate.INTENT), ("right", Outcome.GENERATOR_FAILED, Fate.GENERATION),
        ("", Outcome.INVALID_GRASP, Fate.GENERATION), ("right", Outcome.START_PENETRATION, Fate.GENERATION),
        ("right", Outcome.CRASHED, Fate.PHYSICS), ("", Outcome.TIMEOUT, Fate.PHYSICS),
        ("", Undecided.REJECTED, Fate.UNDECIDED), ("", Undecided.POLICY_FAILED, Fate.UNDECIDED),
    ],
)  # fmt: skip
def test_success_is_lost_at_the_first_stage_that_went_wrong(decided: str, outcome: str, fate: Fate) -> None:
    kind = {"right": LABELS[0], "wrong": LABELS[1], "": ""}[decided]
    assert record(0, decided_type=kind, outcome=str(outcome)).fate == fate


def test_the_matrix_has_every_trial_once() -> None:
    records = various(300)
    intents, columns, counts = outcome_matrix(records)
    assert counts.sum() == 300
    assert intents == sorted(LABELS)
    assert columns[:2] == [str(Fate.OTHER), str(Fate.RIGHT)]
    assert "REJECTED" in columns


def test_rows_are_compared_on_the_same_scenes_only() -> None:
    good = [record(n) for n in range(60)]
    worse = [r if r.number % 4 else replace(r, outcome="DROPPED") for r in good]
    rows = [row(good, policy="oracle"), row(worse), row(worse, protocol="new-person")]
    found = {(r.protocol, r.group, r.metric): r for r in summarise(rows)}
    drop = found["new-day", "argmax", f"{RIGHT_LIFTED}_minus_oracle"]
    assert drop.value == pytest.approx(-0.25)
    assert drop.low < -0.25 < drop.high < 0
    assert drop.n == 60
    assert ("new-person", "argmax", f"{RIGHT_LIFTED}_minus_oracle") not in found


def test_two_way_intervals_are_no_narrower_than_either_and_stay_within_bounds() -> None:
    rng = np.random.default_rng(0)
    objects, people = rng.integers(0, 12, 200), rng.integers(0, 5, 200)
    held = rng.random(200) < 0.75 + 0.2 * (objects % 2) - 0.2 * (people % 2)
    a, b = objects.tolist(), people.tolist()
    found = two_way_rate(held, a, b)
    for one in (rate(held, a), rate(held, b)):
        assert found.low <= one.low < found.value == one.value < one.high <= found.high
    assert found == two_way_rate(held, b, a)
    assert 0 < two_way_rate(np.ones(200, bool), a, b).low < two_way_rate(np.ones(200, bool), a, b).high == 1
    assert two_way_rate([], [], []).n == 0


def test_two_way_intervals_cover_where_one_way_ones_do_not() -> None:
    """Scenes crossed with people: each has its own effect, and the mean of all is known."""
    rng, covered, one_way, repeats = np.random.default_rng(1), 0, 0, 60
    objects, people = (grid.ravel() for grid in np.meshgrid(np.arange(15), np.arange(8)))
    for _ in range(repeats):
        effect = rng.normal(0, 0.12, 15)[objects] + rng.normal(0, 0.2, 8)[people]
        held = rng.random(120) < np.clip(0.5 + effect, 0, 1)
        found, alone = two_way_rate(held, objects.tolist(), people.tolist()), rate(held, objects.tolist())
        covered += found.low <= 0.5 <= found.high
        one_way += alone.low <= 0.5 <= alone.high
    assert covered / repeats >= 0.9
    assert one_way < covered


def test_two_way_differences_are_paired() -> None:
    a = {f"{n}": float(n % 4 != 0) for n in range(48)}
    b = {f"{n}": float(n % 2 != 0) for n in range(60)}
    objects, people = {key: int(key) // 4 for key in a}, {key: int(key) % 3 for key in a}
    found = two_way_difference(a, b, objects, people)
    assert (found.value, found.n) == (0.25, 48)
    assert 0 < found.low < found.high < 0.6
    assert found.method == "two-way"


def test_tables_and_times() -> None:
    rows = [row([record(n) for n in range(30)]), row(various(30), policy="reject")]
    text = render_trials(rows)
    assert text.count("| argmax |") == 2
    assert "100.0 [" in text
    assert "25.0% of the pairs" in text
    assert "synthetic" in text
    median, high, n = stage_times(rows[:1])["chain_s"]
    assert (median, high, n) == (pytest.approx(0.231), pytest.approx(0.231), 30)
    assert "met" in time_line(rows[:1])
    assert "missed" in time_line([row([record(0, generate_s=2.0)])])
    assert "not timed" in time_line([row([record(0, heard=0)])])
    assert render_trials(rows, "json").startswith("[")
