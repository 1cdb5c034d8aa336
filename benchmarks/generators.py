"""Every generator on held-out objects: `python -m simeval.benchmarks.generators --data DIR`.

Runs ceilings, floors, the source system's models, retrieval and our own over one suite, as they are and under harder
conditions, and writes `generators.md`, `.json` and `.png`. Every run is kept, below runs/, so that a cut costs little.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simeval.benchmarks.study import (
    POWER,
    WEAK,
    Entry,
    grasps_of,
    keep,
    markdown_table,
    run_folder,
    study_parser,
    write_page,
)  # fmt: skip
from simeval.errors import clear_exit
from simeval.metrics.diversity import diversity
from simeval.metrics.types import PAPER_TYPES
from simeval.objects import ObjectLibrary
from simeval.physics.settings import Physics
from simeval.records import TrialRecord
from simeval.report.summary import MetricRow, success_metric
from simeval.report.tables import interval_text
from simeval.stats import Estimate, clustered_mean, paired_difference, rate
from simeval.store import read_run
from simeval.taxonomy import GRASP_TYPES

COMMAND = "python -m simeval.benchmarks.generators --data DIR"
SUITE = "dexgraspnet-test"
REFINE = "energy,rank=blend"
BASE = "retrieval"
"""What the others are compared with."""
COUNTERPARTS = {
    "diffusion": BASE,
    "diffusion, best of 16": "retrieval, best of 16",
    "diffusion, refined": "retrieval, refined",
}
"""Like with like: as many candidates, chosen in the same way, refined in the same way."""
SHOWN = ("lift_success", "six_direction_success", "penetration_mm_mean", "type_fidelity_achieved")


@dataclass(frozen=True)
class Condition:
    """A way to run the suite."""

    name: str
    suite: str = SUITE
    physics: Physics = field(default_factory=Physics)
    noise: str = ""
    grasps: int | None = None  # at most so many of a row's


RANKED = {"bank": "dexgraspnet-1k", "neighbours": "20", "best_of": "16"}

ENTRIES = (
    Entry("replay (ceiling)", "replay"),
    Entry("energy, best of 64 (ceiling)", "energy"),
    Entry("open-hand (floor)", "open-hand"),
    Entry("random (floor)", "random"),
    Entry("scoop (floor)", "scoop"),
    Entry(BASE, "retrieval", {"bank": "dexgraspnet-1k"}),
    Entry("retrieval, best of 16", "retrieval", RANKED),
    Entry("retrieval, refined", "retrieval", {"bank": "dexgraspnet-1k"}, REFINE),
    Entry("diffusion, paper", "diffusion", {"weights": "paper"}),
    Entry("diffusion-rt, paper", "diffusion", {"weights": "paper-rt"}),
    Entry("diffusion-pca, paper", "diffusion", {"weights": "paper-pca"}),
    Entry("diffusion", "diffusion"),
    Entry("diffusion-rt", "diffusion-rt"),
    Entry("diffusion-pca", "diffusion-pca"),
    Entry("diffusion, sample as it is", "diffusion", {"contact": "false"}),
    Entry("diffusion, not guided", "diffusion", {"guidance": "0"}),
    Entry("diffusion, best of 16 fits", "diffusion", {"fits": "16"}),
    Entry("diffusion, best of 16", "diffusion", {"best_of": "16"}),
    Entry("diffusion, refined", "diffusion", refine=REFINE),
    Entry("diffusion, refined widely", "diffusion", refine=f"{REFINE},copies=48,spread=5", grasps=1, types=WEAK),
    Entry(
        "diffusion, best of 16 fits, refined widely",
        "diffusion",
        {"fits": "16"},
        f"{REFINE},copies=48,spread=3",
        grasps=1,
        types=WEAK,
    ),
    Entry(
        "diffusion, best of 16, refined more",
        "diffusion",
        {"best_of": "16"},
        f"{REFINE},copies=24",
        grasps=1,
        types=WEAK,
    ),
)
USUAL = Condition("friction 1.0, 500 kg/m³")
CONDITIONS = (
    USUAL,
    Condition("friction 0.6", physics=Physics(friction=0.6), grasps=1),
    Condition("0.1 kg", physics=Physics(mass_kg=0.1), grasps=1),
    Condition("wrist off by 5 mm, 5°", noise="5mm,5deg", grasps=1),
    Condition("released objects", "released", grasps=16),
)
"""Where the objects are the usual ones, what is tried is what each row tried there, the first grasp of a condition."""


LEGEND = f"""\
- The suite asks for a type of an object where a first search with `energy` (64 tries) found a grasp that holds; 14 % of
  the pairs are left out, most of them lateral: see its file, `benchmarks/suites/{SUITE}.toml`. Rates of all pairs are
  lower: end_to_end.md has some (*uniform*).
- `replay`: the test set's own grasps, which have passed these tests. `energy` knows the exact shape; all that it has
  learned is in `blend`, which has a say in its last step, the choice among copies. It is no bound: others may pass it.
- `paper`: the source system's models as it describes them, not brought to touch: *sample as it is* is their
  counterpart. They answer three types; asked for another they give no grasp, which counts as a failure: compare them
  under cylindrical+planar+spherical.
- `diffusion`, `-rt`, `-pca`: ours; all joints, none (the type's posture), or their main components. One sample, brought
  to touch; `retrieval` takes the first of four that then goes less than 1 mm deep. `-rt` and `-pca` are smaller,
  trained with fewer batches and not guided (`-rt` without grasps that fail): *not guided* is their counterpart. As it
  is: not brought to touch. Not guided: `guidance=0`. Best of 16: chosen by `rank=blend`, nothing simulated, among 16
  samples, or 16 grasps that retrieval carries over. Best of 16 fits: of 16 ways to bring one sample to touch
  (`fits=16`). Refined: `--refine {REFINE}`; compare with *retrieval, refined*. Refined more: with 24 copies in
  place of 8. Widely: with 48, up to five times as far from the grasp (`copies=48,spread=5`), or, after the best of 16
  fits, three times (`spread=3`). All that choose by a rank, choose by the type, too: a grasp whose contacts would be
  judged another type, by the measure of *type achieved*, loses half a point of its score.
- The last three rows try one grasp a condition, of lateral and hook grasps alone. Objects without a category are
  neither among the seen nor the unseen categories.
- Rows were run on several machines, where networks round differently: run again, a row moves by tenths of a point.
"""
UNREFINED = "Its grasps as they are, not refined: refined they are a row of the first table.\n"
LIKE = """\
`retrieval` with as many candidates, chosen in the same way, refined in the same way: what the model itself is worth.
"""
RELEASED = """\
`replay` here: grasps released with DexGraspNet, which passed its tests, not these. The bank of `retrieval` is the
training set's, in released.md the released grasps of other objects. Three objects say little.
"""


AGAIN = "The first grasp that each row tried in each of the usual conditions, tried again.\n"


class Group(NamedTuple):
    """Some of the trials."""

    name: str
    holds: Callable[[TrialRecord], bool]
    all_types: bool = True  # a row of some types has no place in it


def groups(library: ObjectLibrary) -> list[Group]:
    """All, the types that can carry most and the others, each type, objects of categories seen in training and not."""
    seen = {code: library.dexgraspnet.row(code).seen_category for code in library.dexgraspnet.codes()}

    def of_type(kinds: Sequence[str]) -> Callable[[TrialRecord], bool]:
        return lambda record: record.grasp_type in kinds

    def of_category(known: bool) -> Callable[[TrialRecord], bool]:
        return lambda record: seen.get(record.object_code) is known

    return [
        Group("all", lambda record: True),
        *(Group("+".join(kinds), of_type(kinds), all_types=False) for kinds in (POWER, WEAK, PAPER_TYPES)),
        *(Group(kind, of_type((kind,)), all_types=False) for kind in GRASP_TYPES),
        Group("seen categories", of_category(known=True)),
        Group("unseen categories", of_category(known=False)),
    ]


def measure(entry: Entry, condition: Condition, records: Sequence[TrialRecord], group: Group) -> Iterator[MetricRow]:
    """Yield the numbers of a row, of one group of its trials."""
    own = [r for r in records if group.holds(r)]
    for protocol in dict.fromkeys(r.protocol for r in own):
        trials = [r for r in own if r.protocol == protocol]
        typed = [r for r in trials if r.grasp_type]
        found = {
            success_metric(protocol): _rate(trials, lambda r: r.success),
            "type_fidelity_achieved": _rate(typed, lambda r: r.achieved_type == r.grasp_type),
            "penetration_mm_mean": _mean([r.penetration_mm for r in trials], _codes(trials)),
        }
        if protocol == "lift":
            found |= _diversity(trials)
        for metric, value in found.items():
            yield MetricRow(
                entry.name, condition.name, protocol, group.name, metric, value.value, value.low, value.high, value.n
            )


def compare(
    entry: Entry, condition: Condition, records: Sequence[TrialRecord], base: Sequence[TrialRecord], group: Group,
    base_name: str = BASE,
) -> Iterator[MetricRow]:  # fmt: skip
    """Yield the paired differences of a row from another, over the trials that both have."""
    for protocol in dict.fromkeys(r.protocol for r in records):
        a, b = (
            {r.condition_id: r for r in trials if r.protocol == protocol and group.holds(r)}
            for trials in (records, base)
        )
        common = sorted(a.keys() & b.keys())
        if not common:
            continue
        found = paired_difference(
            {key: float(a[key].success) for key in common}, {key: float(b[key].success) for key in common},
            {key: a[key].object_code for key in common},
        ).estimate  # fmt: skip
        metric = f"{success_metric(protocol)}_minus_{base_name}"
        yield MetricRow(
            entry.name, condition.name, protocol, group.name, metric, found.value, found.low, found.high, found.n
        )


def _rate(records: Sequence[TrialRecord], holds: Callable[[TrialRecord], bool]) -> Estimate:
    return rate([holds(r) for r in records], _codes(records))


def _mean(values: Sequence[float], codes: Sequence[str]) -> Estimate:
    """Mean of lengths, angles or times; what is missing, NaN, is left out."""
    return clustered_mean(values, codes, least=0.0)


def _codes(records: Sequence[TrialRecord]) -> list[str]:
    return [r.object_code for r in records]


def _diversity(records: Sequence[TrialRecord]) -> dict[str, Estimate]:
    """Mean over pairs of lifted grasps of one object, scale and type, then over objects."""
    lifted: dict[tuple[str, float, str], list[TrialRecord]] = {}
    for r in records:
        if r.success:
            lifted.setdefault((r.object_code, r.scale, r.grasp_type or ""), []).append(r)
    found = {key: diversity(grasps_of(own)) for key, own in lifted.items() if len(own) > 1}
    codes = [key[0] for key in found]
    return {
        "diversity_rotation_deg": _mean([d.rotation_deg for d in found.values()], codes),
        "diversity_joints": _mean([d.joints for d in found.values()], codes),
    }


# The page


def command(conditions: Sequence[Condition]) -> str:
    """Return the command that makes a page of some conditions."""
    chosen = [f'--conditions "{c.name}"' for c in conditions]
    return " ".join([COMMAND, *(chosen if len(chosen) < len(CONDITIONS) else [])])


def page(rows: Sequence[MetricRow], conditions: Sequence[Condition]) -> str:
    """Return the page as Markdown."""
    # reversed: of a metric that both protocols have, lift's is shown
    index = {(r.generator, r.suite, r.group, r.metric): r for r in reversed(rows)}
    first = conditions[0]
    lines = [
        "# Generators\n",
        f"Made by `{command(conditions)}`. Real data: suite `{first.suite}`, objects of DexGraspNet that nothing was "
        "trained on. Rates in %, with 95 % intervals clustered by object; every trial counts, whatever became of it.\n",
        LEGEND,
    ]
    for condition in conditions:
        again = condition.suite == first.suite and condition is not first
        told = AGAIN if again else RELEASED if condition.suite == "released" else ""
        lines += [f"## {condition.name}\n", *([told] if told else []), _table(index, condition.name, "all")]
        missing = [e.name for e in ENTRIES if (e.name, condition.name, "all", SHOWN[0]) not in index and not e.types]
        if missing:
            lines += [f"Not run yet, the same command adds them: {'; '.join(missing)}.\n"]
        if again:
            lines += [f"### Compared with {BASE}, {condition.name}\n", _differences(index, condition.name)]
            there = [e.name for e in ENTRIES if e.name != BASE and e.name not in missing and not e.types]
            unpaired = [n for n in there if (n, condition.name, "all", f"{SHOWN[0]}_minus_{BASE}") not in index]
            if unpaired:
                lines += [f"Not compared yet, the same command adds them: {'; '.join(unpaired)}.\n"]
            lines += [f"### Like with like, {condition.name}\n", _like_with_like(index, condition.name)]
        if condition is first:
            for group in dict.fromkeys(r.group for r in rows if r.suite == first.name and r.group != "all"):
                lines += [f"### {group}\n", _table(index, condition.name, group)]
            lines += ["![lift of every row](generators.png)\n"]
            lines += [f"### Compared with {BASE}\n", UNREFINED, _differences(index, condition.name)]
            lines += ["### Like with like\n", LIKE, _like_with_like(index, condition.name)]
            lines += ["### Diversity of the lifted grasps\n", _diversity_table(index, condition.name)]
    return "\n".join(lines)


def figure(path: Path, rows: Sequence[MetricRow], condition: Condition) -> None:
    """Draw the lift of every row, with its interval: over the types that can carry most, and over the others."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(11, 0.3 * len(ENTRIES) + 1.4), sharey=True, layout="constrained")
    for axis, kinds in zip(axes, (POWER, WEAK), strict=True):
        group = "+".join(kinds)
        own = {r.generator: r for r in rows if (r.suite, r.group, r.metric) == (condition.name, group, SHOWN[0])}
        for at, entry in enumerate(ENTRIES):
            row = own.get(entry.name)
            if row is None or not np.isfinite(row.value):
                continue
            colour = "tab:gray" if "(" in entry.name else "tab:blue" if entry.generator == BASE else "tab:orange"
            axis.plot([100 * row.low, 100 * row.high], [at, at], color=colour, linewidth=2)
            axis.plot([100 * row.value], [at], "o", color=colour)
        axis.set(xlim=(-2, 102), xlabel="lift %, 95 % interval", title=", ".join(kinds))
        axis.grid(axis="x", linewidth=0.3)
    axes[0].set_yticks(range(len(ENTRIES)), [entry.name for entry in ENTRIES])
    axes[0].invert_yaxis()
    fig.savefig(path, dpi=90)
    plt.close(fig)


def _table(index: Mapping[tuple[str, str, str, str], MetricRow], condition: str, group: str) -> str:
    rows = []
    for entry in ENTRIES:
        own = [index.get((entry.name, condition, group, metric)) for metric in SHOWN]
        if any(own):
            rows.append([entry.name, *map(row_text, own), max(r.n for r in own if r)])
    return markdown_table(["", "lift", "six-direction", "penetration [mm]", "type achieved (lift)", "n"], rows)


def _differences(index: Mapping[tuple[str, str, str, str], MetricRow], condition: str) -> str:
    rows = [[entry.name, *cells] for entry in ENTRIES for cells in _paired(index, condition, entry.name, BASE)]
    return markdown_table(["", "trials", "lift, points", "six-direction, points", "pairs"], rows)


def _like_with_like(index: Mapping[tuple[str, str, str, str], MetricRow], condition: str) -> str:
    rows = []
    for name, other in COUNTERPARTS.items():
        known = all((row, condition, "all", SHOWN[0]) in index for row in (name, other))
        why = "not compared yet" if known else "not run yet"
        found = _paired(index, condition, name, other) or [["all", why, why, 0]]
        rows += [[name, other, *cells] for cells in found]
    return markdown_table(["", "minus", "trials", "lift, points", "six-direction, points", "pairs"], rows)


def _paired(
    index: Mapping[tuple[str, str, str, str], MetricRow], condition: str, name: str, other: str
) -> list[list[str | int]]:
    """Trials, differences of a row from another, and number of pairs: of all, and of the types by what they carry."""
    rows: list[list[str | int]] = []
    for group in ("all", "+".join(POWER), "+".join(WEAK)):
        own = [index.get((name, condition, group, f"{metric}_minus_{other}")) for metric in SHOWN[:2]]
        if any(own):
            rows.append([group, *map(row_text, own), max(r.n for r in own if r)])
    return rows


def _diversity_table(index: Mapping[tuple[str, str, str, str], MetricRow], condition: str) -> str:
    metrics = ("diversity_rotation_deg", "diversity_joints")
    rows = []
    for entry in ENTRIES:
        own = [index.get((entry.name, condition, "all", m)) for m in metrics]
        rows.append([entry.name, *map(row_text, own), own[0].n if own[0] else 0])
    return markdown_table(["", "wrist rotation [deg]", "joints, RMS over ranges", "requests with two"], rows)


def row_text(row: MetricRow | None) -> str:
    """Return a number and its interval as text; shares in %."""
    if row is None or not np.isfinite(row.value):
        return "–"
    factor, digits = (100, 1) if "success" in row.metric or "fidelity" in row.metric else (1, 2)
    return f"{factor * row.value:.{digits}f} {interval_text(row.low, row.high, factor, digits)}".rstrip()


def run(entry: Entry, condition: Condition, options: Namespace) -> Path:
    """Run what is missing of a row; return its folder. On the usual objects it is the usual grasps that are tried."""
    if condition.suite != SUITE or condition == USUAL:
        return run_folder(
            entry.generator, condition.suite, options, entry.refine, entry.settings, condition.physics,
            condition.noise, entry.grasps or condition.grasps, types=entry.types,
        )  # fmt: skip
    tried = {"bank": str(run(entry, USUAL, options))}
    return run_folder(
        "replay", condition.suite, options, "", tried, condition.physics, condition.noise, condition.grasps,
        types=entry.types,
    )  # fmt: skip


def study(options: Namespace) -> tuple[list[MetricRow], list[Condition]]:
    """Run what is missing; return all numbers."""
    conditions = [c for c in CONDITIONS if not options.conditions or c.name in options.conditions]
    found = groups(ObjectLibrary(options.data))
    rows: list[MetricRow] = []
    for condition in conditions:
        entries = [e for e in ENTRIES if condition == USUAL or not e.types]  # other tables are of all types
        records = {entry.name: read_run(run(entry, condition, options)).records for entry in entries}
        for entry in entries:
            for group in found:
                if entry.types and group.all_types:
                    continue
                rows += measure(entry, condition, records[entry.name], group)
                if entry.name != BASE:
                    rows += compare(entry, condition, records[entry.name], records[BASE], group)
                other = COUNTERPARTS.get(entry.name, BASE)
                if other != BASE:
                    rows += compare(entry, condition, records[entry.name], records[other], group, other)
    return rows, conditions


def main() -> None:
    """Run what is missing, then write the page and its numbers."""
    parser = study_parser(__doc__)
    names = [c.name for c in CONDITIONS]
    parser.add_argument("--conditions", action="append", choices=names, help="only this one; repeatable")
    parser.add_argument("--keep", action="store_true", help="copy the runs of the usual condition to OUT/runs")
    options = parser.parse_args()
    rows, conditions = study(options)
    if options.keep and USUAL in conditions:
        for entry in ENTRIES:
            keep(run(entry, USUAL, options), options.out)
    numbers = {"command": command(conditions), "data_kind": "real", "rows": [asdict(row) for row in rows]}
    write_page(options.out, "generators", numbers, page(rows, conditions))
    figure(options.out / "generators.png", rows, conditions[0])


if __name__ == "__main__":
    with clear_exit():
        main()
