"""Other people's and other days' trials made to look like the target's, from a few labelled trials of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simeval.grasp import Array

SHARE = 0.7
"""Of the trials given to a grasp, how many are believed: the surest ones."""
ROUNDS = 3
"""Of self-training. Both were chosen on validation trials."""


def believed(posteriors: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and grasps of the surest of (N, 6) posteriors, the same share for each grasp, for self-training."""
    found = posteriors.argmax(axis=1)
    rows = []
    for grasp in np.unique(found):
        own = np.flatnonzero(found == grasp)
        surest = np.argsort(-posteriors[own, grasp], kind="stable")
        rows.append(own[surest[: max(1, int(SHARE * len(own)))]])
    chosen = np.concatenate(rows)
    return chosen, found[chosen]


def moved(
    values: Array, targets: NDArray[np.intp], sessions: NDArray[Any], target_values: Array,
    target_targets: NDArray[np.intp],
) -> Array:  # fmt: skip
    """Move each session's trials of a grasp so that their mean is the target's of that grasp.

    What a grasp looks like on a new arm is known from its few trials; how trials of a grasp vary is taken over from the
    others. Gains and filters of the recording are additive here, since values are logarithms.

    Args:
        values: (N, …) of the training trials: features or images.
        targets: (N,) grasps.
        sessions: (N,) sessions.
        target_values: (M, …) of the target's trials.
        target_targets: (M,) grasps; each that is in `targets` must occur.
    """
    found = np.empty_like(values)
    for grasp in np.unique(targets):
        there = target_values[target_targets == grasp].mean(axis=0)
        for session in np.unique(sessions):
            own = (targets == grasp) & (sessions == session)
            if own.any():
                found[own] = values[own] - values[own].mean(axis=0) + there
    return found
