"""The generator `energy`: from closed preshapes downhill; and `energy` as a refinement of any other's grasps."""

from collections.abc import Sequence

import numpy as np
import torch

from simeval.devices import check_device, one_thread
from simeval.errors import SettingError
from simeval.generator import GraspRequest
from simeval.generators.energy.anneal import Schedule, anneal, nearest_contacts, shares
from simeval.generators.energy.energy import State, Weights, hand_tensors
from simeval.generators.field import Field, make_grid
from simeval.generators.fitting import check_spread, fit_all, nearby
from simeval.generators.holding import hold_scores
from simeval.generators.preshape import best_by_type, candidates
from simeval.generators.ranking import DEEPEST, best, check_ranking, ranker
from simeval.grasp import Array, GraspBatch
from simeval.hand import load_hand
from simeval.metrics.types import commanded_types
from simeval.objects.model import ObjectModel
from simeval.taxonomy import GRASP_TYPES, GraspType

ENERGY_WEIGHT = 0.1
"""What a unit of energy takes from a grasp's score, whose other part is `holding.hold_scores`."""
DESCENT_SHARE = 8
"""One of so many tries, the best by their first score, are led downhill; the others were cheap to find. With twice
as many descents and all tries ranked beside them, by `robust` or by `blend`, as many were lifted: 87 % of 191 lateral
and hook conditions of validation objects."""
FEWEST = 6  # descents a request
AS_THEY_ARE = 2
"""Times as many of the tries, the best, are ranked as they are, beside those led downhill."""
MOST = 100_000
FARTHEST = 100.0  # m, or anything else that a refined grasp may hold


class Energy:
    """Start from closed preshapes, lead the best downhill on the energy, return the best by energy and score, refined.

    The energy (`simeval.generators.energy.energy`) knows the exact shape and has learned nothing. Each returned grasp
    is the best of about `tries`, by `rank`: the `robust` score, or another of `ranking`; then the best of `copies` near
    it, as `Refine` makes and ranks them, where there are several: there the predictor, learned on the train split, has
    its say. Of 191 lateral and hook conditions of validation objects that lifted 91 %, without copies 87 %.
    """

    def __init__(
        self, tries: int = 64, steps: int = 150, rank: str = "robust", copies: int = 24, device: str = "cpu"
    ) -> None:
        if tries < 1 or steps < 0:
            raise SettingError(f"tries must be at least 1 and steps at least 0, found {tries} and {steps}")
        self.tries, self.device, self.rank = tries, device, ranker(rank)
        self.refinement = Refine(copies=copies, device=device)
        self.fingerprint = self.rank.fingerprint + self.refinement.fingerprint
        self.schedule = Schedule(steps=steps)

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return up to `count` grasps, the best first; of the type asked for, else of types drawn by seed.

        Raises:
            SettingError: there is no such type.
        """
        return best_by_type(request, np.random.default_rng([0xE9E, request.seed]), self._best)

    def _best(self, model: ObjectModel, kind: GraspType, count: int, rng: np.random.Generator) -> GraspBatch:
        start, score = candidates(model, kind, count * self.tries, rng)
        order = np.argsort(-score, kind="stable")
        order = order[np.isfinite(score[order])]
        if not len(order):
            return GraspBatch.empty()
        descents = max(FEWEST, count * self.tries // DESCENT_SHARE)
        first, as_they_are = order[:descents], order[: AS_THEY_ARE * descents]
        seed = int(rng.integers(2**31))
        downhill, energy = descend(model, start[first], [kind.name] * len(first), self.schedule, seed, self.device)
        score_below = hold_scores(model, kind, downhill) - ENERGY_WEIGHT * energy
        pool = [start[as_they_are].with_(score=score[as_they_are]), downhill.with_(score=score_below)]
        found = best(model, kind, GraspBatch.concatenate(pool), self.rank, count, len(order), DEEPEST)
        if self.refinement.copies == 1 or not len(found):
            return found
        return self.refinement.best_nearby(model, found, [kind.name] * len(found), int(rng.integers(2**31)), sound=True)


class Refine:
    """Lead any grasps a few steps downhill on the energy, each towards its own type, from where they are and nearby.

    Of each grasp there are `copies`, as `fitting.nearby` makes them: itself, and others up to `spread` times as far.
    All are led downhill, and are brought to touch as retrieval's are; the best by `rank` takes its place. Without
    copies (1, `rank` unused) it is the grasp itself that goes downhill.
    """

    def __init__(
        self, steps: int = 100, copies: int = 8, rank: str = "blend", device: str = "cpu", spread: float = 1.0
    ) -> None:
        if not (1 <= steps <= MOST and 1 <= copies <= MOST):
            raise SettingError(f"steps and copies must be from 1 to {MOST}, found {steps} and {copies}")
        check_spread(spread)
        check_device(device)
        self.copies, self.device, self.spread = copies, device, spread
        check_ranking(rank)
        self.rank = ranker(rank if copies > 1 else "score")
        self.fingerprint = self.rank.fingerprint
        self.schedule = Schedule(steps=steps, temperature=0.0, switch=0.0)

    def refine(self, model: ObjectModel, grasps: GraspBatch, grasp_type: str | None, seed: int) -> GraspBatch:
        """Return as many grasps in the same order; their type is `grasp_type`, or the one nearest to their joints.

        A grasp that isn't finite, or over `FARTHEST` away, is returned as it is. Pregrasp and squeeze are dropped.
        """
        values = np.concatenate([grasps.rotation.reshape(-1, 9), grasps.translation, grasps.joints], axis=1)
        usable = np.isfinite(values).all(axis=1) & (np.abs(values).max(axis=1) < FARTHEST)
        chosen = np.flatnonzero(usable)
        if not len(chosen):
            return grasps
        own = grasps[chosen]
        kinds = [grasp_type] * len(own) if grasp_type else commanded_types(own.joints).tolist()
        if self.copies > 1:
            better = self.best_nearby(model, own, kinds, seed)
        else:
            better, _ = descend(model, own, kinds, self.schedule, seed, self.device)
        rotation, translation, joints = grasps.rotation.copy(), grasps.translation.copy(), grasps.joints.copy()
        rotation[chosen], translation[chosen], joints[chosen] = better.rotation, better.translation, better.joints
        return GraspBatch(rotation, translation, joints, score=grasps.score)

    def best_nearby(
        self, model: ObjectModel, grasps: GraspBatch, kinds: list[str], seed: int, sound: bool = False
    ) -> GraspBatch:
        """Return the best copy of each grasp (N), each of its type of `kinds`, with its score.

        `sound` grasps are candidates too, just as they are. Where all are too deep it is the grasp led downhill, with
        the score of -inf.
        """
        copied = nearby(grasps, self.copies, seed, self.spread)
        owner = np.repeat(np.arange(len(grasps)), self.copies)
        names = [kinds[i] for i in owner]
        downhill, _ = descend(model, copied, names, self.schedule, seed, self.device)
        batches = [fit_all(model, downhill, names), fit_all(model, copied, names), downhill]
        owners = [owner] * 3
        if sound:
            batches, owners = [*batches, grasps.with_(score=None)], [*owners, np.arange(len(grasps))]
        pool, owner = GraspBatch.concatenate(batches), np.concatenate(owners)
        chosen = []
        for i, name in enumerate(kinds):
            rows = np.flatnonzero(owner == i)
            found = pool[rows].with_(score=np.zeros(len(rows)))
            held = best(model, GRASP_TYPES[name], found, self.rank, 1, len(rows), DEEPEST)
            chosen.append(held if len(held) else downhill[[i * self.copies]].with_(score=np.array([-np.inf])))
        return GraspBatch.concatenate(chosen)


def descend(
    model: ObjectModel, start: GraspBatch, kinds: Sequence[str], schedule: Schedule, seed: int, device: str = "cpu"
) -> tuple[GraspBatch, Array]:  # fmt: skip
    """Descend from grasps (N) of one object, each of its type of `kinds`; return them and their energy (N,)."""
    hand, field = hand_tensors(device), Field([make_grid(model)], device)
    count, names = len(start), list(GRASP_TYPES)
    which = torch.zeros(count, dtype=torch.long, device=device)
    index = torch.tensor([names.index(kind) for kind in kinds], device=device)
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
    contacts, groups = nearest_contacts(hand, field, state, which, list(kinds))
    state = State(state.rotation, state.translation, state.joints, contacts, shares(groups, list(kinds)))
    generator = torch.Generator().manual_seed(seed)
    with one_thread():
        state, value = anneal(hand, field, state, groups, which, index, generator, schedule, Weights())
    u, _, vt = np.linalg.svd(state.rotation.double().cpu().numpy())  # float32 drifts from SO(3)
    joints = clip(state.joints.double().cpu().numpy())[0]
    return GraspBatch(u @ vt, state.translation.double().cpu().numpy(), joints), value.double().cpu().numpy()
