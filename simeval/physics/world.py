"""One grasp's world in Bullet: the palm fixed, the object free, the frame that of the object at the start."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from tempfile import NamedTemporaryFile
from types import ModuleType
from typing import NamedTuple

import numpy as np

from simeval.grasp import Array
from simeval.hand import FINGERTIPS, load_hand, urdf_path
from simeval.objects.model import ObjectModel
from simeval.physics.collision import prepare
from simeval.physics.settings import GRAVITY, Physics

STAND_RADIUS = 0.03
"""Distance [m] of the stand's props from the centre of mass: half the width of the objects a hand lifts."""
STAND_CORNERS = [
    [STAND_RADIUS / 3**0.5 * s for s in corner] for corner in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
]


@contextlib.contextmanager
def quiet_c_output() -> Iterator[None]:
    """Keep what Bullet's C code prints (it goes around sys.stdout and sys.stderr) out of the user's terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(fd) for fd in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        os.dup2(null, fd)
    try:
        yield
    finally:
        for fd, old in zip((1, 2), saved, strict=True):
            os.dup2(old, fd)
            os.close(old)
        os.close(null)


@cache
def bullet() -> ModuleType:
    """Import PyBullet and connect once a process: a connection costs 30 ms, a reset 1.5 ms."""
    with quiet_c_output():
        import pybullet

        pybullet.connect(pybullet.DIRECT)
    return pybullet


class State(NamedTuple):
    """Pose of the object's centre-of-mass frame, in the world."""

    position: Array  # (3,) m
    quaternion: Array  # (4,) xyzw


class World:
    """Fresh Bullet world with one hand and one object; only one exists in a process at a time.

    The palm never moves: a translation of the palm is, exactly, a time-varying gravity in its frame
    (`set_gravity`), and the object's damping is zero so that nothing depends on the frame's speed.
    """

    def __init__(self, model: ObjectModel, physics: Physics, rotation: Array, translation: Array, joints: Array):
        """Place the palm at (rotation, translation) in the object frame, with `joints` (22,) rad."""
        self._p = p = bullet()
        self.physics = physics
        p.resetSimulation()
        p.setPhysicsEngineParameter(
            fixedTimeStep=physics.timestep,
            numSolverIterations=physics.iterations,
            solverResidualThreshold=physics.solver_residual,
            contactBreakingThreshold=physics.contact_distance,
            deterministicOverlappingPairs=1,
            enableFileCaching=0,
        )
        self.mass = physics.mass_kg if physics.mass_kg is not None else model.mass(physics.density)
        self.home = model.center_of_mass
        self.object = self._add_object(model)
        self.hand = self._add_hand(rotation, translation, joints)
        self._stand: list[int] = []
        self.steps = 0

    def _add_object(self, model: ObjectModel) -> int:
        p, ready = self._p, prepare(model)
        with NamedTemporaryFile("w", suffix=".obj", prefix="simeval-") as file:
            file.write(ready.obj)
            file.flush()
            shape = p.createCollisionShape(p.GEOM_MESH, fileName=file.name)
            body = p.createMultiBody(
                self.mass, shape,
                baseInertialFramePosition=ready.center_of_mass.tolist(),
                baseInertialFrameOrientation=quaternion(ready.principal_rotation).tolist(),
            )  # fmt: skip
        inertia = (self.mass * ready.principal_inertia).tolist()
        p.changeDynamics(
            body, -1, lateralFriction=self.physics.friction, localInertiaDiagonal=inertia,
            linearDamping=0, angularDamping=0, restitution=0,
        )  # fmt: skip
        return body

    def _add_hand(self, rotation: Array, translation: Array, joints: Array) -> int:
        p = self._p
        body = p.loadURDF(
            str(urdf_path()), translation.tolist(), quaternion(rotation).tolist(),
            useFixedBase=True, flags=p.URDF_USE_INERTIA_FROM_FILE | p.URDF_IGNORE_VISUAL_SHAPES,
        )  # fmt: skip
        hand = load_hand()
        self._joint_ids = list(range(len(hand.lower)))
        self._efforts = (hand.effort * self.physics.torque_scale).tolist()
        self._gains = [self.physics.timestep / self.physics.servo_time] * len(self._joint_ids)
        for link in range(-1, len(self._joint_ids)):
            torsional = self.physics.torsional_friction if link + 1 in FINGERTIPS else 0.0
            p.changeDynamics(body, link, lateralFriction=1.0, spinningFriction=torsional, restitution=0)
        for i, angle in enumerate(joints.tolist()):
            p.resetJointState(body, i, angle)
        return body

    def set_targets(self, joints: Array) -> None:
        """Command joint positions (22,) rad to the servos, torque-limited by the actuators' force ranges."""
        self._p.setJointMotorControlArray(
            self.hand, self._joint_ids, self._p.POSITION_CONTROL, targetPositions=joints.tolist(),
            forces=self._efforts, positionGains=self._gains,
        )  # fmt: skip

    def set_gravity(self, gravity: Sequence[float] | Array) -> None:
        """Set gravity (3,) m/s² in the palm's frame of reference."""
        self._p.setGravity(*gravity)

    def step(self, count: int = 1) -> None:
        """Advance by `count` time steps."""
        step = self._p.stepSimulation
        for _ in range(count):
            step()
        self.steps += count

    def state(self) -> State:
        """Pose of the object."""
        position, orientation = self._p.getBasePositionAndOrientation(self.object)
        return State(np.array(position), np.array(orientation))

    def speed(self) -> float:
        """Speed of the object's centre of mass [m/s]."""
        return float(np.linalg.norm(self._p.getBaseVelocity(self.object)[0]))

    def joints(self) -> Array:
        """Joint angles (22,) rad."""
        return np.array([s[0] for s in self._p.getJointStates(self.hand, self._joint_ids)])

    def touching_links(self) -> set[int]:
        """Links (−1 is the palm) that push on the object: a contact with a normal force > 0 in the last step."""
        points = self._p.getContactPoints(self.hand, self.object)
        return {c[3] for c in points if c[9] > 0}

    def pushes(self) -> dict[int, Array]:
        """Normal force (3,) N on the object of each link in `touching_links`, in the last step, friction left out."""
        found: dict[int, Array] = {}
        for c in self._p.getContactPoints(self.hand, self.object):
            if c[9] > 0:
                found[c[3]] = found.get(c[3], np.zeros(3)) - c[9] * np.array(c[7])
        return found

    def place_stand(self) -> None:
        """Hold the object as it stands until pushed with more than twice its weight.

        Four springless props around the centre of mass, each yielding at half the weight along every axis: together
        they take a force of twice the weight and a torque of about that force times `STAND_RADIUS`. (One rigid
        constraint would take 2 N·m a newton, so that the object springs round when it goes.)
        """
        p = self._p
        position, orientation = p.getBasePositionAndOrientation(self.object)
        for corner in STAND_CORNERS:
            there = p.multiplyTransforms(position, orientation, corner, [0, 0, 0, 1])[0]
            prop = p.createConstraint(self.object, -1, -1, -1, p.JOINT_POINT2POINT, [0, 0, 0], corner, there)
            p.changeConstraint(prop, maxForce=2 * self.mass * GRAVITY / len(STAND_CORNERS))
            self._stand.append(prop)

    def remove_stand(self) -> None:
        """Take the stand away."""
        while self._stand:
            self._p.removeConstraint(self._stand.pop())

    def save(self) -> int:
        """Keep the state of everything, to come back to with `restore`."""
        return self._p.saveState()

    def restore(self, state: int) -> None:
        """Return to a saved state, bit for bit."""
        self._p.restoreState(state)


def quaternion(rotation: Array) -> Array:
    """Rotation matrix (3, 3) to a unit quaternion xyzw."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_quat()


def tilt(a: Array, b: Array) -> float:
    """Angle [rad] between two orientations, quaternions xyzw."""
    return float(2 * np.arccos(min(1.0, abs(float(np.dot(a, b))))))
