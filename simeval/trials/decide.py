"""One trial's decision: what a policy hears and asks for, and the record that comes of it."""

import logging
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from simeval.emg.recordings import LABELS, Recordings
from simeval.errors import SettingError, plugin_fault
from simeval.grasp import Array, GraspBatch
from simeval.physics.execute import blank_record
from simeval.records import Outcome, Trial, TrialRecord
from simeval.registry import make_policy
from simeval.taxonomy import GRASP_TYPES
from simeval.trials.draws import Scene, draw_signals, draw_type
from simeval.trials.grasps import Asked, Grasps
from simeval.trials.policies import Decision, Policy, Rejection, Situation
from simeval.trials.records import EndToEnd, Undecided
from simeval.trials.signals import Signals

Maker = Callable[[Scene, int], Policy]
"""From a scene and a seed to what decides in it."""
MOST_ASKED = 1000
"""Grasps that a policy may ask for at once."""
TIMED = 50
"""Trials of a row whose first command is timed."""
_REASON_LENGTH = 300

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Always:
    """Decides without listening."""

    grasp_type: str | None

    def decide(self, situation: Situation) -> Decision | Rejection:
        """See `Policy`."""
        return Decision(self.grasp_type)


REFERENCES: dict[str, Maker] = {
    "oracle": lambda scene, seed: Always(scene.intent),
    "random-type": lambda scene, seed: Always(draw_type(LABELS, scene, seed)),
    "type-blind": lambda scene, seed: Always(None),
}
"""What policies are compared with: the true type, one drawn at random, and a generator that isn't told any."""


def make_maker(text: str) -> Maker:
    """Return what makes the decisions of a policy, or of a reference.

    Raises:
        SettingError: unknown policy or setting.
    """
    name = text.partition(",")[0].strip()
    if name in REFERENCES:
        if "," in text:
            raise SettingError(f"policy {text!r}: {name} has no settings")
        return REFERENCES[name]
    policy = make_policy(text)
    return lambda scene, seed: policy


@dataclass(frozen=True, slots=True)
class Pending:
    """A trial that has been decided: its record so far, and what is to be executed, if anything."""

    record: EndToEnd
    trial: Trial | None

    def failure(self) -> TrialRecord:
        """Record of a grasp that was never made."""
        assert self.trial is not None
        return blank_record(self.trial, Outcome.GENERATOR_FAILED, self.trial.reason)


def complete(pending: Pending, grasp: TrialRecord) -> EndToEnd:
    """Return a trial's record, now that it is known what became of its grasp."""
    assert pending.trial is not None
    made = pending.trial.grasp is not None
    return replace(
        pending.record, grasp_trial=grasp.trial_id, outcome=grasp.outcome,
        reason=grasp.reason if made else pending.trial.reason,  # that of others who asked may be another
        commanded_type=grasp.commanded_type, achieved_type=grasp.achieved_type, execute_s=grasp.cpu_s,
    )  # fmt: skip


class Hearing:
    """See `Situation`; notes what is heard and asked for."""

    def __init__(self, scene: Scene, signals: Signals, order: list[int], grasps: Grasps) -> None:
        self._scene, self._signals, self._order, self._grasps = scene, signals, order, grasps
        self.heard = 0
        self.asked: dict[Asked, None] = {}
        self.elsewhere = 0.0  # CPU s that weren't the policy's
        self.broken: Exception | None = None  # an error that isn't the policy's fault

    def listen(self) -> Array | None:
        """See `Situation`."""
        if self.heard == len(self._order):
            return None
        self.heard += 1
        return self._signals.posteriors[self._order[self.heard - 1]].copy()

    def grasps(self, grasp_type: str | None, count: int) -> GraspBatch:
        """See `Situation`."""
        asked, begun = self.request(grasp_type, count), time.thread_time()
        self.asked[asked] = None
        try:
            return self._grasps.batch(asked)
        except Exception as error:
            self.broken = error
            raise
        finally:
            self.elsewhere += time.thread_time() - begun

    def chances(self, grasp_type: str, count: int) -> Array:
        """See `Situation`."""
        self.grasps(grasp_type, count)
        begun = time.thread_time()
        chances, seconds = self._grasps.chances(self.request(grasp_type, count))
        self.elsewhere += time.thread_time() - begun - seconds  # as if it were asked anew by every trial
        return chances.copy()

    def request(self, grasp_type: str | None, count: int) -> Asked:
        """Return the request that is meant.

        Raises:
            SettingError: no such type, or no such number of grasps.
        """
        if grasp_type is not None and grasp_type not in GRASP_TYPES:
            raise SettingError(f"no grasp type {grasp_type!r}")
        wrong = SettingError(f"{count!r} grasps were asked for, expected 1 to {MOST_ASKED}")
        try:
            number = operator.index(count)  # NumPy's, too
        except TypeError:
            raise wrong from None
        if isinstance(count, bool) or not 1 <= number <= MOST_ASKED:
            raise wrong
        return Asked(self._scene.object_code, self._scene.scale, grasp_type, number)

    @property
    def classify_s(self) -> float:
        """CPU seconds that classifying what was heard took."""
        return float(sum(self._signals.seconds[i] for i in self._order[: self.heard]))


@dataclass(frozen=True, slots=True)
class Decider:
    """All that the trials of a row share."""

    intents: str
    protocol: str
    policy: str
    maker: Maker
    signals: Signals
    recordings: Recordings
    grasps: Grasps
    seed: int

    def decide(self, scene: Scene, trial_id: str) -> Pending:
        """Decide a trial. Nothing that the policy does ends the run.

        Raises:
            SimevalError: a file can't be written.
        """
        order = draw_signals(self.signals, self.recordings, scene, self.seed)
        hearing = Hearing(scene, self.signals, order, self.grasps)
        begun = time.thread_time()
        decision = self._decision(scene, hearing)
        spent = time.thread_time() - begun - hearing.elsewhere
        record = self._record(scene, trial_id, hearing, order[0], spent)
        if not isinstance(decision, Decision):
            return Pending(replace(record, outcome=str(decision[0]), reason=decision[1][:_REASON_LENGTH]), None)
        asked = hearing.request(decision.grasp_type, decision.count)
        trial = self.grasps.trial(asked, decision.index)
        hearing.asked[asked] = None
        made = [self.grasps.generated(each) for each in hearing.asked]
        record = replace(
            record, decided_type=decision.grasp_type or "", asked=decision.count, index=decision.index,
            generate_s=sum(each.generate_s for each in made), refine_s=sum(each.refine_s for each in made),
            command_s=self.grasps.command_seconds(trial) if scene.number < TIMED else record.command_s,
        )  # fmt: skip
        return Pending(record, trial)

    def _decision(self, scene: Scene, hearing: Hearing) -> Decision | tuple[Undecided, str]:
        """Return the decision, or how and why there is none."""
        try:
            found = self.maker(scene, self.seed).decide(hearing)
            if isinstance(found, Rejection):
                return Undecided.REJECTED, str(found.reason)
            if not isinstance(found, Decision):
                return Undecided.POLICY_FAILED, f"decide() gave {found!r:.60}"
            asked = hearing.request(found.grasp_type, found.count)
            found = replace(found, count=asked.count, index=operator.index(found.index))
            if not 0 <= found.index < found.count:
                return Undecided.POLICY_FAILED, f"grasp {found.index} of {found.count} was decided on"
            return found
        except BaseException as error:
            reason = plugin_fault(error)
            if hearing.broken is not None:
                raise hearing.broken from error
            log.debug("policy %s failed", self.policy, exc_info=True)
            return Undecided.POLICY_FAILED, reason

    def _record(self, scene: Scene, trial_id: str, hearing: Hearing, position: int, spent: float) -> EndToEnd:
        row = int(self.signals.rows[position])
        return EndToEnd(
            trial_id=trial_id, number=scene.number, object_code=scene.object_code, scale=scene.scale,
            intent=scene.intent, intents=self.intents, protocol=self.protocol, policy=self.policy, recording=row,
            subject=str(self.recordings.subjects[row]), session=str(self.recordings.sessions[row]),
            fold=str(self.signals.folds[position]), posterior=self.signals.posteriors[position].tolist(),
            heard=hearing.heard, decided_type="", classify_s=hearing.classify_s, decide_s=spent,
        )  # fmt: skip
