"""What a run is made of: Condition, Trial, TrialRecord and the outcomes a trial can have."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import numpy as np

from simeval.grasp import GraspBatch

SCHEMA_VERSION = 2
NAN = math.nan


class Outcome(StrEnum):
    """How a trial ended: the first that applies, in this order."""

    GENERATOR_FAILED = "GENERATOR_FAILED"  # no grasp came back for this request
    INVALID_GRASP = "INVALID_GRASP"  # not finite, rotation off by > 1e-3, a joint > 0.7 rad beyond its limit
    START_PENETRATION = "START_PENETRATION"  # > 10 mm where the fingers start
    CRASHED = "CRASHED"  # the worker died
    TIMEOUT = "TIMEOUT"
    UNSTABLE = "UNSTABLE"  # NaN, > 20 m/s, > 1 m away
    NO_CONTACT = "NO_CONTACT"  # nothing touches the object when its support goes
    DROPPED = "DROPPED"  # nothing touches it at the end
    SLIPPED = "SLIPPED"  # >= 5 cm or >= 30 deg relative to the palm
    LIFTED = "LIFTED"  # success, in every protocol


@dataclass(frozen=True, slots=True)
class Condition:
    """What two generators share: the unit of pairing."""

    object_code: str
    scale: float
    grasp_type: str | None
    index: int  # which of the grasps requested for this object, scale and type
    protocol: str
    physics: str  # digest of the physical settings (friction, mass, ...)
    seed: int

    @property
    def condition_id(self) -> str:
        """16 hex digits that name this condition."""
        return _digest(json.dumps(asdict(self), sort_keys=True).encode())


@dataclass(frozen=True, slots=True)
class Trial:
    """A condition and the grasp that was tried; `grasp` is None when the generator gave none (`reason` says why)."""

    condition: Condition
    grasp: GraspBatch | None  # a batch of one
    object_digest: str = ""
    reason: str = ""

    @property
    def trial_id(self) -> str:
        """16 hex digits: digest of the condition, the object's geometry and the grasp's bytes."""
        parts = [self.condition.condition_id.encode(), self.object_digest.encode()]
        if self.grasp is not None:
            for name in ("rotation", "translation", "joints", "pregrasp", "squeeze"):
                value = getattr(self.grasp, name)
                parts.append(name.encode() + (b"-" if value is None else value.tobytes()))
        return _digest(b"|".join(parts))


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One row of the result store. Missing numbers are NaN, missing names empty; never a sentinel."""

    trial_id: str
    condition_id: str
    object_code: str
    scale: float
    grasp_type: str  # requested; "" where none was
    index: int
    protocol: str
    physics: str
    seed: int
    outcome: str  # an Outcome
    reason: str = ""  # why, for GENERATOR_FAILED, INVALID_GRASP, CRASHED, ...
    lift_m: float = NAN  # rise of the object's centre of mass with the palm
    slip_m: float = NAN  # largest displacement of the object's centre of mass relative to the palm
    tilt_rad: float = NAN  # largest rotation relative to the palm
    closing_shift_m: float = NAN  # displacement while the fingers closed
    directions_held: float = NAN  # six-direction: 0 to 6
    penetration_mm: float = NAN  # of the commanded grasp, before any motion
    penetration_held_mm: float = NAN  # when the squeeze is complete
    self_penetration_mm: float = NAN  # of the commanded grasp
    joint_clip_rad: float = NAN  # largest excess over a joint limit
    contacts: str = ""  # links in contact after the squeeze, comma-separated
    thumb_opposition: float = NAN  # then: cosine between the thumb's mean push and that of all else; −1 is opposed
    index_side: float = NAN  # then: the index finger's mean push towards the thumb's side; 1 is with its side
    commanded_type: str = ""  # by the joints of the grasp
    achieved_type: str = ""  # by contacts, pushes and joints after the squeeze; "" where it is none of the types
    rotation: list[float] = field(default_factory=list)  # the grasp that was tried: 9, 3, 22, 0|22, 0|22 numbers
    translation: list[float] = field(default_factory=list)
    joints: list[float] = field(default_factory=list)
    pregrasp: list[float] = field(default_factory=list)
    squeeze: list[float] = field(default_factory=list)
    score: float = NAN
    steps: int = 0  # physics steps taken
    wall_s: float = NAN  # timings are not part of the result
    cpu_s: float = NAN
    schema: int = SCHEMA_VERSION

    @property
    def success(self) -> bool:
        """Whether this trial counts as one."""
        return self.outcome == Outcome.LIFTED


TIMING_FIELDS = ("wall_s", "cpu_s")
"""Fields that may differ between two runs of the same trial; every other one is reproduced bit for bit."""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def digest_arrays(*arrays: np.ndarray) -> str:
    """16 hex digits that name some arrays' bytes, shapes and dtypes."""
    return _digest(b"|".join(str((a.shape, a.dtype.str)).encode() + a.tobytes() for a in arrays))
