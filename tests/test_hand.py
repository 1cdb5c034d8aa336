"""The hand against PyBullet and MuJoCo (through committed parity data; directly where it is installed)."""

import importlib.util
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import numpy as np
import pybullet
import pytest
import torch
from scipy.spatial.transform import Rotation

from simeval.errors import GraspError
from simeval.grasp import FLEXION_SIGN, JOINT_NAMES
from simeval.hand import FINGERTIPS, HandModel, load_hand, urdf_path
from simeval.physics.settings import Physics

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def parity() -> dict[str, Any]:
    with np.load(urdf_path().parent / "parity.npz") as data:
        return dict(data)


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return load_hand()


@pytest.fixture(scope="module")
def body() -> Iterator[tuple[int, int]]:
    """Yield (client, body) of the URDF in PyBullet, loaded as the harness loads it."""
    client = pybullet.connect(pybullet.DIRECT)
    flags = pybullet.URDF_USE_INERTIA_FROM_FILE
    yield client, pybullet.loadURDF(str(urdf_path()), useFixedBase=True, flags=flags, physicsClientId=client)
    pybullet.disconnect(client)


def matrices(wxyz: Any) -> Any:
    return Rotation.from_quat(wxyz.reshape(-1, 4), scalar_first=True).as_matrix().reshape(*wxyz.shape[:-1], 3, 3)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_forward_kinematics_equals_mujoco(hand: HandModel, parity: dict[str, Any], kind: str) -> None:
    joints = parity["joints"].astype(float)
    assert joints.shape == (1000, 22)
    poses: Any = hand.link_transforms(joints if kind == "numpy" else torch.tensor(joints))
    rotation, translation = np.asarray(poses[0]), np.asarray(poses[1])
    np.testing.assert_allclose(translation[:, 1:], parity["position"], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(rotation[:, 1:], matrices(parity["quaternion"]), atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(rotation[:, 0], np.broadcast_to(np.eye(3), (1000, 3, 3)))
    np.testing.assert_array_equal(translation[:, 0], 0)


def test_forward_kinematics_equals_pybullet(hand: HandModel, body: tuple[int, int], parity: dict[str, Any]) -> None:
    client, hand_id = body
    joints = parity["joints"][:50].astype(float)
    rotation, translation = hand.link_transforms(joints)
    for i, q in enumerate(joints):
        for k, angle in enumerate(q):
            pybullet.resetJointState(hand_id, k, angle, physicsClientId=client)
        states = pybullet.getLinkStates(hand_id, range(22), computeForwardKinematics=1, physicsClientId=client)
        frames = Rotation.from_quat([state[5] for state in states]).as_matrix()
        np.testing.assert_allclose([s[4] for s in states], translation[i, 1:], atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(frames, rotation[i, 1:], atol=TOLERANCE, rtol=0)


def test_order_and_parameters_equal_the_mjcf(hand: HandModel, parity: dict[str, Any]) -> None:
    assert hand.joint_names == JOINT_NAMES == tuple(parity["link_joint"])
    assert hand.link_names == ("palm", *parity["link_name"])
    assert [hand.link_names[i] for i in hand.parent[1:]] == list(parity["link_parent"])
    for name, expected in {
        "lower": parity["link_limits"][:, 0], "upper": parity["link_limits"][:, 1],
        "effort": parity["link_effort"], "damping": parity["link_damping"], "axes": parity["link_axis"],
        "origin_translation": parity["link_position"], "origin_rotation": matrices(parity["link_quaternion"]),
        "mass": np.concatenate([parity["palm"][:1], parity["link_mass"]]),
    }.items():  # fmt: skip
        np.testing.assert_allclose(getattr(hand, name), expected, atol=1e-10, rtol=0, err_msg=name)


def test_efforts_are_tendon_forces_times_arms(hand: HandModel) -> None:
    effort = dict(zip(hand.joint_names, hand.effort, strict=True))
    tension = effort["FFJ1"] / 0.00805
    assert tension == pytest.approx(90)
    for finger in ("FF", "MF", "RF", "LF"):
        assert effort[f"{finger}J0"] == pytest.approx(tension * 0.00705)
    assert effort["THJ4"] == pytest.approx(2.3722)


def test_primitives_equal_the_mjcf(hand: HandModel, parity: dict[str, Any]) -> None:
    kinds = [primitive.kind for primitive in hand.primitives]
    assert kinds == list(parity["geom_kind"])
    assert (kinds.count("capsule"), kinds.count("box")) == (15, 3)
    assert [hand.link_names[primitive.link] for primitive in hand.primitives] == list(parity["geom_link"])
    rotations = matrices(parity["geom_quaternion"])
    for i, primitive in enumerate(hand.primitives):
        size = parity["geom_size"][i]
        expected = [0, 0, size[1]] if primitive.kind == "capsule" else size
        np.testing.assert_allclose(primitive.half_sizes, expected, atol=1e-12)
        assert primitive.radius == pytest.approx(size[0] if primitive.kind == "capsule" else 0, abs=1e-12)
        assert primitive.half_length == pytest.approx(size[1] if primitive.kind == "capsule" else 0, abs=1e-12)
        np.testing.assert_allclose(primitive.translation, parity["geom_position"][i], atol=1e-12)
        np.testing.assert_allclose(primitive.rotation, rotations[i], atol=1e-12)


def test_pybullet_reads_names_limits_and_inertia(
    hand: HandModel, body: tuple[int, int], parity: dict[str, Any]
) -> None:
    client, hand_id = body
    assert pybullet.getNumJoints(hand_id, physicsClientId=client) == len(JOINT_NAMES)
    for k, name in enumerate(JOINT_NAMES):
        info = pybullet.getJointInfo(hand_id, k, physicsClientId=client)
        assert (info[1].decode(), info[12].decode()) == (name, hand.link_names[k + 1])
        assert info[16] == hand.parent[k + 1] - 1
        assert info[2] == pybullet.JOINT_REVOLUTE
        assert info[6] == pytest.approx(hand.damping[k])
        assert info[8:11] == pytest.approx((hand.lower[k], hand.upper[k], hand.effort[k]))
        dynamics = pybullet.getDynamicsInfo(hand_id, k, physicsClientId=client)
        assert dynamics[0] == pytest.approx(parity["link_mass"][k])
        np.testing.assert_allclose(dynamics[3], parity["link_centre"][k], atol=1e-9)
        to_link = Rotation.from_quat(dynamics[4]).as_matrix()
        tensor = to_link @ np.diag(dynamics[2]) @ to_link.T
        np.testing.assert_allclose(tensor, with_armature(parity, k), atol=1e-9)


def with_armature(parity: dict[str, Any], k: int) -> Any:
    """Return the link's bare inertia plus a disc of the armature on the joint axis, in the link frame."""
    axis, armature = parity["link_axis"][k], parity["link_armature"][k]
    disc = armature * (0.5 * np.eye(3) + 0.5 * np.outer(axis, axis))
    return parity["link_inertia"][k] * np.eye(3) + disc


def test_base_pose_is_the_palm_frame_and_loading_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    client = pybullet.connect(pybullet.DIRECT)
    capfd.readouterr()
    flags = pybullet.URDF_USE_INERTIA_FROM_FILE
    pose = ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5, 0.5])
    hand_id = pybullet.loadURDF(str(urdf_path()), *pose, useFixedBase=True, flags=flags, physicsClientId=client)
    output = capfd.readouterr()
    assert output.out + output.err == ""
    position, orientation = pybullet.getBasePositionAndOrientation(hand_id, physicsClientId=client)
    np.testing.assert_allclose((*position, *orientation), (*pose[0], *pose[1]), atol=1e-12)
    pybullet.disconnect(client)


def test_pybullet_collides_with_the_exact_primitives(hand: HandModel, body: tuple[int, int]) -> None:
    """The distance from PyBullet's hand to a ball is that to the nearest primitive.

    Capsules are exact; Bullet rounds the edges of a box by its collision margin of 1 mm, faces stay in place.
    """
    client, hand_id = body
    joints = 0.4 * hand.upper + 0.1 * hand.lower
    for k, angle in enumerate(joints):
        pybullet.resetJointState(hand_id, k, angle, physicsClientId=client)
    ball_radius, margin = 0.003, 0.001
    shape = pybullet.createCollisionShape(pybullet.GEOM_SPHERE, radius=ball_radius, physicsClientId=client)
    ball = pybullet.createMultiBody(1, shape, physicsClientId=client)
    rotation, translation = hand.primitive_transforms(joints)
    rounding = np.array([primitive.radius or margin for primitive in hand.primitives])
    half = np.array([p.half_sizes - (margin if p.kind == "box" else 0) for p in hand.primitives])
    for point in np.random.default_rng(0).uniform([-0.15, -0.2, -0.05], [0.15, 0.1, 0.25], (100, 3)):
        local = np.einsum("kji,kj->ki", rotation, point - translation)
        outside = np.linalg.norm(np.maximum(np.abs(local) - half, 0), axis=1) - rounding
        if outside.min() < 2 * ball_radius:
            continue
        pybullet.resetBasePositionAndOrientation(ball, point, [0, 0, 0, 1], physicsClientId=client)
        closest = pybullet.getClosestPoints(hand_id, ball, 1.0, physicsClientId=client)
        assert min(c[8] for c in closest) == pytest.approx(outside.min() - ball_radius, abs=TOLERANCE)
    pybullet.removeBody(ball, physicsClientId=client)


def test_gradients(hand: HandModel) -> None:
    joints = torch.rand(2, 22, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    joints.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: hand.primitive_transforms(q), (joints,))


def test_gradients_after_inference_mode() -> None:
    load_hand.cache_clear()
    hand = load_hand()
    joints = torch.zeros(1, 22, requires_grad=True)
    with torch.inference_mode():
        hand.primitive_transforms(joints)
    hand.primitive_transforms(joints)[1].sum().backward()
    assert joints.grad is not None


@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 3)])
def test_shapes_and_dtypes_follow_the_input(hand: HandModel, batch: tuple[int, ...]) -> None:
    for joints in (np.zeros((*batch, 22), np.float32), torch.zeros(*batch, 22)):
        rotation, translation = hand.link_transforms(joints)  # type: ignore[type-var]
        assert (tuple(rotation.shape), tuple(translation.shape)) == ((*batch, 23, 3, 3), (*batch, 23, 3))
        assert type(rotation) is type(translation) is type(joints)
        assert rotation.dtype == translation.dtype == joints.dtype
        rotation, translation = hand.primitive_transforms(joints)  # type: ignore[type-var]
        assert (tuple(rotation.shape), tuple(translation.shape)) == ((*batch, 18, 3, 3), (*batch, 18, 3))
        start, end, radius = hand.capsule_segments(joints)  # type: ignore[type-var]
        assert tuple(start.shape) == tuple(end.shape) == (*batch, 15, 3)
        assert radius.shape == (15,)
        assert start.dtype == joints.dtype


def test_capsule_segments(hand: HandModel) -> None:
    start, end, radius = hand.capsule_segments(np.zeros(22))
    first = hand.link_transforms(np.zeros(22))[1][hand.link_names.index("ffproximal")]
    np.testing.assert_allclose(start[0], first, atol=1e-12)  # the proximal capsule starts at the knuckle,
    np.testing.assert_allclose(end[0] - first, [0, 0, 0.045], atol=1e-12)  # the finger points to +z
    assert radius[0] == pytest.approx(0.01)


def test_flexion_closes_towards_minus_y(hand: HandModel) -> None:
    bend = np.clip(0.3 * FLEXION_SIGN, hand.lower, hand.upper)
    start, closed = hand.capsule_segments(np.zeros(22))[1], hand.capsule_segments(bend)[1]
    tips = [2, 5, 8, 11]  # distal capsules of the four fingers
    assert (closed[tips, 1] < start[tips, 1] - 0.01).all()


def test_clip(hand: HandModel) -> None:
    joints = np.stack([hand.lower - 0.2, hand.upper + 0.3, (hand.lower + hand.upper) / 2, np.full(22, np.nan)])
    clipped, excess = hand.clip(joints)
    np.testing.assert_array_equal(clipped[:3], [hand.lower, hand.upper, joints[2]])
    np.testing.assert_allclose(excess[:3], np.repeat([[0.2], [0.3], [0.0]], 22, axis=1), atol=1e-12)
    assert np.isnan(clipped[3]).all()
    assert np.isnan(excess[3]).all()


@pytest.mark.parametrize("joints", [np.zeros(21), np.zeros((22, 3)), np.zeros(()), torch.zeros(2, 28)])
def test_wrong_shapes_are_refused(hand: HandModel, joints: Any) -> None:
    for method in (hand.link_transforms, hand.primitive_transforms, hand.capsule_segments, hand.clip):
        with pytest.raises(GraspError, match="22"):
            method(joints)


def test_visuals_are_the_collision_shapes() -> None:
    def shapes(link: ET.Element, tag: str) -> list[bytes]:
        return [ET.tostring(part) for e in link.findall(tag) for part in e if part.tag != "material"]

    links = ET.parse(urdf_path()).getroot().findall("link")
    assert sum(len(link.findall("collision")) for link in links) == 18
    assert all(shapes(link, "visual") == shapes(link, "collision") for link in links)


def test_model_is_cached_and_read_only(hand: HandModel) -> None:
    assert load_hand() is load_hand()
    with pytest.raises(ValueError, match="read-only"):
        hand.lower[0] = 1.0


def test_urdf_is_what_build_makes_of_the_mjcf(parity: dict[str, Any]) -> None:
    """MuJoCo and the MJCF themselves as the oracle; only where the `dev` extra is installed."""
    pytest.importorskip("mujoco")
    if importlib.util.find_spec("gymnasium_robotics") is None:  # importing it prints and takes seconds
        pytest.skip("gymnasium-robotics isn't installed")
    from simeval.robots.shadow_hand import build

    model = build.compile_mjcf()
    hand = build.read_hand(model)
    assert build.urdf_text(hand).encode() == urdf_path().read_bytes()
    fresh = build.parity_arrays(model, hand)
    assert fresh.keys() == parity.keys()
    for name, expected in parity.items():
        if expected.dtype.kind == "U":
            np.testing.assert_array_equal(fresh[name], expected)
        else:
            np.testing.assert_allclose(fresh[name], expected, atol=1e-9, rtol=0, err_msg=name)
    torsional = {geom.link for geom in hand.geoms if model.geom("robot0:" + geom.name).condim == 4}
    assert torsional == {load_hand().link_names[i] for i in FINGERTIPS}
    assert {float(model.geom("robot0:" + geom.name).friction[1]) for geom in hand.geoms} == {
        Physics().torsional_friction
    }
