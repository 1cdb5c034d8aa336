"""How well a closed hand could hold an object: a cheap, deterministic score that simulates nothing."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simeval.grasp import Array, GraspBatch
from simeval.hand import load_hand
from simeval.metrics.distance import SLACK, object_distance
from simeval.metrics.penetration import query_points
from simeval.metrics.types import admitted_types, commanded_distances, index_side, thumb_opposition
from simeval.objects.model import ObjectModel
from simeval.physics.closing import CONTACT_GAP, Contact, balanced_forces
from simeval.taxonomy import GRASP_TYPES, GraspType

LENGTH = 0.04  # m, torques count as forces at this distance from the centre of mass
FRICTION = 0.8  # below the default of 1.0, so that grasps aren't on the edge
EDGES = 4  # of the friction pyramid
PUSH = 3.0  # times the load, the largest push on one edge of a friction pyramid
ITERATIONS = 60
LOADS = np.concatenate([np.eye(6), -np.eye(6)])
"""(12, 6) unit forces along ±x ±y ±z and torques about them."""
UNBALANCED = 2.0  # of a hand that touches nothing
SHIFT = 0.003  # m
SHIFTS = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) * SHIFT
"""(7, 3) m: where a wrist may be that should be in one place; the first is that place."""
OTHER_TYPE = 0.5  # score lost where what touches makes it a grasp of another type


def robust_scores(model: ObjectModel, kind: GraspType, grasps: GraspBatch) -> Array:
    """Mean (N,) of `hold_scores` over wrists where they are and `SHIFT` away along ±x, ±y and ±z of the object.

    On 200 hooks that were the best of 128 by an earlier score the area under its curve for `lift` was 0.83, against
    0.78 where they are; on 55 lateral candidates 0.89 against 0.86; elsewhere within 0.02.
    """
    if not len(grasps):
        return np.zeros(0)
    return np.mean([found.score for found in shifted_terms(model, kind, grasps, SHIFTS)], axis=0)


def hold_scores(model: ObjectModel, kind: GraspType, grasps: GraspBatch) -> Array:
    """Score (N,) ≤ 1: the share of unit loads that friction could balance, minus what the squeeze leaves unbalanced.

    Contacts are those that the executor's closing rule finds: the nearest point of each link near the object.

    - `unbalanced`: the squeeze pushes along their normals, as evenly balanced as it can; what wrench is left, over the
      sum of the pushes, moves the object.
    - the balanced share: how much of a unit force or torque, over 12 directions, pushes within friction can balance.

    On 726 candidates of 16 DexGraspNet validation objects, none of them ranked before, the areas under their curves
    for `lift` were 0.94 and 0.89. Among the best by the first alone were hooks of two contacts that turned: with the
    second 22 instead of 17 of 36 lifted. The largest load within the motors' torques, by linear programming, and
    logistic regression on all of them and 6 more gained less than 0.02 on other objects.

    To stay true to the type, `OTHER_TYPE` is lost where links, pushes and joints would be judged as another type.
    """
    if not len(grasps):
        return np.zeros(0)
    return shifted_terms(model, kind, grasps, SHIFTS[:1])[0].score


class HoldTerms(NamedTuple):
    """What `hold_scores` is made of, of N grasps."""

    contacts: list[list[Contact]]  # N
    unbalanced: Array  # (N,)
    imbalance: Array  # (N, 12) of each of `LOADS`, 0 (balanced) to 1
    of_type: NDArray[np.bool_]  # (N,) whether it would be judged to be of the type asked for

    @property
    def score(self) -> Array:
        """(N,), see `hold_scores`."""
        return 1 - self.imbalance.mean(axis=1) - self.unbalanced - OTHER_TYPE * ~self.of_type


def shifted_terms(model: ObjectModel, kind: GraspType, grasps: GraspBatch, shifts: Array) -> list[HoldTerms]:
    """Find the contacts of grasps, and what they can hold, with every wrist moved by each of `shifts` (S, 3) [m]."""
    center = model.center_of_mass
    contacts = [
        nearby_contacts(model, rotation, translation + shifts, joints)
        for rotation, translation, joints in zip(grasps.rotation, grasps.translation, grasps.joints, strict=True)
    ]  # N × S
    near = commanded_distances(grasps.joints)
    found = []
    for at in range(len(shifts)):
        own = [c[at] for c in contacts]
        of_type = [_expected_type(c, r, d) == kind.name for c, r, d in zip(own, grasps.rotation, near, strict=True)]
        left = np.array([unbalanced(c, center) for c in own])
        found.append(HoldTerms(own, left, load_imbalance(own, center), np.array(of_type, dtype=bool)))
    return found


def nearby_contacts(model: ObjectModel, rotation: Array, translations: Array, joints: Array) -> list[list[Contact]]:
    """Contacts of one posture at each of some wrists `translations` (S, 3) [m], as `closing.find_contacts` finds them.

    The hand is posed once, and the object asked only about what is near it.
    """
    hand, distance = load_hand(), object_distance(model)
    points, radii, owners = query_points(hand, rotation, np.zeros(3), joints)
    first, farthest = points + translations[0], np.linalg.norm(translations - translations[0], axis=1).max()
    # a distance changes by no more than its point moves: what is further away than this at the first wrist is near none
    reach = radii + CONTACT_GAP + farthest + SLACK
    chosen = np.flatnonzero(distance.may_reach(first, reach))
    signed, closest = distance.signed_and_closest(first[chosen])
    near = signed < reach[chosen]
    chosen, signed, closest = chosen[near], signed[near], closest[near]
    everywhere = points[chosen] + translations[:, None]  # (S, Q, 3)
    more, closest_of_rest = distance.signed_and_closest(everywhere[1:].reshape(-1, 3))
    signed = np.concatenate([signed, more]).reshape(everywhere.shape[:2])
    closest = np.concatenate([closest, closest_of_rest]).reshape(everywhere.shape)
    return [
        _contacts(there, radii[chosen], owners[chosen], s, c)
        for there, s, c in zip(everywhere, signed, closest, strict=True)
    ]


def _contacts(points: Array, radii: Array, owners: NDArray[np.intp], signed: Array, closest: Array) -> list[Contact]:
    """Contacts among query points (Q, 3) of the hand near the object: each primitive's nearest, within the gap."""
    gaps = signed - radii
    contacts = []
    for k in np.unique(owners[gaps < CONTACT_GAP]).tolist():
        own = np.flatnonzero(owners == k)
        i = own[np.argmin(gaps[own])]
        push = (closest[i] - points[i]) * np.sign(signed[i])
        length = float(np.linalg.norm(push))
        if length > 1e-9:
            contacts.append(Contact(load_hand().primitives[k].link, closest[i], push / length))
    return contacts


def unbalanced(contacts: Sequence[Contact], center: Array) -> float:
    """Wrench about `center` (3,) that the squeeze leaves on an object, over the sum of its pushes; at most 2."""
    if not contacts:
        return UNBALANCED
    forces = balanced_forces(list(contacts), center)
    total = float(forces.sum())
    if total < 1e-9:
        return UNBALANCED
    pushes = np.array([c.push for c in contacts]) * (forces / total)[:, None]
    torque = np.cross(np.array([c.point for c in contacts]) - center, pushes).sum(axis=0) / LENGTH
    return min(UNBALANCED, float(np.linalg.norm(np.concatenate([pushes.sum(axis=0), torque]))))


def load_imbalance(contacts: Sequence[Sequence[Contact]], center: Array) -> Array:
    """How much (N, 12) of a unit force or torque, over 12 directions, N hands' contacts can't balance, 0 to 1."""
    width = max((len(c) for c in contacts), default=0)
    if not width:
        return np.ones((len(contacts), len(LOADS)))
    point, push = np.zeros((2, len(contacts), width, 3))
    for i, own in enumerate(contacts):
        for k, contact in enumerate(own):
            point[i, k], push[i, k] = contact.point, contact.push
    return imbalance(_wrenches(point, push, center), LOADS, PUSH)


def imbalance(matrix: Array, load: Array, most: float) -> Array:
    """Least |matrix f + load| (N, L) over pushes 0 ≤ f ≤ `most`, for each load: how much can't be balanced.

    Args:
        matrix: (N, 6, M) wrenches.
        load: (L, 6).
        most: largest push on one edge, in the units of the load.

    Accelerated projected gradient (Beck & Teboulle 2009) with a fixed number of iterations.
    """
    gram = matrix.swapaxes(1, 2) @ matrix
    step = 1 / np.maximum(np.abs(gram).sum(axis=2).max(axis=1), 1e-9)[:, None, None]
    linear = load @ matrix  # (N, L, M)
    f = ahead = np.zeros_like(linear)
    t = 1.0
    for _ in range(ITERATIONS):
        new = np.clip(ahead - step * (ahead @ gram + linear), 0, most)
        t, last = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
        ahead = new + (last - 1) / t * (new - f)
        f = new
    return np.linalg.norm(f @ matrix.swapaxes(1, 2) + load, axis=2)


def _expected_type(contacts: Sequence[Contact], rotation: Array, distances: Array) -> str:
    """Type that a grasp with these contacts would be judged to be after the squeeze; "" where it is none.

    Args:
        contacts: of the commanded grasp.
        rotation: (3, 3), palm in the object frame.
        distances: (6,) of its joints to each type, as `commanded_distances` gives them.
    """
    names = load_hand().link_names
    pushes: dict[str, Array] = {}
    for contact in contacts:
        name = names[contact.link]
        pushes[name] = pushes.get(name, np.zeros(3)) + rotation.T @ contact.push
    nearness = dict(zip(GRASP_TYPES, distances.tolist(), strict=True))
    admitted = admitted_types(pushes, thumb_opposition(pushes), index_side(pushes))
    return min(admitted, key=nearness.__getitem__, default="")


def _wrenches(point: Array, push: Array, center: Array) -> Array:
    """Wrenches (N, 6, K·EDGES) of unit pushes along the edges of the friction pyramids of contacts (N, K, 3).

    The lower three rows are torques about `center` (3,), divided by `LENGTH`; a contact with no push gives none.
    """
    helper = np.where(np.abs(push[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0])
    u = np.cross(push, helper)
    u /= np.maximum(np.linalg.norm(u, axis=2, keepdims=True), 1e-9)
    v = np.cross(push, u)
    angle = 2 * np.pi * np.arange(EDGES) / EDGES
    side = np.cos(angle)[:, None] * u[:, :, None] + np.sin(angle)[:, None] * v[:, :, None]  # (N, K, E, 3)
    force = push[:, :, None] + FRICTION * side
    arm = (point - center)[:, :, None] / LENGTH
    return np.concatenate([force, np.cross(arm, force)], axis=3).reshape(len(push), -1, 6).swapaxes(1, 2)
