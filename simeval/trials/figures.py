"""Figures of end-to-end trials, in the style of all others: losses, intent by outcome, success against rejection."""

from collections.abc import Sequence

import numpy as np

from simeval.report.figures import Drawing, heatmap
from simeval.stats import rate
from simeval.trials.records import Fate
from simeval.trials.summary import RowTrials, losses, outcome_matrix

_SHADES = {
    Fate.RIGHT: ("#0072B2", ""), Fate.OTHER: ("#56B4E9", "//"), Fate.UNDECIDED: ("0.85", ""),
    Fate.INTENT: ("#E69F00", "\\\\"), Fate.GENERATION: ("#CC79A7", ".."), Fate.PHYSICS: ("#D55E00", "xx"),
}  # fmt: skip
MOST_MATRICES = 6


def draw_trials(rows: Sequence[RowTrials]) -> list[Drawing]:
    """Draw every figure that the rows have something to show in; call it within `simeval.report.figures.style`."""
    drawn = [draw_losses(rows), draw_matrix(rows), draw_rejection(rows)]
    return [each for each in drawn if each is not None]


def draw_losses(rows: Sequence[RowTrials]) -> Drawing | None:
    """One stacked bar a row: right type and lifted, and where the rest was lost."""
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row.records]
    if not shown:
        return None
    shares = [losses(row.records) for row in shown]
    figure, ax = plt.subplots(figsize=(7.0, 1.3 + 0.24 * len(shown)))
    left = np.zeros(len(shown))
    for fate, (color, hatch) in _SHADES.items():
        width = np.array([100 * share[fate] for share in shares])
        ax.barh(
            range(len(shown)), width, left=left, color=color, hatch=hatch, edgecolor="white", linewidth=0.3,
            label=str(fate),
        )  # fmt: skip
        left += width
    ax.set_yticks(range(len(shown)), _labels(shown))
    ax.set(xlim=(0, 100), ylim=(len(shown) - 0.4, -0.6), xlabel="trials, %")
    ax.grid(axis="y", visible=False)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    n = sorted({len(row.records) for row in shown})
    caption = f"What became of {' or '.join(map(str, n))} trials a row, and the first stage at which success was lost."
    return Drawing("end_to_end_losses", "Where success is lost", caption, figure)


def draw_matrix(rows: Sequence[RowTrials]) -> Drawing | None:
    """Intent by outcome, one panel for each protocol, of the likeliest type."""
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row.records and row.manifest["policy"] == "argmax"][:MOST_MATRICES]
    if not shown:
        return None
    across = min(2, len(shown))
    down = -(-len(shown) // across)
    figure, axes = plt.subplots(down, across, figsize=(1.0 + 3.6 * across, 0.4 + 2.5 * down), squeeze=False)
    for ax, row in zip(axes.flat, shown, strict=False):
        intents, columns, counts = outcome_matrix(row.records)
        share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        texts = np.where(counts > 0, counts.astype(str), "")
        names = [c.lower().replace("_", " ") for c in columns]
        heatmap(ax, share, intents, names, "", texts, bar=False)
        ax.set_title(", ".join(_distinct(row, shown)) or row.manifest["protocol"])
        for label in ax.get_xticklabels():
            label.set(rotation=35, ha="right")
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    figure.supylabel("intent", fontsize="small")
    caption = "Trials by what was meant (row) and what came of it (column), of the likeliest type. Lighter: more."
    return Drawing("end_to_end_outcomes", "Intents and outcomes", caption, figure)


def draw_rejection(rows: Sequence[RowTrials]) -> Drawing | None:
    """Success of the trials that are decided, against the share that isn't, as `reject`'s threshold varies."""
    import matplotlib.pyplot as plt

    curves: dict[tuple[str, str, str], list[RowTrials]] = {}
    for row in rows:
        if row.manifest["policy"].startswith("reject,threshold=") and row.records:
            curves.setdefault((row.generator, row.suite, row.manifest["protocol"]), []).append(row)
    curves = {name: own for name, own in curves.items() if len(own) > 1}
    if not curves:
        return None
    figure, ax = plt.subplots(figsize=(5.5, 3.4))
    for k, (name, own) in enumerate(curves.items()):
        points = sorted(_curve_point(row) for row in own)
        x, y, low, high = np.array(points).T
        told = [part for i, part in enumerate(name) if len({other[i] for other in curves}) > 1]
        label = ", ".join(told or name)
        marker = ("o", "s", "^", "D", "v", "P", "X", "*")[k % 8]
        ax.errorbar(
            x, y, yerr=np.maximum([y - low, high - y], 0), color=f"C{k}", marker=marker, markersize=4, elinewidth=0.8,
            label=label,
        )  # fmt: skip
    ax.set(xlabel="trials not decided, %", ylabel="right type and lifted, % of the decided", xlim=(0, 100))
    ax.set_ylim(0, 100)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    caption = (
        "Success of the trials that `reject` decides, by the share that it doesn't; bars: 95 %, objects as clusters."
    )
    return Drawing("end_to_end_rejection", "Success against rejection", caption, figure)


def _curve_point(row: RowTrials) -> tuple[float, float, float, float]:
    """Rejected, success of the rest and its interval, in percent; NaN where nothing is decided."""
    decided = [r for r in row.records if r.fate != Fate.UNDECIDED]
    found = rate([r.fate == Fate.RIGHT for r in decided], [r.object_code for r in decided])
    return 100 * (1 - len(decided) / len(row.records)), 100 * found.value, 100 * found.low, 100 * found.high


def _labels(rows: Sequence[RowTrials]) -> list[str]:
    return [", ".join((*_distinct(row, rows), row.manifest["policy"])) for row in rows]


def _distinct(row: RowTrials, rows: Sequence[RowTrials]) -> list[str]:
    """What tells a row from others, but for its policy."""

    def names(r: RowTrials) -> tuple[str, ...]:
        return r.generator, r.suite, r.manifest["protocol"]

    return [own for i, own in enumerate(names(row)) if len({names(r)[i] for r in rows}) > 1]
