"""Descent on the energy as DexGraspNet does it: MALA-like steps, RMSprop scaling, Metropolis acceptance, new contacts.

Recipe and constants after Wang et al. 2023, "DexGraspNet: A Large-Scale Robotic Dexterous Grasp Dataset for General
Objects Based on Simulation", doi 10.1109/ICRA48891.2023.10160982, which follows Liu et al. 2021, doi
10.1109/LRA.2021.3129138; shorter here, since every start already touches.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simeval.generators.energy.energy import HandTensors, State, Weights, contact_groups, energy, place
from simeval.generators.field import Field
from simeval.taxonomy import GRASP_TYPES


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the descent goes."""

    steps: int = 250
    move: float = 0.0015
    """First step of the wrist [m]; that of angles is `turn`."""
    turn: float = 0.015
    """First step of the wrist's and the joints' angles [rad]."""
    growth: float = 1.1
    """A grasp's steps grow by this when one is accepted and shrink by its 4th power when not, within 1/100 and 2."""
    memory: float = 0.98
    """Of the running mean of squared gradients."""
    temperature: float = 0.3
    """At the start, in units of the energy; shrinks by `cooling` a step."""
    cooling: float = 0.98
    switch: float = 0.05
    """Chance that a grasp gets one of its contacts replaced at a step, over the first 3/4 of the steps."""


def nearest_contacts(
    hand: HandTensors, field: Field, state: State, which: Tensor, kinds: list[str]
) -> tuple[Tensor, Tensor]:
    """Contacts (B, K), the nearest sphere of each group of a grasp's type, and the groups' spheres (B, K, S) bool."""
    masks = {name: _group_masks(name, len(hand.link)) for name in set(kinds)}
    width = max(len(mask) for mask in masks.values())
    groups = torch.zeros(len(kinds), width, len(hand.link), dtype=torch.bool)
    for i, name in enumerate(kinds):
        groups[i, : len(masks[name])] = masks[name]
    groups = groups.to(state.joints.device)
    with torch.no_grad():
        gap = field.signed(place(hand, state), which) - hand.radius
    reach = torch.where(groups, gap[:, None], torch.inf)
    nearest = reach.argmin(2)
    return torch.where(groups.any(2), nearest, -1), groups


def _group_masks(name: str, count: int) -> Tensor:
    groups = contact_groups(GRASP_TYPES[name])
    mask = torch.zeros(len(groups), count, dtype=torch.bool)
    for k, group in enumerate(groups):
        mask[k, torch.as_tensor(group)] = True
    return mask


def anneal(
    hand: HandTensors, field: Field, state: State, groups: Tensor, which: Tensor, kind: Tensor,
    generator: torch.Generator, schedule: Schedule, weights: Weights,
) -> tuple[State, Tensor]:  # fmt: skip
    """Descend from `state`; return the last accepted state and its energy (B,). Draws only from `generator`."""
    count = len(state.joints)
    device = state.joints.device
    size = torch.cat([
        torch.full((3,), schedule.move), torch.full((3,), schedule.turn), torch.full((22,), schedule.turn),
    ]).to(device)  # fmt: skip
    mean_square = torch.zeros(28, device=device)
    pace = torch.full((count, 1), 0.5, device=device)
    current, gradient, share_gradient = _gradient(hand, field, state, which, kind, weights)
    for step in range(schedule.steps):
        mean_square = schedule.memory * mean_square + (1 - schedule.memory) * gradient.square().mean(0)
        unbiased = mean_square / (1 - schedule.memory ** (step + 1))
        scaled = gradient / (unbiased.sqrt() + 1e-9)
        noise = torch.randn(count, 28, generator=generator).to(device)
        heat = schedule.cooling**step
        temperature = schedule.temperature * heat
        move = pace * size * (0.3 * heat * noise - scaled.clamp(-3, 3))
        tried = _moved(hand, state, move, share_gradient)
        if step < 0.75 * schedule.steps:
            tried = replace(tried, contacts=_switched(tried.contacts, groups, schedule.switch, generator))
        value, new_gradient, new_share = _gradient(hand, field, tried, which, kind, weights)
        luck = torch.rand(count, generator=generator).to(device)
        accept = (value < current) | (luck < torch.exp((current - value) / max(temperature, 1e-6)))
        pace = (pace * torch.where(accept[:, None], schedule.growth, schedule.growth**-4)).clamp(0.01, 2.0)
        state = state.pick(accept, tried)
        current = torch.where(accept, value, current)
        gradient = torch.where(accept[:, None], new_gradient, gradient)
        share_gradient = torch.where(accept[:, None], new_share, share_gradient)
    return state, current


def _gradient(
    hand: HandTensors, field: Field, state: State, which: Tensor, kind: Tensor, weights: Weights
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy (B,), its gradient (B, 28) by translation, small rotation and joints, and by the shares (B, K)."""
    move = torch.zeros(len(state.joints), 6, device=state.joints.device, requires_grad=True)
    joints = state.joints.detach().requires_grad_(True)
    share = state.share.detach().requires_grad_(True)
    turned = state.rotation @ (torch.eye(3, device=move.device) + _skew(move[:, 3:]))
    there = replace(state, rotation=turned, translation=state.translation + move[:, :3], joints=joints, share=share)
    value = energy(hand, field, there, which, kind, weights)
    by_move, by_joints, by_share = torch.autograd.grad(value.sum(), (move, joints, share))
    return value.detach(), torch.cat([by_move, by_joints], dim=1), by_share


def _moved(hand: HandTensors, state: State, move: Tensor, share_gradient: Tensor) -> State:
    joints = torch.minimum(torch.maximum(state.joints + move[:, 6:], hand.lower), hand.upper)
    rotation = state.rotation @ torch.linalg.matrix_exp(_skew(move[:, 3:6]))
    share = state.share - share_gradient / (share_gradient.square().mean(1, keepdim=True).sqrt() + 1e-6) * 0.05
    return State(rotation, state.translation + move[:, :3], joints, state.contacts, share)


def _switched(contacts: Tensor, groups: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Replace, with some chance a grasp, one contact by another sphere of its group."""
    count, width = contacts.shape
    device = contacts.device
    switch = torch.rand(count, generator=generator).to(device) < chance
    slot = torch.randint(width, (count,), generator=generator).to(device)
    group = groups[torch.arange(count, device=device), slot].float()
    switch &= group.any(1)
    group = torch.where(switch[:, None], group, torch.ones_like(group))
    draw = torch.rand(group.shape, generator=generator).to(device) * group
    out = contacts.clone()
    rows = torch.arange(count, device=device)
    out[rows, slot] = torch.where(switch, draw.argmax(1), contacts[rows, slot])
    return out


def _skew(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*v.shape[:-1], 3, 3)


def shares(groups: Tensor, kinds: list[str]) -> Tensor:
    """First logits (B, K): the thumb, alone against the fingers, as much as they together."""
    out = torch.zeros(groups.shape[:2], device=groups.device)
    for i, name in enumerate(kinds):
        if GRASP_TYPES[name].thumb_opposed:
            present = int(groups[i].any(1).sum())
            out[i, present - 1] = float(np.log(max(1, present - 1)))  # the thumb is the last finger
    return out
