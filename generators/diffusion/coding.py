"""A grasp as the numbers that a denoiser sees: which quantities, in which frame, on which scale."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from simeval.grasp import JOINT_COUNT
from simeval.hand import load_hand

JointCode = Literal["angles", "pca", "none"]
RotationCode = Literal["euler", "6d"]
TranslationCode = Literal["metric", "object", "grasp-point", "centered"]
ScaleCode = Literal["range", "spread"]
GRASP_POINT = (0.005, -0.035, 0.09)
"""A point between palm and fingers, palm frame [m]: where it lies on the object hardly depends on the wrist's turn."""

REACH = 0.1  # m
LEAST_SPREAD = 0.02  # of a joint's number, which is −1 to 1 over its limits


@dataclass(frozen=True, slots=True)
class CodeSpec:
    """How a grasp is written down."""

    joints: JointCode = "angles"
    """All 22, their `components` main components (fitted once, on the whole training set), or none of them."""
    rotation: RotationCode = "6d"
    """`euler`: 3 angles that wrap, as DexGraspNet's. `6d`: two columns of the matrix, continuous (Zhou et al. 2019, doi
    10.1109/CVPR.2019.00589)."""
    translation: TranslationCode = "grasp-point"
    """`metric`: the wrist in the object's frame, in metres. `object`: from the centre of mass, over the object's
    radius. `grasp-point`: likewise of a point between palm and fingers. `centered`: that point from the centre of mass,
    in metres."""
    components: int = 15
    scale: ScaleCode = "range"
    """What becomes −1 to 1. `range`: each number's range over the training set. `spread`: two standard deviations
    around the mean of each joint's number; directions as they are, and `REACH`, alike along every axis: turning the
    object and the hand turns the code."""

    @property
    def joint_size(self) -> int:
        """Numbers that the joints take."""
        return {"angles": JOINT_COUNT, "pca": self.components, "none": 0}[self.joints]

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


def write_code(spec: CodeSpec, grasps: Grasps, place: Place, basis: Basis | None = None) -> Tensor:
    """Write grasps down as (N, D) numbers, not yet scaled."""
    columns = []
    if spec.joints == "angles":
        columns.append(_joints_to_unit(grasps.joints))
    elif spec.joints == "pca":
        columns.append((_joints_to_unit(grasps.joints) - _known(basis).mean) @ _known(basis).components.T)
    columns.append(_euler(grasps.rotation) if spec.rotation == "euler" else grasps.rotation[:, :, :2].mT.flatten(1))
    moved = grasps.translation
    if spec.translation in ("grasp-point", "centered"):
        moved = moved + grasps.rotation @ moved.new_tensor(GRASP_POINT)
    if spec.translation != "metric":
        moved = (moved - place.center) / _unit(spec, place)
    return torch.cat([*columns, moved], dim=1)


def read_code(
    spec: CodeSpec, raw: Tensor, place: Place, basis: Basis | None = None, posture: Tensor | None = None
) -> Grasps:
    """Read grasps from (N, D) numbers; differentiable. `posture` (N, 22) rad: the joints where the code has none."""
    joint, turn, moved = raw.split([spec.joint_size, spec.size - spec.joint_size - 3, 3], dim=1)
    if spec.joints == "angles":
        joints = _joints_from_unit(joint)
    elif spec.joints == "pca":
        joints = _joints_from_unit(_known(basis).mean + joint @ _known(basis).components)
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


def _known(basis: Basis | None) -> Basis:
    if basis is None:
        raise ValueError("a code with main components needs their basis")
    return basis


def _joints_to_unit(joints: Tensor) -> Tensor:
    low, high = _limits(joints)
    return 2 * (joints - low) / (high - low) - 1


def _joints_from_unit(unit: Tensor) -> Tensor:
    low, high = _limits(unit)
    return low + (unit.clamp(-1, 1) + 1) / 2 * (high - low)


def _limits(like: Tensor) -> tuple[Tensor, Tensor]:
    hand = load_hand()
    return like.new_tensor(hand.lower), like.new_tensor(hand.upper)


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
