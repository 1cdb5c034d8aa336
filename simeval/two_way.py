"""Intervals of trials that are grouped in two ways at once: by object, and by person or day.

Cameron, Gelbach & Miller (2011, *J. Bus. Econ. Stat.* 29(2)) add the variances of clustering in either way and take off
that of clustering by both, which would be counted twice. Here the same is done with the squared distances from the
value to the ends of one-way intervals, so that those of `simeval.stats`, which cover with few clusters and near 0 and
1, can be used. An end is never nearer than either one-way interval has it.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from simeval.stats import Estimate, clustered_mean, paired_difference, rate

METHOD = "two-way"


def two_way(
    estimate: Callable[[Sequence[Hashable]], Estimate], first: Sequence[Hashable], second: Sequence[Hashable]
) -> Estimate:
    """Join the intervals that an estimate has with either clustering of the same values.

    Args:
        estimate: from N cluster names to an estimate.
        first: N names.
        second: N others.
    """
    a, b = estimate(first), estimate(second)
    both = estimate([f"{x}\0{y}" for x, y in zip(first, second, strict=True)])
    if math.isnan(a.low) or math.isnan(b.low):
        return a
    below = _joined(*(e.value - e.low for e in (a, b, both)))
    above = _joined(*(e.high - e.value for e in (a, b, both)))
    return replace(a, low=a.value - below, high=a.value + above, method=METHOD)


def _joined(a: float, b: float, both: float) -> float:
    if not math.isfinite(both):
        both = 0.0
    return math.sqrt(max(a * a + b * b - both * both, a * a, b * b))


def two_way_rate(successes: ArrayLike, first: Sequence[Hashable], second: Sequence[Hashable]) -> Estimate:
    """Success rate (see `simeval.stats.rate`) of (N,) booleans in two-way clusters; within 0 and 1."""
    found = two_way(lambda clusters: rate(successes, clusters), first, second)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high)) if found.n else found


def two_way_mean(values: ArrayLike, first: Sequence[Hashable], second: Sequence[Hashable], least: float) -> Estimate:
    """Mean (see `simeval.stats.clustered_mean`) of (N,) values that aren't below `least` in two-way clusters."""
    found = two_way(lambda clusters: clustered_mean(values, clusters, least=least), first, second)
    return replace(found, low=max(least, found.low))


def two_way_difference(
    a: Mapping[str, float], b: Mapping[str, float], first: Mapping[str, Hashable], second: Mapping[str, Hashable]
) -> Estimate:
    """Mean of a − b (see `simeval.stats.paired_difference`) over the keys that both have, in two-way clusters."""
    shared = sorted(a.keys() & b.keys())

    def estimate(clusters: Sequence[Hashable]) -> Estimate:
        return paired_difference(
            {key: a[key] for key in shared}, {key: b[key] for key in shared}, dict(zip(shared, clusters, strict=True)),
            resamples=1,  # its p-value isn't asked for
        ).estimate  # fmt: skip

    found = two_way(estimate, [first[key] for key in shared], [second[key] for key in shared])
    return replace(found, low=max(-1.0, found.low), high=min(1.0, found.high)) if found.n else found
