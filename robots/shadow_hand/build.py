"""Build `shadow_hand.urdf` and `parity.npz` from the ShadowHand MJCF that gymnasium-robotics ships.

    python -m simeval.robots.shadow_hand.build              write the URDF
    python -m simeval.robots.shadow_hand.build --parity     write the parity data too

Every number is the one MuJoCo compiled, not the one the XML spells (quaternions and axes are normalised
there, defaults resolved). Needs the `dev` extra; a plain installation needs neither package. What was decided
where the two formats differ (armature, coupled joints, the palm's inertia) is told in PROVENANCE.md.
"""

import argparse
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.errors import DataError
from simeval.grasp import JOINT_NAMES

Array = NDArray[np.float64]

FOLDER = Path(__file__).parent
PREFIX = "robot0:"
BASE = "palm"
SOURCE_FILES = ("reach.xml", "robot.xml", "shared.xml", "shared_asset.xml")  # the first includes the rest

DRIVEN_BY: dict[str, tuple[str, str]] = {
    f"{finger}J0": (f"{finger}J1", f"T_{finger}J1c") for finger in ("FF", "MF", "RF", "LF")
}
"""Joint without an actuator: (the joint whose actuator moves it, the tendon that couples the two)."""

VELOCITY = 2.0
"""Joint speed limit [rad/s] of Shadow Robot's own URDF (sr_description). PyBullet stores it, nothing more."""

COLOURS = {"palm": "0.45 0.50 0.58 1", "finger": "0.88 0.72 0.58 1", "thumb": "0.80 0.50 0.38 1"}
CONFIGURATIONS = 1000
PARITY_SEED = 20240601

GEOM_CAPSULE, GEOM_BOX = 3, 6  # mjtGeom
JOINT_HINGE = 3  # mjtJoint


@dataclass(frozen=True, slots=True)
class Geom:
    """One collision primitive in its link's frame."""

    name: str
    link: str
    kind: str  # "capsule" | "box"
    position: Array  # (3,) m
    quaternion: Array  # (4,) wxyz
    size: Array  # m, as in MuJoCo: (radius, half-length) of a capsule, half-sizes (3,) of a box


@dataclass(frozen=True, slots=True)
class Link:
    """One moving link and the joint that carries it, as MuJoCo compiled them."""

    name: str
    joint: str
    parent: str
    position: Array  # (3,) m, in the parent link
    quaternion: Array  # (4,) wxyz, in the parent link
    axis: Array  # (3,) unit
    limits: Array  # (2,) rad
    damping: float  # N m s/rad
    friction: float  # N m, MuJoCo's frictionloss
    armature: float  # kg m^2
    effort: float  # N m
    mass: float  # kg
    centre: Array  # (3,) m, in the link
    inertia: float  # kg m^2, the bare inertia about any axis: every tensor of this MJCF is isotropic


@dataclass(frozen=True, slots=True)
class Hand:
    """The palm subtree: its links in joint order and its collision primitives."""

    palm_mass: float  # kg
    palm_centre: Array  # (3,) m
    palm_inertia: float  # kg m^2, isotropic
    links: tuple[Link, ...]
    geoms: tuple[Geom, ...]


def source_folder() -> Path:
    """Return the folder of the MJCF inside the installed gymnasium-robotics (without importing it).

    Raises:
        DataError: gymnasium-robotics isn't installed.
    """
    spec = importlib.util.find_spec("gymnasium_robotics")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("gymnasium-robotics isn't installed. Run: pip install 'simeval[dev]'")
    return Path(spec.submodule_search_locations[0]) / "envs" / "assets" / "hand"


def compile_mjcf() -> Any:
    """Compile the MJCF; returns a `mujoco.MjModel`."""
    import mujoco

    return mujoco.MjModel.from_xml_path(str(source_folder() / SOURCE_FILES[0]))


def read_hand(model: Any) -> Hand:
    """Read the palm subtree out of a compiled model.

    Raises:
        DataError: the model isn't the ShadowHand this script was written for.
    """
    links = tuple(_read_link(model, name) for name in JOINT_NAMES)
    names = {BASE, *(link.name for link in links)}
    geoms = (_read_geom(model, i) for i in range(model.ngeom) if model.geom(i).name.startswith(f"{PREFIX}C_"))
    palm = model.body(PREFIX + BASE)
    return Hand(
        palm_mass=float(palm.mass[0]),
        palm_centre=np.array(palm.ipos),
        palm_inertia=_isotropic(BASE, palm.inertia),
        links=links,
        geoms=tuple(geom for geom in geoms if geom.link in names),
    )


def _read_link(model: Any, joint_name: str) -> Link:
    joint = model.joint(PREFIX + joint_name)
    body = model.body(int(joint.bodyid[0]))
    if joint.type[0] != JOINT_HINGE or np.any(joint.pos != 0):
        raise DataError(f"joint {joint_name} is not a hinge at its body's origin")
    dof = int(joint.dofadr[0])
    return Link(
        name=body.name.removeprefix(PREFIX),
        joint=joint_name,
        parent=model.body(int(body.parentid[0])).name.removeprefix(PREFIX),
        position=np.array(body.pos),
        quaternion=np.array(body.quat),
        axis=np.array(joint.axis),
        limits=np.array(joint.range),
        damping=float(model.dof_damping[dof]),
        friction=float(model.dof_frictionloss[dof]),
        armature=float(model.dof_armature[dof]),
        effort=_effort(model, joint_name),
        mass=float(body.mass[0]),
        centre=np.array(body.ipos),
        inertia=_isotropic(body.name, body.inertia),
    )


def _read_geom(model: Any, index: int) -> Geom:
    geom = model.geom(index)
    kinds = {GEOM_CAPSULE: ("capsule", 2), GEOM_BOX: ("box", 3)}
    kind, sizes = kinds.get(int(geom.type[0]), ("other", 3))
    return Geom(
        name=geom.name.removeprefix(PREFIX),
        link=model.body(int(geom.bodyid[0])).name.removeprefix(PREFIX),
        kind=kind,
        position=np.array(geom.pos),
        quaternion=np.array(geom.quat),
        size=np.array(geom.size[:sizes]),
    )


def _isotropic(name: str, inertia: Array) -> float:
    if np.ptp(inertia) > 1e-12:
        raise DataError(f"the inertia of {name} is not isotropic: {inertia}")
    return float(inertia[0])


def _effort(model: Any, joint: str) -> float:
    """Return the largest torque [N m] that reaches a joint.

    A joint with an actuator: the actuator's force range. The DIP joints (J0) have none: the tendon
    `T_*J1c` ties J0 to J1, so a tendon tension of torque(J1) / coef(J1) acts on J0 with the arm coef(J0).
    """
    if joint not in DRIVEN_BY:
        actuator = model.actuator(f"{PREFIX}A_{joint}")
        return float(actuator.forcerange[1] * actuator.gear[0])
    driver, tendon_name = DRIVEN_BY[joint]
    tendon = model.tendon(PREFIX + tendon_name)
    start, count = int(model.tendon_adr[tendon.id]), int(model.tendon_num[tendon.id])
    arms = {
        model.joint(int(model.wrap_objid[i])).name.removeprefix(PREFIX): abs(float(model.wrap_prm[i]))
        for i in range(start, start + count)
    }
    return _effort(model, driver) * arms[joint] / arms[driver]


def urdf_text(hand: Hand) -> str:
    """Write the URDF: joints in `JOINT_NAMES` order, the depth-first order in which PyBullet numbers them."""
    palm = _inertial(hand.palm_mass, np.zeros(3), np.zeros(3), [hand.palm_inertia] * 3)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<!-- Generated by build.py from the ShadowHand MJCF of gymnasium-robotics (Apache-2.0): see",
        "     PROVENANCE.md and LICENSE beside this file. Changed from the MJCF to a URDF; do not edit. -->",
        '<robot name="shadow_hand">',
        *(f'  <material name="{k}"><color rgba="{v}"/></material>' for k, v in COLOURS.items()),
        *_link_lines(hand, BASE, palm),
    ]
    for link in hand.links:
        rpy, inertia = armoured_inertia(link)
        lines += _joint_lines(link)
        lines += _link_lines(hand, link.name, _inertial(link.mass, link.centre, rpy, inertia))
    return "\n".join([*lines, "</robot>", ""])


def armoured_inertia(link: Link) -> tuple[Array, list[float]]:
    """Return (rpy, principal inertia [kg m^2]) of a link that carries its joint's armature as link inertia.

    The armature is a thin disc on the joint axis: its whole value about the axis, half of it about any
    diameter. Leaving the diameters at zero would suit the MJCF better, but a tensor with ixx > iyy + izz
    belongs to no body, and PyBullet's importer sets the inertia of such a link to zero.
    """
    disc = np.array([1.0, 0.5, 0.5]) * link.armature
    along = np.flatnonzero(np.abs(link.axis) > 1 - 1e-9)
    if along.size:
        return np.zeros(3), list(link.inertia + np.roll(disc, along[0]))
    x, y, z = link.axis  # turn the inertial frame's x axis onto the joint axis: no off-diagonal terms
    return np.array([0.0, -np.arcsin(z), np.arctan2(y, x)]), list(link.inertia + disc)


def _number(value: float) -> str:
    """Twelve digits: all that the MJCF says, none of the last bits that MuJoCo versions may differ in."""
    return f"{round(float(value), 15) + 0.0:.12g}"


def _numbers(values: Any) -> str:
    return " ".join(_number(v) for v in values)


def _inertial(mass: float, centre: Array, rpy: Array, inertia: list[float]) -> list[str]:
    xx, yy, zz = (_number(v) for v in inertia)
    return [
        "    <inertial>",
        f'      <origin xyz="{_numbers(centre)}" rpy="{_numbers(rpy)}"/>',
        f'      <mass value="{_number(mass)}"/>',
        f'      <inertia ixx="{xx}" ixy="0" ixz="0" iyy="{yy}" iyz="0" izz="{zz}"/>',
        "    </inertial>",
    ]


def _link_lines(hand: Hand, name: str, inertial: list[str]) -> list[str]:
    lines = [f'  <link name="{name}">', *inertial]
    colour = "thumb" if name.startswith("th") else "palm" if name in (BASE, "lfmetacarpal") else "finger"
    for geom in (g for g in hand.geoms if g.link == name):
        shape = _shape(geom)
        origin = f'<origin xyz="{_numbers(geom.position)}" rpy="{_numbers(_rpy(geom.quaternion))}"/>'
        for tag, extra in (("visual", f'<material name="{colour}"/>'), ("collision", "")):
            lines.append(f"    <{tag}>{origin}<geometry>{shape}</geometry>{extra}</{tag}>")
    return [*lines, "  </link>"]


def _shape(geom: Geom) -> str:
    if geom.kind == "capsule":
        radius, half_length = geom.size
        return f'<capsule radius="{_number(radius)}" length="{_number(2 * half_length)}"/>'
    if geom.kind == "box":
        return f'<box size="{_numbers(2 * geom.size)}"/>'
    raise DataError(f"geom {geom.name} is neither a capsule nor a box")


def _joint_lines(link: Link) -> list[str]:
    lower, upper = link.limits
    limit = (
        f'<limit lower="{_number(lower)}" upper="{_number(upper)}" '
        f'effort="{_number(link.effort)}" velocity="{_number(VELOCITY)}"/>'
    )
    return [
        f'  <joint name="{link.joint}" type="revolute">',
        f'    <parent link="{link.parent}"/><child link="{link.name}"/>',
        f'    <origin xyz="{_numbers(link.position)}" rpy="{_numbers(_rpy(link.quaternion))}"/>',
        f'    <axis xyz="{_numbers(link.axis)}"/>',
        f"    {limit}",
        f'    <dynamics damping="{_number(link.damping)}" friction="{_number(link.friction)}"/>',
        "  </joint>",
    ]


def _rpy(quaternion: Array) -> Array:
    """Unit quaternion wxyz to URDF roll, pitch, yaw: R = Rz(yaw) Ry(pitch) Rx(roll)."""
    w, x, y, z = quaternion
    return np.array(
        [
            np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
            np.arcsin(np.clip(2 * (w * y - z * x), -1, 1)),
            np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
        ]
    )


def parity_arrays(model: Any, hand: Hand) -> dict[str, NDArray[Any]]:
    """Return what the tests compare with: link poses in the palm frame at random joints, and every parameter.

    `joints` (1000, 22) rad, `position` (1000, 22, 3) m, `quaternion` (1000, 22, 4) wxyz with w ≥ 0.
    """
    lower, upper = np.array([link.limits for link in hand.links]).T
    rng = np.random.default_rng(PARITY_SEED)
    joints = rng.uniform(lower, upper, (CONFIGURATIONS, len(JOINT_NAMES))).astype(np.float32)
    position, quaternion = _mujoco_poses(model, hand, joints.astype(np.float64))
    arrays: dict[str, NDArray[Any]] = {"joints": joints, "position": position, "quaternion": quaternion}
    for field in Link.__dataclass_fields__:  # link_inertia is the bare one, without the armature
        arrays[f"link_{field}"] = np.array([getattr(link, field) for link in hand.links])
    arrays["palm"] = np.array([hand.palm_mass, *hand.palm_centre, hand.palm_inertia])
    for field in ("name", "link", "kind", "position", "quaternion"):
        arrays[f"geom_{field}"] = np.array([getattr(geom, field) for geom in hand.geoms])
    arrays["geom_size"] = np.array([np.pad(geom.size, (0, 3 - len(geom.size))) for geom in hand.geoms])
    return arrays


def _mujoco_poses(model: Any, hand: Hand, joints: Array) -> tuple[Array, Array]:
    """Run MuJoCo's forward kinematics; returns (N, 22, 3) and (N, 22, 4) wxyz in the palm frame."""
    import mujoco

    data = mujoco.MjData(model)
    address = [int(model.joint(PREFIX + name).qposadr[0]) for name in JOINT_NAMES]
    bodies = [model.body(PREFIX + link.name).id for link in hand.links]
    palm = model.body(PREFIX + BASE).id
    position, quaternion = np.empty((len(joints), len(bodies), 3)), np.empty((len(joints), len(bodies), 4))
    inverse, origin = np.empty(4), np.empty(3)
    for i, q in enumerate(joints):
        data.qpos[address] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mju_negPose(origin, inverse, data.xpos[palm], data.xquat[palm])
        for k, body in enumerate(bodies):
            pose = position[i, k], quaternion[i, k]
            mujoco.mju_mulPose(*pose, origin, inverse, data.xpos[body], data.xquat[body])
    quaternion *= np.where(quaternion[..., :1] < 0, -1.0, 1.0)
    return position, quaternion


def main(arguments: list[str] | None = None) -> None:
    """Write the files beside this script."""
    parser = argparse.ArgumentParser(description="Build the ShadowHand URDF from gymnasium-robotics' MJCF.")
    parser.add_argument("--parity", action="store_true", help="write parity.npz too")
    options = parser.parse_args(arguments)
    model = compile_mjcf()
    hand = read_hand(model)
    (FOLDER / "shadow_hand.urdf").write_text(urdf_text(hand), encoding="utf-8")
    if options.parity:
        arrays: dict[str, Any] = parity_arrays(model, hand)
        np.savez_compressed(FOLDER / "parity.npz", **arrays)


if __name__ == "__main__":
    main()
