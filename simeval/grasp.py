"""GraspBatch and the 28-d vector of DexGraspNet (22 joints, 3 Euler angles, 3 translations)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simeval.errors import GraspError

Array = NDArray[np.float64]

JOINT_NAMES: tuple[str, ...] = (
    "FFJ3", "FFJ2", "FFJ1", "FFJ0", "MFJ3", "MFJ2", "MFJ1", "MFJ0", "RFJ3", "RFJ2", "RFJ1", "RFJ0",
    "LFJ4", "LFJ3", "LFJ2", "LFJ1", "LFJ0", "THJ4", "THJ3", "THJ2", "THJ1", "THJ0",
)  # fmt: skip
"""Joint order of DexGraspNet, which is also the depth-first order of the MJCF (facts: prefix `robot0:`)."""

FLEXION_SIGN: Array = np.array([0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, -1], dtype=float)
"""(22,) direction in which each joint closes the hand: MCP, PIP, DIP of the fingers close towards +, THJ0 towards −.

Spread joints (J3), LFJ4 and the thumb's base joints neither open nor close the hand on their own.
"""

POSE_NAMES: tuple[str, ...] = ("WRJRx", "WRJRy", "WRJRz", "WRJTx", "WRJTy", "WRJTz")
VECTOR_NAMES: tuple[str, ...] = JOINT_NAMES + POSE_NAMES
JOINT_COUNT = len(JOINT_NAMES)


@dataclass(frozen=True, slots=True)
class GraspBatch:
    """N grasps in the object frame: p_object = rotation @ p_palm + translation.

    The palm frame is the `robot0:palm` body (fingers +z, thumb +x, flexion towards −y).
    Values are not checked here (the executor records a bad grasp as INVALID_GRASP); shapes are.

    Raises:
        GraspError: an array has the wrong shape or isn't numeric.
    """

    rotation: Array  # (N, 3, 3)
    translation: Array  # (N, 3) m
    joints: Array  # (N, 22) rad
    pregrasp: Array | None = None  # (N, 22) rad, where the fingers start; None: the executor's rule
    squeeze: Array | None = None  # (N, 22) rad, where they push to; None: the executor's rule
    score: Array | None = None  # (N,) higher is better

    def __post_init__(self) -> None:
        """Convert to float64 and check every shape."""
        shapes: dict[str, tuple[int, ...]] = {
            "rotation": (3, 3), "translation": (3,), "joints": (JOINT_COUNT,),
            "pregrasp": (JOINT_COUNT,), "squeeze": (JOINT_COUNT,), "score": (),
        }  # fmt: skip
        count: int | None = None
        for name, tail in shapes.items():
            value = getattr(self, name)
            if value is None:
                if name in ("rotation", "translation", "joints"):
                    raise GraspError(f"{name} is missing")
                continue
            try:
                if np.iscomplexobj(value):
                    raise TypeError("it is complex")
                value = np.array(value, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise GraspError(f"{name} is not numeric: {error}") from None
            if value.ndim != 1 + len(tail) or value.shape[1:] != tail:
                raise GraspError(f"{name} has shape {value.shape}, expected {('N', *tail)}")
            count = value.shape[0] if count is None else count
            if value.shape[0] != count:
                raise GraspError(f"{name} holds {value.shape[0]} grasps, rotation holds {count}")
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return self.rotation.shape[0]

    def __getitem__(self, index: int | slice | ArrayLike) -> "GraspBatch":
        """Return the chosen grasps; an integer gives a batch of one."""
        keep = slice(index, index + 1 or None) if isinstance(index, int) else index
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        kept: dict[str, Any] = {name: None if v is None else v[keep] for name, v in values.items()}
        return replace(self, **kept)

    def __iter__(self) -> Iterator["GraspBatch"]:
        return (self[i] for i in range(len(self)))

    def with_(self, **changes: ArrayLike | None) -> "GraspBatch":
        """Return a copy with some arrays replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @staticmethod
    def empty() -> "GraspBatch":
        """Return a batch of no grasps."""
        return GraspBatch(np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros((0, JOINT_COUNT)))

    @staticmethod
    def concatenate(batches: Sequence["GraspBatch"]) -> "GraspBatch":
        """Join batches; an optional array is kept only where every batch has it."""
        if not batches:
            return GraspBatch.empty()
        columns = {f.name: [getattr(b, f.name) for b in batches] for f in fields(GraspBatch)}
        joined: dict[str, Any] = {
            name: None if any(v is None for v in column) else np.concatenate(column) for name, column in columns.items()
        }
        return replace(batches[0], **joined)

    def to_vectors(self) -> Array:
        """Return (N, 28): 22 joints [rad], static-xyz Euler angles [rad], translation [m]."""
        return np.concatenate([self.joints, matrix_to_euler(self.rotation), self.translation], axis=1)

    @staticmethod
    def from_vectors(vectors: ArrayLike) -> "GraspBatch":
        """Read (N, 28) vectors in the order of `VECTOR_NAMES`."""
        v = np.asarray(vectors, dtype=np.float64)
        if v.ndim != 2 or v.shape[1] != len(VECTOR_NAMES):
            raise GraspError(f"grasp vectors have shape {v.shape}, expected (N, {len(VECTOR_NAMES)})")
        return GraspBatch(euler_to_matrix(v[:, 22:25]), v[:, 25:28], v[:, :22])


def euler_to_matrix(angles: ArrayLike) -> Array:
    """Static (extrinsic) xyz Euler angles (..., 3) [rad] to rotation matrices: R = Rz Ry Rx, as in DexGraspNet."""
    a = np.asarray(angles, dtype=np.float64)
    (cx, cy, cz), (sx, sy, sz) = np.moveaxis(np.cos(a), -1, 0), np.moveaxis(np.sin(a), -1, 0)
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_euler(rotation: ArrayLike) -> Array:
    """Invert `euler_to_matrix`; the y angle lies in [−π/2, π/2]. NaN in, NaN out."""
    m = np.asarray(rotation, dtype=np.float64)
    y = np.arctan2(-m[..., 2, 0], np.hypot(m[..., 0, 0], m[..., 1, 0]))
    locked = np.abs(m[..., 2, 0]) > 1 - 1e-12  # gimbal lock: only x ∓ z is defined, put it all into x
    x = np.where(locked, np.arctan2(-m[..., 1, 2], m[..., 1, 1]), np.arctan2(m[..., 2, 1], m[..., 2, 2]))
    z = np.where(locked, 0.0, np.arctan2(m[..., 1, 0], m[..., 0, 0]))
    return np.stack([x, y, z], axis=-1)
