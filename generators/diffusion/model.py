"""A diffusion model with all that its numbers need: network, scale, basis; and its two files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simeval.errors import DataError
from simeval.generators.diffusion.coding import Basis, Grasps, Place, Scale, read_code
from simeval.generators.diffusion.config import ModelConfig, read_json
from simeval.generators.diffusion.geometry import Shape
from simeval.generators.diffusion.network import Denoiser
from simeval.generators.diffusion.noise import Schedule, make_schedule, sample
from simeval.grasp import JOINT_COUNT
from simeval.taxonomy import GRASP_TYPES

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LIMIT = 1.2
"""Clean codes are clipped to ± this while sampling; the training set lies within ±1."""


@dataclass(slots=True)
class GraspModel:
    """A denoiser and the meaning of its numbers."""

    config: ModelConfig
    network: Denoiser
    scale: Scale
    basis: Basis | None
    schedule: Schedule

    @staticmethod
    def fresh(config: ModelConfig, scale: Scale, basis: Basis | None) -> "GraspModel":
        """Return a model with untrained weights, drawn from torch's generator."""
        network = Denoiser(config.network, config.code.size, len(config.types))
        return GraspModel(config, network, scale, basis, make_schedule(config.schedule, config.steps))

    def one_hot(self, kinds: Sequence[str]) -> Tensor:
        """(N, T) of types."""
        index = torch.tensor([self.config.types.index(kind) for kind in kinds])
        return torch.nn.functional.one_hot(index, len(self.config.types)).float()

    @torch.no_grad()
    def generate(
        self, shape: Shape, kind: str, count: int, seed: int, steps: int = 0, ancestral: bool = True
    ) -> Grasps:
        """Sample grasps of one object and type; each depends on its place in the batch and the seed alone.

        Args:
            shape: of the object.
            kind: one of `config.types`.
            count: how many.
            seed: of all noise.
            steps: of the sampler; 0: as many as in training.
            ancestral: DDPM's rule; otherwise DDIM's, which draws no noise but the first.
        """
        steps = steps or self.config.steps
        draws = np.stack([
            np.random.default_rng([seed, i]).standard_normal((steps + 1, self.config.code.size)) for i in range(count)
        ]).astype(np.float32)  # fmt: skip
        noise = torch.from_numpy(draws)
        encoded = self.network.encode(*tensors([shape])).expand(count, -1)
        types = self.one_hot([kind] * count)

        def denoise(x: Tensor, t: int) -> Tensor:
            return self.network(x, torch.full((len(x),), t), types, encoded)

        unit = sample(
            denoise, noise[:, 0], self.schedule, self.config.prediction, steps,
            (lambda k: noise[:, k + 1]) if ancestral else None, LIMIT,
        )  # fmt: skip
        posture = torch.zeros(count, JOINT_COUNT, dtype=torch.float64)
        if self.config.posture == "reference":
            posture = torch.tensor(GRASP_TYPES[kind].posture).expand(count, -1)
        center = torch.tensor(shape.center).expand(count, -1)
        place = Place(center, torch.full((count,), shape.radius, dtype=torch.float64))
        basis = self.basis and Basis(self.basis.mean.double(), self.basis.components.double())
        raw = self.scale.from_unit(unit).double()
        return read_code(self.config.code, raw, place, basis, posture)

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` (weights in half precision)."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {f"network.{k}": v.half() for k, v in self.network.state_dict().items()}
        weights |= {"scale.low": self.scale.low, "scale.high": self.scale.high}
        if self.basis:
            weights |= {"basis.mean": self.basis.mean, "basis.components": self.basis.components}
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(self.config.model_dump_json(indent=1) + "\n")


def load_model(folder: Path) -> GraspModel:
    """Read a model.

    Raises:
        DataError: a file is missing, damaged, or the weights aren't those of the configuration.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = ModelConfig.model_validate(read_json(folder / CONFIG, ModelConfig))
    path = folder / WEIGHTS
    try:
        found = load_file(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `simeval train` makes one") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as weights: {error}") from None
    try:
        basis = Basis(found["basis.mean"], found["basis.components"]) if config.code.joints == "pca" else None
        model = GraspModel.fresh(config, Scale(found["scale.low"], found["scale.high"]), basis)
        own = {k.removeprefix("network."): v.float() for k, v in found.items() if k.startswith("network.")}
        model.network.load_state_dict(own)
        _check_sizes(model)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} doesn't fit {folder / CONFIG}: {reason}") from None
    if not all(bool(torch.isfinite(v).all()) for v in found.values()):
        raise DataError(f"{path} holds weights that are not finite")
    model.network.eval()
    return model


def _check_sizes(model: GraspModel) -> None:
    code = model.config.code
    wanted: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "scale.low": (model.scale.low, (code.size,)), "scale.high": (model.scale.high, (code.size,)),
    }  # fmt: skip
    if model.basis:
        wanted["basis.mean"] = (model.basis.mean, (JOINT_COUNT,))
        wanted["basis.components"] = (model.basis.components, (code.components, JOINT_COUNT))
    for name, (value, shape) in wanted.items():
        if value.shape != shape:
            raise RuntimeError(f"{name} has shape {tuple(value.shape)}, expected {shape}")


def tensors(shapes: Sequence[Shape]) -> tuple[Tensor, Tensor]:
    """Values (M, …) and radius (M,) of objects, for `Denoiser.encode`."""
    values = torch.from_numpy(np.stack([s.values for s in shapes]).astype(np.float32))
    return values, torch.tensor([s.radius for s in shapes], dtype=torch.float32)
