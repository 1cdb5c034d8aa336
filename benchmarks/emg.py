"""What the sEMG classifiers can do, by every protocol: `python -m simeval.benchmarks.emg --data DIR`.

Resumable: finished folds are kept below runs/emg. `--part NAME` runs only some parts, `--finished` writes the pages of
what is finished without running anything; `--device cuda` trains the networks on a GPU (many hours without one).
Writes `emg.md`, its rows as `emg.json`, `emg_manifest.json` and the figures.
"""

import argparse
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simeval.benchmarks.study import markdown_table, study_parser, write_page
from simeval.commands.progress import Bars
from simeval.emg.evaluate import SEEDS, Tested, digest, evaluate, same_for_all_seeds, trained_with
from simeval.emg.files import load_recordings
from simeval.emg.metrics import calibration_curve, confusion, rejection_curve
from simeval.emg.models.presets import preset, shipped
from simeval.emg.models.store import load_classifier
from simeval.emg.protocols import make_splits
from simeval.emg.recordings import LABELS, Recordings
from simeval.emg.stream import Stream
from simeval.emg.summary import METRICS, EmgRow, group_of, paired, summarise
from simeval.emg.synthetic import make_synthetic
from simeval.errors import DataError, clear_exit
from simeval.files import json_text
from simeval.manifest import versions
from simeval.stats import PairedDifference

COMMAND = "python -m simeval.benchmarks.emg --data DIR"
NETWORK = "band-net"
BASELINES = ("lda", "svm")
PAIRS = (
    *((model, baseline) for model in (NETWORK, "ensemble", "ensemble-recent") for baseline in BASELINES),
    ("lda-recent", "lda"), ("svm-recent", "svm"), (NETWORK, "svm-recent"), (NETWORK, "band-net-plain"),
)  # fmt: skip
"""Compared on the same trials, where both were run."""
COLORS = {"lda": "#E69F00", "svm": "#009E73", "band-net": "#0072B2", "ensemble": "#CC79A7"}


SHOWN_CURVES = {
    "pooled": "#000000", "within-session": "#009E73", "chronological": "#0072B2", "leave-one-day-out": "#D55E00",
    "leave-one-subject-out": "#CC79A7", "calibration-day": "#56B4E9", "calibration-subject": "#E69F00",
}  # fmt: skip
"""Protocols in the figure of calibration and rejection, and their colours (Okabe & Ito)."""
TWICE = ("uci-1", "within-session")
"""Is left out of it: there is a curve of that protocol already."""
FEWEST = 25
"""Decisions of a point in it."""


class Part(NamedTuple):
    """Some models in one protocol on some recordings."""

    recordings: str
    protocol: str
    models: tuple[str, ...]
    seeds: int = SEEDS

    @property
    def name(self) -> str:
        """Name for `--part`."""
        return f"{self.recordings}/{self.protocol}"


_ALL = (*BASELINES, NETWORK, "ensemble")
_RECENT = ("lda-recent", "svm-recent", "ensemble-recent")
PARTS = (
    Part("uci-2", "chronological-validation", (*_ALL, *_RECENT, "band-net-plain"), seeds=1),
    Part("uci", "pooled", (*_ALL, "resnet18")),
    Part("uci-1", "within-session", _ALL),
    Part("uci-2", "within-session", _ALL),
    Part("uci-2", "chronological", (*_ALL, *_RECENT)),
    Part("uci-2", "chronological-unlabelled", _ALL),
    Part("uci-2", "leave-one-day-out", (*_ALL, "general")),
    Part("uci-2", "leave-one-day-out-unlabelled", _ALL),
    Part("uci-1", "leave-one-subject-out", (*_ALL, "general")),
    Part("uci-1", "leave-one-subject-out-unlabelled", _ALL),
    Part("uci-2", "calibration-day", _ALL),
    Part("uci-2", "calibration-day-unlabelled", _ALL),
    Part("uci-1", "calibration-subject", _ALL),
    Part("uci-1", "calibration-subject-unlabelled", _ALL),
)
SOURCE_ROW = ["source paper (quoted)", "95.5", "95.5", "94.9", "94.7", "–", "–"]
TITLES = {
    "chronological-validation": "Validation: the start of the first half of a day, then the rest of that half",
    "pooled": "Pooled random split, as in the source paper",
    "within-session": "Within a session, ten folds",
    "chronological": "First half of a day, then its second half",
    "chronological-unlabelled": "First half of a day, then its second half, seen before without labels",
    "leave-one-day-out": "A new day",
    "leave-one-day-out-unlabelled": "A new day, seen before without labels",
    "leave-one-subject-out": "A new person",
    "leave-one-subject-out-unlabelled": "A new person, seen before without labels",
    "calibration-day": "A new day, after k trials of each grasp",
    "calibration-day-unlabelled": "A new day, after k trials of each grasp, the others seen before without labels",
    "calibration-subject": "A new person, after k trials of each grasp",
    "calibration-subject-unlabelled": "A new person, after k trials of each grasp, the others seen without labels",
}


class Results(NamedTuple):
    """All posteriors of a part, and what they are of."""

    part: Part
    recordings: Recordings
    tested: list[Tested]
    rows: list[EmgRow]
    paired: dict[tuple[str, str], dict[tuple[str, str], PairedDifference]]  # two models -> protocol, group


def run(options: argparse.Namespace) -> list[Results]:
    """Run what is missing of the parts asked for."""
    results = []
    read = cache(load_recordings)
    for part in PARTS:
        if options.part and part.name not in options.part:
            continue
        recordings = read(part.recordings, options.data)
        with Bars({part.name: 1}, "folds") as bars:
            tested = evaluate(
                recordings, [part.protocol], part.models, options.seeds or part.seeds, options.work,
                bars.callback(part.name), only_finished=options.finished, device=options.device,
            )  # fmt: skip
        tested = whole_seeds(tested, recordings)
        if not tested:
            continue
        rows = summarise(tested, recordings, part.recordings)
        differences = {(a, b): paired(tested, recordings, a, b) for a, b in PAIRS}
        results.append(Results(part, recordings, tested, rows, differences))
    return results


def whole_seeds(tested: Sequence[Tested], recordings: Recordings) -> list[Tested]:
    """Leave out seeds of which folds are missing: what is left of them would be no fair sample."""
    kept = []
    for key in dict.fromkeys((t.model, t.protocol, t.seed) for t in tested):
        own = [t for t in tested if (t.model, t.protocol, t.seed) == key]
        if len(own) == len(make_splits(key[1], recordings, key[2])):
            kept += own
    return kept


# The page


def command(device: str) -> str:
    """Return what makes the page with networks trained there."""
    return COMMAND if device == "cpu" else f"{COMMAND} --device {device}"


def page(results: Sequence[Results], stream: Sequence[EmgRow], device: str = "cpu") -> str:
    """Return the page as Markdown."""
    blocks = [
        "# Six grasps from two channels of surface EMG\n",
        f"Made by `{command(device)}`. Unless it says synthetic, every number is on **real** recordings, UCI's "
        f'"sEMG for Basic Hand Movements" (doi 10.24432/C5TK53): {_data(results)} One trial is one decision, over its '
        "first 5 s; chance is 16.7 %. Brackets: 95 % intervals, sessions as clusters, so they say how it may be on "
        "other days and people like these; three or four tell little of others. Numbers are in %, over all test trials "
        "of all seeds.\n",
        f"`{NETWORK}` is the network of this project: log-power spectrograms, bands as channels of three convolutions "
        "over time. `resnet18` (half the paper's width) has the same input as an image. `lda` and `svm` use the "
        "features of `simeval.emg.features`, all of them: strong baselines. `ensemble` is the geometric mean of "
        "`band-net` and `svm`. `…-recent` are trained on the latest 15 (lda) or 20 (svm) trials of each grasp alone; "
        "their ensemble has `band-net` in it, too, trained on all. `general` is the shipped model's kind: it sees "
        "windows of 1 s, whose posteriors are averaged. `band-net-plain` is `band-net` without blended trials, "
        "wider gains and the sharpening that goes with them.\n",
        _unfinished(results),
        "![confusion matrices](emg_confusion.png)\n",
        "![learning curves](emg_learning.png)\n",
        "![calibration and rejection](emg_calibration.png)\n",
    ]
    for found in results:
        blocks += _section(found)
    blocks += [_streaming_section(stream), _tried()]
    return "\n".join(blocks)


def _section(found: Results) -> list[str]:
    part = found.part
    blocks = [f"## {TITLES[part.protocol]} (`{part.protocol}`, {part.recordings})\n", _table(found)]
    lines = []
    for (model, baseline), differences in found.paired.items():
        for (_, group), difference in differences.items():
            e = difference.estimate
            where = "" if group == "all" else f" ({group})"
            span = f"[{100 * e.low:+.1f}, {100 * e.high:+.1f}]"
            lines.append(f"- {model} − {baseline}{where}: {100 * e.value:+.1f} points {span}")
    if lines:
        blocks.append("Paired, on the same trials:\n\n" + "\n".join(lines) + "\n")
    if not part.protocol.startswith(("calibration", "pooled")):
        blocks.append(_by_session(found))
    return blocks


def _table(found: Results) -> str:
    """One line per model and group; the source's row where its protocol is used."""
    own: dict[tuple[str, str], dict[str, EmgRow]] = {}
    for row in found.rows:
        own.setdefault((row.group, row.generator), {})[row.metric] = row
    lines = []
    for (group, model), metrics in own.items():
        cells = [f"{100 * metrics[m].value:.1f}" for m in METRICS]
        a = metrics["accuracy"]
        cells[0] += f" [{100 * a.low:.1f}, {100 * a.high:.1f}]"
        seeds = len({t.seed for t in found.tested if t.model == model})
        lines.append([*([group] if group != "all" else []), model, *cells, f"{a.n} ({seeds})"])
    grouped = found.part.protocol.startswith("calibration")
    headers = [*(["trials"] if grouped else []), "model", "accuracy", "recall", "precision", "F1", "ECE", "n (seeds)"]
    if found.part.protocol == "pooled":
        lines.insert(0, SOURCE_ROW)
    return markdown_table(headers, lines)


def _by_session(found: Results) -> str:
    """Accuracy of each model in each session."""
    models = dict.fromkeys(t.model for t in found.tested)
    shares = {m: _session_shares(found, [t for t in found.tested if t.model == m]) for m in models}
    names = sorted({name for own in shares.values() for name in own})
    return markdown_table(
        ["model", *names], [[m, *(f"{100 * own[name]:.1f}" for name in names)] for m, own in shares.items()]
    )


def _session_shares(found: Results, tested: Sequence[Tested]) -> dict[str, float]:
    """Share of right decisions in each session."""
    right: dict[str, list[bool]] = {}
    for t in tested:
        for row, hit in zip(t.rows, t.right, strict=True):
            right.setdefault(str(found.recordings.sessions[row]), []).append(bool(hit))
    return {name: float(np.mean(hits)) for name, hits in right.items()}


def _data(results: Sequence[Results]) -> str:
    seen: dict[str, int] = {}
    for found in results:
        for session in set(found.recordings.sessions.tolist()):
            seen[session] = int((found.recordings.sessions == session).sum())
    total = sum(seen.values())
    missing = "" if "female_3" in seen else "; female_3, 180 trials, was not available"
    return f"{total} trials ({', '.join(f'{name} {n}' for name, n in sorted(seen.items()))}{missing})."


def _unfinished(results: Sequence[Results]) -> str:
    """Say which seeds of which models haven't been run."""
    lines = []
    for part in PARTS:
        found = next((f for f in results if f.part == part), None)
        missing = []
        for model in part.models:
            seeds = {t.seed for t in found.tested if t.model == model} if found else set()
            wanted = 1 if same_for_all_seeds(part.protocol, preset(model)) else part.seeds
            if len(seeds) < wanted:
                missing.append(f"{model} {len(seeds)} of {wanted}")
        if missing:
            lines.append(f"| {part.recordings} `{part.protocol}` | {', '.join(missing)} |")
    if not lines:
        return "Everything was run. How many seeds: last column of each table.\n"
    table = "\n".join(["| not finished | seeds run so far |", "| --- | --- |", *lines])
    return f"The same command goes on where this was stopped.\n\n{table}\n"


def streaming() -> list[EmgRow]:
    """Time that a decision of the shipped model takes on one core, over a synthetic recording of a minute."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        signals = make_synthetic(subjects=1, sessions=1, repetitions=2).signals
        stream = Stream(load_classifier(shipped()))
        spent = [d.compute_ms for d in stream.push(np.concatenate(list(signals), axis=1))][10:]
    finally:
        torch.set_num_threads(threads)
    return [
        EmgRow("general", "synthetic", "stream", "all", name, float(np.quantile(spent, q)), math.nan, math.nan,
               len(spent), "synthetic")
        for name, q in (("compute_ms_median", 0.5), ("compute_ms_p95", 0.95))
    ]  # fmt: skip


def _streaming_section(rows: Sequence[EmgRow]) -> str:
    median, tail = rows
    return (
        "## Streaming (synthetic)\n\n"
        f"`simeval emg stream` with the shipped model: {median.value:.1f} ms of one core from a window's last sample "
        f"to its decision (median of {median.n}; 95 %: {tail.value:.1f} ms; the machine was shared). A prosthesis "
        "allows 300 ms. Windows of 1 s every 0.1 s; a decision is stable once three in a row agree.\n"
    )


def _tried() -> str:
    return (
        "## What was tried\n\n"
        "Settings were chosen on the first halves of the days of Database 2 (`chronological-validation`) and on first "
        "against second halves in Database 1; noise and epochs of `resnet18` on the validation tenths of `pooled`. "
        "Features, and whether to standardise "
        "sessions, were first compared on the tests of `chronological`, `leave-one-day-out` and "
        "`leave-one-subject-out`, so those rows of `lda` and `svm` flatter them a little. The "
        "`…-unlabelled` protocols were added after the plain ones had been looked at.\n\n"
        "- Standardising each session by itself and learning from its own surest answers (`…-unlabelled`) is worth the "
        "most on a new day, and with a few labelled trials on a new person; without any it is no help there. It "
        "assumes about as many trials of each grasp.\n"
        "- Pretraining on other days, then tuning on the target's trials, helps most with one or two calibration "
        "trials of a new day; on a new person LDA is ahead. On validation trials a network trained anew on other "
        "sessions' trials, moved so that the means of their grasps are the target's (`calibration = moved`), was "
        "about as good, both together a little better.\n"
        "- Signals drift over a day: with the latest trials alone SVM does better later that day (`…-recent`), LDA on "
        "two days of three. The network didn't on validation trials (not shown).\n"
        "- `band-net` is trained on blended trials (mixup) and wider gains, which on validation trials put it ahead of "
        "`band-net-plain` and of all else; some forty other changes (not shown) helped less or not at all. What a "
        "day's second half is like, its first doesn't tell: there the network is behind `svm-recent`.\n"
        "- Blended trials leave a network too unsure. `temperature` makes up for it: chosen on validation trials, it "
        "also gives the network its due weight in `ensemble`.\n"
        "- For a day's second half, pretraining on the other days did not help on validation trials, nor did longer "
        "shifts in time, more dropout, hiding bands or frames, other windows or several, gains along the day's drift, "
        "weights for the latest trials, or a network on the features. Where that half is seen without labels, a "
        "network that learns from what `lda`, `svm` and itself agree on did better than by itself, not than `lda` "
        "(not shown).\n"
        "- How a trial goes on in time (`time-course`, spectrograms) carried over to new days better than shapes of "
        "spectra alone (not shown).\n"
        "- Noise of half a deviation helps; gains wider than 0.2 do harm: levels tell grasps apart.\n"
        "- Calibration: LDA and SVM are best on the target's trials alone from five of each grasp on; fewer are "
        "helped by other sessions' trials, moved so that the means of their grasps are the target's.\n"
    )


# Figures


def figures(results: Sequence[Results], out: Path) -> None:
    """Draw confusion matrices, learning curves, calibration and rejection."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def save(fig: Any, name: str) -> None:
        fig.savefig(out / name, dpi=90)
        plt.close(fig)

    shown = [f for f in results if not f.part.protocol.startswith("calibration")]
    columns = max(1, (len(shown) + 1) // 2)
    fig, axes = plt.subplots(2, columns, figsize=(3.4 * columns, 7.4), layout="constrained", squeeze=False)
    for ax in axes.ravel()[len(shown) :]:
        ax.set_visible(False)
    for ax, found in zip(axes.ravel(), shown, strict=False):
        _draw_confusion(ax, found)
    save(fig, "emg_confusion.png")
    curves = [f for f in results if f.part.protocol.startswith("calibration")]
    fig, axes = plt.subplots(1, max(1, len(curves)), figsize=(13, 4), layout="constrained", squeeze=False, sharey=True)
    for ax, found in zip(axes[0], curves, strict=False):
        _draw_learning(ax, found)
    axes[0, 0].set_ylabel("accuracy, %; bars: worst to best session")
    axes[0, -1].legend(loc="lower right")
    save(fig, "emg_learning.png")
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    _draw_calibration(axes[0], axes[1], results)
    save(fig, "emg_calibration.png")


def _draw_confusion(ax: Any, found: Results) -> None:
    models = {t.model for t in found.tested}
    model = next(name for name in (NETWORK, "svm", *models) if name in models)  # the network, once it is run
    own = [t for t in found.tested if t.model == model]
    counts = np.sum([confusion(t.probabilities, t.truth) for t in own], axis=0).astype(float)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for i, row in enumerate(share):
        for j, value in enumerate(row):
            if value >= 0.5:
                ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="w" if value > 60 else "k")
    ax.set_xticks(range(len(LABELS)), [label[:5] for label in LABELS], fontsize=7, rotation=45)
    ax.set_yticks(range(len(LABELS)), [label[:5] for label in LABELS], fontsize=7)
    ax.set_title(f"{found.part.protocol}\n{found.part.recordings}, {model}, %", fontsize=8)


def _draw_learning(ax: Any, found: Results) -> None:
    for at, model in enumerate(found.part.models):
        own: dict[int, list[Tested]] = {}
        for t in found.tested:
            if t.model == model:
                own.setdefault(int(group_of(t).removeprefix("k=")), []).append(t)
        ks = sorted(own)
        mean = [100 * float(np.mean(np.concatenate([t.right for t in own[k]]))) for k in ks]
        sessions = [[100 * share for share in _session_shares(found, own[k]).values()] for k in ks]
        span = [[m - min(s) for m, s in zip(mean, sessions, strict=True)],
                [max(s) - m for m, s in zip(mean, sessions, strict=True)]]  # fmt: skip
        x = [k * 1.04 ** (at - 1.5) for k in ks]  # side by side
        ax.errorbar(x, mean, yerr=span, marker="o", markersize=4, capsize=2, color=COLORS.get(model), label=model)
    ax.set_xscale("log")
    ax.set_xticks((1, 2, 5, 10, 20), ("1", "2", "5", "10", "20"))
    ax.minorticks_off()
    ax.set_xlabel("calibration trials of each grasp")
    ax.set_title(f"{found.part.protocol}\n{found.part.recordings} (real)", fontsize=9)
    ax.grid(alpha=0.3)


def _draw_calibration(left: Any, right: Any, results: Sequence[Results]) -> None:
    left.plot([0, 100], [0, 100], color="0.7")
    for found in results:
        part = found.part
        own = [t for t in found.tested if t.model == NETWORK and group_of(t) in ("all", "k=5")]
        if not own or part.protocol not in SHOWN_CURVES or (part.recordings, part.protocol) == TWICE:
            continue
        p, truth = np.concatenate([t.probabilities for t in own]), np.concatenate([t.truth for t in own])
        label = part.protocol + (", k=5" if part.protocol.startswith("calibration") else "")
        curve = [(c, a) for c, a, n in calibration_curve(p, truth) if n >= FEWEST]
        style = {"color": SHOWN_CURVES[part.protocol], "label": label}
        left.plot([100 * c for c, _ in curve], [100 * a for _, a in curve], marker=".", **style)
        rejected = rejection_curve(p, truth)
        right.plot([100 * r for r, _ in rejected], [100 * a for _, a in rejected], **style)
    left.set_xlabel("confidence, %")
    left.set_ylabel("accuracy, %")
    left.set_title(f"calibration, {NETWORK} (real)")
    right.set_xlabel("rejected, %")
    right.set_ylabel("accuracy of the rest, %")
    right.set_title("rejecting the least confident")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))


def manifest(results: Sequence[Results], device: str, networks_trained: Any) -> dict[str, Any]:
    """Return what the numbers rest on; versions are those of the machine that writes the page."""
    models = {m for found in results for m in found.part.models}
    return {
        "command": command(device),
        "data_kind": "real",
        "recordings": {found.part.recordings: digest(found.recordings) for found in results},
        "models": {name: preset(name).model_dump(mode="json") for name in sorted(models)},
        "seeds": {
            f.part.name: {m: len({t.seed for t in f.tested if t.model == m}) for m in f.part.models} for f in results
        },
        "versions": {**versions(), "scikit-learn": version("scikit-learn")},
        "machine": platform.machine(),
        "networks_trained": networks_trained,
    }


def main() -> None:
    """Run what is missing, then write page, rows, manifest and figures."""
    parser = study_parser(__doc__, "emg", workers=False)
    parser.add_argument("--part", action="append", choices=[part.name for part in PARTS])
    parser.add_argument("--seeds", type=int, help="only so many")
    parser.add_argument("--finished", action="store_true", help="run nothing")
    parser.add_argument("--device", default="cpu", help="where networks are trained: cpu or cuda")
    options = parser.parse_args()
    results = run(options)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        return  # a page of some parts would hide the others
    if not results:
        raise DataError(f"{options.work}: nothing is finished here of networks trained on {options.device}")
    note = trained_with(options.work, options.device)
    trained = json.loads(note.read_text()) if note.is_file() else None
    latency = streaming()
    rows = [*(row for found in results for row in found.rows), *latency]
    differences = [
        {
            "protocol": protocol, "suite": found.part.recordings, "group": group, "generator": model,
            "against": baseline, **asdict(difference),
        }
        for found in results for (model, baseline), own in found.paired.items()
        for (protocol, group), difference in own.items()
    ]  # fmt: skip
    write_page(options.out, "emg", [asdict(row) for row in rows], page(results, latency, options.device))
    content = {**manifest(results, options.device, trained), "paired": differences}
    (options.out / "emg_manifest.json").write_text(json_text(content))
    figures(results, options.out)


if __name__ == "__main__":
    with clear_exit():
        main()
