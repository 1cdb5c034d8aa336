"""The ShadowHand: limits, torques, collision primitives and batched forward kinematics (NumPy and torch).

Everything is read from `robots/shadow_hand/shadow_hand.urdf`, the file PyBullet simulates. Links are numbered
palm = 0, then the child link of each joint in joint order, so that PyBullet's link index is this one minus 1.
Poses are in the palm frame (fingers +z, thumb +x, flexion towards −y); SI units.
"""

import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simeval.errors import DataError, GraspError
from simeval.grasp import JOINT_COUNT, JOINT_NAMES, euler_to_matrix

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
ArrayT = TypeVar("ArrayT", NDArray[Any], "Tensor")

LINK_COUNT = JOINT_COUNT + 1
FINGERS = {"FF": slice(0, 4), "MF": slice(4, 8), "RF": slice(8, 12), "LF": slice(12, 17), "TH": slice(17, 22)}
"""Joints of each finger, from its base to its tip; joint j carries link j + 1."""
FINGERTIPS = tuple(joints.stop for joints in FINGERS.values())
"""Links at the fingers' ends. The MJCF gives their geoms, and only theirs, contacts with torsional friction."""


@dataclass(frozen=True, slots=True, eq=False)
class CollisionPrimitive:
    """A capsule along z or a box, fixed to a link: all points within `radius` of the box of `half_sizes`.

    A capsule's box is its segment, half_sizes = (0, 0, half_length); a box has radius 0. So one formula, that
    of a rounded box, gives the distance to either kind.
    """

    link: int  # index into HandModel.link_names
    kind: Literal["capsule", "box"]
    rotation: Array  # (3, 3) primitive to link
    translation: Array  # (3,) m, primitive's centre in the link
    radius: float  # m
    half_length: float  # m, half the segment of a capsule; 0 for a box
    half_sizes: Array  # (3,) m


@dataclass(frozen=True, slots=True, eq=False)
class HandModel:
    """Kinematics and limits of the 22-joint ShadowHand without its wrist. Get it from `load_hand()`."""

    joint_names: tuple[str, ...]  # 22, as in simeval.grasp.JOINT_NAMES
    link_names: tuple[str, ...]  # 23: palm, then the child link of each joint
    parent: NDArray[np.intp]  # (23,) parent link of each link; −1 for the palm
    lower: Array  # (22,) rad
    upper: Array  # (22,) rad
    effort: Array  # (22,) N m, largest motor torque: the MJCF actuators' force ranges
    damping: Array  # (22,) N m s/rad
    mass: Array  # (23,) kg
    origin_rotation: Array  # (22, 3, 3) joint frame to parent link, at zero angle
    origin_translation: Array  # (22, 3) m, joint frame's origin in the parent link
    axes: Array  # (22, 3) unit, in the joint frame
    primitives: tuple[CollisionPrimitive, ...]  # 18: 15 capsules and 3 boxes, in link order

    def link_transforms(self, joints: ArrayT) -> tuple[ArrayT, ArrayT]:
        """Forward kinematics of every link.

        Args:
            joints: (*batch, 22) rad, NumPy array or torch tensor. The result keeps its dtype and device, and
                is differentiable (torch); NumPy integers become float64.

        Returns:
            rotation (*batch, 23, 3, 3) and translation (*batch, 23, 3) [m] with
            p_palm = rotation @ p_link + translation.

        Raises:
            GraspError: the last dimension isn't 22.
        """
        q: Any
        q, xp = _joint_array(joints)
        constant, sine, cosine, origin, identity = _constants(self, q.dtype, getattr(q, "device", None))
        angle = q[..., None, None]
        local = constant + xp.sin(angle) * sine + xp.cos(angle) * cosine  # (*batch, 22, 3, 3)
        rotations = [xp.broadcast_to(identity, (*q.shape[:-1], 3, 3))]
        translations = [xp.broadcast_to(0 * origin[0], (*q.shape[:-1], 3))]
        for k, parent in enumerate(self.parent[1:].tolist()):
            turn = local[..., k, :, :]
            rotations.append(turn if parent == 0 else rotations[parent] @ turn)
            translations.append(translations[parent] + rotations[parent] @ origin[k])
        return xp.stack(rotations, -3), xp.stack(translations, -2)

    def primitive_transforms(self, joints: ArrayT) -> tuple[ArrayT, ArrayT]:
        """Poses of the collision primitives, in the order of `primitives`.

        Args:
            joints: (*batch, 22) rad, as in `link_transforms`.

        Returns:
            rotation (*batch, 18, 3, 3) and translation (*batch, 18, 3) [m] with
            p_palm = rotation @ p_primitive + translation.

        Raises:
            GraspError: the last dimension isn't 22.
        """
        link_rotation, link_translation = self.link_transforms(joints)
        links, rotation, translation = _primitive_constants(
            self, link_rotation.dtype, getattr(link_rotation, "device", None)
        )
        carrier = link_rotation[..., links, :, :]
        offset = (carrier @ translation[..., None])[..., 0]
        return carrier @ rotation, link_translation[..., links, :] + offset

    def capsule_segments(self, joints: ArrayT) -> tuple[ArrayT, ArrayT, Array]:
        """Axis segments of the capsules, in the order in which they stand in `primitives`.

        Args:
            joints: (*batch, 22) rad, as in `link_transforms`.

        Returns:
            start and end (*batch, 15, 3) [m] in the palm frame, and radius (15,) [m], always a NumPy array.

        Raises:
            GraspError: the last dimension isn't 22.
        """
        rotation, translation = self.primitive_transforms(joints)
        chosen = [i for i, primitive in enumerate(self.primitives) if primitive.kind == "capsule"]
        half = [self.primitives[i].half_length for i in chosen]
        z, centre = rotation[..., 2][..., chosen, :], translation[..., chosen, :]
        reach: Any = z * _like(np.array(half)[:, None], z.dtype, getattr(z, "device", None))
        return centre - reach, centre + reach, np.array([self.primitives[i].radius for i in chosen])

    def clip(self, joints: ArrayLike) -> tuple[Array, Array]:
        """Move joints into their limits.

        Args:
            joints: (*batch, 22) rad.

        Returns:
            clipped (*batch, 22) and excess (*batch, 22) ≥ 0, how far each joint lay beyond its limit [rad].
            NaN stays NaN in both.

        Raises:
            GraspError: the last dimension isn't 22.
        """
        q = _joint_array(np.asarray(joints, dtype=np.float64))[0]
        clipped = np.clip(q, self.lower, self.upper)
        return clipped, np.abs(q - clipped)


def urdf_path() -> Path:
    """Return the URDF's path, for `pybullet.loadURDF`.

    Load it with `useFixedBase=True, flags=pybullet.URDF_USE_INERTIA_FROM_FILE`: without that flag PyBullet
    makes up inertias from the collision shapes, and the joints lose their armature.

    Raises:
        DataError: the file isn't there.
    """
    path = Path(str(files("simeval.robots.shadow_hand") / "shadow_hand.urdf"))
    if not path.is_file():
        raise DataError(f"{path} is missing. Run: python -m simeval.robots.shadow_hand.build")
    return path


@cache
def load_hand() -> HandModel:
    """Read the hand from its URDF, once per process; its arrays are read-only.

    Raises:
        DataError: the URDF is missing or isn't the ShadowHand's.
    """
    root = ET.parse(urdf_path()).getroot()
    joints = root.findall("joint")
    names = tuple(joint.attrib["name"] for joint in joints)
    if names != JOINT_NAMES:
        raise DataError(f"{urdf_path()} has the joints {names}, expected {JOINT_NAMES}")
    links = ("palm", *(_find(joint, "child").attrib["link"] for joint in joints))
    by_name = {link.attrib["name"]: link for link in root.findall("link")}
    rotation, translation = zip(*(_origin(joint) for joint in joints), strict=True)
    parent = [-1, *(links.index(_find(joint, "parent").attrib["link"]) for joint in joints)]
    return HandModel(
        joint_names=names,
        link_names=links,
        parent=_frozen(np.array(parent, dtype=np.intp)),
        lower=_column(joints, "limit", "lower"),
        upper=_column(joints, "limit", "upper"),
        effort=_column(joints, "limit", "effort"),
        damping=_column(joints, "dynamics", "damping"),
        mass=_column([by_name[name] for name in links], "inertial/mass", "value"),
        origin_rotation=_frozen(np.array(rotation)),
        origin_translation=_frozen(np.array(translation)),
        axes=_frozen(np.array([_vector(_find(joint, "axis").attrib["xyz"]) for joint in joints])),
        primitives=tuple(
            _primitive(index, element)
            for index, name in enumerate(links)
            for element in by_name[name].findall("collision")
        ),
    )


def _joint_array(joints: Any) -> tuple[Any, Any]:
    """Return (joints as a floating array, the module, NumPy or torch, that computes with it)."""
    torch = sys.modules.get("torch")  # a tensor exists only where torch has been imported
    if torch is not None and isinstance(joints, torch.Tensor):
        q, xp = joints, torch
    else:
        q, xp = np.asarray(joints), np
        if not np.issubdtype(q.dtype, np.floating):
            q = q.astype(np.float64)
    if q.ndim == 0 or q.shape[-1] != JOINT_COUNT:
        raise GraspError(f"joints have shape {tuple(q.shape)}, expected (..., {JOINT_COUNT})")
    return q, xp


def _like(array: NDArray[Any], dtype: Any, device: Any) -> Any:
    """Return a constant as the kind of array that `dtype` belongs to."""
    if isinstance(dtype, np.dtype):
        return array.astype(dtype)
    torch = sys.modules["torch"]
    with torch.inference_mode(False):  # constants are cached: one made in inference mode couldn't train later
        return torch.tensor(array, dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _constants(hand: HandModel, dtype: Any, device: Any) -> tuple[Any, ...]:
    """Return A, B, C (22, 3, 3) of each joint's R(q) = A + sin(q) B + cos(q) C, the origins (22, 3), and I.

    Rodrigues' formula times the origin: A = O a aᵀ, B = O [a]×, C = O (I − a aᵀ).
    """
    a, turn = hand.axes, hand.origin_rotation
    outer = a[:, :, None] * a[:, None, :]
    cross = np.cross(a[:, None, :], np.eye(3), axisa=-1, axisb=-1).swapaxes(-1, -2)
    arrays = (turn @ outer, turn @ cross, turn @ (np.eye(3) - outer), hand.origin_translation, np.eye(3))
    return tuple(_like(array, dtype, device) for array in arrays)


@lru_cache(maxsize=16)
def _primitive_constants(hand: HandModel, dtype: Any, device: Any) -> tuple[list[int], Any, Any]:
    rotation = np.stack([primitive.rotation for primitive in hand.primitives])
    translation = np.stack([primitive.translation for primitive in hand.primitives])
    links = [primitive.link for primitive in hand.primitives]
    return links, _like(rotation, dtype, device), _like(translation, dtype, device)


def _primitive(link: int, element: ET.Element) -> CollisionPrimitive:
    rotation, translation = _origin(element)
    shape = _find(element, "geometry")[0]
    if shape.tag == "capsule":
        radius, half = float(shape.attrib["radius"]), float(shape.attrib["length"]) / 2
        half_sizes = _frozen(np.array([0.0, 0.0, half]))
        return CollisionPrimitive(link, "capsule", rotation, translation, radius, half, half_sizes)
    if shape.tag == "box":
        half_sizes = _frozen(_vector(shape.attrib["size"]) / 2)
        return CollisionPrimitive(link, "box", rotation, translation, 0.0, 0.0, half_sizes)
    raise DataError(f"the hand's URDF has a collision <{shape.tag}>, expected <capsule> or <box>")


def _find(element: ET.Element, path: str) -> ET.Element:
    found = element.find(path)
    if found is None:
        raise DataError(f"the hand's URDF has no <{path}> in {element.tag} {element.get('name', '')!r}")
    return found


def _vector(text: str) -> Array:
    return np.array([float(word) for word in text.split()])


def _origin(element: ET.Element) -> tuple[Array, Array]:
    """Return the rotation (3, 3) and translation (3,) of an <origin>; URDF's rpy are static xyz angles."""
    origin = _find(element, "origin").attrib
    return _frozen(euler_to_matrix(_vector(origin["rpy"]))), _frozen(_vector(origin["xyz"]))


def _column(elements: list[ET.Element], path: str, key: str) -> Array:
    return _frozen(np.array([float(_find(element, path).attrib[key]) for element in elements]))


def _frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array
