"""Run one trial: check the grasp, measure it, build its world, follow its protocol, write its record."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from simeval.errors import unknown_name
from simeval.grasp import Array, GraspBatch
from simeval.hand import load_hand
from simeval.metrics.penetration import measure
from simeval.metrics.types import achieved_type, commanded_types, index_side, thumb_opposition
from simeval.objects.model import ObjectModel
from simeval.physics.closing import Plan, make_plan
from simeval.physics.collision import prepare
from simeval.physics.protocols import UnstableError, Verdict, Watch, lift, six_direction
from simeval.physics.settings import Physics
from simeval.physics.world import State, World
from simeval.records import Outcome, Trial, TrialRecord

ROTATION_TOLERANCE = 1e-3
JOINT_EXCESS_LIMIT = 0.7  # rad; the worst of 1,141 released grasps exceeds a limit by 0.58
START_PENETRATION_LIMIT = 10.0  # mm
FARTHEST = 1e4  # m; beyond this a palm is a number gone wrong, and squares of it may overflow

Protocol = Callable[[World, Plan, ObjectModel, Watch | None], Verdict]

PROTOCOLS: dict[str, Protocol] = {
    "lift": lambda world, plan, model, watch: lift(world, plan, model.up, watch),
    "six-direction": lambda world, plan, model, watch: six_direction(world, plan, watch),
    "six-direction-first": lambda world, plan, model, watch: six_direction(world, plan, watch, all_directions=False),
}
"""Protocol by name; `six-direction-first` ends at the first direction lost (same success, smaller bill)."""


def execute(trial: Trial, model: ObjectModel, physics: Physics, watch: Watch | None = None) -> TrialRecord:
    """Run a trial to its record; the same trial gives the same bits on one machine, timings excepted.

    Raises:
        SettingError: the protocol is unknown. Everything that is the grasp's or the object's fault is an outcome.
    """
    if trial.condition.protocol not in PROTOCOLS:
        raise unknown_name("protocol", trial.condition.protocol, PROTOCOLS)
    wall, cpu = time.perf_counter(), time.process_time()
    record = _run(trial, model, physics, watch)
    return replace(record, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def blank_record(trial: Trial, outcome: Outcome, reason: str) -> TrialRecord:
    """Record of a trial of which nothing was measured."""
    c, g = trial.condition, trial.grasp
    arrays: dict[str, list[float]] = {}
    for name in ("rotation", "translation", "joints", "pregrasp", "squeeze"):
        value = None if g is None else getattr(g, name)
        arrays[name] = [] if value is None else value[0].ravel().tolist()
    return TrialRecord(
        trial_id=trial.trial_id, condition_id=c.condition_id, object_code=c.object_code, scale=c.scale,
        grasp_type=c.grasp_type or "", index=c.index, protocol=c.protocol, physics=c.physics, seed=c.seed,
        outcome=str(outcome), reason=reason, commanded_type="" if g is None else str(commanded_types(g.joints)[0]),
        score=math.nan if g is None or g.score is None else float(g.score[0]), **arrays,  # type: ignore[arg-type]
    )  # fmt: skip


def _run(trial: Trial, model: ObjectModel, physics: Physics, watch: Watch | None) -> TrialRecord:
    if trial.grasp is None:
        return blank_record(trial, Outcome.GENERATOR_FAILED, trial.reason or "no grasp was generated")
    fault = invalid(trial.grasp)
    if fault:
        return blank_record(trial, Outcome.INVALID_GRASP, fault)
    g = trial.grasp
    rotation, translation = g.rotation[0], g.translation[0]
    record = replace(blank_record(trial, Outcome.LIFTED, ""), joint_clip_rad=_excess(g))
    commanded = measure(model, rotation, translation, g.joints[0])
    record = replace(record, penetration_mm=commanded.object_mm, self_penetration_mm=commanded.self_mm)
    targets = make_plan(
        model, rotation, translation, g.joints[0], None if g.pregrasp is None else g.pregrasp[0],
        None if g.squeeze is None else g.squeeze[0], physics, commanded,
    )  # fmt: skip
    start_mm = commanded.object_mm
    if not np.array_equal(targets.start, g.joints[0]):
        start_mm = measure(model, rotation, translation, targets.start, own=False).object_mm
    if start_mm > START_PENETRATION_LIMIT:
        reason = f"{start_mm:.1f} mm deep at the start"
        return replace(record, outcome=str(Outcome.START_PENETRATION), reason=reason)
    world = World(model, physics, rotation, translation, targets.start)
    try:
        verdict = PROTOCOLS[trial.condition.protocol](world, targets, model, watch)
    except UnstableError as error:
        return replace(record, outcome=str(Outcome.UNSTABLE), reason=str(error), steps=world.steps)
    return _complete(record, verdict, world, model, rotation, translation)


def _complete(
    record: TrialRecord, verdict: Verdict, world: World, model: ObjectModel, rotation: Array, translation: Array
) -> TrialRecord:
    held_mm, achieved = math.nan, ""
    names = load_hand().link_names
    pushes = {names[link + 1]: rotation.T @ verdict.pushes[link] for link in sorted(verdict.pushes)}
    opposition, side = thumb_opposition(pushes), index_side(pushes)
    if verdict.held is not None:
        object_pose, joints = verdict.held
        pose = palm_in_object(model, object_pose, rotation, translation)
        held_mm = measure(model, *pose, joints, own=False).object_mm
        achieved = achieved_type(pushes, opposition, side, joints)
    return replace(
        record, outcome=str(verdict.outcome), reason=verdict.reason, lift_m=verdict.lift_m, slip_m=verdict.slip_m,
        tilt_rad=verdict.tilt_rad, closing_shift_m=verdict.closing_shift_m, directions_held=verdict.directions_held,
        penetration_held_mm=held_mm, contacts=",".join(pushes), thumb_opposition=opposition, index_side=side,
        achieved_type=achieved, steps=world.steps,
    )  # fmt: skip


def object_frame(model: ObjectModel, state: State) -> tuple[Array, Array]:
    """Rotation (3, 3) and origin (3,) [m] of an object's own frame, from the pose of its centre-of-mass frame."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_quat(state.quaternion).as_matrix() @ prepare(model).principal_rotation.T
    return turn, state.position - turn @ model.center_of_mass


def palm_in_object(model: ObjectModel, state: State, rotation: Array, translation: Array) -> tuple[Array, Array]:
    """Palm pose in the frame of the object after it moved to `state`."""
    turn, origin = object_frame(model, state)
    return turn.T @ rotation, turn.T @ (translation - origin)


def invalid(grasp: GraspBatch) -> str:
    """Why a grasp (batch of one) is no grasp, or an empty string."""
    values = [grasp.rotation, grasp.translation, grasp.joints, grasp.pregrasp, grasp.squeeze]
    if not all(np.isfinite(v).all() for v in values if v is not None):
        return "not finite"
    away = float(np.abs(grasp.translation).max())
    if away > FARTHEST:
        return f"the palm is {away:.3g} m away"
    rotation = grasp.rotation[0]
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        return f"rotation is not orthonormal and right-handed (off by {error:.2g})"
    excess = _excess(grasp)
    if excess > JOINT_EXCESS_LIMIT:
        return f"a joint is {excess:.2f} rad beyond its limit (allowed: {JOINT_EXCESS_LIMIT})"
    return ""


def _excess(grasp: GraspBatch) -> float:
    hand = load_hand()
    rows = [v for v in (grasp.joints, grasp.pregrasp, grasp.squeeze) if v is not None]
    return max(float(np.max(hand.clip(v)[1])) for v in rows)
