"""A diffusion model with all that its numbers need: network, scale, basis; and its two files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from simeval.configuration import read_config, read_weights
from simeval.errors import DataError
from simeval.files import completed, make_folder
from simeval.generators.diffusion.coding import LATENTS, Grasps, Latents, Place, Scale, read_code
from simeval.generators.diffusion.config import ModelConfig
from simeval.generators.diffusion.geometry import Shape
from simeval.generators.diffusion.local import LocalDenoiser, Scene
from simeval.generators.diffusion.network import FEW, Denoiser
from simeval.generators.diffusion.noise import Schedule, chosen_steps, make_schedule, parts, sample
from simeval.grasp import JOINT_COUNT
from simeval.taxonomy import GRASP_TYPES

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LIMIT, WIDE = 1.2, 3.0
"""Clean codes are clipped to ± this while sampling: where they are scaled by their range, and where by their spread."""
OUTCOMES = ("fails", "holds")


class Objects(NamedTuple):
    """The objects of B grasps, as a denoiser takes them."""

    encoded: Tensor | Scene
    owner: Tensor  # (B,) which of those encoded
    place: Place  # B
    posture: Tensor  # (B, 22) rad, where the code has no joints


@dataclass(slots=True)
class GraspModel:
    """A denoiser and the meaning of its numbers."""

    config: ModelConfig
    network: Denoiser | LocalDenoiser
    scale: Scale
    latents: Latents | None
    schedule: Schedule

    @staticmethod
    def fresh(config: ModelConfig, scale: Scale, latents: Latents | None) -> "GraspModel":
        """Return a model with untrained weights, drawn from torch's generator."""
        told = len(config.types) + len(OUTCOMES) * config.outcomes
        network: Denoiser | LocalDenoiser
        if config.local:
            network = LocalDenoiser(config.network, config.code, told)
        else:
            network = Denoiser(config.network, config.code.size, told)
        return GraspModel(config, network, scale, latents, make_schedule(config.schedule, config.steps))

    def condition(self, kinds: Sequence[str], holds: Sequence[bool] | None = None) -> Tensor:
        """What a denoiser is told (N, C): type, and where the model knows outcomes, whether the grasp holds.

        Zeros say nothing. By default all hold.
        """
        index = torch.tensor([self.config.types.index(kind) for kind in kinds])
        told = torch.nn.functional.one_hot(index, len(self.config.types))
        if self.config.outcomes:
            held = torch.ones(len(kinds)) if holds is None else torch.tensor(np.array(holds, dtype=np.int64))
            told = torch.cat([told, torch.nn.functional.one_hot(held.long(), len(OUTCOMES))], dim=1)
        return told.float()

    @property
    def limit(self) -> float:
        """Scaled codes are clipped to ± this."""
        return LIMIT if self.config.code.scale == "range" else WIDE

    def postures(self, kinds: Sequence[str]) -> Tensor:
        """Joints (N, 22) rad of grasps whose code has none."""
        if self.config.posture == "zero":
            return torch.zeros(len(kinds), JOINT_COUNT)
        return torch.tensor(np.array([GRASP_TYPES[kind].posture for kind in kinds])).float()

    def read(self, unit: Tensor, place: Place, posture: Tensor) -> Grasps:
        """Read grasps from scaled codes (N, D), in the precision of these."""
        latents = self.latents and type(self.latents)(*(value.to(unit) for value in self.latents))
        scale = Scale(*(value.to(unit) for value in self.scale))
        return read_code(self.config.code, scale.from_unit(unit), place, latents, posture)

    def predict(
        self, noised: Tensor, t: Tensor, condition: Tensor, objects: Objects, clean: Tensor | None = None
    ) -> Tensor:
        """Ask the denoiser: (B, D) of noised (B, D) at steps `t` (B,) and condition (B, C). The rest as in `ask`."""
        return self.ask(noised, t, self.network.tell(t, condition[None]), objects, clean)[0]

    def ask(
        self, noised: Tensor, t: Tensor, told: Sequence[Tensor], objects: Objects, clean: Tensor | None = None
    ) -> Tensor:
        """Ask the denoiser: (A, B, D), as told A times.

        Args:
            noised: (B, D).
            t: (B,) steps of the schedule, or (1,) of all.
            told: of the denoiser's `tell`.
            objects: of the grasps.
            clean: (B, D), what the grasps have been guessed to be; by default the noised ones, less the more noise.
        """
        guess = None
        if self.config.local:
            found = self.schedule.signal.to(noised)[t, None] * noised if clean is None else clean
            guess = self.read(found.clamp(-WIDE, WIDE), objects.place, objects.posture)
        return self.network(noised, told, objects.encoded, objects.owner, guess)

    def clean(self, noised: Tensor, t: Tensor, predicted: Tensor) -> Tensor:
        """Clean grasps (B, D) that predictions at steps `t` (B,) stand for."""
        return parts(self.config.prediction, self.schedule, t, noised, predicted)[0].clamp(-WIDE, WIDE)

    @torch.inference_mode()
    def generate(
        self, shape: Shape, kind: str, count: int, seed: int, steps: int = 0, ancestral: bool = True,
        guidance: float = 0.0,
    ) -> Grasps:  # fmt: skip
        """Sample grasps of one object and type; each depends on its place in the batch and the seed alone.

        Args:
            shape: of the object.
            kind: one of `config.types`.
            count: how many.
            seed: of all noise.
            steps: of the sampler; 0: as many as in training.
            ancestral: DDPM's rule; otherwise DDIM's, which draws no noise but the first.
            guidance: how far to go beyond what the type (and that it holds) changes in the prediction (Ho & Salimans
                2022, doi 10.48550/arXiv.2207.12598); 0: not at all.
        """
        steps = steps or self.config.steps
        draws = np.stack([
            np.random.default_rng([seed, i]).standard_normal((steps * ancestral + 1, self.config.code.size))
            for i in range(count)
        ]).astype(np.float32)  # fmt: skip
        noise = torch.from_numpy(draws)
        place = Place(torch.tensor(shape.center).expand(count, -1), torch.full((count,), shape.radius).double())
        posture = self.postures([kind] * count)
        encoded = self.network.encode(self.network.pack([shape]), torch.tensor([0]))
        condition = self.condition([kind] * count)[None]
        if guidance:  # ask once told, and once not
            condition = torch.cat([condition, torch.zeros_like(condition)])
        told = self._tell(chosen_steps(self.config.steps, steps), condition)
        objects = Objects(encoded, torch.zeros(count, dtype=torch.long), Place(*(p.float() for p in place)), posture)

        def denoise(x: Tensor, t: int, clean: Tensor | None) -> Tensor:
            found, *blind = self.ask(x, torch.tensor([t]), told[t], objects, clean)
            return found + guidance * (found - blind[0]) if blind else found

        unit = sample(
            denoise, noise[:, 0], self.schedule, self.config.prediction, steps,
            (lambda k: noise[:, k + 1]) if ancestral else None, self.limit,
        )  # fmt: skip
        return self.read(unit.double(), place, posture.double())

    def _tell(self, steps: Sequence[int], condition: Tensor) -> dict[int, Sequence[Tensor]]:
        """What the denoiser makes of each step and of condition (A, B, C), whose B are all alike."""
        asked, count, _ = condition.shape
        if asked * count < FEW:
            return {t: self.network.tell(torch.full((count,), t), condition) for t in steps}
        once = self.network.tell(torch.tensor(steps), condition[:, :1].expand(-1, len(steps), -1))
        return {t: [part[:, k, None] for part in once] for k, t in enumerate(steps)}

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` (weights in half precision).

        Raises:
            DataError: it can't be written.
        """
        from safetensors.torch import save

        make_folder(folder)
        weights = {f"network.{k}": v.half() for k, v in self.network.state_dict().items()}
        weights |= {"scale.low": self.scale.low, "scale.high": self.scale.high}
        if self.latents:
            prefix, _ = LATENTS[self.config.code.joints]
            weights |= {f"{prefix}.{name}": value for name, value in self.latents._asdict().items()}
        with completed(folder / WEIGHTS) as unfinished:
            unfinished.write_bytes(save({k: v.contiguous() for k, v in weights.items()}))
        with completed(folder / CONFIG) as unfinished:
            unfinished.write_text(self.config.model_dump_json(indent=1) + "\n")


def load_model(folder: Path) -> GraspModel:
    """Read a model.

    Raises:
        DataError: a file is missing, damaged, or the weights aren't those of the configuration.
    """
    config = read_config(folder / CONFIG, TypeAdapter(ModelConfig))
    path = folder / WEIGHTS
    found = {name: torch.from_numpy(value) for name, value in read_weights(path, "simeval train").tensors.items()}
    try:
        latents = _latents(config, found)
        model = GraspModel.fresh(config, Scale(found["scale.low"], found["scale.high"]), latents)
        own = {k.removeprefix("network."): v.float() for k, v in found.items() if k.startswith("network.")}
        model.network.load_state_dict(own)
        _check_sizes(model)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} doesn't fit {folder / CONFIG}: {reason}") from None
    model.network.eval()
    return model


def _latents(config: ModelConfig, found: Mapping[str, Tensor]) -> Latents | None:
    if config.code.joints not in LATENTS:
        return None
    prefix, kind = LATENTS[config.code.joints]
    return kind(*(found[f"{prefix}.{name}"] for name in kind._fields))


def _check_sizes(model: GraspModel) -> None:
    code = model.config.code
    wanted: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "scale.low": (model.scale.low, (code.size,)), "scale.high": (model.scale.high, (code.size,)),
    }  # fmt: skip
    if model.latents:
        prefix, kind = LATENTS[code.joints]
        for name, shape in kind.sizes(code.components).items():
            wanted[f"{prefix}.{name}"] = (getattr(model.latents, name), shape)
    for name, (value, shape) in wanted.items():
        if value.shape != shape:
            raise RuntimeError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
