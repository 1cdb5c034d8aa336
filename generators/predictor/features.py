"""What the predictor is told of a closed hand: contacts, what they could hold, where the object is, the joints."""

import numpy as np

from simeval.generators.holding import OTHER_TYPE, SHIFTS, HoldTerms, shifted_terms
from simeval.grasp import JOINT_COUNT, Array, GraspBatch
from simeval.hand import load_hand
from simeval.objects.model import ObjectModel
from simeval.physics.settings import Physics
from simeval.taxonomy import GRASP_TYPES, GraspType

FEATURES_VERSION = 1
"""Changes whenever a feature does; weights of another version are refused."""
MANY = 10.0  # contacts
_TERMS = 5 + 12
COUNT = 2 * _TERMS + 8 + len(load_hand().link_names) + 4 + 3 + 1 + 3 + JOINT_COUNT + len(GRASP_TYPES)


def features(model: ObjectModel, kind: GraspType, grasps: GraspBatch) -> Array:
    """Describe grasps (N) of a type by `COUNT` numbers each, without simulating anything.

    - The terms of `holding.hold_scores` where the wrist is, their mean over wrists `SHIFT` away along ±x, ±y and ±z,
      and the least and the most of the first four.
    - Contacts by link, their middle from the centre of mass, and the centre of mass, in the hand's frame.
    - The object's mass at the default density, and its extents, sorted.
    - Joints, and type.
    """
    if not len(grasps):
        return np.zeros((0, COUNT))
    found = shifted_terms(model, kind, grasps, SHIFTS)
    terms = np.array([_terms(at) for at in found])  # (7, N, 17)
    shifted = terms[1:, :, :4]
    back = grasps.rotation.swapaxes(1, 2)
    middle = np.array([_middle(own, model) for own in found[0].contacts])
    vertices = model.surface.vertices
    extents = np.sort(np.ptp(vertices, axis=0))
    whole = np.array([model.mass(Physics().density), *extents])
    one_hot = np.array([name == kind.name for name in GRASP_TYPES], dtype=float)
    return np.concatenate([
        terms[0], terms[1:].mean(axis=0), shifted.min(axis=0), shifted.max(axis=0),
        np.array([_by_link(own) for own in found[0].contacts]),
        np.linalg.norm(middle, axis=1, keepdims=True), (back @ middle[:, :, None])[..., 0],
        (back @ (model.center_of_mass - grasps.translation)[:, :, None])[..., 0],
        np.tile(whole, (len(grasps), 1)), grasps.joints, np.tile(one_hot, (len(grasps), 1)),
    ], axis=1)  # fmt: skip


def robust_of(found: Array) -> Array:
    """`holding.robust_scores` (N,) of the grasps that features (N, COUNT) describe."""
    mean = (found[:, :4] + (len(SHIFTS) - 1) * found[:, _TERMS : _TERMS + 4]) / len(SHIFTS)
    return mean[:, 1] - mean[:, 0] - OTHER_TYPE * (1 - mean[:, 3])


def _terms(found: HoldTerms) -> Array:
    """(N, 17): unbalanced, balanced share, worst load, of the type, number of contacts, loads sorted."""
    return np.column_stack([
        found.unbalanced, 1 - found.imbalance.mean(axis=1), found.imbalance.max(axis=1), found.of_type,
        np.array([len(own) for own in found.contacts]) / MANY, np.sort(found.imbalance, axis=1),
    ])  # fmt: skip


def _middle(contacts: list, model: ObjectModel) -> Array:
    """Middle (3,) of the contacts from the centre of mass, object frame [m]; far away where there is none."""
    if not contacts:
        return np.full(3, 0.2)
    return np.mean([c.point for c in contacts], axis=0) - model.center_of_mass


def _by_link(contacts: list) -> Array:
    counts = np.zeros(len(load_hand().link_names))
    for contact in contacts:
        counts[contact.link] += 1
    return counts
