"""A grasp as the numbers that a denoiser sees: which quantities, in which frame, on which scale."""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from simeval.grasp import JOINT_COUNT
from simeval.hand import load_hand

JointCode = Literal["angles", "pca", "vae", "none"]
RotationCode = Literal["euler", "6d"]
TranslationCode = Literal["metric", "object", "grasp-point", "centered"]
ScaleCode = Literal["range", "spread"]
GRASP_POINT = (0.005, -0.035, 0.09)
"""A point between palm and fingers, palm frame [m]: where it lies on the object hardly depends on the wrist's turn."""

REACH = 0.1  # m
LEAST_SPREAD = 0.02  # of a joint's number, which is −1 to 1 over its limits
VAE_HIDDEN, VAE_STEPS, VAE_BATCH = 64, 3000, 256
VAE_BETA = 0.01
"""Weight of the divergence beside the squared error of all joints, each −1 to 1 over its limits."""


@dataclass(frozen=True, slots=True)
class CodeSpec:
    """How a grasp is written down."""

    joints: JointCode = "angles"
    """All 22; as many numbers as `components`, main components or a small variational autoencoder's, fitted once on the
    whole training set; or none of them."""
    rotation: RotationCode = "6d"
    """`euler`: 3 angles that wrap, as DexGraspNet's. `6d`: two columns of the matrix, continuous (Zhou et al. 2019, doi
    10.1109/CVPR.2019.00589)."""
    translation: TranslationCode = "grasp-point"
    """`metric`: the wrist in the object's frame, in metres. `object`: from the centre of mass, over the object's
    radius. `grasp-point`: likewise of a point between palm and fingers. `centered`: that point from the centre of mass,
    in metres."""
    components: Annotated[int, Field(ge=1, le=JOINT_COUNT)] = 15
    scale: ScaleCode = "range"
    """What becomes −1 to 1. `range`: each number's range over the training set. `spread`: two standard deviations
    around the mean of each joint's number; directions as they are, and `REACH`, alike along every axis: turning the
    object and the hand turns the code."""

    @property
    def joint_size(self) -> int:
        """Numbers that the joints take."""
        return {"angles": JOINT_COUNT, "pca": self.components, "vae": self.components, "none": 0}[self.joints]

    @property
    def size(self) -> int:
        """Numbers in all."""
        return self.joint_size + {"euler": 3, "6d": 6}[self.rotation] + 3


class Place(NamedTuple):
    """Where the objects are that grasps are written down relative to."""

    center: Tensor  # (N, 3) m, of mass
    radius: Tensor  # (N,) m, of the smallest sphere around it that holds the object


class Grasps(NamedTuple):
    """N grasps as tensors."""

    rotation: Tensor  # (N, 3, 3)
    translation: Tensor  # (N, 3) m
    joints: Tensor  # (N, 22) rad


class Basis(NamedTuple):
    """Main components of the joints, each joint over its range from −1 to 1."""

    mean: Tensor  # (22,)
    components: Tensor  # (C, 22), orthonormal rows

    @staticmethod
    def sizes(components: int) -> dict[str, tuple[int, ...]]:
        """Shape of each of its numbers."""
        return {"mean": (JOINT_COUNT,), "components": (components, JOINT_COUNT)}

    def write(self, unit: Tensor) -> Tensor:
        """(N, C) of joints (N, 22), −1 to 1."""
        return (unit - self.mean) @ self.components.T

    def read(self, code: Tensor) -> Tensor:
        """Joints (N, 22), about −1 to 1, of (N, C)."""
        return self.mean + code @ self.components


class Autoencoder(NamedTuple):
    """A variational autoencoder of the joints, one hidden layer each way (Kingma & Welling 2014, arXiv 1312.6114)."""

    into: Tensor  # (H, 22)
    into_bias: Tensor  # (H,)
    code: Tensor  # (C, H)
    code_bias: Tensor  # (C,)
    back: Tensor  # (H, C)
    back_bias: Tensor  # (H,)
    out: Tensor  # (22, H)
    out_bias: Tensor  # (22,)

    @staticmethod
    def sizes(components: int) -> dict[str, tuple[int, ...]]:
        """Shape of each of its numbers."""
        return {
            "into": (VAE_HIDDEN, JOINT_COUNT), "into_bias": (VAE_HIDDEN,),
            "code": (components, VAE_HIDDEN), "code_bias": (components,),
            "back": (VAE_HIDDEN, components), "back_bias": (VAE_HIDDEN,),
            "out": (JOINT_COUNT, VAE_HIDDEN), "out_bias": (JOINT_COUNT,),
        }  # fmt: skip

    def write(self, unit: Tensor) -> Tensor:
        """(N, C), the mean of the posterior, of joints (N, 22), −1 to 1."""
        return (unit @ self.into.T + self.into_bias).tanh() @ self.code.T + self.code_bias

    def read(self, code: Tensor) -> Tensor:
        """Joints (N, 22), about −1 to 1, of (N, C)."""
        return (code @ self.back.T + self.back_bias).tanh() @ self.out.T + self.out_bias


Latents = Basis | Autoencoder
"""Fewer numbers that the joints are written in."""
LATENTS: dict[str, tuple[str, type[Basis] | type[Autoencoder]]] = {
    "pca": ("basis", Basis),
    "vae": ("autoencoder", Autoencoder),
}
"""By `CodeSpec.joints`: what they are called in a file of weights, and their class."""


class Scale(NamedTuple):
    """Range of each number over the training set; it becomes −1 to 1."""

    low: Tensor  # (D,)
    high: Tensor  # (D,)

    def to_unit(self, raw: Tensor) -> Tensor:
        """(N, D) to −1 … 1."""
        return 2 * (raw - self.low) / (self.high - self.low).clamp(min=1e-6) - 1

    def from_unit(self, unit: Tensor) -> Tensor:
        """(N, D) from −1 … 1."""
        return self.low + (unit + 1) / 2 * (self.high - self.low).clamp(min=1e-6)


def fit_basis(joints: Tensor, components: int) -> Basis:
    """Fit main components to joints (N, 22) rad."""
    unit = _joints_to_unit(joints)
    mean = unit.mean(0)
    _, _, rows = torch.linalg.svd(unit - mean, full_matrices=False)
    return Basis(mean, rows[:components])


def fit_autoencoder(joints: Tensor, components: int) -> Autoencoder:
    """Fit an autoencoder to joints (N, 22) rad; the same every time, torch's own generator isn't touched."""
    unit = _joints_to_unit(joints)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        into, both = torch.nn.Linear(JOINT_COUNT, VAE_HIDDEN), torch.nn.Linear(VAE_HIDDEN, 2 * components)
        back, out = torch.nn.Linear(components, VAE_HIDDEN), torch.nn.Linear(VAE_HIDDEN, JOINT_COUNT)
        layers = torch.nn.ModuleList([into, both, back, out])
        optimizer = torch.optim.Adam(layers.parameters(), 2e-3)
        for _ in range(VAE_STEPS):
            x = unit[torch.randint(len(unit), (VAE_BATCH,))]
            mean, log_variance = both(into(x).tanh()).chunk(2, dim=1)
            code = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            error = (out(back(code).tanh()) - x).square().sum(1)
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
            optimizer.zero_grad()
            (error + VAE_BETA * divergence).mean().backward()
            optimizer.step()
    found = Autoencoder(
        into.weight, into.bias, both.weight[:components], both.bias[:components], back.weight, back.bias, out.weight,
        out.bias,
    )  # fmt: skip
    return Autoencoder(*(value.detach().clone() for value in found))


def fit_latents(spec: CodeSpec, joints: Tensor) -> Latents | None:
    """Fit what a code writes joints (N, 22) rad in; None where it writes them as they are, or not at all."""
    if spec.joints == "vae":
        return fit_autoencoder(joints, spec.components)
    return fit_basis(joints, spec.components) if spec.joints == "pca" else None


def fit_scale(spec: CodeSpec, raw: Tensor) -> Scale:
    """Fit the scale of codes (N, D)."""
    if spec.scale == "range":
        return Scale(raw.min(0).values, raw.max(0).values)
    size = spec.joint_size
    mean = raw[:, :size].mean(0)
    spread = 2 * (raw[:, :size] - mean).square().mean(0).sqrt().clamp(min=LEAST_SPREAD)
    reach = raw.new_full((spec.size - size,), 1.0)
    reach[-3:] = REACH if spec.translation in ("metric", "centered") else 1.0
    return Scale(torch.cat([mean - spread, -reach]), torch.cat([mean + spread, reach]))


def write_code(spec: CodeSpec, grasps: Grasps, place: Place, latents: Latents | None = None) -> Tensor:
    """Write grasps down as (N, D) numbers, not yet scaled."""
    columns = []
    if spec.joints == "angles":
        columns.append(_joints_to_unit(grasps.joints))
    elif spec.joints != "none":
        columns.append(_known(latents).write(_joints_to_unit(grasps.joints)))
    columns.append(_euler(grasps.rotation) if spec.rotation == "euler" else grasps.rotation[:, :, :2].mT.flatten(1))
    moved = grasps.translation
    if spec.translation in ("grasp-point", "centered"):
        moved = moved + grasps.rotation @ moved.new_tensor(GRASP_POINT)
    if spec.translation != "metric":
        moved = (moved - place.center) / _unit(spec, place)
    return torch.cat([*columns, moved], dim=1)


def read_code(
    spec: CodeSpec, raw: Tensor, place: Place, latents: Latents | None = None, posture: Tensor | None = None
) -> Grasps:
    """Read grasps from (N, D) numbers; differentiable. `posture` (N, 22) rad: the joints where the code has none."""
    joint, turn, moved = raw.split([spec.joint_size, spec.size - spec.joint_size - 3, 3], dim=1)
    if spec.joints == "angles":
        joints = _joints_from_unit(joint)
    elif spec.joints != "none":
        joints = _joints_from_unit(_known(latents).read(joint))
    else:
        joints = raw.new_zeros(len(raw), JOINT_COUNT) if posture is None else posture
    rotation = _from_euler(turn) if spec.rotation == "euler" else _from_columns(turn)
    if spec.translation != "metric":
        moved = place.center + moved * _unit(spec, place)
    if spec.translation in ("grasp-point", "centered"):
        moved = moved - rotation @ moved.new_tensor(GRASP_POINT)
    return Grasps(rotation, moved, joints)


def _unit(spec: CodeSpec, place: Place) -> Tensor | float:
    return 1.0 if spec.translation == "centered" else place.radius[:, None]


def _known(latents: Latents | None) -> Latents:
    if latents is None:
        raise ValueError("a code with main components or an autoencoder's needs what they were fitted to")
    return latents


def _joints_to_unit(joints: Tensor) -> Tensor:
    low, high = _limits(joints)
    return 2 * (joints - low) / (high - low) - 1


def _joints_from_unit(unit: Tensor) -> Tensor:
    low, high = _limits(unit)
    return low + (unit.clamp(-1, 1) + 1) / 2 * (high - low)


def _limits(like: Tensor) -> tuple[Tensor, Tensor]:
    return _kept_limits(like.dtype, like.device)


@cache
def _kept_limits(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    low, high = load_hand().lower, load_hand().upper
    with torch.inference_mode(False):  # what is made in inference mode couldn't train later
        return torch.tensor(low, dtype=dtype, device=device), torch.tensor(high, dtype=dtype, device=device)


def _euler(m: Tensor) -> Tensor:
    """Static xyz Euler angles (N, 3), as `simeval.grasp.matrix_to_euler` away from gimbal lock."""
    y = torch.atan2(-m[:, 2, 0], torch.hypot(m[:, 0, 0], m[:, 1, 0]))
    return torch.stack([torch.atan2(m[:, 2, 1], m[:, 2, 2]), y, torch.atan2(m[:, 1, 0], m[:, 0, 0])], dim=1)


def _from_euler(angles: Tensor) -> Tensor:
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(1), angles.sin().unbind(1)
    rows = [
        torch.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], dim=1),
        torch.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], dim=1),
        torch.stack([-sy, cy * sx, cy * cx], dim=1),
    ]
    return torch.stack(rows, dim=1)


def _from_columns(columns: Tensor) -> Tensor:
    """Rotation (N, 3, 3) from two columns (N, 6), made orthonormal."""
    first, second = columns[:, :3], columns[:, 3:]
    x = torch.nn.functional.normalize(first, dim=1)
    y = torch.nn.functional.normalize(second - (x * second).sum(1, keepdim=True) * x, dim=1)
    return torch.stack([x, y, torch.linalg.cross(x, y, dim=1)], dim=2)
