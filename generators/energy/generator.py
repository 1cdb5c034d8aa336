"""The generator `energy`: from closed preshapes downhill."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from simeval.errors import SettingError
from simeval.generator import GraspRequest
from simeval.generators.energy.anneal import Schedule, anneal, nearest_contacts, shares
from simeval.generators.energy.energy import State, Weights, hand_tensors
from simeval.generators.energy.field import Field
from simeval.generators.holding import hold_scores
from simeval.generators.preshape import best_by_type, candidates, sound
from simeval.grasp import Array, GraspBatch
from simeval.hand import load_hand
from simeval.objects.model import ObjectModel
from simeval.taxonomy import GRASP_TYPES, GraspType

MOST_PENETRATION = 0.8  # mm, of a returned grasp with the object
ENERGY_WEIGHT = 0.1
"""What a unit of energy takes from a grasp's score, whose other part is `holding.hold_scores` (at most 0)."""


class Energy:
    """Start from closed preshapes, descend on the energy, return the best by energy and balance.

    The energy (`simeval.generators.energy.energy`) knows the exact shape and has learned nothing. Each returned grasp
    is the best of about `tries`.
    """

    def __init__(self, tries: int = 16, steps: int = 250, device: str = "cpu") -> None:
        if tries < 1 or steps < 0:
            raise SettingError(f"tries must be at least 1 and steps at least 0, found {tries} and {steps}")
        self.tries, self.device = tries, device
        self.schedule = Schedule(steps=steps)

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return up to `count` grasps, the best first; of the type asked for, else of types drawn by seed.

        Raises:
            SettingError: there is no such type.
        """
        return best_by_type(request, np.random.default_rng([0xE9E, request.seed]), self._best)

    def _best(self, model: ObjectModel, kind: GraspType, count: int, rng: np.random.Generator) -> GraspBatch:
        start, _ = candidates(model, kind, count * self.tries, rng)
        if not len(start):
            return GraspBatch.empty()
        grasps, _ = descend(model, start, kind, self.schedule, int(rng.integers(2**31)), self.device)
        return sound(model, grasps, count, MOST_PENETRATION)


def descend(
    model: ObjectModel, start: GraspBatch, kind: GraspType, schedule: Schedule, seed: int, device: str = "cpu",
    weights: Weights | None = None,
) -> tuple[GraspBatch, Array]:  # fmt: skip
    """Descend from grasps of one object and type; return them with their score, and their energy (N,)."""
    hand, field = hand_tensors(device), Field([model], device)
    count = len(start)
    which = torch.zeros(count, dtype=torch.long, device=device)
    index = torch.full((count,), list(GRASP_TYPES).index(kind.name), device=device)
    clip = load_hand().clip

    def tensor(x: Array) -> torch.Tensor:
        return torch.tensor(x, dtype=torch.float32, device=device)

    none = torch.zeros(count, 1, dtype=torch.long, device=device)
    state = State(
        tensor(start.rotation),
        tensor(start.translation),
        tensor(clip(start.joints)[0]),
        none,
        tensor(np.zeros((count, 1))),
    )
    contacts, groups = nearest_contacts(hand, field, state, which, [kind.name] * count)
    state = State(state.rotation, state.translation, state.joints, contacts, shares(groups, [kind.name] * count))
    generator = torch.Generator().manual_seed(seed ^ zlib.crc32(kind.name.encode()))
    with one_thread():
        state, value = anneal(hand, field, state, groups, which, index, generator, schedule, weights or Weights())
    u, _, vt = np.linalg.svd(state.rotation.double().cpu().numpy())  # float32 drifts from SO(3)
    energy = value.double().cpu().numpy()
    grasps = GraspBatch(u @ vt, state.translation.double().cpu().numpy(), clip(state.joints.double().cpu().numpy())[0])
    return grasps.with_(score=hold_scores(model, kind, grasps) - ENERGY_WEIGHT * energy), energy


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: the same bits however many cores there are; small tensors gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
