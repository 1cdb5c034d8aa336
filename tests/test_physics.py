"""The executor: protocols, outcomes, determinism, the pool."""

import os
import random
import signal
from dataclasses import replace

import numpy as np
import pytest

from simeval.errors import SettingError
from simeval.grasp import JOINT_COUNT, GraspBatch
from simeval.hand import FINGERS, FINGERTIPS, load_hand
from simeval.metrics.distance import object_distance
from simeval.metrics.penetration import hand_depths, measure
from simeval.objects import build_object, load_embedded
from simeval.objects.hulls import fibonacci_directions
from simeval.physics import pool
from simeval.physics.closing import balanced_forces, contact_step, find_contacts, make_plan
from simeval.physics.collision import HULL_MARGIN, inset
from simeval.physics.execute import execute
from simeval.physics.pool import Task, run_tasks
from simeval.physics.protocols import LIFT_HEIGHT, SHAKE_SIDE, palm_acceleration, shake_axes
from simeval.physics.settings import GRAVITY, Physics
from simeval.physics.world import World
from simeval.records import Condition, Outcome, Trial, TrialRecord
from simeval.store import same_result

BALL = "embedded-ball-05"
KINDS = (BALL, "embedded-block-03", "embedded-cylinder-04")


def trial_of(grasp, protocol="lift", physics=None, model=None, index=0):
    physics = physics or Physics()
    code = model.code if model else BALL
    return Trial(Condition(code, 1.0, None, index, protocol, physics.digest, 0), grasp, model.digest if model else "")


def far_grasp(distance=0.4):
    return GraspBatch(np.eye(3)[None], [[0.0, 0.0, -distance]], np.zeros((1, JOINT_COUNT)))


@pytest.fixture(scope="module")
def ball():
    """A ball of 60 mm."""
    return build_object("ball", [(0.03 * fibonacci_directions(200), None)])


@pytest.fixture(scope="module")
def power_grasp(ball):
    """The ball before the palm, every finger closed until it touches."""
    hand = load_hand()
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # the palm looks down (its −y is object −z)
    translation = -rotation @ np.array([0.0, -0.0431, 0.08])
    full = np.zeros(JOINT_COUNT)
    rest = np.zeros(JOINT_COUNT)
    for name, value in zip(hand.joint_names, range(JOINT_COUNT), strict=True):
        if name[2:] in ("J2", "J1", "J0") and not name.startswith("TH"):
            full[value] = 1.5
    rest[hand.joint_names.index("THJ3")] = 0.8
    full[hand.joint_names.index("THJ1")], full[hand.joint_names.index("THJ0")] = -0.5, -1.5
    shares = np.linspace(0, 1, 61)
    depths = np.array(
        [hand_depths(hand, object_distance(ball), rotation, translation, rest + s * full) for s in shares]
    )  # (61, 18)
    joints = rest.copy()
    for finger in FINGERS.values():
        own = [k for k, shape in enumerate(hand.primitives) if finger.start <= shape.link - 1 < finger.stop]
        touching = np.flatnonzero(depths[:, own].max(axis=1) > 1e-4)
        joints[finger] += shares[touching[0] if len(touching) else -1] * full[finger]
    return GraspBatch(rotation[None], translation[None], joints[None])


@pytest.mark.parametrize("protocol", ["lift", "six-direction"])
def test_hand_far_away_touches_nothing(ball, protocol):
    record = execute(trial_of(far_grasp(), protocol), ball, Physics())
    assert record.outcome == Outcome.NO_CONTACT
    assert record.penetration_mm == 0.0
    assert record.contacts == ""


def test_power_grasp_of_a_ball_holds_in_every_direction(ball, power_grasp):
    record = execute(trial_of(power_grasp, "six-direction"), ball, Physics())
    assert record.outcome == Outcome.LIFTED, record
    assert record.directions_held == 6
    assert record.slip_m < 0.05
    assert len(record.contacts.split(",")) >= 3


def test_power_grasp_lifts_the_ball(ball, power_grasp):
    record = execute(trial_of(power_grasp), ball, Physics())
    assert record.outcome == Outcome.LIFTED, record
    assert record.lift_m == pytest.approx(LIFT_HEIGHT, abs=0.05)


def test_an_open_hand_holds_nothing(ball, power_grasp):
    open_hand = power_grasp.with_(
        joints=np.zeros((1, JOINT_COUNT)), pregrasp=np.zeros((1, JOINT_COUNT)), squeeze=np.zeros((1, JOINT_COUNT))
    )
    record = execute(trial_of(open_hand), ball, Physics())
    assert record.outcome in (Outcome.NO_CONTACT, Outcome.DROPPED, Outcome.SLIPPED)


def bad_grasps():
    identity = far_grasp()
    nan = identity.with_(translation=[[np.nan, 0, 0]])
    infinite = identity.with_(joints=np.full((1, JOINT_COUNT), np.inf))
    skewed = identity.with_(rotation=[np.diag([1.0, 1.0, 1.01])])
    mirrored = identity.with_(rotation=[np.diag([1.0, 1.0, -1.0])])
    beyond = identity.with_(joints=np.full((1, JOINT_COUNT), 3.0))
    nan_squeeze = identity.with_(squeeze=np.full((1, JOINT_COUNT), np.nan))
    return [nan, infinite, skewed, mirrored, beyond, nan_squeeze]


@pytest.mark.parametrize("grasp", bad_grasps())
def test_bad_grasp_is_an_outcome(ball, grasp):
    assert execute(trial_of(grasp), ball, Physics()).outcome == Outcome.INVALID_GRASP


def test_small_excess_over_a_limit_is_clipped_and_recorded(ball, power_grasp):
    joints = power_grasp.joints.copy()
    joints[0, 0] = load_hand().upper[0] + 0.3
    record = execute(trial_of(power_grasp.with_(joints=joints)), ball, Physics())
    assert record.outcome != Outcome.INVALID_GRASP
    assert record.joint_clip_rad == pytest.approx(0.3)


def test_deep_start_is_an_outcome(ball):
    grasp = GraspBatch(np.eye(3)[None], [[0.0, 0.0, -0.04]], np.zeros((1, JOINT_COUNT)))
    record = execute(trial_of(grasp), ball, Physics())
    assert record.outcome == Outcome.START_PENETRATION
    assert record.penetration_mm > 10


def test_missing_grasp_keeps_its_reason(ball):
    trial = Trial(Condition(BALL, 1.0, None, 0, "lift", "", 0), None, "", "the network said no")
    record = execute(trial, ball, Physics())
    assert record.outcome == Outcome.GENERATOR_FAILED
    assert record.reason == "the network said no"


def test_exploding_simulation_is_unstable(ball, power_grasp, monkeypatch):
    monkeypatch.setattr(World, "speed", lambda self: 50.0)
    assert execute(trial_of(power_grasp), ball, Physics()).outcome == Outcome.UNSTABLE
    monkeypatch.setattr(World, "speed", lambda self: float("nan"))
    assert execute(trial_of(power_grasp), ball, Physics()).outcome == Outcome.UNSTABLE


def test_unknown_protocol_and_bad_settings_are_errors(ball):
    with pytest.raises(SettingError, match="six-direction"):
        execute(trial_of(far_grasp(), "sixdirection"), ball, Physics())
    for bad in ({"friction": 0.0}, {"timestep": -1.0}, {"mass_kg": float("nan")}, {"iterations": 0}, {"closing": "x"},
                {"torsional_friction": -1e-3}):  # fmt: skip
        with pytest.raises(SettingError):
            Physics(**bad)


def test_palm_motion_ends_where_it_should():
    up = np.array([0.0, 1.0, 0.0])
    acceleration = palm_acceleration(1 / 240, up)
    velocity = np.cumsum(acceleration, axis=0) / 240
    position = np.cumsum(velocity, axis=0) / 240
    np.testing.assert_allclose(velocity[-1], 0, atol=1e-12)
    np.testing.assert_allclose(position[-1], LIFT_HEIGHT * up, atol=1e-12)
    axes = np.array(shake_axes(up))
    along = np.abs(acceleration @ axes.T).max(axis=0) / GRAVITY
    np.testing.assert_allclose(along, [2.173, 1.086, 1.086], rtol=0.01)
    np.testing.assert_allclose(np.ptp(position @ axes.T, axis=0)[1:], 2 * SHAKE_SIDE, rtol=0.01)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)


def test_only_the_fingertips_resist_spinning(ball):
    world = World(ball, Physics(torsional_friction=0.004), np.eye(3), np.array([0, 0, -1.0]), np.zeros(JOINT_COUNT))
    import pybullet as p

    spinning = [p.getDynamicsInfo(world.hand, link)[7] for link in range(-1, JOINT_COUNT)]
    assert {i for i, value in enumerate(spinning) if value} == set(FINGERTIPS)
    assert set(spinning) == {0.0, 0.004}


def test_bullet_sees_the_object_where_it_is(ball):
    """Mass, centre of mass and outline in Bullet are the object's own, the 1 mm hull margin undone."""
    block = build_object("block", [(np.array(np.meshgrid(*[[-0.03, 0.05]] * 3)).reshape(3, -1).T, None)])
    world = World(block, Physics(), np.eye(3), np.array([0, 0, -1.0]), np.zeros(JOINT_COUNT))
    import pybullet as p

    assert p.getDynamicsInfo(world.object, -1)[0] == pytest.approx(500 * 0.08**3)
    np.testing.assert_allclose(world.state().position, [0.01] * 3, atol=1e-9)
    probe = p.createMultiBody(0, p.createCollisionShape(p.GEOM_SPHERE, radius=0.01), basePosition=[0.01, 0.01, 0.08])
    gap = min(c[8] for c in p.getClosestPoints(world.object, probe, 0.1))
    assert gap == pytest.approx(0.02, abs=1e-4)


@pytest.mark.parametrize(("thickness", "left"), [(0.001, 1e-4), (0.0021, 2.1e-4), (0.003, 1e-3)])
def test_thin_piece_is_drawn_in_by_part_of_its_thickness(thickness, left):
    card = build_object(
        "card", [(np.array(np.meshgrid([-0.04, 0.04], [-0.03, 0.03], [0, thickness])).reshape(3, -1).T, None)]
    )
    drawn_in = inset(card.pieces[0], HULL_MARGIN)
    assert np.ptp(drawn_in[:, 2]) == pytest.approx(left)
    assert (np.ptp(drawn_in, axis=0) + 2 * HULL_MARGIN >= np.array([0.08, 0.06, thickness]) - 1e-12).all()
    assert len(drawn_in) >= 4


def test_stand_holds_the_weight_and_yields_to_more(ball):
    world = World(ball, Physics(), np.eye(3), np.array([0, 0, -1.0]), np.zeros(JOINT_COUNT))
    world.set_gravity([0, 0, -GRAVITY])
    world.place_stand()
    world.step(120)
    assert np.linalg.norm(world.state().position - ball.center_of_mass) < 1e-4
    world.set_gravity([0, 0, -3 * GRAVITY])
    world.step(60)
    assert world.state().position[2] < ball.center_of_mass[2] - 0.05


def test_balanced_forces_oppose_each_other(ball, power_grasp):
    contacts = find_contacts(ball, power_grasp.rotation[0], power_grasp.translation[0], power_grasp.joints[0])
    assert contacts
    forces = balanced_forces(contacts, ball.center_of_mass)
    assert (forces >= 0).all()
    step = contact_step(ball, power_grasp.rotation[0], power_grasp.translation[0], power_grasp.joints[0], 0.1)
    assert 0 < np.abs(step).max() <= 0.1 + 1e-12


def test_own_pregrasp_and_squeeze_are_used(ball, power_grasp):
    rotation, translation, joints = power_grasp.rotation[0], power_grasp.translation[0], power_grasp.joints[0]
    own = np.full(JOINT_COUNT, 0.1)
    commanded = measure(ball, rotation, translation, joints)
    plan = make_plan(ball, rotation, translation, joints, own, own, Physics(), commanded)
    np.testing.assert_array_equal(plan.start, load_hand().clip(own)[0])
    np.testing.assert_array_equal(plan.squeeze, load_hand().clip(own)[0])


def many_tasks(count):
    """Trials with different grasps of different objects, most of which touch something."""
    rng = np.random.default_rng(0)
    physics = Physics()
    models = [load_embedded(code) for code in KINDS]
    hand = load_hand()
    for k in range(count):
        model = models[k % 3]
        joints = np.clip(rng.uniform(0, 1, JOINT_COUNT), hand.lower, hand.upper)
        offset = np.array([0.01, -0.07, 0.08]) + 0.01 * rng.normal(size=3)
        grasp = GraspBatch(np.eye(3)[None], (model.center_of_mass - offset)[None], joints[None])
        protocol = ("lift", "six-direction")[k % 2]
        yield Task(trial_of(grasp, protocol, physics, model, index=k), model, physics)


def by_id(records):
    return {r.trial_id: r for r in records}


def test_records_are_bit_identical_in_any_order_and_process():
    tasks = list(many_tasks(24))
    shuffled = tasks.copy()
    random.Random(1).shuffle(shuffled)
    reference = by_id(pool.run_task(task) for task in tasks)
    assert len(reference) == len(tasks)
    for records in (run_tasks(shuffled, workers=2), run_tasks(tasks, workers=1), run_tasks(reversed(tasks), workers=0)):
        found = by_id(records)
        assert found.keys() == reference.keys()
        for key, record in found.items():
            assert same_result(record, reference[key]) == []


def _crash_or_hang(task: Task) -> TrialRecord:
    if task.trial.condition.index == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if task.trial.condition.index == 5:
        import time

        time.sleep(60)
    return pool.execute(task.trial, task.model, task.physics)


def test_a_crash_and_a_hang_cost_one_trial_each(monkeypatch):
    monkeypatch.setattr(pool, "run_task", _crash_or_hang)
    tasks = list(many_tasks(8))
    records = {r.index: r for r in run_tasks(tasks, workers=2, timeout=8)}
    assert len(records) == 8
    assert records[3].outcome == Outcome.CRASHED
    assert records[5].outcome == Outcome.TIMEOUT
    rest = [r for i, r in records.items() if i not in (3, 5)]
    assert all(r.outcome not in (Outcome.CRASHED, Outcome.TIMEOUT) for r in rest)


def test_early_stop_keeps_the_verdict(ball, power_grasp):
    for protocol in ("six-direction", "six-direction-first"):
        fast = execute(trial_of(power_grasp, protocol), ball, Physics())
        slow = execute(trial_of(power_grasp, protocol), ball, replace(Physics(), stop_early=False))
        assert fast.outcome == slow.outcome
        assert fast.steps < slow.steps


def test_trial_id_depends_on_the_grasp_and_not_on_the_score(power_grasp):
    moved = power_grasp.with_(translation=power_grasp.translation + 1e-12)
    scored = power_grasp.with_(score=[1.0])
    assert trial_of(power_grasp).trial_id != trial_of(moved).trial_id
    assert trial_of(power_grasp).trial_id == trial_of(scored).trial_id
