"""Which way of finding alike objects serves retrieval best: `python -m simeval.benchmarks.retrieval --data DIR`.

Runs `retrieval` over validation objects, one grasp a condition, with each descriptor, numbers of neighbours, and with
and without types; writes `retrieval.md` and `.json`. Every run is kept, below runs/, so that a cut costs little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from simeval.benchmarks.generators import BASE, SHOWN, Condition, Entry, Group, compare, measure, row_text
from simeval.benchmarks.study import markdown_table, run_suite, study_parser, write_page
from simeval.errors import clear_exit
from simeval.report.summary import MetricRow

COMMAND = "python -m simeval.benchmarks.retrieval --data DIR"
CONDITION = Condition("validation", "dexgraspnet-val")
ALL = Group("all", lambda record: True)
DEFAULT = "the default: bounding box, 5 neighbours, of the type"
SETTINGS: dict[str, dict[str, str]] = {
    DEFAULT: {},
    "distance map": {"by": "map"},
    "basis points": {"by": "points"},
    "learned embedding": {"by": "learned"},
    "1 neighbour": {"neighbours": "1"},
    "20 neighbours": {"neighbours": "20"},
    "of any type": {"typed": "false"},
}
ENTRIES = tuple(Entry(name, BASE, settings, grasps=1) for name, settings in SETTINGS.items())


def page(rows: Sequence[MetricRow]) -> str:
    """Return the page as Markdown."""
    # reversed: of a metric that both protocols have, lift's is shown
    index: Mapping[tuple[str, str], MetricRow] = {(r.generator, r.metric): r for r in reversed(rows)}
    shown = (*SHOWN, *(f"{metric}_minus_{BASE}" for metric in SHOWN[:2]))
    table = [
        [entry.name, *(row_text(index.get((entry.name, metric))) for metric in shown), index[entry.name, SHOWN[0]].n]
        for entry in ENTRIES
    ]
    heads = ["lift", "six-direction", "penetration [mm]", "type achieved (lift)", "lift, points more than the default",
             "six-direction, likewise", "n"]  # fmt: skip
    return "\n".join([
        "# Retrieval: which objects are alike\n",
        f"Made by `{COMMAND}`. Real data: suite `{CONDITION.suite}`, one grasp a condition, the bank `dexgraspnet-1k`. "
        "One thing at a time is changed of the default. Rates in %, with 95 % intervals clustered by object; the "
        "differences are paired. Descriptors are those of the setting `by`; `learned` is the object encoder of the "
        "diffusion preset `paper`. For one grasp the first four that are carried over are looked at, so more "
        "neighbours than it takes to have four change nothing.\n",
        markdown_table(["", *heads], table),
        _verdict(index),
    ])  # fmt: skip


def _verdict(index: Mapping[tuple[str, str], MetricRow]) -> str:
    """Say which settings are better than the default, if any, in either protocol."""
    better = [
        entry.name for entry in ENTRIES
        for metric in (f"{metric}_minus_{BASE}" for metric in SHOWN[:2])
        if (row := index.get((entry.name, metric))) and row.low > 0
    ]  # fmt: skip
    if better:
        return f"Better than the default: {', '.join(dict.fromkeys(better))}.\n"
    return "None is better than the default beyond chance; the default needs the bounding box alone.\n"


def main() -> None:
    """Run what is missing, then write the page and its numbers."""
    options = study_parser(__doc__).parse_args()
    records = {
        e.name: run_suite(e.generator, CONDITION.suite, options, settings=e.settings, grasps=e.grasps).records
        for e in ENTRIES
    }
    rows: list[MetricRow] = []
    for entry in ENTRIES:
        rows += measure(entry, CONDITION, records[entry.name], ALL)
        if entry.name != DEFAULT:
            rows += compare(entry, CONDITION, records[entry.name], records[DEFAULT], ALL)
    numbers = {"command": COMMAND, "data_kind": "real", "rows": [asdict(row) for row in rows]}
    write_page(options.out, "retrieval", numbers, page(rows))


if __name__ == "__main__":
    with clear_exit():
        main()
