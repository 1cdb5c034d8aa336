"""Interval of a success rate whose trials come in objects: the beta-binomial model, integrated over a grid.

An object's own rate is drawn from a beta distribution of mean p and intra-object correlation ρ = 1/(a + b + 1);
its trials are then independent. Both p and ρ are unknown: p has a uniform prior, ρ the arcsine prior
Beta(½, ½), and the interval is the equal-tailed credible interval of p. Unlike a plug-in of an estimated ρ
it knows how little few objects, or few failures, say about ρ.
"""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST = 256  # grid points of p
_CORRELATIONS = 24  # grid points of ρ


def beta_binomial_interval(objects: Iterable[tuple[int, int]], confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the mean success rate of objects, 0 or 1 where nothing or everything held.

    Args:
        objects: (successes, trials) of each; at least one with trials.
        confidence: probability of the interval.
    """
    counted = Counter((int(held), int(size)) for held, size in objects)
    held = sum(times * h for (h, _), times in counted.items())
    trials = sum(times * size for (_, size), times in counted.items())
    # p = sin²θ on an even grid of θ, which is fine enough for the posterior's width, about 1 / (2 √trials)
    points = max(_LEAST, 1 << int(np.ceil(np.log2(10 * np.sqrt(trials)))))
    logs = _log_prior(points)[:, None] + sum(
        times * _log_likelihood(h, size, points) for (h, size), times in sorted(counted.items())
    )
    posterior = np.exp(logs - logs.max()).sum(axis=1)
    cumulative = np.concatenate([[0.0], np.cumsum(posterior)]) / posterior.sum()
    edges = np.linspace(0, np.pi / 2, points + 1)
    tail = (1 - confidence) / 2
    low, high = np.sin(np.interp((tail, 1 - tail), cumulative, edges)) ** 2
    return (0.0 if held == 0 else float(low)), (1.0 if held == trials else float(high))


def _angles(points: int) -> Array:
    return (np.arange(points) + 0.5) / points * np.pi / 2


def _log_prior(points: int) -> Array:
    """Log density (points,) over θ of a p that is uniform; ρ's grid is even in its own prior."""
    return np.log(np.sin(2 * _angles(points)))


@lru_cache(maxsize=2048)
def _log_likelihood(held: int, size: int, points: int) -> Array:
    """Log probability (points, 24) of an object's successes, the binomial coefficient left out."""
    from scipy.special import betaln

    p = np.sin(_angles(points))[:, None] ** 2
    concentration = 1 / np.sin(_angles(_CORRELATIONS)) ** 2 - 1
    a, b = p * concentration, (1 - p) * concentration
    return betaln(held + a, size - held + b) - betaln(a, b)
