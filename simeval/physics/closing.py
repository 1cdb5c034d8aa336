"""The one rule by which every grasp is opened, closed and squeezed (unless the grasp brings its own joints)."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from simeval.grasp import FLEXION_SIGN, Array
from simeval.hand import FINGERS, HandModel, load_hand
from simeval.metrics.distance import object_distance
from simeval.metrics.penetration import Penetration, hand_depths, query_points
from simeval.objects.model import ObjectModel
from simeval.physics.settings import Physics

CONTACT_GAP = 0.004  # m: a link this near the object is meant to touch it
CLEAR_DEPTH = 0.002  # m: fingers that start deeper than this are opened
OPENING_STEP, OPENING_LIMIT = 0.05, 0.8  # rad
EVEN_SHARE = 0.2  # weight of sharing the force evenly against balancing it


@dataclass(frozen=True, slots=True)
class Plan:
    """Joint targets of one trial, within limits, each (22,) rad."""

    start: Array
    grasp: Array
    squeeze: Array


@dataclass(frozen=True, slots=True)
class Contact:
    """A link that touches, or nearly touches, the object."""

    link: int  # index into HandModel.link_names
    point: Array  # (3,) m, on the object's surface
    push: Array  # (3,) unit vector into the object


def make_plan(
    model: ObjectModel, rotation: Array, translation: Array, joints: Array,
    pregrasp: Array | None, squeeze: Array | None, physics: Physics, commanded: Penetration,
) -> Plan:  # fmt: skip
    """Return start, grasp and squeeze of a grasp: palm pose (3, 3), (3,) m in the object frame, joints (22,) rad.

    A grasp's own `pregrasp` and `squeeze` are used as they are, within limits. Otherwise: the fingers start
    `opening_rad` open, those still too deep in the object opened further until they are clear (`clear_start`), and
    squeeze as `physics.closing` says: `contact` (`contact_step`) or `flexion` (every flexion joint alike).
    """
    hand = load_hand()
    grasp = hand.clip(joints)[0]
    if pregrasp is None:
        start = hand.clip(grasp - physics.opening_rad * FLEXION_SIGN)[0]
        if commanded.object_mm > 1e3 * CLEAR_DEPTH or not np.array_equal(grasp, joints):
            start = clear_start(model, rotation, translation, start)
    else:
        start = hand.clip(pregrasp)[0]
    if squeeze is not None:
        target = squeeze
    elif physics.closing == "contact":
        target = grasp + contact_step(model, rotation, translation, grasp, physics.squeeze_rad)
    else:
        target = grasp + physics.squeeze_rad * FLEXION_SIGN
    return Plan(start, grasp, hand.clip(target)[0])


def clear_start(model: ObjectModel, rotation: Array, translation: Array, joints: Array) -> Array:
    """Open each finger that is deeper than `CLEAR_DEPTH` in the object, no further than it takes: (22,) rad.

    Clipping a joint to its limit, or a generator's mistake, can leave a finger inside the object, from where it would
    shoot out. A real finger comes from outside.
    """
    hand = load_hand()
    distance = object_distance(model)
    opened = joints.copy()
    first = hand_depths(hand, distance, rotation, translation, joints)
    if float(first.max()) <= CLEAR_DEPTH:
        return opened
    amounts = np.arange(OPENING_STEP, OPENING_LIMIT + 1e-9, OPENING_STEP)
    candidates = np.vstack([joints, hand.clip(joints - amounts[:, None] * FLEXION_SIGN)[0]])
    more = [hand_depths(hand, distance, rotation, translation, q) for q in candidates[1:]]
    depths = np.array([first, *more])  # (A, 18)
    owners = np.array([_finger(shape.link) for shape in hand.primitives])
    for name, joint_range in FINGERS.items():
        deepest = depths[:, owners == name].max(axis=1)
        clear = np.flatnonzero(deepest <= CLEAR_DEPTH)
        best = int(clear[0]) if len(clear) else int(deepest.argmin())
        opened[joint_range] = candidates[best][joint_range]
    return opened


def contact_step(model: ObjectModel, rotation: Array, translation: Array, joints: Array, size: float) -> Array:
    """Joint step (22,) rad that pushes the touching links into the object, its largest joint `size`.

    Contact forces f >= 0 along the normals are chosen to balance on the object as well as they can (least squares on
    the wrench, with a preference for an even share), and the step follows the joint torques Jᵀf, each over the torque
    its motor has. Fingers without a contact close by half of `size`. Without any contact every finger does.
    """
    hand = load_hand()
    contacts = find_contacts(model, rotation, translation, joints)
    step = 0.5 * size * FLEXION_SIGN
    if not contacts:
        return step
    forces = balanced_forces(contacts, model.center_of_mass)
    frames, origins = hand.link_transforms(joints)
    frames, origins = rotation @ frames, origins @ rotation.T + translation
    torque = np.zeros(len(joints))
    for contact, force in zip(contacts, forces, strict=True):
        torque += force * _jacobian(hand, frames, origins, contact).T @ contact.push
    share = torque / hand.effort
    largest = float(np.abs(share).max())
    touching = {_finger(contact.link) for contact in contacts}
    for k in touching - {""}:
        step[FINGERS[k]] = size * share[FINGERS[k]] / largest if largest > 1e-9 else 0.0
    return step


def find_contacts(model: ObjectModel, rotation: Array, translation: Array, joints: Array) -> list[Contact]:
    """Links within `CONTACT_GAP` of the object: the nearest point of each collision primitive."""
    hand, distance = load_hand(), object_distance(model)
    points, radii, owners = query_points(hand, rotation, translation, joints)
    near = distance.may_reach(points, radii + CONTACT_GAP)
    points, radii, owners = points[near], radii[near], owners[near]
    signed, closest = distance.signed_and_closest(points)
    gaps = signed - radii
    contacts = []
    for k, shape in enumerate(hand.primitives):
        own = np.flatnonzero(owners == k)
        if not len(own):
            continue
        i = own[np.argmin(gaps[own])]
        push = (closest[i] - points[i]) * np.sign(signed[i])
        length = float(np.linalg.norm(push))
        if gaps[i] < CONTACT_GAP and length > 1e-9:
            contacts.append(Contact(shape.link, closest[i], push / length))
    return contacts


def balanced_forces(contacts: list[Contact], center: Array) -> Array:
    """Forces (C,) >= 0, summing to about 1, along the contacts' normals whose wrench about `center` is least."""
    points = np.array([c.point for c in contacts]) - center
    pushes = np.array([c.push for c in contacts])
    reach = max(1e-3, float(np.linalg.norm(points, axis=1).mean()))
    wrench = np.hstack([pushes, np.cross(points, pushes) / reach]).T  # (6, C)
    n = len(contacts)
    even = EVEN_SHARE / np.sqrt(n)
    rows = np.vstack([wrench, even * np.eye(n), 10 * np.ones((1, n))])
    goal = np.concatenate([np.zeros(6), np.full(n, even / n), [10.0]])
    return nnls(rows, goal)[0]


def _jacobian(hand: HandModel, frames: Array, origins: Array, contact: Contact) -> Array:
    """(3, 22) velocity of the contact's point on its link per joint velocity."""
    jacobian = np.zeros((3, len(hand.lower)))
    chain = []
    link = contact.link
    while link > 0:
        chain.append(link)
        link = int(hand.parent[link])
    if chain:
        links = np.array(chain)
        axes = (frames[links] @ hand.axes[links - 1, :, None])[..., 0]
        jacobian[:, links - 1] = np.cross(axes, contact.point - origins[links]).T
    return jacobian


def _finger(link: int) -> str:
    """Name of a link's finger, empty for the palm."""
    return next((name for name, joints in FINGERS.items() if joints.start < link <= joints.stop), "")
