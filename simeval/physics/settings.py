"""Physical and numerical settings of a trial; all of them are part of the result and named by one digest."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from simeval.errors import SettingError, unknown_name

GRAVITY = 9.81
"""Standard gravity [m/s²]; every protocol tests at 1 g."""

CLOSINGS = ("contact", "flexion")
POSITIVE = (
    "friction", "density", "timestep", "solver_residual", "contact_distance", "torque_scale", "servo_time",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Physics:
    """How a trial is simulated. The defaults were chosen by `benchmarks/convergence.py`."""

    friction: float = 1.0
    """Coulomb coefficient between hand and object."""
    torsional_friction: float = 0.005
    """Torsional friction of the fingertips [m]: torque about the normal over normal force (the MJCF's 5 mm)."""
    density: float = 500.0
    """Object density [kg/m³]; ignored where `mass_kg` is given."""
    mass_kg: float | None = None
    """Fixed object mass [kg]."""
    timestep: float = 1 / 240
    """Physics step [s]."""
    iterations: int = 200
    """Most constraint solver iterations a step; the solver stops earlier at `solver_residual`."""
    solver_residual: float = 1e-4
    """Least-squares residual at which the constraint solver stops iterating."""
    contact_distance: float = 0.005
    """Distance [m] within which Bullet keeps a contact in its solver."""
    torque_scale: float = 1.0
    """Multiplies the joint torque limits (the MJCF's actuator force ranges)."""
    servo_time: float = 1 / 48
    """Time constant [s] of the joint position servos; as a Bullet position gain it is timestep / servo_time."""
    closing: str = "contact"
    """How the hand squeezes: `contact` (balanced forces along the contact normals) or `flexion` (all joints alike)."""
    opening_rad: float = 0.0
    """How far every flexion joint opens from the grasp to where the fingers start (unless the grasp says)."""
    squeeze_rad: float = 0.12
    """Largest joint step of the squeeze beyond the grasp (unless the grasp says)."""
    stop_early: bool = True
    """Stop a gravity direction once the object is provably at rest or lost."""

    def __post_init__(self) -> None:
        """Refuse what can't be simulated."""
        for name in POSITIVE:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise SettingError(f"{name} must be a positive number, found {value}")
        if not 0 <= self.torsional_friction < float("inf"):
            raise SettingError(f"torsional_friction must be a number from 0, found {self.torsional_friction}")
        if self.mass_kg is not None and not 0 < self.mass_kg < float("inf"):
            raise SettingError(f"mass_kg must be a positive number, found {self.mass_kg}")
        if self.closing not in CLOSINGS:
            raise unknown_name("closing rule", self.closing, CLOSINGS)
        if self.iterations < 1:
            raise SettingError(f"iterations must be at least 1, found {self.iterations}")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the manifest."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """8 hex digits that name these settings."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:8]

    @staticmethod
    def names() -> list[str]:
        """Names of all settings."""
        return [f.name for f in fields(Physics)]
