"""What is committed in results/ is what its commands print; here the parts that are cheap to make again."""

import json
from pathlib import Path

import pytest

from simeval.benchmarks import coverage, metrics_compared
from simeval.report.compare import Side
from simeval.report.gate import read_baseline
from simeval.report.summary import MetricRow

RESULTS = Path(__file__).parent.parent / "results"


def stored_coverage() -> list[coverage.Coverage]:
    found = json.loads((RESULTS / "coverage.json").read_text())["coverage"]
    return [coverage.Coverage(**cell) for cell in found]


def test_coverage_page_is_made_of_its_numbers() -> None:
    note = json.loads((RESULTS / "coverage.json").read_text())
    assert coverage.page(stored_coverage(), note["command"]) == (RESULTS / "coverage.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("method", "case", "n", "objects"),
    [
        ("wilson", "independent trials", 100, 100), ("rate", "correlation 0.3", 20, 5), ("mean", "lognormal", 100, 20),
        ("paired difference", "many flips", 100, 50),
    ],
)  # fmt: skip
def test_coverage_is_simulated_again(method: str, case: str, n: int, objects: int) -> None:
    wanted = next(c for c in stored_coverage() if (c.method, c.case, c.n, c.objects) == (method, case, n, objects))
    found = coverage.simulate(coverage.Cell(method, case, n, objects), wanted.repeats)
    assert found.coverage == pytest.approx(wanted.coverage, abs=2e-3)  # one or two experiments may round otherwise
    assert found.width == pytest.approx(wanted.width, rel=1e-3)


def test_coverage_is_as_stated_where_the_model_can_know() -> None:
    """93 to 97 %, give or take three standard errors of the simulation, from 20 objects on."""
    few = ("few flips", "few objects flip")  # where the page says that it can't
    cells = [c for c in stored_coverage() if c.objects >= 20 and c.n >= 100 and c.case not in few]
    assert len(cells) > 60
    for cell in cells:
        error = (0.95 * 0.05 / cell.repeats) ** 0.5
        assert 0.93 - 3 * error <= cell.coverage <= 0.97 + 3 * error, cell


def test_comparison_page_is_made_of_its_numbers() -> None:
    note = json.loads((RESULTS / "metrics_compared.json").read_text())
    rows = [MetricRow(**{k: float("inf") if v is None else v for k, v in row.items()}) for row in note["rows"]]
    text = (RESULTS / "metrics_compared.md").read_text(encoding="utf-8")
    described = text.split("DexGraspNet, ")[1].split(").")[0]
    assert metrics_compared.page(rows, note["area_under_roc"], described) == text


def test_the_gates_baseline_is_the_embedded_suite() -> None:
    baseline = read_baseline(RESULTS / "gate_embedded.json")
    assert isinstance(baseline, Side)
    rows = {
        row["metric"]: row["value"]
        for row in json.loads((RESULTS / "embedded.json").read_text())
        if row["generator"] == baseline.label and row["group"] == "all"
    }
    for protocol, metric in (("lift", "lift_success"), ("six-direction", "six_direction_success")):
        own = [r.success for r in baseline.records if r.protocol == protocol]
        assert sum(own) / len(own) == pytest.approx(rows[metric])
