"""The figures of some runs, all in one style: colour-blind safe, told apart in grey by marker and line.

A new figure is a function of `Trials` that returns a `Drawing`, or None where the runs have nothing to show in it, and
a line in `FIGURES`. Success rates have the tables' intervals.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simeval.errors import DataError, SimevalError, unknown_name
from simeval.grasp import Array
from simeval.records import TrialRecord
from simeval.replay import StoredObjects
from simeval.report.html import Picture
from simeval.report.summary import PROTOCOLS, can_be_shown, names_but_for, records_by_name, success_metric, summarise
from simeval.stats import rate
from simeval.store import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
MOST_NAMES = 8
"""Generators a figure tells apart."""
MOST_OBJECTS = 60
"""Objects a figure has a line for."""
MOST_LOADED = 100
"""Objects that are loaded to know where they have their centre and which way is up."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (7, 2)), (0, (3, 1, 1, 1)))
_RATE_MAP = "cividis"  # even in lightness, so it reads in grey, too


class Drawing(NamedTuple):
    """A figure with the words that go with it."""

    name: str  # of its file
    title: str
    caption: str  # what is to be seen, for those who can't see it as well
    figure: "Figure"


@dataclass(frozen=True)
class Trials:
    """What figures are drawn from."""

    runs: Sequence[Run]
    objects: StoredObjects = field(default_factory=StoredObjects)

    @cached_property
    def by_name(self) -> dict[str, list[TrialRecord]]:
        """The trials of each generator, in the order of the tables: at most `MOST_NAMES`, the last ones."""
        return dict(list(records_by_name(self.runs).items())[-MOST_NAMES:])

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """One row a trial: generator, protocol, the numbers that are drawn."""
        import pandas as pd

        rows = [
            {
                "generator": name, "protocol": r.protocol, "penetration_mm": r.penetration_mm,
                "penetration_held_mm": r.penetration_held_mm, "slip_mm": 1e3 * r.slip_m, "cpu_s": r.cpu_s,
            }
            for name, records in self.by_name.items() for r in records
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def protocols(self) -> list[str]:
        """Protocols there are, the headline one first."""
        found = list(dict.fromkeys(self.frame["protocol"]))
        return sorted(found, key=lambda p: (p not in PROTOCOLS, p))

    @cached_property
    def grasps(self) -> dict[str, list[TrialRecord]]:
        """One record for each finite grasp, whatever the protocols it was tried in."""
        return {
            name: list({
                (r.object_code, r.scale, r.grasp_type, r.index, r.seed): r for r in records
                if can_be_shown(r)
            }.values())
            for name, records in self.by_name.items()
        }  # fmt: skip

    @property
    def note(self) -> str:
        """What is left out, as a sentence for the caption."""
        left_out = len(records_by_name(self.runs)) - len(self.by_name)
        return f" {left_out} more generators or settings are left out." if left_out else ""


def draw_figures(
    runs: Sequence[Run], objects: StoredObjects | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Drawing]:
    """Draw every figure that the runs have something to show in.

    Args:
        runs: what `read_run` gave.
        objects: the runs' objects, which a figure needs; None: all are where they were, data in SIMEVAL_DATA.
        progress: called with (done, total).
    """
    trials, drawings = Trials(runs, objects or StoredObjects()), []
    with style():
        for done, draw in enumerate(FIGURES.values()):
            if progress:
                progress(done, len(FIGURES))
            found = draw(trials)
            if found is not None:
                drawings.append(found)
    if progress:
        progress(len(FIGURES), len(FIGURES))
    return drawings


@contextmanager
def style() -> Iterator[None]:
    """The style of all figures: 8 pt sans, thin grid, no mathematics in names, the same bytes every time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    own = {
        "text.parse_math": False, "svg.hashsalt": "simeval", "savefig.dpi": 200, "figure.constrained_layout.use": True,
        "figure.max_open_warning": 0,
    }  # fmt: skip
    with plt.rc_context():
        sns.set_theme(context="paper", style="whitegrid", palette="colorblind", rc=own)
        yield


def as_svg(drawing: Drawing) -> bytes:
    """Return a figure as SVG; its letters are shapes, so that it looks the same everywhere."""
    stream = io.BytesIO()
    with style():
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None, "Title": drawing.title})
    _close(drawing)
    return stream.getvalue()


def as_picture(drawing: Drawing) -> Picture:
    """Return a figure as a picture of a report."""
    return Picture(drawing.title, drawing.caption, as_svg(drawing))


def save(drawing: Drawing, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write a figure to `folder`, which is made, once in each format; return the files.

    Raises:
        DataError: one can't be written.
    """
    written = []
    with style():
        for format in formats:
            path = folder / f"{drawing.name}.{format}"
            undated: dict[str, Any] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[format]
            try:
                folder.mkdir(parents=True, exist_ok=True)
                drawing.figure.savefig(path, metadata=undated)
            except OSError as error:
                raise DataError(f"{path} can't be written: {error.strerror or error}") from error
            written.append(path)
    _close(drawing)
    return written


def check_formats(formats: Iterable[str]) -> list[str]:
    """Return the formats without repetition.

    Raises:
        SettingError: one is unknown.
    """
    wanted = list(dict.fromkeys(f.lower().lstrip(".") for f in formats))
    for format in wanted:
        if format not in FORMATS:
            raise unknown_name("format of figures", format, FORMATS)
    return wanted


# Success


def success_by_type(trials: Trials) -> Drawing | None:
    """Success rates of each type, with intervals, one panel for each protocol."""
    import matplotlib.pyplot as plt

    rows = [r for r in summarise(trials.runs, "type") if r.metric == success_metric(r.protocol)]
    several = len({r.suite for r in rows}) > 1
    found = {(f"{r.generator} ({r.suite})" if several else r.generator, r.protocol, r.group): r for r in rows}
    groups = sorted({r.group for r in rows})
    names = list(trials.by_name)
    protocols = [p for p in (*trials.protocols, "secure") if any(r.protocol == p for r in rows)]
    height = 0.9 + len(groups) * (0.2 + 0.11 * len(names))
    figure, axes = plt.subplots(
        1, len(protocols), figsize=(2.6 * len(protocols) + 1, height), sharey=True, squeeze=False
    )
    for ax, protocol in zip(axes[0], protocols, strict=True):
        for k, name in enumerate(names):
            offset = 0.8 * ((k + 0.5) / len(names) - 0.5)
            points = [(i + offset, found.get((name, protocol, group))) for i, group in enumerate(groups)]
            there = [(y, r) for y, r in points if r is not None and math.isfinite(r.value)]
            value = np.array([100 * r.value for _, r in there])
            reach = np.array([(100 * (r.value - r.low), 100 * (r.high - r.value)) for _, r in there]).reshape(-1, 2).T
            ax.errorbar(
                value, [y for y, _ in there], xerr=np.maximum(reach, 0), label=_short(name), color=f"C{k}",
                marker=_MARKERS[k], linestyle="none", markersize=4, elinewidth=1, clip_on=False,
            )  # fmt: skip
        ax.set(
            title=protocol,
            xlabel="success %",
            xlim=(0, 100),
            yticks=range(len(groups)),
            yticklabels=map(_short, groups),
        )
        for edge in range(1, len(groups)):
            ax.axhline(edge - 0.5, color="0.85", linewidth=0.8)
        ax.grid(axis="y", visible=False)
    axes[0][0].set_ylim(len(groups) - 0.5, -0.5)
    _legend(figure, axes[0][0], len(names))
    caption = f"Points: share of trials that hold; bars: 95 % intervals, objects as clusters.{trials.note}"
    return Drawing("success_by_type", "Success by type", caption, figure)


def success_by_object(trials: Trials) -> Drawing | None:
    """Success rate of each object with each generator."""
    protocol = trials.protocols[0]
    counts: dict[str, dict[str, list[bool]]] = {}
    for name, records in trials.by_name.items():
        for r in records:
            if r.protocol == protocol:
                counts.setdefault(r.object_code, {}).setdefault(name, []).append(r.success)
    names = [n for n in trials.by_name if any(n in found for found in counts.values())]
    mean = {code: float(np.mean([np.mean(v) for v in found.values()])) for code, found in counts.items()}
    codes = sorted(counts, key=lambda code: (mean[code], code))
    shown = codes[:MOST_OBJECTS]
    rates = np.array([[100 * np.mean(counts[c].get(n, [math.nan])) for n in names] for c in shown])
    sizes = np.array([[len(counts[c].get(n, [])) for n in names] for c in shown])
    figure, ax = _axes(1.8 + 0.85 * len(names), 2.2 + 0.15 * len(shown))
    heatmap(ax, rates, [_short(c) for c in shown], [_short(n, 24) for n in names], "success %")
    for label in ax.get_xticklabels():
        label.set(rotation=30, ha="right")
    which = f"the {len(shown)} hardest of {len(codes)} objects" if len(codes) > len(shown) else f"{len(codes)} objects"
    low, high = int(sizes.min()), int(sizes.max())
    n = str(high) if low == high else f"{low} to {high}"
    caption = f"{protocol}: {which}, the hardest first; {n} trials a cell, empty where there are none.{trials.note}"
    return Drawing("success_by_object", "Success by object", caption, figure)


def sensitivity(trials: Trials) -> Drawing | None:
    """Success over friction and mass, for generators that were run under several of them."""
    import matplotlib.pyplot as plt

    protocol = trials.protocols[0]
    sweeps = _sweeps(trials.runs, protocol)
    if not sweeps:
        return None
    loads = {name: sorted({load for _, load in cells}) for name, cells in sweeps.items()}
    frictions = {name: sorted({friction for friction, _ in cells}) for name, cells in sweeps.items()}
    widths = [len(loads[name]) for name in sweeps]
    size = (1.2 + sum(0.4 + 1.15 * w for w in widths), 1.2 + 0.5 * max(map(len, frictions.values())))
    figure, axes = plt.subplots(1, len(sweeps), figsize=size, squeeze=False, width_ratios=widths)
    for ax, (name, cells) in zip(axes[0], sweeps.items(), strict=True):
        rates = np.full((len(frictions[name]), len(loads[name])), math.nan)
        texts = np.full(rates.shape, "", dtype=object)
        for (friction, load), records in cells.items():
            at = frictions[name].index(friction), loads[name].index(load)
            found = rate([r.success for r in records], [r.object_code for r in records])
            rates[at] = 100 * found.value
            texts[at] = f"{rates[at]:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]\nn = {found.n}"
        rows, columns = [f"{f:g}" for f in frictions[name]], [_load_text(load) for load in loads[name]]
        heatmap(ax, rates, rows, columns, "success %", texts, bar=ax is axes[0][-1])
        ax.set(title=_short(name, 30), xlabel="object's mass", ylabel="friction" if ax is axes[0][0] else "")
        ax.invert_yaxis()
    caption = f"{protocol}: share of trials that hold, with 95 % interval and number of trials, by friction and mass."
    return Drawing("sensitivity", "Sensitivity to friction and mass", caption, figure)


# Penetration, slip, cost


def penetration_and_slip(trials: Trials) -> Drawing | None:
    """Cumulative distributions of penetration, commanded and held, and of slip."""
    import matplotlib.pyplot as plt

    frame = trials.frame[trials.frame["protocol"] == trials.protocols[0]]
    kinds = {
        "penetration_mm": "penetration, commanded, mm",
        "penetration_held_mm": "penetration, squeeze complete, mm",
        "slip_mm": "slip, mm",
    }
    kinds = {key: text for key, text in kinds.items() if frame[key].notna().any()}
    if not kinds:
        return None
    figure, axes = plt.subplots(1, len(kinds), figsize=(2.6 * len(kinds) + 0.6, 2.9), sharey=True, squeeze=False)
    for ax, (key, text) in zip(axes[0], kinds.items(), strict=True):
        for k, name in enumerate(trials.by_name):
            values = np.sort(frame.loc[frame["generator"] == name, key].dropna().to_numpy())
            if len(values):
                share = 100 * np.arange(1, len(values) + 1) / len(values)
                ax.step(
                    values, share, where="post", color=f"C{k}", linestyle=_DASHES[k], label=f"{name} ({len(values)})"
                )
            else:
                ax.plot([], [], color=f"C{k}", linestyle=_DASHES[k], label=f"{_short(name)} (0)")
        ax.set(xlabel=text, xscale="symlog", ylim=(0, 101), xlim=(0, None))
        ax.xaxis.set_major_formatter("{x:g}")
    axes[0][0].set_ylabel("trials at most that, %")
    _legend(figure, axes[0][0], len(trials.by_name))
    caption = (
        f"{trials.protocols[0]}: cumulative distributions over the trials that have the number (how many have a "
        f"commanded penetration in brackets); linear below 1 mm, logarithmic above.{trials.note}"
    )
    return Drawing("penetration_and_slip", "Penetration and slip", caption, figure)


def cpu_cost(trials: Trials) -> Drawing | None:
    """Processor time of a trial."""
    import seaborn as sns

    frame = trials.frame.dropna(subset=["cpu_s"])
    if frame.empty:
        return None
    figure, ax = _axes(5.5, 1.2 + 0.32 * len(trials.by_name))
    sns.boxenplot(
        frame, x="cpu_s", y="generator", hue="protocol", order=list(trials.by_name), hue_order=trials.protocols,
        ax=ax, orient="h", width_method="linear", flier_kws={"s": 4}, palette="colorblind", saturation=0.9,
    )  # fmt: skip
    ax.set(xlabel="CPU seconds a trial (simulation, not generation)", ylabel="", xscale="log")
    ax.set_yticks(range(len(trials.by_name)), [_short(n, 40) for n in trials.by_name])
    ax.xaxis.set_major_formatter("{x:g}")
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=None)
    caption = (
        f"Line: median; boxes: the middle half, three quarters and so on of the trials; points: the rest.{trials.note}"
    )
    return Drawing("cpu_cost", "CPU time of a trial", caption, figure)


# Types


def type_confusion(trials: Trials) -> Drawing | None:
    """Which type was asked for, and which was achieved."""
    import matplotlib.pyplot as plt

    from simeval.taxonomy import GRASP_TYPES

    protocol = trials.protocols[0]
    typed = {n: [r for r in rs if r.grasp_type and r.protocol == protocol] for n, rs in trials.by_name.items()}
    typed = {name: records for name, records in typed.items() if records}
    if not typed:
        return None
    asked = {r.grasp_type for records in typed.values() for r in records}
    rows = [*(t for t in GRASP_TYPES if t in asked), *sorted(asked - set(GRASP_TYPES))]
    columns = [*GRASP_TYPES, "none"]
    across = min(3, len(typed))
    down = math.ceil(len(typed) / across)
    size = (0.9 + 2.0 * across, 0.5 + down * (1.1 + 0.24 * len(rows)))
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, sharey=True)
    for ax, (name, records) in zip(axes.flat, typed.items(), strict=False):
        counts = np.zeros((len(rows), len(columns)))
        for r in records:
            found = r.achieved_type if r.achieved_type in columns else "none"
            counts[rows.index(r.grasp_type), columns.index(found)] += 1
        share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        texts = np.where(counts > 0, counts.astype(int).astype(str), "")
        heatmap(ax, share, [_short(t) for t in rows], columns, "", texts, bar=False)
        ax.set_title(_short(name, 30))
        ax.tick_params(axis="x", rotation=90)
    for ax in list(axes.flat)[len(typed) :]:
        ax.set_visible(False)
    figure.supylabel("asked for", fontsize="small")
    figure.supxlabel("achieved", fontsize="small")
    caption = (
        f"{protocol}: trials by the type asked for (row) and the type achieved by contacts and joints when the squeeze "
        f"was complete (column; none: no type, or no squeeze). Lighter is a larger share of its row.{trials.note}"
    )
    return Drawing("type_confusion", "Requested and achieved types", caption, figure)


# Diversity


def wrist_sphere(trials: Trials) -> Drawing | None:
    """From where hands come: directions from objects' centres to the wrists, on the whole sphere."""
    import matplotlib.pyplot as plt

    from simeval.metrics.diversity import wrist_directions
    from simeval.replay import stored_grasp

    centers = _centers(trials)
    directions: dict[str, Array] = {}
    total = 0
    for name, records in trials.grasps.items():
        total += len(records)
        found = [
            wrist_directions(stored_grasp(r), *centers[r.object_code, r.scale])
            for r in records if (r.object_code, r.scale) in centers
        ]  # fmt: skip
        if found:
            directions[name] = np.concatenate(found)
    if not directions:
        return None
    across = min(3, len(directions))
    down = math.ceil(len(directions) / across)
    figure, axes = plt.subplots(
        down, across, figsize=(2.5 * across, 1.65 * down), squeeze=False, subplot_kw={"projection": "hammer"}
    )
    for k, (ax, (name, where)) in enumerate(zip(axes.flat, directions.items(), strict=False)):
        longitude, latitude = np.arctan2(where[:, 1], where[:, 0]), np.arcsin(np.clip(where[:, 2], -1, 1))
        ax.scatter(longitude, latitude, s=7, alpha=0.6, color=f"C{k}", marker=_MARKERS[k], linewidth=0, rasterized=True)
        ax.set(title=f"{_short(name, 26)} ({len(where)})", xticklabels=[])
        ax.set_yticks(np.radians([-60, -30, 0, 30, 60]), ["", "", "side", "", ""], fontsize="x-small")
    for ax in list(axes.flat)[len(directions) :]:
        ax.set_visible(False)
    shown = sum(map(len, directions.values()))
    where_from = "" if shown == total else f" ({shown} of {total}: those of objects that are at hand)"
    caption = (
        f"Where the wrist is, seen from the object's centre of mass: above at the top, below at the bottom; equal "
        f"areas, one point a grasp{where_from}.{trials.note}"
    )
    return Drawing("wrist_sphere", "Diversity of wrists", caption, figure)


def joint_pca(trials: Trials) -> Drawing | None:
    """Postures on the two principal components of all of them."""
    from simeval.hand import load_hand

    grasps = {name: records for name, records in trials.grasps.items() if records}
    joints = [np.array([r.joints for r in records]) for records in grasps.values()]
    if sum(map(len, joints)) < 3:
        return None
    hand = load_hand()
    scaled = np.concatenate(joints) / (hand.upper - hand.lower)
    centered = scaled - scaled.mean(axis=0)
    _, spread, components = np.linalg.svd(centered, full_matrices=False)
    total = float((spread**2).sum())
    if total <= 0:
        return None
    where = centered @ components[:2].T
    figure, ax = _axes(5.5, 3.6)
    start = 0
    for k, (name, rows) in enumerate(zip(grasps, joints, strict=True)):
        own = where[start : start + len(rows)]
        start += len(rows)
        ax.scatter(
            own[:, 0], own[:, 1], s=12, alpha=0.6, color=f"C{k}", marker=_MARKERS[k], linewidth=0,
            label=f"{_short(name, 40)} ({len(rows)})", rasterized=True,
        )  # fmt: skip
    share = 100 * spread**2 / total
    ax.set(xlabel=f"component 1 ({share[0]:.0f} % of the variance)", ylabel=f"component 2 ({share[1]:.0f} %)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    caption = f"Principal components of the commanded joints, each over its range; one point a grasp.{trials.note}"
    return Drawing("joint_pca", "Diversity of postures", caption, figure)


FIGURES: dict[str, Callable[[Trials], Drawing | None]] = {
    "success_by_type": success_by_type,
    "success_by_object": success_by_object,
    "sensitivity": sensitivity,
    "penetration_and_slip": penetration_and_slip,
    "type_confusion": type_confusion,
    "wrist_sphere": wrist_sphere,
    "joint_pca": joint_pca,
    "cpu_cost": cpu_cost,
}
"""Every figure, by the name of its file."""


# What they share


def _axes(width: float, height: float) -> "tuple[Figure, Axes]":
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(width, height))
    return figure, ax


def heatmap(
    ax: "Axes", rates: Array, rows: Sequence[str], columns: Sequence[str], label: str,
    texts: Any = None, bar: bool = True,
) -> None:  # fmt: skip
    """Draw percentages (R, C); `texts` (R, C) stand in the cells, by default the percentages."""
    import seaborn as sns

    if texts is None:
        texts = np.array([["" if math.isnan(v) else f"{v:.0f}" for v in row] for row in rates], dtype=object)
    sns.heatmap(
        rates, ax=ax, vmin=0, vmax=100, cmap=_RATE_MAP, annot=texts, fmt="", annot_kws={"size": 6.5}, cbar=bar,
        xticklabels=columns, yticklabels=rows, linewidths=0.5, linecolor="white",
        cbar_kws={"label": label, "shrink": 0.8} if bar else None,
    )  # fmt: skip
    ax.tick_params(axis="y", rotation=0)


def _legend(figure: "Figure", ax: "Axes", count: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(count, 4), frameon=False)


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else f"{text[: most - 9]}…{text[-8:]}"


def _close(drawing: Drawing) -> None:
    import matplotlib.pyplot as plt

    plt.close(drawing.figure)


def _centers(trials: Trials) -> dict[tuple[str, float], tuple[Array, Array]]:
    """Centre of mass (3,) [m] and up (3,) of the objects that can be loaded, by code and scale."""
    keys = sorted({(r.object_code, r.scale) for records in trials.grasps.values() for r in records})
    run_of = {(r.object_code, r.scale): run for run in trials.runs for r in run.records}
    found = {}
    for key in keys[:: max(1, math.ceil(len(keys) / MOST_LOADED))]:
        try:
            model = trials.objects.load(run_of[key], *key)
        except SimevalError:
            continue
        found[key] = (model.center_of_mass, model.up)
    return found


SWEPT = ("friction", "mass_kg", "density")
Load = tuple[str, float]  # ("density", kg/m³) or ("mass", kg)


def _sweeps(runs: Sequence[Run], protocol: str) -> dict[str, dict[tuple[float, Load], list[TrialRecord]]]:
    """Trials by generator, then by friction and mass, of the generators that were run under several of them."""
    found: dict[str, dict[tuple[float, Load], dict[str, TrialRecord]]] = {}
    for run, name in zip(runs, names_but_for(runs, SWEPT), strict=True):
        physics = run.manifest.get("physics")
        if not isinstance(physics, Mapping) or "friction" not in physics:
            continue
        mass = physics.get("mass_kg")
        load = ("density", float(physics.get("density", math.nan))) if mass is None else ("mass", float(mass))
        cell = found.setdefault(name, {}).setdefault((float(physics["friction"]), load), {})
        cell.update({r.trial_id: r for r in run.records if r.protocol == protocol})
    full = {
        name: {at: list(records.values()) for at, records in cells.items() if records} for name, cells in found.items()
    }
    return {name: cells for name, cells in full.items() if len(cells) > 1}


def _load_text(load: Load) -> str:
    kind, number = load
    return f"{number:g} kg/m³" if kind == "density" else f"{number:g} kg"
