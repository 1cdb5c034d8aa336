"""The energy of a grasp, in torch: contact distance, force closure, penetration, self-penetration, type."""

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from simeval.generators.closing import hand_spheres
from simeval.generators.field import Field
from simeval.hand import FINGERS, load_hand
from simeval.taxonomy import CLOSING_REACH, GRASP_TYPES, GraspType

TORQUE_ARM = 0.04
"""Torques count as forces at this distance [m] from the centre of mass."""
SOFT = 0.001
"""Distances [m] below this count quadratically: the energy is smooth where hand and object touch."""
FAR = 0.006
"""A contact further away [m] than this pulls ever less: not every part of the hand reaches every object."""
SELF_SPACING = 2  # every so many-th sphere takes part in self-penetration


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the terms; distances in metres."""

    contact: float = 100.0
    balance: float = 1.0
    penetration: float = 200.0
    own: float = 60.0
    kind: float = 1.5


@dataclass(frozen=True, slots=True)
class State:
    """B grasps on their way."""

    rotation: Tensor  # (B, 3, 3)
    translation: Tensor  # (B, 3) m
    joints: Tensor  # (B, 22) rad
    contacts: Tensor  # (B, K) index of a sphere, −1: none
    share: Tensor  # (B, K) logits of how the contacts share the force

    def pick(self, accept: Tensor, other: "State") -> "State":
        """Take the grasps of `other` where `accept` (B,) holds."""

        def choose(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(accept.reshape(-1, *[1] * (a.ndim - 1)), b, a)

        return State(*(choose(getattr(self, n), getattr(other, n)) for n in State.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class HandTensors:
    """What the energy needs of the hand, on one device."""

    link: Tensor  # (S,) link of each sphere
    center: Tensor  # (S, 3) m, in the link
    radius: Tensor  # (S,) m
    lower: Tensor  # (22,) rad
    upper: Tensor  # (22,) rad
    pair_a: Tensor  # (P,) spheres that may not overlap …
    pair_b: Tensor  # (P,) … with these
    preshape: Tensor  # (T, 22) rad, by type in the order of GRASP_TYPES
    way: Tensor  # (T, 22) rad, from preshape to posture


@cache
def hand_tensors(device: str = "cpu") -> HandTensors:
    """Return the hand's tensors for a device; spheres are those that fill its collision primitives."""
    hand, spheres = load_hand(), hand_spheres()
    solid = spheres.radius > 0
    link, center, radius = spheres.link[solid], spheres.center[solid], spheres.radius[solid]
    chosen = np.arange(0, len(link), SELF_SPACING)
    finger = spheres.finger[solid]
    a, b = (chosen[i] for i in np.triu_indices(len(chosen), 1))
    base = np.array([not name.endswith(("middle", "distal")) for name in hand.link_names])[link]
    apart = (finger[a] != finger[b]) & ~(base[a] & base[b])
    a, b = a[apart], b[apart]
    kinds = list(GRASP_TYPES.values())

    def tensor(x: object) -> Tensor:
        return torch.as_tensor(np.array(x), device=device)

    with torch.inference_mode(False):  # what is made in inference mode couldn't train later
        return HandTensors(
            tensor(link), tensor(center).float(), tensor(radius).float(), tensor(hand.lower).float(),
            tensor(hand.upper).float(), tensor(a), tensor(b), tensor([k.preshape for k in kinds]).float(),
            tensor([k.posture - k.preshape for k in kinds]).float(),
        )  # fmt: skip


def contact_groups(kind: GraspType) -> list[np.ndarray]:
    """Spheres (indices into HandTensors) of each part that should touch: a finger, the thumb or the palm."""
    hand, spheres = load_hand(), hand_spheres()
    solid = spheres.radius > 0
    link, part = spheres.link[solid], spheres.finger[solid]
    wanted = np.array([name in kind.contact_links for name in hand.link_names])[link]
    return [np.flatnonzero(wanted & (part == p)) for p in range(-1, len(FINGERS)) if (wanted & (part == p)).any()]


class Posed(Protocol):
    """Anything that says where B hands are."""

    @property
    def rotation(self) -> Tensor:
        """(B, 3, 3), palm in the object frame."""
        ...

    @property
    def translation(self) -> Tensor:
        """(B, 3) m."""
        ...

    @property
    def joints(self) -> Tensor:
        """(B, 22) rad."""
        ...


def place(hand: HandTensors, state: Posed) -> Tensor:
    """Spheres' centres (B, S, 3) [m] in the object frame."""
    turn, shift = load_hand().link_transforms(state.joints)
    local = (turn[:, hand.link] @ hand.center[:, :, None])[..., 0] + shift[:, hand.link]
    return local @ state.rotation.transpose(1, 2) + state.translation[:, None]


def energy(hand: HandTensors, field: Field, state: State, which: Tensor, kind: Tensor, weights: Weights) -> Tensor:
    """Energy (B,) of grasps of objects `which` (B,) and types `kind` (B,) (index into GRASP_TYPES, −1: no type)."""
    centers = place(hand, state)
    gap = field.signed(centers, which) - hand.radius  # (B, S)
    valid = state.contacts >= 0
    index = state.contacts.clamp(min=0)
    touching = gap.gather(1, index)
    contact = (_waning(_soft(touching.abs())) * valid).sum(1)
    deep = _soft((-gap).clamp(min=0)).sum(1)
    own = _soft(_overlap(hand, centers)).sum(1)
    return (
        weights.contact * contact
        + weights.balance * balance(field, centers, index, valid, state.share, which)
        + weights.penetration * deep
        + weights.own * own
        + weights.kind * type_distance(hand, state.joints, kind)
    )


def balance(field: Field, centers: Tensor, index: Tensor, valid: Tensor, share: Tensor, which: Tensor) -> Tensor:
    """Squared wrench (B,) that remains when the contacts push along the normals with the shares of a unit force."""
    point = centers.gather(1, index[..., None].expand(-1, -1, 3))
    push = -field.normal(point, which)
    force = torch.softmax(share.masked_fill(~valid, -1e9), dim=1)[..., None] * push
    arm = (point - field.center[which, None]) / TORQUE_ARM
    total = torch.cat([force.sum(1), torch.linalg.cross(arm, force, dim=-1).sum(1)], dim=1)
    return total.square().sum(1)


def type_distance(hand: HandTensors, joints: Tensor, kind: Tensor) -> Tensor:
    """Mean squared distance (B,) of the joints, over their ranges, from the line on which the type's hand closes."""
    at = kind.clamp(min=0)
    scale = 1 / (hand.upper - hand.lower)
    offset, way = (joints - hand.preshape[at]) * scale, hand.way[at] * scale
    along = ((offset * way).sum(1) / way.square().sum(1)).clamp(0, CLOSING_REACH).detach()
    return (kind >= 0) * (offset - along[:, None] * way).square().sum(1)


def _soft(distance: Tensor) -> Tensor:
    """Huber's function: d²/2·SOFT below SOFT, d − SOFT/2 above."""
    return torch.where(distance < SOFT, distance.square() / (2 * SOFT), distance - SOFT / 2)


def _waning(distance: Tensor) -> Tensor:
    """The distance up to FAR, from there on growing with its logarithm."""
    return torch.where(distance < FAR, distance, FAR * (1 + torch.log(distance.clamp(min=FAR) / FAR)))


def _overlap(hand: HandTensors, centers: Tensor) -> Tensor:
    """How far (B, P) [m] spheres of different fingers, or of finger and palm, are in one another."""
    apart = (centers[:, hand.pair_a] - centers[:, hand.pair_b]).square().sum(-1).clamp(min=1e-12).sqrt()
    return (hand.radius[hand.pair_a] + hand.radius[hand.pair_b] - apart).clamp(min=0)
