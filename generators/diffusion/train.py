"""Train a diffusion model on a set of grasps: resumable, the same on any machine up to rounding."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simeval.bank import GraspBank, load_bank
from simeval.dataset.label import label
from simeval.devices import check_device
from simeval.errors import DataError, SettingError
from simeval.files import check_writable, completed, make_folder
from simeval.generators.diffusion.coding import (
    Basis,
    Grasps,
    Place,
    Scale,
    fit_basis,
    fit_latents,
    fit_scale,
    write_code,
)
from simeval.generators.diffusion.config import Preset, changed, preset
from simeval.generators.diffusion.geometry import GeometryCode, Shape, describe
from simeval.generators.diffusion.model import GraspModel, Objects
from simeval.generators.diffusion.noise import Schedule, target
from simeval.generators.energy.energy import hand_tensors, place
from simeval.grasp import Array, GraspBatch
from simeval.objects import ObjectLibrary
from simeval.records import digest_arrays

STATE, CURVE = "training.pt", "curve.json"
SAVE_EVERY = 60.0  # s between checkpoints
POINT_SCALE = 0.03  # m
CURVE_POINTS = 400


def train_on(
    bank: GraspBank, preset_name: str, changes: dict[str, str], out: Path, data: Path | None = None,
    device: str = "cpu", progress: Callable[[str, int, int], None] | None = None,
) -> None:  # fmt: skip
    """Train a preset, with some of its settings changed, on a set: what `simeval train diffusion` calls.

    `progress` is called with (what, done, total). Errors as in `preset`, `changed`, `load_examples` and `train`.
    """

    def report(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(what, done, total)

    chosen = changed(preset(preset_name), changes)
    check_device(device)
    failed = load_bank(chosen.train.failed, data) if chosen.train.failed else None
    examples = load_examples(bank, chosen, data, report("objects"), failed)
    train(examples, chosen, out, device, report("steps"))


class Examples(NamedTuple):
    """A training set, ready: N grasps of M objects."""

    kinds: list[str]  # (N,)
    holds: NDArray[np.bool_]  # (N,)
    which: NDArray[np.intp]  # (N,) index of each grasp's object
    shapes: list[Shape]  # M
    grasps: Grasps  # N
    place: Place  # N

    @property
    def digest(self) -> str:
        """16 hex digits that name the grasps and which of them hold."""
        return digest_arrays(np.array(self.kinds), self.holds, self.which, *(part.numpy() for part in self.grasps))

    def rows_by_object(self) -> list[NDArray[np.intp]]:
        """Rows of each object."""
        return [np.flatnonzero(self.which == k) for k in range(len(self.shapes))]


def load_examples(
    bank: GraspBank, preset: Preset, data: Path | None, progress: Callable[[int, int], None] | None = None,
    failed: GraspBank | None = None, held_out_too: bool = False,
) -> Examples:  # fmt: skip
    """Choose the grasps that a preset is trained on and describe their objects; `failed` are those that don't hold.

    With `held_out_too` they are not for training, and may be of any object.

    Raises:
        DataError: a val or test object is among them, none is left, or an object can't be loaded.
    """
    kinds: list[str] = []
    keys: list[tuple[str, float]] = []
    batches: list[GraspBatch] = []
    for source in (bank, failed) if failed else (bank,):
        types = label(source, preset.train.label, data=data).types if preset.train.label else source.types
        rows = np.flatnonzero(np.isin(types, preset.model.types))
        kinds += types[rows].tolist()
        keys += zip(source.codes[rows].tolist(), source.scales[rows].tolist(), strict=True)
        batches.append(source.grasps[rows])
    if not len(batches[0]):
        raise DataError(f"{bank.source} has no grasp of {', '.join(preset.model.types)}")
    code = preset.model.code
    fewest = code.components if code.joints == "pca" else 1
    if sum(map(len, batches)) < fewest:
        raise DataError(
            f"{bank.source} has {sum(map(len, batches))} grasps of {', '.join(preset.model.types)}, too few for "
            f"{fewest} main components of the joints: lower model.code.components"
        )
    library = ObjectLibrary(data)
    if not held_out_too:
        library.refuse_held_out(code for code, _ in keys)
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    shapes = []
    for done, key in enumerate(index):
        shapes.append(_described(library.data, *key, preset.model.network.geometry))
        if progress:
            progress(done + 1, len(index))
    which = np.array([index[key] for key in keys])
    chosen = GraspBatch.concatenate(batches)
    center = np.array([shape.center for shape in shapes])[which]
    radius = np.array([shape.radius for shape in shapes])[which]

    def tensor(x: Array) -> Tensor:
        return torch.tensor(x, dtype=torch.float32)

    grasps = Grasps(tensor(chosen.rotation), tensor(chosen.translation), tensor(chosen.joints))
    holds = np.arange(len(keys)) < len(batches[0])
    return Examples(kinds, holds, which, shapes, grasps, Place(tensor(center), tensor(radius)))


@cache
def _described(data: Path | None, code: str, scale: float, geometry: GeometryCode) -> Shape:
    """An object's description, once a process: studies train many models on one set."""
    return describe(_library(data).load(code, scale), geometry)


_library = cache(ObjectLibrary)


@dataclass(slots=True)
class _State:
    model: GraspModel
    mean: dict[str, Tensor]  # running mean of the weights
    optimizer: torch.optim.Optimizer
    step: int
    curve: list[list[float]]  # step, loss


def train(
    examples: Examples, preset: Preset, out: Path, device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> GraspModel:  # fmt: skip
    """Train, or go on where a stopped training was; write the model and its curve to `out`.

    Raises:
        DataError: `out` holds the checkpoint of another preset or another set, or can't be written to.
    """
    make_folder(out)
    check_writable(out / STATE)
    torch.manual_seed(preset.train.seed)
    latents = fit_latents(preset.model.code, examples.grasps.joints)
    codes = write_code(preset.model.code, examples.grasps, examples.place, latents)
    scale = fit_scale(preset.model.code, codes)
    model = GraspModel.fresh(preset.model, scale, latents)
    model.network.to(device)
    state = _resume(model, preset, examples.digest, out, device)
    everything = _everything(model, examples, scale.to_unit(codes), device)
    rows = examples.rows_by_object()
    saved = time.monotonic()
    losses: list[float] = []
    every = max(1, preset.train.steps // CURVE_POINTS)
    while state.step < preset.train.steps:
        objects, chosen = (index.to(device) for index in _draw(preset, rows, state.step))
        losses.append(_step(state, preset, everything, objects, chosen))
        state.step += 1
        if state.step % every == 0 or state.step == preset.train.steps:
            state.curve.append([state.step, float(np.mean(losses))])
            losses.clear()
            if not np.isfinite(state.curve[-1][1]):
                raise SettingError(f"the loss is not finite at step {state.step}: lower train.learning_rate")
        if time.monotonic() - saved > SAVE_EVERY:
            _save(state, preset, examples.digest, out)
            saved = time.monotonic()
        if progress:
            progress(state.step, preset.train.steps)
    _save(state, preset, examples.digest, out)
    model.network.load_state_dict(state.mean)
    model.network.cpu().eval()
    model.save(out)
    with completed(out / CURVE) as unfinished:
        unfinished.write_text(json.dumps({"preset": preset.model_dump(mode="json"), "loss": state.curve}) + "\n")
    return model


def _draw(preset: Preset, rows: list[NDArray[np.intp]], step: int) -> tuple[Tensor, Tensor]:
    """Objects (M,) and grasps (B,) of a step, those of an object side by side; drawn by seed and step alone.

    Objects are drawn as often as they have grasps, so that every grasp is as likely as any other.
    """
    draw = np.random.default_rng([preset.train.seed, step])
    sizes = np.array([len(own) for own in rows], dtype=float)
    count = min(preset.train.objects, preset.train.batch)
    objects = draw.choice(len(rows), size=count, p=sizes / sizes.sum())
    each = preset.train.batch // count
    chosen = np.concatenate([rows[k][draw.integers(len(rows[k]), size=each)] for k in objects])
    return torch.from_numpy(objects), torch.from_numpy(chosen)


class _Everything(NamedTuple):
    """All examples on the device."""

    grasps: Grasps  # N
    unit: Tensor  # (N, D) the same as clean scaled codes
    told: Tensor  # (N, C)
    posture: Tensor  # (N, 22) rad
    place: Place  # N
    packed: Any  # M objects, as the network packs them

    def batch(self, model: GraspModel, objects: Tensor, chosen: Tensor) -> Objects:
        """Objects (M,) encoded, for examples (B,) that lie side by side, as many of each."""
        encoded = model.network.encode(self.packed, objects)
        owner = torch.arange(len(objects), device=chosen.device).repeat_interleave(len(chosen) // len(objects))
        place = Place(self.place.center[chosen], self.place.radius[chosen])
        return Objects(encoded, owner, place, self.posture[chosen])


def _everything(model: GraspModel, examples: Examples, unit: Tensor, device: str) -> _Everything:
    told = model.condition(examples.kinds, examples.holds.tolist())
    return _Everything(
        Grasps(*(g.to(device) for g in examples.grasps)), unit.to(device), told.to(device),
        model.postures(examples.kinds).to(device), Place(*(p.to(device) for p in examples.place)),
        model.network.pack(examples.shapes, device),
    )  # fmt: skip


def _step(state: _State, preset: Preset, data: _Everything, objects: Tensor, chosen: Tensor) -> float:
    model, settings = state.model, preset.train
    clean, told = data.unit[chosen], data.told[chosen]
    if settings.basis == "batch" and isinstance(model.latents, Basis):
        grasps, place = Grasps(*(g[chosen] for g in data.grasps)), Place(*(p[chosen] for p in data.place))
        model.latents = fit_basis(grasps.joints, preset.model.code.components)
        scale = Scale(*(bound.to(clean) for bound in model.scale))
        clean = scale.to_unit(write_code(preset.model.code, grasps, place, model.latents))
    draw = torch.Generator().manual_seed(settings.seed * 1_000_003 + state.step)
    t = torch.randint(preset.model.steps, (len(clean),), generator=draw)
    noise = torch.randn(clean.shape, generator=draw).to(clean)
    if settings.forget:
        told = told * (torch.rand(len(clean), 1, generator=draw) >= settings.forget).to(told)
    noised, wanted = noised_and_target(model, clean, noise, t)
    t, batch, guess = t.to(clean.device), data.batch(model, objects, chosen), None
    if settings.guess and state.step % 2:
        with torch.no_grad():
            guess = model.clean(noised, t, model.predict(noised, t, told, batch))
    found = model.predict(noised, t, told, batch, guess)
    loss = torch.nn.functional.mse_loss(found, wanted)
    if settings.points:
        away = hand_points(model, model.clean(noised, t, found), batch) - hand_points(model, clean, batch)
        signal = model.schedule.signal.to(clean)[t].square()
        loss = loss + settings.points * (signal * away.square().sum(2).mean(1)).mean() / POINT_SCALE**2
    state.optimizer.zero_grad()
    loss.backward(loss.detach() if settings.loss_as_gradient else None)
    if settings.clip:
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), settings.clip)
    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate * _pace(preset, state.step)
    state.optimizer.step()
    keep = min(settings.ema, (1 + state.step) / (10 + state.step)) if settings.ema else 0.0
    with torch.no_grad():
        for name, value in model.network.state_dict().items():
            state.mean[name].lerp_(value, 1 - keep)
    return float(loss.detach())


def hand_points(model: GraspModel, unit: Tensor, objects: Objects) -> Tensor:
    """Centres (B, S, 3) [m] of the hand's spheres, in the object frame, at scaled codes (B, D); differentiable."""
    return place(hand_tensors(str(unit.device)), model.read(unit, objects.place, objects.posture))


def noised_and_target(model: GraspModel, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Noised codes (B, D) at steps `t` (B,), and what is to be predicted from them."""
    schedule = Schedule(*(value.to(clean) for value in model.schedule))
    t = t.to(clean.device)
    noised = schedule.signal[t, None] * clean + schedule.noise[t, None] * noise
    return noised, target(model.config.prediction, schedule, t, clean, noise)


def _pace(preset: Preset, step: int) -> float:
    """Share of the learning rate at a step."""
    settings = preset.train
    rise = min(1.0, (step + 1) / settings.warm_up) if settings.warm_up else 1.0
    return rise * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps) if settings.decay else 1.0)


def _resume(model: GraspModel, preset: Preset, examples: str, out: Path, device: str) -> _State:
    optimizer = torch.optim.AdamW(
        model.network.parameters(), lr=preset.train.learning_rate, weight_decay=preset.train.weight_decay
    )
    mean = {name: value.clone() for name, value in model.network.state_dict().items()}
    state = _State(model, mean, optimizer, 0, [])
    path = out / STATE
    if not path.is_file():
        return state
    try:
        found = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise DataError(f"{path} can't be read ({error}): delete it to start over") from None
    if found["preset"] != preset.model_dump_json():
        raise DataError(f"{path} is of a training with other settings: delete it, or name another output")
    if found.get("examples") != examples:
        raise DataError(f"{path} is of a training on another set: delete it, or name another output")
    model.network.load_state_dict(found["network"])
    if found["basis"] is not None:
        model.latents = Basis(**found["basis"])
    optimizer.load_state_dict(found["optimizer"])
    return _State(model, found["mean"], optimizer, found["step"], found["curve"])


def _save(state: _State, preset: Preset, examples: str, out: Path) -> None:
    buffer = BytesIO()  # torch's own writer doesn't say that a disk is full
    torch.save(
        {
            "preset": preset.model_dump_json(), "examples": examples, "network": state.model.network.state_dict(),
            "basis": state.model.latents._asdict() if isinstance(state.model.latents, Basis) else None,
            "mean": state.mean, "optimizer": state.optimizer.state_dict(), "step": state.step, "curve": state.curve,
        },
        buffer,
    )  # fmt: skip
    with completed(out / STATE) as unfinished:
        unfinished.write_bytes(buffer.getvalue())


def loss_by_step(model: GraspModel, examples: Examples, repeats: int = 4) -> Iterator[tuple[int, float]]:
    """Yield (t, mean squared error of the prediction) over examples, for every step of the schedule.

    Codes are clipped as samples are: a joint that never moved in training has no scale to measure others by.
    """
    clean = model.scale.to_unit(write_code(model.config.code, examples.grasps, examples.place, model.latents))
    clean = clean.clamp(-model.limit, model.limit)
    data = _everything(model, examples, clean, "cpu")
    owner = torch.from_numpy(examples.which)
    with torch.no_grad():
        encoded = model.network.encode(data.packed, torch.arange(len(examples.shapes)))
        objects = Objects(encoded, owner, data.place, data.posture)
        for t in range(model.config.steps):
            draw = torch.Generator().manual_seed(t)
            total = 0.0
            steps = torch.full((len(clean),), t)
            for _ in range(repeats):
                noised, wanted = noised_and_target(model, clean, torch.randn(clean.shape, generator=draw), steps)
                found = model.predict(noised, steps, data.told, objects)
                total += float(torch.nn.functional.mse_loss(found, wanted))
            yield t, total / repeats
