import numpy as np
import pytest

from simeval.bank import load_bank
from simeval.metrics.penetration import measure
from simeval.objects import load_embedded
from simeval.peer_metrics import MEASURES, contact_points, peer_scores, q1, qp, sign_of_normal_depth

AXES = np.concatenate([np.eye(3), -np.eye(3)])


def test_q1_of_a_sphere_held_from_six_sides() -> None:
    """Forces alone span the ball of the octahedron's hull at least; torques need friction."""
    held = q1(AXES, AXES, 1.0, 1.0)
    assert 0.3 < held <= 1.0
    assert q1(AXES, AXES, 1e-6, 1.0) == pytest.approx(0.0, abs=1e-5)  # no friction: no torque
    assert q1(AXES[:1], AXES[:1], 1.0, 1.0) == 0.0  # one contact pushes away
    below = AXES[np.array([2, 0])] * [1, 1, -1]
    assert q1(below, below, 0.3, 1.0) == 0.0


def test_q1_is_ferrari_and_cannys_ball() -> None:
    """By definition: the least, over directions u, of the most that a wrench pushes along u."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    radius = q1(points, points, 1.0, 1.0)
    from simeval.peer_metrics import CONE_EDGES, _cone_wrenches

    wrenches = _cone_wrenches(points, points, 1.0, CONE_EDGES)
    directions = rng.normal(size=(50_000, 6))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    support = (directions @ wrenches.T).max(axis=1).min()
    assert 0 < radius <= support < radius + 0.25


def test_qp_is_zero_for_a_firm_grip_and_the_pull_and_push_without() -> None:
    assert qp(AXES, AXES, 1.0) == pytest.approx(0.0, abs=1e-3)
    single = qp(AXES[2:3], AXES[2:3], 1e-9)  # presses down with 1: errors 0.9, 1.1 and four of √1.01
    assert single == pytest.approx((0.9 + 1.1 + 4 * np.sqrt(1.01)) / 6, abs=1e-3)


def test_sign_of_normal_depth_counts_what_is_round_the_corner() -> None:
    """A point above a face is outside; one beside the only sampled point's plane is "inside", however far."""
    points, normals = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
    assert sign_of_normal_depth(points, normals, np.array([[0.0, 0.0, 0.1]])) == 0.0
    assert sign_of_normal_depth(points, normals, np.array([[0.3, 0.0, -0.01]])) == pytest.approx(np.hypot(0.3, 0.01))


def test_scores_of_embedded_grasps_are_sound() -> None:
    bank = load_bank("embedded")
    for i in (0, 500, 1200):
        model, grasp = load_embedded(bank.codes[i]), bank.grasps[i]
        pose = grasp.rotation[0], grasp.translation[0], grasp.joints[0]
        found = peer_scores(model, *pose)
        assert found == peer_scores(model, *pose)
        depth = measure(model, *pose).object_in_hand_mm
        assert 0 <= found.e_pen <= 2.0 * (depth + 0.05)  # 2,000 points, each at most so deep
        assert found.contacts >= 2
        assert found.q1 >= 0
        assert 0 <= found.qp < 2
        away = pose[0], pose[1] + 10.0, pose[2]
        far = peer_scores(model, *away)
        assert (far.e_pen, far.contacts) == (0.0, 0)
        assert np.isnan(far.q1)


def test_contacts_lie_on_the_surface() -> None:
    bank = load_bank("embedded")
    model, grasp = load_embedded(bank.codes[0]), bank.grasps[0]
    points, normals = contact_points(model, grasp.rotation[0], grasp.translation[0], grasp.joints[0])
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
    low, high = model.surface.vertices.min(axis=0), model.surface.vertices.max(axis=0)
    assert ((points >= low - 1e-9) & (points <= high + 1e-9)).all()


def test_every_metric_says_what_it_measures() -> None:
    assert set(MEASURES) == {"any_of_six", "E_pen", "Pen", "Q1", "QP"}
