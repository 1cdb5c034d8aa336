"""What is in the shipped sets, what they cost, what `energy` can do: `python -m simeval.benchmarks.dataset --data DIR`.

Reads the sets, tries a sample of them again, runs `energy` on held-out objects and as a refinement, and writes
`dataset.md`, `.json`, `.png`. Every run is kept, below runs/, so that a cut costs little.
"""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simeval.bank import GraspBank, load_bank
from simeval.benchmarks.study import POWER, WEAK, grasps_of, markdown_table, run_suite, study_parser, write_page
from simeval.dataset.check import check_dataset
from simeval.errors import GraspError, clear_exit
from simeval.generators.energy.anneal import Schedule
from simeval.generators.energy.generator import descend
from simeval.generators.preshape import candidates
from simeval.hand import load_hand
from simeval.metrics.diversity import diversity, wrist_directions
from simeval.objects import ObjectLibrary
from simeval.physics.pool import Task, run_tasks
from simeval.physics.settings import Physics
from simeval.records import Condition, Trial, TrialRecord
from simeval.stats import Estimate, paired_difference, rate
from simeval.taxonomy import GRASP_TYPES

COMMAND = "python -m simeval.benchmarks.dataset --data DIR"
SETS = ("dexgraspnet-1k", "dexgraspnet-1k-val", "dexgraspnet-1k-test", "embedded")
SAMPLE = 200
"""Grasps of each set that are tried again."""
RAW_COUNT, RAW_SEED = 24, 0
REFINED = ("retrieval", "random")
REFINED_OBJECTS = 62
"""The first of the validation suite: a refined grasp takes seconds."""
REFINE = "energy,rank=robust"
DEXGRASPNET_YIELD = "9.6 %"
"""Share of DexGraspNet's own candidates that it kept (Wang et al. 2023), in Isaac Gym, at other friction."""


@dataclass(frozen=True)
class SetFacts:
    """What a set holds. Percentages are shares; penetration is that of the commanded grasp."""

    name: str
    grasps: int
    objects: int
    scaled: int
    types: dict[str, int]
    six: float  # of the cylindrical, spherical, planar and tip grasps
    penetration_mean: float
    penetration_p95: float
    beyond_limits: int
    again: dict[str, int]  # of SAMPLE
    sampled: int
    faults: list[str]
    effort: dict[str, Any]
    command: str
    rotation_deg: float | None  # None: one grasp of each object and type
    joints: float | None


def facts(name: str, bank: GraspBank, data: Path, workers: int) -> SetFacts:
    """Read a set and try a sample of it again."""
    depth = bank.extra["penetration_mm"].astype(float)
    power = np.isin(bank.types, POWER)
    report = check_dataset(bank, SAMPLE, 0, data, workers)
    spread = _diversity(bank)
    return SetFacts(
        name, len(bank), len(set(bank.codes.tolist())), len(bank.objects()),
        {kind: int((bank.types == kind).sum()) for kind in GRASP_TYPES},
        float((bank.extra["six_direction"][power] == "LIFTED").mean()), float(depth.mean()),
        float(np.percentile(depth, 95)), int((load_hand().clip(bank.grasps.joints)[1].max(axis=1) > 1e-6).sum()),
        dict(report.held), report.sampled, report.faults, bank.meta["effort"], bank.meta["command"], *spread,
    )  # fmt: skip


def _diversity(bank: GraspBank) -> tuple[float | None, float | None]:
    """Mean over objects and types of the mean over pairs: wrist rotation [deg], joint distance; None: no pairs."""
    found = [diversity(bank.for_object(*key)) for key, count in bank.counts().items() if count > 1]
    if not found:
        return None, None
    return float(np.mean([d.rotation_deg for d in found])), float(np.mean([d.joints for d in found]))


def raw_yield(data: Path, workers: int) -> list[dict[str, Any]]:
    """`six-direction` of all that `energy` descends to on the released objects: nothing ranked, nothing left out."""
    library, physics = ObjectLibrary(data), Physics()
    keys = load_bank("released", data).objects()

    def tasks() -> Iterator[Task]:
        for code, scale in keys:
            model = library.load(code, scale)
            for number, kind in enumerate(GRASP_TYPES.values()):
                try:
                    start, _ = candidates(model, kind, RAW_COUNT, np.random.default_rng([RAW_SEED, number]))
                except GraspError:
                    continue
                grasps, _ = descend(model, start, [kind.name] * len(start), Schedule(), RAW_SEED)
                for i in range(len(grasps)):
                    condition = Condition(code, scale, kind.name, i, "six-direction", physics.digest, RAW_SEED)
                    yield Task(Trial(condition, grasps[i], model.digest), model, physics)

    records = list(run_tasks(tasks(), workers))
    groups = {"all": records, **{kind: [r for r in records if r.grasp_type == kind] for kind in GRASP_TYPES}}
    return [{"type": kind, **_estimate(_held(own))} for kind, own in groups.items()]


def ceiling(suite: str, options: Namespace) -> list[dict[str, Any]]:
    """`energy` on held-out objects, its best grasp a condition: each type, and the two groups that the goals name."""
    records = run_suite("energy", suite, options, grasps=1).records
    groups = {"all": tuple(GRASP_TYPES), "+".join(POWER): POWER, "+".join(WEAK): WEAK}
    groups |= {kind: (kind,) for kind in GRASP_TYPES}
    rows = []
    for name, kinds in groups.items():
        for protocol in ("lift", "six-direction"):
            own = [r for r in records if r.protocol == protocol and r.grasp_type in kinds]
            rows.append({"type": name, "protocol": protocol, **_estimate(_held(own))})
    return rows


def refined(suite: str, options: Namespace) -> list[dict[str, Any]]:
    """Generators before and after refinement on the same conditions."""
    rows = []
    for name in REFINED:
        before, after = (
            run_suite(name, suite, options, refine, objects=REFINED_OBJECTS).records for refine in ("", REFINE)
        )
        for protocol in ("lift", "six-direction"):
            a, b = ([r for r in records if r.protocol == protocol] for records in (after, before))
            difference = paired_difference(_success(a), _success(b), {r.condition_id: r.object_code for r in a})
            rows.append(
                {
                    "generator": name, "protocol": protocol, "before": _estimate(_held(b)),
                    "after": _estimate(_held(a)), "difference": _estimate(difference.estimate),
                    "penetration_before": _depth(b), "penetration_after": _depth(a),
                }
            )  # fmt: skip
    return rows


def figure(path: Path, banks: Mapping[str, GraspBank], data: Path) -> None:
    """Draw wrist directions and the joints' two main components of some sets side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(12, 4.2 * len(banks)), layout="constrained")
    hand = load_hand()
    scaled = {name: bank.grasps.joints / (hand.upper - hand.lower) for name, bank in banks.items()}
    everything = np.concatenate(list(scaled.values()))
    axes = np.linalg.svd(everything - everything.mean(axis=0), full_matrices=False)[2][:2]
    for row, (name, bank) in enumerate(banks.items()):
        sphere = fig.add_subplot(len(banks), 2, 2 * row + 1, projection="mollweide")
        sphere.set_title(f"{name}: where the wrist is (up is north), n = {len(bank)}")
        plane = fig.add_subplot(len(banks), 2, 2 * row + 2)
        plane.set_title("joints, two main components of all sets")
        for kind in [*GRASP_TYPES, ""]:
            rows = np.flatnonzero(bank.types == kind)
            if not len(rows):
                continue
            d = _directions(bank, rows, data)
            size, label = max(1.0, 40 / np.sqrt(len(bank))), kind or "no type"
            sphere.scatter(np.arctan2(d[:, 1], d[:, 0]), np.arcsin(np.clip(d[:, 2], -1, 1)), s=size, label=label)
            flat = (scaled[name][rows] - everything.mean(axis=0)) @ axes.T
            plane.scatter(flat[:, 0], flat[:, 1], s=size, label=label)
        sphere.grid(visible=True, linewidth=0.3)
        sphere.set_xticklabels([])
        plane.legend(markerscale=4, fontsize=8)
    fig.savefig(path, dpi=90)
    plt.close(fig)


def _directions(bank: GraspBank, rows: np.ndarray, data: Path) -> np.ndarray:
    library, out = ObjectLibrary(data), np.zeros((len(rows), 3))
    keys = list(zip(bank.codes[rows].tolist(), bank.scales[rows].tolist(), strict=True))
    for key in dict.fromkeys(keys):
        own = np.array([k == key for k in keys])
        if key in bank.shapes:
            center, up = bank.shapes[key].center, bank.shapes[key].up
        else:
            model = library.load(*key)
            center, up = model.center_of_mass, model.up
        out[own] = wrist_directions(bank.grasps[rows[own]], center, up)
    return out


def released_diversity(options: Namespace) -> tuple[float, float]:
    """Diversity of the released grasps that lift, by object, scale and the type that physics made of them."""
    groups: dict[tuple[str, float, str], list[TrialRecord]] = {}
    for record in run_suite("replay", "released", options, protocol="lift").records:
        if record.success and record.achieved_type:
            groups.setdefault((record.object_code, record.scale, record.achieved_type), []).append(record)
    found = [diversity(grasps_of(records)) for records in groups.values() if len(records) > 1]
    return float(np.mean([d.rotation_deg for d in found])), float(np.mean([d.joints for d in found]))


# The page


def page(note: Mapping[str, Any]) -> str:
    """Return the page as Markdown."""
    sets = [SetFacts(**found) for found in note["sets"]]
    lines = [
        "# Sets of grasps that hold\n",
        f"Made by `{COMMAND}`. DexGraspNet's objects are real data, embedded ones come with simeval; all grasps are "
        "our own. Every grasp of a set holds six directions and lifts at friction 1.0 and 1 g, both times as the type "
        "asked for.\n",
        "## What is in them\n",
        markdown_table(
            ["set", "grasps", "objects", "at scales", *GRASP_TYPES],
            [[s.name, s.grasps, s.objects, s.scaled, *s.types.values()] for s in sets],
        ),
        markdown_table(
            ["set", f"six-direction, {', '.join(POWER)} %", "penetration mean, p95 [mm]", "beyond joint limits",
             f"of {SAMPLE} tried again: lift, six-direction", "faults found"],
            [[s.name, f"{100 * s.six:.1f}", f"{s.penetration_mean:.2f}, {s.penetration_p95:.2f}", s.beyond_limits,
              f"{s.again.get('lift', 0)}, {s.again.get('six-direction', 0)} of {s.sampled}",
              "; ".join(s.faults) or "none"] for s in sets],
        ),
        *(f"- {s.name}: `{s.command}`" for s in sets),
        "\nIn these `-g energy` stands for what is now `-g energy --set copies=1`: it didn't look nearby then.\n",
        "## What they took\n",
        markdown_table(
            ["set", "candidates tried", "held six directions", "kept", "generating CPU-s", "simulating CPU-s",
             "candidates / CPU-s", "kept / CPU-s"],
            [_effort(s) for s in sets],
        ),
        "CPU time on AMD EPYC cores. Simulating took about half of what it takes with the released PyBullet: its "
        "solver was compiled for AVX2, which gives the same bits.\n",
        "By type, of the candidates tried: kept.\n",
        markdown_table(["set", *GRASP_TYPES], [[s.name, *_kept(s)] for s in sets]),
        "## How different the grasps are\n",
        "Mean over pairs of grasps of one object, scale and type, then over those groups; a set with one grasp of each "
        "has none.\n",
        markdown_table(
            ["grasps", "wrist rotation [deg]", "joints, RMS over their ranges"],
            [*([s.name, f"{s.rotation_deg:.0f}", f"{s.joints:.3f}"] for s in sets if s.rotation_deg is not None),
             ["released, those that lift", f"{note['released'][0]:.0f}", f"{note['released'][1]:.3f}"]],
        ),
        "![wrist directions and joints](dataset.png)\n",
    ]  # fmt: skip
    lines += _energy_lines(note)
    return "\n".join(lines)


def _energy_lines(note: Mapping[str, Any]) -> list[str]:
    raw = [[r["type"], _text(r), r["n"]] for r in note["raw"]]
    top = [[r["type"], r["protocol"], _text(r), r["n"]] for r in note["ceiling"]]
    both = [
        [r["generator"], r["protocol"], _text(r["before"]), _text(r["after"]), _text(r["difference"], sign="+"),
         f"{r['penetration_before']:.2f} → {r['penetration_after']:.2f}", r["difference"]["n"]]
        for r in note["refined"]
    ]  # fmt: skip
    return [
        "## `energy`, raw\n",
        "`six-direction` of everything that the descent arrives at on the released objects, nothing ranked or left "
        f"out. DexGraspNet reports that {DEXGRASPNET_YIELD} of its candidates held, in another simulator, at another "
        "friction, from random starts: not the same test.\n",
        markdown_table(["type", "six-direction %", "n"], raw),
        "## `energy` on held-out objects\n",
        "Suite `dexgraspnet-test`, one grasp a condition: the best of 64 by its own energy and score, then the best of "
        "24 copies near it by `blend`, in which a predictor trained on the train split has a say; no simulation is "
        "looked at.\n",
        markdown_table(["type", "protocol", "success %", "n"], top),
        f"## `--refine {REFINE}`\n",
        f"The same conditions before and after; the difference is paired. The first {REFINED_OBJECTS} objects of the "
        "suite `dexgraspnet-val`.\n",
        markdown_table(
            ["generator", "protocol", "before %", "after %", "difference, points", "penetration [mm]", "pairs"], both
        ),
    ]


def _effort(s: SetFacts) -> list[Any]:
    tried, held, kept = (sum(s.effort[name].values()) for name in ("tried", "held", "kept"))
    generating, simulating = s.effort["generating_s"], s.effort["simulating_s"]
    total = max(generating + simulating, 1e-9)
    return [s.name, tried, held, kept, f"{generating:.0f}", f"{simulating:.0f}", f"{tried / total:.2f}",
            f"{kept / total:.2f}"]  # fmt: skip


def _kept(s: SetFacts) -> list[str]:
    tried, kept = s.effort["tried"], s.effort["kept"]
    return [f"{kept.get(k, 0) / tried[k]:.0%} of {tried[k]}" if tried.get(k) else "" for k in GRASP_TYPES]


def _text(e: Mapping[str, Any], sign: str = "") -> str:
    return f"{100 * e['value']:{sign}.1f} [{100 * e['low']:{sign}.1f}, {100 * e['high']:{sign}.1f}]"


def _held(records: Sequence[TrialRecord]) -> Estimate:
    return rate([r.success for r in records], [r.object_code for r in records])


def _depth(records: Sequence[TrialRecord]) -> float:
    return float(np.nanmean([r.penetration_mm for r in records]))


def _success(records: Sequence[TrialRecord]) -> dict[str, float]:
    return {r.condition_id: float(r.success) for r in records}


def _estimate(e: Estimate) -> dict[str, Any]:
    return {"value": e.value, "low": e.low, "high": e.high, "n": e.n}


def main() -> None:
    """Run what is missing, then write the page, its numbers and the figure."""
    options = study_parser(__doc__).parse_args()
    data, workers = options.data, options.workers
    options.out.mkdir(parents=True, exist_ok=True)
    banks = {name: load_bank(name, data) for name in SETS}
    figure(
        options.out / "dataset.png",
        {"dexgraspnet-1k": banks["dexgraspnet-1k"], "released": load_bank("released", data)}, data,
    )  # fmt: skip
    note = {
        "command": COMMAND, "data_kind": "real, and embedded where it says so",
        "sets": [asdict(facts(name, bank, data, workers)) for name, bank in banks.items()],
        "released": released_diversity(options),
        "raw": raw_yield(data, workers),
        "ceiling": ceiling("dexgraspnet-test", options),
        "refined": refined("dexgraspnet-val", options),
    }  # fmt: skip
    write_page(options.out, "dataset", note, page(note))


if __name__ == "__main__":
    with clear_exit():
        main()
