"""Why the source system's wrist poses fail: `python -m simeval.benchmarks.why_poses_fail --data DIR`.

Trains the source's model, then with one repair after another, and each repaired one without one of its repairs; samples
grasps of validation objects, compares them with the grasps of the data set, and simulates them. Writes
`why_poses_fail.md`, `.json` and `.png`. Trainings and runs are kept, below --work and runs/, so that a cut costs
little. `--device cuda` trains on a GPU; `--rows` only some of the rows.
"""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from simeval.bank import GraspBank, load_bank
from simeval.benchmarks.study import grasps_of, markdown_table, run_suite, study_parser, write_page
from simeval.commands.progress import Bars
from simeval.errors import clear_exit, unknown_name
from simeval.generators.diffusion.config import PRESETS, changed
from simeval.generators.diffusion.generator import weights_folder
from simeval.generators.diffusion.model import CONFIG, load_model
from simeval.generators.diffusion.train import load_examples, loss_by_step, train_on
from simeval.grasp import GraspBatch
from simeval.hand import load_hand
from simeval.metrics.types import PAPER_TYPES
from simeval.records import TrialRecord
from simeval.report.summary import MetricRow
from simeval.stats import Estimate, clustered_mean, paired_difference, rate

COMMAND = "python -m simeval.benchmarks.why_poses_fail --data DIR"
TRAINING, SUITE = "dexgraspnet-1k", "dexgraspnet-val"
SEEDS = (0, 1, 2)
STEPS = 1500
LOSS_GRASPS = 200  # of the validation set, for the denoising loss


@dataclass(frozen=True)
class Repair:
    """One change on the way from the source's model."""

    name: str
    changes: Mapping[str, str]


@dataclass(frozen=True)
class Model:
    """A row: a model, and what was changed of its preset."""

    name: str
    preset: str
    changes: Mapping[str, str] = field(default_factory=dict)
    against: str = ""
    """The row that it is compared with."""
    shipped: bool = False
    """Whether it is the preset's weights that come with simeval, not trained here."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the trainings."""
        return SEEDS[:1] if self.shipped else SEEDS


REPAIRS = (
    Repair("plain gradient, running mean", {"train.loss_as_gradient": "false", "train.ema": "0.999"}),
    Repair("metric signed map", {"model.network.geometry": "metric-map"}),
    Repair("basis points in place of convolutions", {"model.network.geometry": "basis-points"}),
    Repair("zero terminal SNR", {"model.schedule": "linear-zero-snr", "model.prediction": "velocity"}),
    Repair("6-d rotation", {"model.code.rotation": "6d"}),
    Repair("translation over the object's size", {"model.code.translation": "grasp-point"}),
    Repair("types of the joints alone", {"train.label": ""}),
    Repair("capacity", {"model.network.width": "512", "model.network.blocks": "6", "train.learning_rate": "0.0003"}),
)
"""In the order in which they are added to the source's model. Convolutions take ten times as long as all the rest, so
what replaces them comes early."""
WITHOUT = {
    "metric signed geometry": tuple(repair.name for repair in REPAIRS[1:3]),
    **{repair.name: (repair.name,) for repair in REPAIRS[3:-1]},
}
"""Repairs that the repaired model is also trained without; without the last it is the ladder's row before."""


def models() -> list[Model]:
    """Return the rows: the ladder, the repaired one without each repair, the latents, and the local denoiser."""
    ladder = [Model("paper", "paper")]
    for count, repair in enumerate(REPAIRS, start=1):
        ladder.append(Model(f"+ {repair.name}", "paper", _changes(REPAIRS[:count]), ladder[-1].name))
    repaired = ladder[-1].name
    without = [
        Model(
            f"repaired, without: {name}", "paper", _changes([r for r in REPAIRS if r.name not in left_out]), repaired
        )
        for name, left_out in WITHOUT.items()
    ]  # fmt: skip
    batch = _changes(REPAIRS, {"train.basis": "batch"})
    autoencoder = _changes(REPAIRS, {"model.code.joints": "vae"})
    return [
        *ladder,
        *without,
        Model("repaired, a basis for every batch", "paper-pca", batch, "repaired, one basis"),
        Model("repaired, one basis", "paper-pca", _changes(REPAIRS), repaired),
        Model("repaired, an autoencoder", "paper-pca", autoencoder, "repaired, one basis"),
        Model("repaired, wrist alone", "paper-rt", _changes(REPAIRS), repaired),
        Model("local", "local", against=repaired),
        Model("paper, as it comes with simeval", "paper", against="paper", shipped=True),
        Model("local, as it comes with simeval", "local", against="local", shipped=True),
    ]


def _changes(repairs: Sequence[Repair], more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {key: value for repair in repairs for key, value in repair.changes.items()} | dict(more or {})


LEGEND = """\
- Each row of the ladder, from `paper` down, has one repair more than the row above it, and is compared with that
  (*gained*: lift, paired by condition). The others are compared with the ladder's last row, *repaired*; those whose
  joints are written in a basis of every batch's own, or by a variational autoencoder, with the one that has one basis.
- *rotation*, *translation*, *joints*: distance from the nearest of the data set's grasps of the same object and type;
  the joints' is the root mean square over their ranges.
- *denoising loss*: of grasps of validation objects, over all steps; what is predicted, and in which code, differs from
  row to row, so only rows that differ in neither can be compared by it.
- `local`: the model that comes with simeval, with as many batches as the others and three types alone. Its batches hold
  256 grasps in place of 64, it learns from grasps that don't hold, too, and its schedule, its training and its sampling
  (guidance) are its own.
- Those that come with simeval were trained once, `paper` with 4,000 batches, `local` with 12,000 and of all six types;
  each is compared with its namesake above.
"""
FINDINGS = """\
## What explains it

- **Where the object is seen from explains most.** The source's network is given one code of the whole object, and
  whatever was repaired about it, few of its grasps lift: once it knows where the object is, the hand is deep in it, for
  it doesn't know where the surface is. `local`, which looks at the object from where it has guessed the hand to be, at
  every step anew, lifts several times as often after as many batches. (Larger batches, learning from failures, guidance
  and its training have a part in that; how much each does was not taken apart.)
- **Translation over the object's size** is the one small repair that pays: the hand comes to where the object is, whose
  size the source's code doesn't know, and so into it: penetration nearly doubles. Without it all the others
  together lift no more than `paper`. **Capacity** adds some more.
- **Schedule.** That the source starts sampling from noise that training never saw (its last step keeps 78 % of the
  signal) is a flaw, but not the reason: mending it alone changes nothing, and the repaired model does without.
- **Gradient, geometry, rotation.** `loss.backward(loss)`, Euler angles, an unsigned map on a grid that doesn't know the
  scale, convolutions in place of basis points: no row differs from the one above it beyond chance, nor does the
  repaired model without signed geometry or without 6-d rotation, though that interval leaves room for a few points.
- **What it is trained on.** With types by the joints alone there are 26 times as many grasps; joints come
  nearer and types are kept more often, but no more is lifted, by the larger network even less: trained on the 532
  grasps that have a type by the source's measure, it lifts a fifth. (Perhaps because it sees each of them 180 times,
  and learns them by heart, as retrieval does.)
- **How joints are written.** With a basis of every batch's own, as in the source's code, they end up nearly twice as
  far from known grasps as with one basis. Yet 15 main components, an autoencoder's numbers, all 22 joints and
  no joints at all but the type's posture lift alike: it is the wrist that fails.
- **Length of training.** The shipped `paper`, with nearly three times the batches, lifts no more than the one trained
  here.
- **Distance from the nearest known grasp says little.** There are about three for an object and a type, and good grasps
  elsewhere: even those of `local` are some hundred degrees away. Whether a pose is right is for physics to say.
"""
"""What the table says, in prose."""


def folder_of(options: Namespace, model: Model, seed: int) -> Path:
    """Where a row's weights are kept."""
    name = "".join(c if c.isalnum() else "-" for c in model.name).strip("-")
    return Path(options.work) / f"{name}-{seed}-{options.steps}"


def train_row(options: Namespace, bank: GraspBank, model: Model, seed: int) -> Path:
    """Train a row's model, unless it is there; return its folder."""
    if model.shipped:
        return weights_folder(model.preset)
    out = folder_of(options, model, seed)
    if not (out / CONFIG).is_file():
        settings = {"train.steps": str(options.steps), "train.seed": str(seed), "model.types": json.dumps(PAPER_TYPES)}
        failed = {"train.failed": f"{TRAINING}-failed"} if PRESETS[model.preset].model.outcomes else {}
        row = f"{model.name}, seed {seed}"
        with Bars({f"{row}: {what}": 1 for what in ("objects", "steps")}, "") as bars:
            train_on(
                bank, model.preset, {**model.changes, **settings, **failed}, out, options.data, options.device,
                lambda what, done, total: bars.callback(f"{row}: {what}")(done, total),
            )  # fmt: skip
    return out


def denoising_loss(options: Namespace, folder: Path, held_out: GraspBank) -> float:
    """Mean squared error of the prediction over the steps, on grasps of validation objects."""
    model = load_model(folder)
    rows = np.flatnonzero(np.isin(held_out.types, model.config.types))[:LOSS_GRASPS]
    chosen = changed(PRESETS["paper"], {})
    preset = chosen.model_copy(update={"model": model.config, "train": chosen.train.model_copy(update={"label": ""})})
    part = replace(
        held_out, codes=held_out.codes[rows], scales=held_out.scales[rows], types=held_out.types[rows],
        grasps=held_out.grasps[rows],
    )  # fmt: skip
    examples = load_examples(part, preset, options.data, held_out_too=True)
    return float(np.mean([loss for _, loss in loss_by_step(model, examples, repeats=1)]))


def nearest_errors(records: Sequence[TrialRecord], bank: GraspBank) -> list[tuple[str, float, float, float]]:
    """Object, and distance of each sample from the nearest grasp of its object and type: deg, mm, joints.

    The nearest is that of the least sum of 1 for every 30°, 20 mm and 0.1 (RMS of the joints over their ranges).
    """
    span = load_hand().upper - load_hand().lower
    found = []
    for record in records:
        known = bank.for_object(record.object_code, record.scale, record.grasp_type)
        if not len(known) or record.outcome == "GENERATOR_FAILED":
            continue
        own = grasps_of([record])
        turn, shift, joints = _distances(own, known, span)
        i = int(np.argmin(turn / 30 + shift / 20 + joints / 0.1))
        found.append((record.object_code, float(turn[i]), float(shift[i]), float(joints[i])))
    return found


def _distances(own: GraspBatch, known: GraspBatch, span: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    trace = np.einsum("nij,ij->n", known.rotation, own.rotation[0])
    turn = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    shift = 1e3 * np.linalg.norm(known.translation - own.translation[0], axis=1)
    return turn, shift, np.sqrt((((known.joints - own.joints[0]) / span) ** 2).mean(axis=1))


def measure(name: str, records: Sequence[TrialRecord], losses: Sequence[float], bank: GraspBank) -> list[MetricRow]:
    """Return a row's numbers, over all seeds; intervals clustered by object."""
    lift, six = ([r for r in records if r.protocol == protocol] for protocol in ("lift", "six-direction"))
    errors = nearest_errors(lift, bank)
    codes = [code for code, *_ in errors]
    numbers = {
        "denoising_loss": Estimate(float(np.mean(losses)), min(losses), max(losses), len(losses), "range over seeds"),
        "nearest_rotation_deg": _mean([e[1] for e in errors], codes),
        "nearest_translation_mm": _mean([e[2] for e in errors], codes),
        "nearest_joints": _mean([e[3] for e in errors], codes),
        "lift_success": _rate(lift, [r.success for r in lift]),
        "six_direction_success": _rate(six, [r.success for r in six]),
        "penetration_mm_mean": _mean([r.penetration_mm for r in lift], [r.object_code for r in lift]),
        "type_fidelity_achieved": _rate(lift, [r.achieved_type == r.grasp_type for r in lift]),
    }
    return [
        MetricRow(name, SUITE, "six-direction" if metric.startswith("six") else "lift", "all", metric, e.value, e.low,
                  e.high, e.n)
        for metric, e in numbers.items()
    ]  # fmt: skip


def gain(model: Model, lifted: Mapping[str, Mapping[str, float]], codes: Mapping[str, str]) -> list[MetricRow]:
    """How much more a row lifts than the one it is compared with: paired by condition, over all seeds.

    Args:
        model: the row.
        lifted: of each row, by condition, the share of its seeds that lifted.
        codes: object of each condition.
    """
    if model.against not in lifted:
        return []
    e = paired_difference(lifted[model.name], lifted[model.against], codes).estimate
    return [MetricRow(model.name, SUITE, "lift", model.against, "lift_gain", e.value, e.low, e.high, e.n)]


def _lifted(records: Sequence[TrialRecord]) -> dict[str, float]:
    """Share of the seeds that lifted, by condition."""
    found: dict[str, list[bool]] = {}
    for r in records:
        if r.protocol == "lift":
            found.setdefault(r.condition_id, []).append(r.success)
    return {condition: float(np.mean(successes)) for condition, successes in found.items()}


def _mean(values: Sequence[float], codes: Sequence[str]) -> Estimate:
    return clustered_mean(values, codes, least=0.0)


def _rate(records: Sequence[TrialRecord], holds: Sequence[bool]) -> Estimate:
    return rate(list(holds), [r.object_code for r in records])


def figure(path: Path, rows: Sequence[MetricRow]) -> None:
    """Draw each row's pose error and success, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {
        "nearest_rotation_deg": "wrist turned from the nearest known grasp [deg]",
        "nearest_translation_mm": "wrist away from it [mm]",
        "lift_success": "lifted", "six_direction_success": "holds six directions",
    }  # fmt: skip
    names = list(dict.fromkeys(r.generator for r in rows))
    fig, axes = plt.subplots(1, len(shown), figsize=(15, 0.32 * len(names) + 1.2), sharey=True, layout="constrained")
    for ax, (metric, label) in zip(axes, shown.items(), strict=True):
        own = {r.generator: r for r in rows if r.metric == metric}
        for y, name in enumerate(names):
            r = own[name]
            ax.plot([r.low, r.high], [y, y], color="0.5", linewidth=1.5)
            ax.plot(r.value, y, "o", color="C0" if name != "local" else "C1")
        ax.set_xlabel(label)
        ax.grid(axis="x", linewidth=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    fig.savefig(path, dpi=110)
    plt.close(fig)


def table(rows: Sequence[MetricRow]) -> str:
    """Return the rows as Markdown."""
    index = {(r.generator, r.metric): r for r in rows}
    heads = {
        "denoising_loss": "denoising loss", "nearest_rotation_deg": "rotation [deg]",
        "nearest_translation_mm": "translation [mm]", "nearest_joints": "joints", "lift_success": "lift %",
        "lift_gain": "gained, points", "six_direction_success": "six-direction %",
        "penetration_mm_mean": "penetration [mm]", "type_fidelity_achieved": "type %",
    }  # fmt: skip
    cells = [
        [name, *(_text(index[name, m]) if (name, m) in index else "" for m in heads)]
        for name in dict.fromkeys(r.generator for r in rows)
    ]
    return markdown_table(["", *heads.values()], cells)


def _text(row: MetricRow) -> str:
    share = row.metric.endswith(("success", "achieved", "gain"))
    factor, digits = (100, 1) if share else (1, 3 if row.value < 2 else 1)
    sign = "+" if row.metric.endswith("gain") else ""
    value, low, high = (f"{factor * x:{sign}.{digits}f}" for x in (row.value, row.low, row.high))
    return f"{value} [{low}, {high}]"


def page(rows: Sequence[MetricRow], steps: int, remark: str = "") -> str:
    """Return the page as Markdown; `remark`: what else there is to say of how the rows were made."""
    n = max(r.n for r in rows if r.metric == "lift_success")
    missing = [m.name for m in models() if m.name not in {r.generator for r in rows}]
    left_out = f"Rows not run yet, which the same command adds: {'; '.join(missing)}.\n" if missing else ""
    return "\n".join([
        "# Why the source system's wrist poses fail\n",
        f"Made by `{COMMAND}`. DexGraspNet's objects are real data; the grasps trained on are our own. Every row was "
        f"trained {len(SEEDS)} times, from other seeds, with {steps} batches unless it says otherwise, and asked for "
        f"cylindrical, planar and spherical grasps of the validation objects: n = {n} over all seeds. Nothing is "
        "brought to touch, chosen or refined. Brackets: 95 % intervals, objects as clusters; of the loss, the range "
        "over seeds.\n",
        table(rows),
        left_out,
        *([remark + "\n"] if remark else []),
        LEGEND,
        "![pose errors and success](why_poses_fail.png)\n",
        FINDINGS,
    ])  # fmt: skip


def main() -> None:
    """Train and run what is missing, then write the numbers, the table and the figure."""
    parser = study_parser(__doc__, "why_poses_fail")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--device", default="cpu", help="for training")
    parser.add_argument("--rows", action="append", help="only rows whose name holds this text; repeatable")
    options = parser.parse_args()
    bank, held_out = load_bank(TRAINING, options.data), load_bank(f"{TRAINING}-val", options.data)
    rows: list[MetricRow] = []
    chosen = [m for m in models() if not options.rows or any(text in m.name for text in options.rows)]
    if not chosen:
        raise unknown_name("row", options.rows[0], [model.name for model in models()])
    lifted: dict[str, dict[str, float]] = {}
    codes: dict[str, str] = {}
    for model in chosen:
        records: list[TrialRecord] = []
        losses = []
        for seed in model.seeds:
            folder = train_row(options, bank, model, seed)
            losses.append(denoising_loss(options, folder, held_out))
            weights = model.preset if model.shipped else str(folder)
            settings = {"weights": weights, "contact": "false"}
            records += run_suite("diffusion", SUITE, options, settings=settings, grasps=1).records
        answered = [r for r in records if r.grasp_type in PAPER_TYPES]
        rows += measure(model.name, answered, losses, held_out)
        lifted[model.name] = _lifted(answered)
        codes |= {r.condition_id: r.object_code for r in answered}
    for model in chosen:
        rows += gain(model, lifted, codes)
    out: Path = options.out
    numbers = {
        "command": COMMAND, "data_kind": "real", "steps": options.steps, "rows": [asdict(row) for row in rows]
    }  # fmt: skip
    write_page(out, "why_poses_fail", numbers, page(rows, options.steps))
    figure(out / "why_poses_fail.png", rows)


if __name__ == "__main__":
    with clear_exit():
        main()
