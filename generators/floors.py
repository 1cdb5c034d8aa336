"""The floors of every table: a random wrist, a hand that never closes, and a scoop."""

import numpy as np

from simeval.generator import GraspRequest
from simeval.generators.closing import slide
from simeval.generators.replay import Replay
from simeval.grasp import JOINT_NAMES, Array, GraspBatch
from simeval.hand import load_hand
from simeval.metrics.distance import object_distance

PALM_FRONT = -0.0111
"""y of the palm's front in the palm frame [m] (facts: half size of the palm box)."""
SCOOP_CENTER = np.array([0.0, PALM_FRONT, 0.085])
"""Where the scoop carries the object's centre of mass: between palm and finger base, palm frame [m]."""

SCOOP_START = 0.03
"""How far below the object the scoop starts [m]."""
SCOOP_PRESS = 0.0005
"""How far it goes on once it touches [m], so that the object rests on it when its support goes."""


class RandomWrist:
    """A wrist anywhere near the object, joints anywhere within their limits.

    The rotation is uniform on SO(3); the palm's origin is uniform in direction, and in distance between 0 and
    `reach` [m] outside the smallest ball around the centre of mass that holds the object.
    """

    def __init__(self, reach: float = 0.1) -> None:
        self.reach = reach

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return `count` random grasps."""
        from scipy.spatial.transform import Rotation

        rng, model, count = np.random.default_rng([0xA11, request.seed]), request.object, request.count
        rotation = Rotation.from_quat(rng.normal(size=(count, 4))).as_matrix()  # 4 normals: uniform on the sphere
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        radius = float(np.linalg.norm(model.surface.vertices - model.center_of_mass, axis=1).max())
        distance = radius + self.reach * rng.random((count, 1))
        hand = load_hand()
        joints = rng.uniform(hand.lower, hand.upper, size=(count, len(hand.lower)))
        return GraspBatch(rotation, model.center_of_mass + distance * direction, joints)


class OpenHand(Replay):
    """The wrist poses of a bank's grasps with the hand open, before and after: nothing can be lifted with it.

    The fingers are straight and spread as far as they go. Left parallel, or spread as in the grasp, two neighbours
    sometimes clamp an object between them: 4 of 699 released grasps then held in all six directions.
    """

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return the first `count` wrist poses (of the type asked for) with an open hand."""
        grasps = super().generate(request)
        joints = np.tile(spread_joints(), (len(grasps), 1))
        return grasps.with_(joints=joints, pregrasp=joints, squeeze=joints)


class Scoop:
    """A flat hand, palm up, under the object: it rests on the hand and nothing holds it.

    The palm's front touches the object's lowest point along `up`; the centre of mass is above the middle of the
    hand, off by up to `offset` [m] in the palm's plane; the turn about `up` is random.
    """

    def __init__(self, offset: float = 0.015) -> None:
        self.offset = offset

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return `count` scoops."""
        rng, model, count = np.random.default_rng([0x5C0, request.seed]), request.object, request.count
        up = np.asarray(model.up, dtype=float)
        yaw = rng.uniform(0, 2 * np.pi, size=count)
        side = np.eye(3)[int(np.argmin(np.abs(up)))]
        u = np.cross(up, side) / np.linalg.norm(np.cross(up, side))
        x = np.cos(yaw)[:, None] * u + np.sin(yaw)[:, None] * np.cross(up, u)
        y = np.broadcast_to(-up, x.shape)  # the palm faces −y
        rotation = np.stack([x, y, np.cross(x, y)], axis=2)
        shift = np.zeros((count, 3))
        shift[:, [0, 2]] = self.offset * rng.uniform(-1, 1, size=(count, 2))
        com = model.center_of_mass
        lowest = float((model.surface.vertices @ up).min())
        support = com + (lowest - com @ up) * up  # the point of the support plane under the centre of mass
        translation = support - np.einsum("nij,nj->ni", rotation, SCOOP_CENTER + shift)
        joints = np.tile(open_joints(), (count, 1))
        ups = np.tile(up, (count, 1))
        below = translation - SCOOP_START * ups  # the thumb is thicker than the palm: wide objects rest on it
        translation, _ = slide(object_distance(model), rotation, below, joints, ups, SCOOP_START)
        return GraspBatch(rotation, translation + SCOOP_PRESS * ups, joints, squeeze=joints)


def open_joints() -> Array:
    """(22,) rad: fingers straight, thumb straight and as far out beside the palm as it goes."""
    joints = np.zeros(len(JOINT_NAMES))
    joints[JOINT_NAMES.index("THJ1")] = load_hand().upper[JOINT_NAMES.index("THJ1")]
    return joints


def spread_joints() -> Array:
    """(22,) rad: `open_joints` with the fingers fanned out evenly, the outer two to their limits."""
    joints, limit = open_joints(), load_hand().upper[JOINT_NAMES.index("FFJ3")]
    for name, share in (("FFJ3", 1), ("MFJ3", 1 / 3), ("RFJ3", -1 / 3), ("LFJ3", -1)):
        joints[JOINT_NAMES.index(name)] = share * limit
    return joints
