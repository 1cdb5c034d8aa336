"""Peers' metrics beside simeval's: `python -m simeval.benchmarks.metrics_compared --data DIR`.

Scores the 699 grasps released with DexGraspNet by what peers publish and by simeval's own protocols and depth, and
writes results/metrics_compared.md and .json. Trials that `simeval run --suite released` has stored are not run again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from simeval.benchmarks.study import markdown_table, run_suite, study_parser, write_page
from simeval.commands.progress import Bars
from simeval.errors import clear_exit
from simeval.generators.predictor.train import auc
from simeval.objects import DexGraspNetData
from simeval.peer_metrics import MEASURES, PeerScores, peer_scores
from simeval.records import TrialRecord
from simeval.report.summary import MetricRow
from simeval.report.tables import interval_note, interval_text
from simeval.stats import Estimate, clustered_mean, clustered_percentile, rate

COMMAND = "python -m simeval.benchmarks.metrics_compared --data DIR"
E_PEN_LIMIT = 1e-3  # DexGraspNet's

OURS = {
    "lift": "the hand lifts the object and shakes it at 1 g; slipped by less than 5 cm and 30°",
    "six-direction": "holds under 1 g along all six axes",
    "penetration": "largest depth between the object's surface and the hand's exact primitives",
}


def score(records: Sequence[TrialRecord], data: Path) -> list[PeerScores]:
    """Score the grasps of some records."""
    load = cache(DexGraspNetData(data).load)
    found = []
    with Bars({"scoring": len(records)}, "grasps") as bars:
        show = bars.callback("scoring")
        for record in records:
            model = load(record.object_code, record.scale)
            rotation = np.array(record.rotation).reshape(3, 3)
            found.append(peer_scores(model, rotation, np.array(record.translation), np.array(record.joints)))
            show(len(found), len(records))
    return found


def rows(lifts: Sequence[TrialRecord], sixes: Sequence[TrialRecord], scores: Sequence[PeerScores]) -> list[MetricRow]:
    """All metrics as rows of a table; lifts, six-direction trials and scores of the same grasps in the same order."""
    objects = [r.object_code for r in lifts]

    def row(protocol: str, metric: str, found: Estimate) -> MetricRow:
        return MetricRow("replay", "released", protocol, "all", metric, found.value, found.low, found.high, found.n)

    def mean(of: Callable[[PeerScores], float]) -> Estimate:
        return clustered_mean([of(s) for s in scores], objects, least=0.0)

    depths = [r.penetration_mm for r in lifts]
    return [
        row("lift", "lift_success", rate([r.success for r in lifts], objects)),
        row("six-direction", "six_direction_success", rate([r.success for r in sixes], objects)),
        row("six-direction", "any_direction_success", rate([r.directions_held >= 1 for r in sixes], objects)),
        row("commanded", "penetration_mm_mean", clustered_mean(depths, objects, least=0.0)),
        row("commanded", "penetration_mm_p95", clustered_percentile(depths, objects)),
        row("commanded", "pen_mm_sign_of_normal", mean(lambda s: s.pen_mm)),
        row("commanded", "e_pen_m", mean(lambda s: s.e_pen)),
        row("commanded", "e_pen_below_limit_rate", rate([s.e_pen < E_PEN_LIMIT for s in scores], objects)),
        row("commanded", "q1", mean(lambda s: s.q1)),
        row("commanded", "force_closure_rate", rate([s.q1 > 0 for s in scores], objects)),
        row("commanded", "qp", mean(lambda s: s.qp)),
    ]


def areas(lifts: Sequence[TrialRecord], sixes: Sequence[TrialRecord], scores: Sequence[PeerScores]) -> dict[str, Any]:
    """How well each score ranks grasps that hold above those that don't: area under the ROC curve, 0.5 is chance."""
    signed: dict[str, Callable[[PeerScores], float]] = {
        "Q1": lambda s: s.q1, "QP": lambda s: -s.qp, "E_pen": lambda s: -s.e_pen, "Pen": lambda s: -s.pen_mm,
    }  # fmt: skip
    held = {"lift": [r.success for r in lifts], "six-direction": [r.success for r in sixes]}
    return {
        name: {protocol: _area([of(s) for s in scores], truth) for protocol, truth in held.items()}
        for name, of in signed.items()
    }


def _area(values: Sequence[float], held: Sequence[bool]) -> float:
    return auc(np.nan_to_num(np.array(values), nan=-math.inf), np.array(held))


_SHOWN = {
    "lift_success": ("lift %", 100, 1, OURS["lift"]),
    "six_direction_success": ("six-direction %", 100, 1, OURS["six-direction"]),
    "penetration_mm_mean": ("penetration mm", 1, 2, OURS["penetration"]),
    "penetration_mm_p95": ("penetration p95 mm", 1, 2, OURS["penetration"]),
    "any_direction_success": ("any of six %", 100, 1, MEASURES["any_of_six"]),
    "pen_mm_sign_of_normal": ("“Pen.” mm", 1, 1, MEASURES["Pen"]),
    "e_pen_m": ("E_pen m, summed", 1, 4, MEASURES["E_pen"]),
    "e_pen_below_limit_rate": (
        f"E_pen < {E_PEN_LIMIT:g} %",
        100,
        1,
        "DexGraspNet's filter, which all these grasps passed with its own sample.",
    ),
    "q1": ("Q1", 1, 3, MEASURES["Q1"]),
    "force_closure_rate": ("Q1 > 0 %", 100, 1, "Force closure of the contacts within 5 mm."),
    "qp": ("QP", 1, 4, MEASURES["QP"]),
}


def page(found: Sequence[MetricRow], ranked: dict[str, Any], described: str) -> str:
    """Return the page in Markdown."""
    body = []
    for row in found:
        title, scale, digits, what = _SHOWN[row.metric]
        interval = interval_text(row.low, row.high, scale, digits)
        body.append([title, f"{scale * row.value:.{digits}f} {interval}", row.n, what])
    order = list(_SHOWN)
    body = [line for _, line in sorted(zip(found, body, strict=True), key=lambda item: order.index(item[0].metric))]
    table = [[name, *(f"{v:.2f}" for v in values.values())] for name, values in ranked.items()]
    parts = [
        "# Peers' metrics beside simeval's, on the same grasps\n",
        f"Made by `{COMMAND}` (real data: the grasps released with DexGraspNet, {described}). Brackets: 95 % "
        "intervals, objects as clusters: from so few objects little is known of others, hence their width. The "
        f"first four rows are simeval's own. Cones have friction 1.0{interval_note(found)}.\n",
        markdown_table(["metric", "value", "n", "what it measures"], body),
        "Does a score know which grasps hold? Area under the ROC curve; 0.5 is chance, less is the wrong way round:\n",
        markdown_table(["score", "lift", "six-direction"], table),
    ]
    return "\n".join(parts)


def main() -> None:
    """Run what isn't stored, score, then write the page and its numbers."""
    options = study_parser(__doc__).parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    records = run_suite("replay", "released", options).records
    by_grasp: dict[tuple[Any, ...], dict[str, TrialRecord]] = {}
    for r in records:
        by_grasp.setdefault((r.object_code, r.scale, r.grasp_type, r.index), {})[r.protocol] = r
    whole = [found for found in by_grasp.values() if len(found) == 2 and found["lift"].rotation]
    lifts, sixes = ([found[name] for found in whole] for name in ("lift", "six-direction"))
    scores = score(lifts, options.data)
    found, ranked = rows(lifts, sixes, scores), areas(lifts, sixes, scores)
    described = f"{len(lifts)} of them, {len({r.object_code for r in lifts})} objects"
    note = {
        "command": COMMAND, "data_kind": "real",
        "rows": [asdict(row) for row in found],
        "measures": MEASURES, "area_under_roc": ranked,
    }  # fmt: skip
    write_page(options.out, "metrics_compared", note, page(found, ranked, described))


if __name__ == "__main__":
    with clear_exit():
        main()
