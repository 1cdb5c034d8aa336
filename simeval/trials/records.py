"""What is kept of an end-to-end trial, and of what a generator gave."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from simeval.records import Outcome
from simeval.store import Kind

NAN = math.nan


class Undecided(StrEnum):
    """How a trial ended that never came to a grasp; any other outcome is a `simeval.records.Outcome`."""

    REJECTED = "REJECTED"  # the policy gave up
    POLICY_FAILED = "POLICY_FAILED"  # the policy raised, or decided on something that doesn't exist


class Fate(StrEnum):
    """Where a trial's success was lost, the first that applies; each trial has one."""

    RIGHT = "right type, lifted"
    OTHER = "another type, lifted"  # or no type at all
    UNDECIDED = "no decision"  # rejected, or the policy failed
    INTENT = "wrong type, not lifted"
    GENERATION = "no sound grasp"  # of the right type, or of any where none was asked for
    PHYSICS = "not held"


_UNDECIDED = frozenset(Undecided)
UNSOUND = (Outcome.GENERATOR_FAILED, Outcome.INVALID_GRASP, Outcome.START_PENETRATION)
"""Outcomes that are the generator's fault before anything moves."""


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """One end-to-end trial. Seconds are CPU seconds on one core; NaN where a stage didn't run or wasn't timed."""

    trial_id: str
    number: int  # the same number is the same scene in every row of the same seed and intents
    object_code: str
    scale: float
    intent: str
    intents: str  # how they were drawn
    protocol: str
    policy: str  # and its settings, as text
    recording: int  # row of the recordings
    subject: str
    session: str
    fold: str  # of the protocol: which classifier it was
    posterior: list[float]  # (6,) of the recording, over LABELS
    heard: int  # signals that the policy listened to: 1 + repetitions
    decided_type: str  # "" where none was
    asked: int = 0  # grasps asked for; 0 where none were
    index: int = 0  # which of them was tried
    grasp_trial: str = ""  # id of the trial that executed it, in the run folder
    outcome: str = ""  # an Undecided or an Outcome
    reason: str = ""
    commanded_type: str = ""
    achieved_type: str = ""
    classify_s: float = NAN  # of all signals heard
    decide_s: float = NAN  # of the policy alone
    generate_s: float = NAN
    refine_s: float = NAN
    command_s: float = NAN  # from a grasp to the joint angles that are sent first
    execute_s: float = NAN  # of the simulation

    @property
    def lifted(self) -> bool:
        """Whether the object was lifted and held, whatever was meant."""
        return self.outcome == Outcome.LIFTED

    @property
    def right_type(self) -> bool:
        """Whether the decided type is the intended one."""
        return self.decided_type == self.intent

    @property
    def fate(self) -> Fate:
        """Where success was lost."""
        if self.lifted:
            return Fate.RIGHT if self.right_type else Fate.OTHER
        if self.outcome in _UNDECIDED:
            return Fate.UNDECIDED
        if self.decided_type and not self.right_type:
            return Fate.INTENT
        return Fate.GENERATION if self.outcome in UNSOUND else Fate.PHYSICS

    @property
    def chain_s(self) -> float:
        """CPU seconds from signal to first command, without refinement; NaN where a stage is missing."""
        return self.classify_s + self.decide_s + self.generate_s + self.command_s


STAGES = ("classify_s", "decide_s", "generate_s", "refine_s", "command_s", "execute_s")
"""Fields that are measured, not computed: they differ between two runs of the same trial."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a generator gave for one request; arrays are flat."""

    request_id: str
    object_code: str
    scale: float
    grasp_type: str  # "" for any
    count: int
    object_digest: str
    reason: str  # why grasps are missing
    found: int
    rotation: list[float] = field(default_factory=list)
    translation: list[float] = field(default_factory=list)
    joints: list[float] = field(default_factory=list)
    pregrasp: list[float] = field(default_factory=list)
    squeeze: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    generate_s: float = NAN
    refine_s: float = NAN


END_TO_END = Kind(EndToEnd, 1, "trial_id", ("number", "trial_id"), "end_to_end.json", "simeval trials run")
GENERATED = Kind(Generated, 1, "request_id", ("request_id",), "generated.json", "simeval trials run")
