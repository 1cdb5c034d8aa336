"""Penetration on cases with a known answer."""

import numpy as np
import pytest

from simeval.grasp import JOINT_COUNT
from simeval.hand import load_hand
from simeval.metrics.distance import object_distance
from simeval.metrics.penetration import measure, primitive_distance
from simeval.objects import build_object


def box(low, high):
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    return (corners, None)


@pytest.fixture(scope="module")
def slab():
    """A 20 x 20 x 4 cm block whose upper face is z = 0."""
    return build_object("slab", [box((-0.1, -0.1, -0.04), (0.1, 0.1, 0.0))])


def palm_over(height):
    """Palm pose with the fingers (+z of the palm) pointing up, the palm's lowest box face `height` above z = 0.

    The palm box reaches down to palm z = 0.038 - 0.049 = -0.011.
    """
    return np.eye(3), np.array([0.0, 0.0, 0.011 + height])


@pytest.mark.parametrize("depth_mm", [0.5, 2.0, 7.3])
def test_palm_box_pressed_flat_into_a_slab_reads_its_depth(slab, depth_mm):
    found = measure(slab, *palm_over(-1e-3 * depth_mm), np.zeros(JOINT_COUNT))
    assert found.object_mm == pytest.approx(depth_mm, abs=0.02)


def test_no_overlap_reads_zero(slab):
    assert measure(slab, *palm_over(0.001), np.zeros(JOINT_COUNT)).object_mm == 0.0
    assert measure(slab, *palm_over(5.0), np.zeros(JOINT_COUNT)).object_mm == 0.0


@pytest.mark.parametrize("depth_mm", [0.3, 1.0, 5.0, 10.0])
def test_capsule_lying_in_a_slab_reads_radius_minus_height(slab, depth_mm):
    """The index finger's capsules lie along x after a quarter turn, over the slab's edge: the thumb stays beside it."""
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # palm z -> object x, palm y stays, palm x -> -z
    hand = load_hand()
    _, origins = hand.primitive_transforms(np.zeros(JOINT_COUNT))
    capsules = [k for k, s in enumerate(hand.primitives) if hand.link_names[s.link].startswith("ff")]
    # palm x = 0.033 is the lowest (object z = -x); lower the hand until the thickest link is in
    radius = max(hand.primitives[k].radius for k in capsules)
    lowest = -origins[capsules, 0].max()
    height = radius - 1e-3 * depth_mm - lowest
    found = measure(slab, turn, np.array([-0.2, 0.0, height]), np.zeros(JOINT_COUNT))
    assert found.object_mm == pytest.approx(depth_mm, abs=0.02)


def test_sphere_in_box_signed_distance_is_exact():
    cube = build_object("cube", [box((-0.05,) * 3, (0.05,) * 3)])
    points = np.array([[0, 0, 0.06], [0, 0, 0.0], [0, 0, 0.045], [0.08, 0.09, 0.0], [0.05, 0.0, 0.0]])
    expected = [0.01, -0.05, -0.005, 0.05, 0.0]
    np.testing.assert_allclose(object_distance(cube).signed(points), expected, atol=1e-9)


def test_internal_walls_of_touching_pieces_are_not_surface():
    two = build_object("two", [box((-0.05, -0.02, -0.02), (0, 0.02, 0.02)), box((0, -0.02, -0.02), (0.05, 0.02, 0.02))])
    assert object_distance(two).signed(np.zeros((1, 3)))[0] == pytest.approx(-0.02, abs=1e-4)


def test_primitive_distance_of_capsule_and_box_is_exact():
    hand = load_hand()
    capsule = next(k for k, s in enumerate(hand.primitives) if s.kind == "capsule")
    shape = hand.primitives[capsule]
    tip = np.array([[0.0, 0.0, shape.half_length + shape.radius + 0.01], [0.0, 0.0, 0.0], [shape.radius, 0.0, 0.0]])
    np.testing.assert_allclose(primitive_distance(hand, capsule, tip), [0.01, -shape.radius, 0.0], atol=1e-12)
    block = next(k for k, s in enumerate(hand.primitives) if s.kind == "box")
    half = hand.primitives[block].half_sizes
    points = np.array([half + np.array([0.003, 0.004, 0.0]), [0.0, 0.0, 0.0], half])
    np.testing.assert_allclose(primitive_distance(hand, block, points), [0.005, -half.min(), 0.0], atol=1e-12)


def test_depth_does_not_depend_on_the_frame():
    rng = np.random.default_rng(0)
    cube = build_object("cube", [box((-0.03,) * 3, (0.03,) * 3)])
    from scipy.spatial.transform import Rotation

    for seed in range(5):
        rotation = Rotation.random(random_state=seed).as_matrix()
        translation = 0.05 * rng.normal(size=3)
        joints = rng.uniform(load_hand().lower, load_hand().upper)
        turn = Rotation.random(random_state=seed + 100).as_matrix()
        turned = build_object("turned", [(cube.pieces[0].vertices @ turn.T, None)])
        a = measure(cube, rotation, translation, joints)
        b = measure(turned, turn @ rotation, turn @ translation, joints)
        assert a.hand_in_object_mm == pytest.approx(b.hand_in_object_mm, abs=1e-6)
        assert a.object_in_hand_mm == pytest.approx(b.object_in_hand_mm, abs=1.0)  # surface points are 3 mm apart


def test_open_hand_has_no_self_penetration_and_a_crossed_one_has():
    hand = load_hand()
    cube = build_object("cube", [box((1,) * 3, (1.1,) * 3)])
    assert measure(cube, np.eye(3), np.zeros(3), np.zeros(JOINT_COUNT)).self_mm == 0.0
    crossed = np.zeros(JOINT_COUNT)
    crossed[hand.joint_names.index("FFJ3")] = hand.lower[0]
    crossed[hand.joint_names.index("MFJ3")] = hand.upper[4]
    assert measure(cube, np.eye(3), np.zeros(3), crossed).self_mm > 1.0
    mirrored = -crossed  # the middle finger crosses the ring finger instead
    assert measure(cube, np.eye(3), np.zeros(3), mirrored).self_mm > 1.0
