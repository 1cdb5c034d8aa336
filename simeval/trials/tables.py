"""Tables of end-to-end trials: Markdown, LaTeX, CSV and JSON."""

import math
from collections.abc import Sequence

from simeval.report.summary import MetricRow
from simeval.report.tables import MISSING, Grid, render
from simeval.trials.records import Fate
from simeval.trials.summary import (
    ACHIEVED,
    FATES,
    LIFTED,
    REJECTED,
    RIGHT_LIFTED,
    RIGHT_TYPE,
    TARGET_S,
    RowTrials,
    stage_times,
    summarise,
)

_COLUMNS = {
    RIGHT_LIFTED: "right type & lifted %",
    LIFTED: "lifted %",
    RIGHT_TYPE: "right type %",
    ACHIEVED: "achieved type %",
    REJECTED: "no decision %",
    f"{RIGHT_LIFTED}_minus_oracle": "− oracle",
    f"{RIGHT_LIFTED}_minus_argmax": "− argmax",
}
_LOST = (Fate.OTHER, Fate.UNDECIDED, Fate.INTENT, Fate.GENERATION, Fate.PHYSICS)
_STAGES = {
    "classify_s": "classify", "decide_s": "decide", "generate_s": "generate", "refine_s": "refine",
    "command_s": "first command", "chain_s": "chain without refining", "execute_s": "(simulate)",
}  # fmt: skip
_NAMES = ("generator", "suite", "protocol", "policy")


def render_trials(rows: Sequence[RowTrials], format: str = "md") -> str:
    """Return the tables as text: success, where it is lost, and times; CSV and JSON: the numbers.

    Raises:
        SettingError: no such format.
    """
    found = summarise(rows)
    grids = [success_grid(found), loss_grid(found), time_grid(rows)]
    return render(found, [], format, grids, caption(rows))


def success_grid(found: Sequence[MetricRow]) -> Grid:
    """One line a row: what came out, and differences in percentage points on the same scenes."""
    lines = []
    for names, own in _by_row(found).items():
        lines.append([*names, *(_cell(own.get(metric)) for metric in _COLUMNS), str(own[RIGHT_LIFTED].n)])
    return _without_repetition(Grid([*_NAMES, *_COLUMNS.values(), "n"], lines, len(_NAMES)))


def loss_grid(found: Sequence[MetricRow]) -> Grid:
    """One line a row: where its trials went; they sum to 100 %."""
    lines = []
    for names, own in _by_row(found).items():
        shares = [own[FATES[fate]].value for fate in (Fate.RIGHT, *_LOST)]
        lines.append([*names, *(MISSING if math.isnan(s) else f"{100 * s:.1f}" for s in shares)])
    headers = [*_NAMES, *(f"{fate} %" for fate in (Fate.RIGHT, *_LOST))]
    return _without_repetition(Grid(headers, lines, len(_NAMES)))


def time_grid(rows: Sequence[RowTrials]) -> Grid:
    """One line a generator: seconds of every stage, median and 95th percentile."""
    lines = []
    for generator in dict.fromkeys(row.generator for row in rows):
        found = stage_times([row for row in rows if row.generator == generator])
        cells = [f"{found[s][0]:.3f} ({found[s][1]:.3f})" if s in found else MISSING for s in _STAGES]
        lines.append([generator, *cells, str(found["chain_s"][2] if "chain_s" in found else 0)])
    return Grid(["CPU s: median (95 %)", *_STAGES.values(), "n"], lines, 1)


def time_line(rows: Sequence[RowTrials]) -> str:
    """One sentence on the whole chain of each generator against the target."""
    told = []
    for name in dict.fromkeys(row.generator for row in rows):
        found = stage_times([row for row in rows if row.generator == name]).get("chain_s")
        if found:
            met = [seconds < TARGET_S for seconds in found[:2]]
            verdict = "met" if all(met) else "met in the median alone" if met[0] else "missed"
            told.append(f"{name} {found[0]:.3f} s in the median, 95 %: {found[1]:.3f} s: {verdict}")
    if not told:
        return "chain: not timed"
    start = f"signal to first command on one core; target < {TARGET_S:g} s, without refining, which comes on top: "
    return start + "; ".join(told)


def caption(rows: Sequence[RowTrials]) -> str:
    """What was run, what was left out, and what the brackets are."""

    def several(*keys: str) -> str:
        return " | ".join(dict.fromkeys(" ".join(str(row.manifest[k]) for k in keys) for row in rows))

    left_out = []
    for row in rows:
        m = row.manifest
        if m["intents"] == "suite":
            share = m["excluded"] / (m["pairs"] + m["excluded"])
            left_out.append(f"{m['suite']}: {share:.1%} of the pairs of object and type are no request, so not drawn")
    parts = [
        f"EMG {several('emg', 'emg_kind')} by {several('emg_model_name')}", f"{several('data_kind')} objects",
        *dict.fromkeys(left_out), f"seed {several('seed')}",
        "right type: the decided type is the intended one; achieved type: the executed grasp is of the intended one",
        "every trial counts, whatever became of it", "differences: points of right type & lifted, same scenes",
        "brackets: 95 % intervals, clustered by object and by subject (session where there is one subject)",
    ]  # fmt: skip
    return "; ".join(parts) + "."


def _by_row(found: Sequence[MetricRow]) -> dict[tuple[str, ...], dict[str, MetricRow]]:
    own: dict[tuple[str, ...], dict[str, MetricRow]] = {}
    for row in found:
        own.setdefault((row.generator, row.suite, row.protocol, row.group), {})[row.metric] = row
    return own


def _cell(row: MetricRow | None) -> str:
    if row is None or math.isnan(row.value):
        return MISSING
    sign = "+" if "_minus_" in row.metric else ""
    value, low, high = (f"{100 * v:{sign}.1f}" for v in (row.value, row.low, row.high))
    return value if math.isnan(row.low) else f"{value} [{low}, {high}]"


def _without_repetition(grid: Grid) -> Grid:
    """Leave out names that are the same in all lines, but for the policy."""
    several = [i for i in range(grid.names) if i == grid.names - 1 or len({line[i] for line in grid.lines}) > 1]
    kept = [*several, *range(grid.names, len(grid.headers))]
    return Grid([grid.headers[i] for i in kept], [[line[i] for i in kept] for line in grid.lines], len(several))
