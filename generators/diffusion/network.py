"""The source system's denoiser: an object encoder and a residual network over the embedded numbers of a grasp.

A denoiser, this or `local.LocalDenoiser`, packs objects once, encodes some of them for a batch, and denoises many
grasps of each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from simeval.generators.diffusion.coding import Grasps
from simeval.generators.diffusion.geometry import BASIS_COUNT, GeometryCode, Shape

FEW = 4
"""From so many rows on a matrix product rounds each row alike; of fewer, as many are multiplied as there are grasps."""
VALUE_SCALE = 25.0
"""Numbers from −1 to 1 are multiplied by this before their sine and cosine are taken, so that small steps show."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Size of a denoiser; the defaults are the source system's."""

    geometry: GeometryCode = "scaled-map"
    object_size: Annotated[int, Field(ge=1)] = 512
    embedding: Annotated[int, Field(ge=4)] = 64  # of every number and of the step
    width: Annotated[int, Field(ge=1)] = 128
    blocks: Annotated[int, Field(ge=1)] = 3


class Sinusoids(nn.Module):
    """Sines and cosines of a number at geometrically spaced frequencies: (*, ) to (*, size)."""

    frequency: Tensor

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        half = size // 2
        frequency = torch.exp(-math.log(10_000.0) / (half - 1) * torch.arange(half)) * scale
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        """Embed."""
        angle = value[..., None] * self.frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class MapEncoder(nn.Module):
    """Three 3³ convolutions of 16, 32 and 64 channels, each with ReLU and max-pooling by 2, then a linear layer.

    Pooled before ReLU, which gives the same, and with channels last: half the time on a CPU.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv3d(inner, outer, 3), nn.MaxPool3d(2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4**3, size))
        self.layers.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, values: Tensor) -> Tensor:
        """(M, 50, 50, 50) to (M, size)."""
        return self.layers(values[:, None].contiguous(memory_format=torch.channels_last_3d))


class BasisEncoder(nn.Module):
    """Two hidden layers over the basis points' distances and directions."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(4 * BASIS_COUNT, size), nn.GELU(), nn.Linear(size, size), nn.GELU(),
            nn.Linear(size, size),
        )  # fmt: skip

    def forward(self, values: Tensor) -> Tensor:
        """(M, 1024, 4) to (M, size)."""
        return self.layers(values)


class Block(nn.Module):
    """x + GELU(linear(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) to (B, width)."""
        return x + nn.functional.gelu(self.linear(x))


class Packed(NamedTuple):
    """M objects."""

    values: Tensor  # (M, …), `Shape.values`; maps in half precision, for there may be thousands
    radius: Tensor  # (M,) m


class Denoiser(nn.Module):
    """Predict from a noised grasp (`size` numbers), its step, its condition and its object."""

    def __init__(self, spec: NetworkSpec, size: int, condition: int) -> None:
        super().__init__()
        self.value = Sinusoids(spec.embedding, VALUE_SCALE)
        self.step = Sinusoids(spec.embedding, 1.0)
        encoder = BasisEncoder if spec.geometry == "basis-points" else MapEncoder
        self.encoder = encoder(spec.object_size)
        self.sized = spec.geometry != "scaled-map"  # whether the object's radius is told beside its shape
        inputs = spec.embedding * (size + 1) + condition + spec.object_size + self.sized
        self.layers = nn.Sequential(
            nn.Linear(inputs, spec.width), nn.GELU(), *(Block(spec.width) for _ in range(spec.blocks)),
            nn.Linear(spec.width, size),
        )  # fmt: skip

    def pack(self, shapes: Sequence[Shape], device: str = "cpu") -> Packed:
        """Bring objects (M) to a device."""
        values = torch.from_numpy(np.stack([s.values for s in shapes]).astype(np.float32))
        radius = torch.tensor([s.radius for s in shapes], dtype=torch.float32)
        return Packed((values.half() if values.ndim == 4 else values).to(device), radius.to(device))

    def encode(self, packed: Packed, objects: Tensor) -> Tensor:
        """Encode some objects (K,) of those packed: (K, F)."""
        found = self.encoder(packed.values[objects].float())
        size = (packed.radius[objects, None] / 0.1).log()
        return torch.cat([found, size], dim=1) if self.sized else found

    def tell(self, step: Tensor, condition: Tensor) -> list[Tensor]:
        """What a denoiser makes of steps (R,), each with A conditions (A, R, C): tensors (A, R, …) for `forward`."""
        return [torch.cat([self.step(step.float()).expand(len(condition), -1, -1), condition], dim=2)]

    def forward(
        self, noised: Tensor, told: Sequence[Tensor], encoded: Tensor, owner: Tensor, guess: Grasps | None
    ) -> Tensor:  # fmt: skip
        """Predict (A, B, D) from noised (B, D), as told A times.

        Args:
            noised: (B, D).
            told: of `tell` for the B, or for one step and condition that all share: (A, B or 1, …).
            encoded: (K, F) objects.
            owner: (B,) which of them.
            guess: what the grasps may be; not looked at.
        """
        parts = self.value(noised).flatten(1), told[0], encoded[owner]
        return self.layers(torch.cat([part.expand(len(told[0]), len(noised), -1) for part in parts], dim=2))
