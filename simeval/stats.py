"""Estimates with intervals: rates, means and percentiles of trials grouped by object, differences of two runs.

Grasps of one object succeed and fail together, so the object, not the grasp, is the unit of sampling. What each
interval covers in simulation stands in results/coverage.md; the methods were chosen there:

- `wilson`: one rate of independent trials (Wilson 1927).
- `rate`: Wilson's interval at the size of independent trials that the trials in objects are worth (`effective_size`).
  An estimate of the intra-object correlation taken for the true one covered 89 % with 5 objects that agree strongly and
  was twice too wide with 5 objects of 100 independent trials; a beta-binomial model alone covered 53 % where a third
  of 50 objects are hopeless, since no beta distribution looks like that.
- `clustered_mean`: a t interval on the objects, corrected for skewness by Hall's transformation (1992, *J. R. Stat.
  Soc. B* 54(1)). Percentile bootstraps, BCa too, covered 81 to 90 % of skewed values of 5 objects; the studentised
  bootstrap about what this one does, but is at times a hundred times wider.
- `clustered_percentile`: the values that `rate`'s interval doesn't exclude as that percentile (test inversion, as
  Woodruff 1952, *JASA* 47, for surveys). A bootstrap of a p95 from few values can't reach beyond the
  largest of them and covered 83 % with 20 objects; here the upper end then is infinite, which is the truth.
- `paired_difference`: two generators on the same conditions; `independent_difference`: without pairs.

With a single object nothing is known about others: the interval then is about that object's grasps only, and
`Estimate.method` no longer says "clustered".
"""

import math
from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simeval.beta_binomial import beta_binomial_interval

Array = NDArray[np.float64]

MODEL_WEIGHT = 3.0
"""Objects that must show the rarer outcome before the spread between objects says as much as the model."""
EXACT_SIGNS = 12
"""Up to so many objects all sign changes are tried, beyond that `SIGN_CHANGES` of them at random."""
SIGN_CHANGES = 20_000
POWER = 0.8

_CHUNK = 4_000_000  # numbers held at once while resampling: 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its interval and where both come from. NaN where there is nothing to estimate from."""

    value: float
    low: float
    high: float
    n: int  # values it rests on
    method: str  # wilson, clustered-wilson, t, clustered-t, inverted-…, bonett-price, newcombe, paired-…; none


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact McNemar test of two generators on the same conditions; takes pairs as independent."""

    only_a: int  # conditions where a alone succeeded
    only_b: int
    p_value: float  # two-sided


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of a − b over the conditions both have."""

    estimate: Estimate  # n = pairs
    unmatched_a: int  # conditions that only a has
    unmatched_b: int
    missing: int  # shared conditions left out because either value is NaN
    mcnemar: McNemar | None  # None unless all values are 0 or 1
    objects: int = 0  # that the pairs come from; McNemar's test is valid where there are as many as pairs
    p_value: float = math.nan  # two-sided, of changing the signs of whole objects; needs 6 objects to be below 0.05
    detectable: float = math.nan  # difference that so many pairs and objects show with a power of 80 %


def wilson(successes: float, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval of a proportion of independent trials (Wilson 1927); NaN for n = 0.

    Raises:
        ValueError: not 0 <= successes <= n.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    if n == 0:
        return _nothing(0)
    interval = binomtest(int(successes), n).proportion_ci(confidence_level=confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n, "wilson")


def rate(successes: ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95) -> Estimate:
    """Success rate of trials with an interval that knows that grasps of one object go together.

    Args:
        successes: (N,) booleans, or numbers 0 and 1; NaN is dropped.
        clusters: N objects' names, one per trial.
        confidence: coverage of the interval.

    Raises:
        ValueError: lengths differ, or a value is neither 0 nor 1.
    """
    values, codes = _clean(successes, clusters)
    if not _is_binary(values):
        raise ValueError("rate() takes outcomes of 0 and 1; for other values use clustered_mean()")
    return _rate(values, codes, confidence)


def _rate(values: Array, codes: NDArray[np.intp], confidence: float) -> Estimate:
    n, sizes = len(values), np.bincount(codes)
    if len(sizes) < 2 or sizes.max() == 1:
        return wilson(values.sum(), n, confidence)
    value = float(values.mean())
    low, high = _wilson_bounds(value, effective_size(values, codes, confidence), confidence)
    least, most = _perfect(tuple(sorted(sizes.tolist())), confidence)
    return Estimate(value, min(low, least), max(high, most), n, "clustered-wilson")


def effective_size(values: Array, codes: NDArray[np.intp], confidence: float = 0.95) -> float:
    """How many independent trials (N,) outcomes of 0 and 1 in objects (N,) 0..K−1 are worth: at most N.

    The geometric mean of two sizes. Where few objects show the rarer outcome, that of the beta-binomial model counts:
    the one at which Wilson's interval is as wide as the model's, which knows how uncertain the correlation is. Where
    many do, the design's: from the spread of the objects' totals, whatever model they follow, t quantiles allowed for
    (Korn & Graubard 1998, *Survey Methodology* 24(2)). Either alone fails, see results/coverage.md.
    """
    n, value = len(values), float(values.mean())
    sizes, held = np.bincount(codes), np.bincount(codes, values)
    k = len(sizes)
    low, high = beta_binomial_interval(zip(held.astype(int).tolist(), sizes.tolist(), strict=True), confidence)
    of_model = _size_of_width(value, high - low, n, confidence)
    variance = _cluster_error(values, codes) ** 2
    of_design = float(n)
    if variance > 0:
        quantiles = _normal_quantile(0.5 + confidence / 2) / _t_quantile(0.5 + confidence / 2, k - 1)
        of_design = min(of_design, value * (1 - value) / variance * quantiles**2)
    informative = min(int((held < sizes).sum()), int((held > 0).sum()))
    weight = informative / (informative + MODEL_WEIGHT)
    return float(min(n, of_model ** (1 - weight) * of_design**weight))


def _size_of_width(value: float, width: float, n: int, confidence: float) -> float:
    """Size, at most n, at which Wilson's interval of a rate is as wide as this."""
    from scipy.optimize import brentq

    def excess(log_size: float) -> float:
        low, high = _wilson_bounds(value, math.exp(log_size), confidence)
        return high - low - width

    top = math.log(n)
    if excess(top) >= 0:
        return float(n)
    bottom = -5.0
    return math.exp(brentq(excess, bottom, top, xtol=1e-10)) if excess(bottom) > 0 else math.exp(bottom)


@lru_cache(maxsize=256)
def _perfect(sizes: tuple[int, ...], confidence: float) -> tuple[float, float]:
    """Lower bound where every trial of objects of these sizes held, upper one where none did: nothing is better."""
    codes = np.repeat(np.arange(len(sizes)), sizes)
    size = effective_size(np.ones(len(codes)), codes, confidence)
    low = _wilson_bounds(1.0, size, confidence)[0]
    return low, 1 - low


def clustered_mean(
    values: ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95, least: float = -math.inf
) -> Estimate:
    """Mean of values of some objects, each weighted by its number of values; a skewness-corrected t interval.

    With one object its values take the objects' place. Values that are all equal leave nothing to learn from: the
    interval is NaN, but for booleans or integers 0 and 1, which `rate` estimates.

    Args:
        values: (N,) numbers; NaN is dropped and `n` counts the rest.
        clusters: N objects' names, one per value.
        confidence: coverage of the interval.
        least: what no such value is below, 0 for lengths and times; the interval isn't either.

    Raises:
        ValueError: lengths differ.
    """
    kept, codes = _clean(values, clusters)
    n = len(kept)
    if n == 0:
        return _nothing(0)
    value = float(kept.mean())
    if bool((kept == kept[0]).all()):
        if _is_binary(kept) and np.asarray(values).dtype.kind in "bui":
            return rate(kept, codes.tolist(), confidence)
        return replace(_nothing(n), value=value)
    method = "clustered-t"
    if codes[-1] == 0:
        codes, method = np.arange(n), "t"
    k = int(codes[-1]) + 1
    residuals = np.bincount(codes, kept - value) * k / n  # (K,) of the objects' sums, at an object's mean size
    error = math.sqrt(float((residuals**2).sum()) / (k * (k - 1)))
    if error < 1e-12 * max(1.0, abs(value)):  # objects that agree exactly
        return replace(_nothing(n), value=value)
    t = _t_quantile(0.5 + confidence / 2, k - 1)
    below, above = (_undo_skewness(x, _skewness(residuals), k) for x in (t, -t))
    return Estimate(value, max(least, value - error * below), value - error * above, n, method)


def clustered_percentile(
    values: ArrayLike, clusters: Sequence[Hashable], percent: float = 95.0, confidence: float = 0.95
) -> Estimate:
    """Percentile of values of some objects, by inverting `rate`: x is kept unless P(value <= x) excludes `percent`.

    An end that lies beyond all values is infinite: of 20 values the largest may well be below the 95th percentile.

    Args:
        values: (N,) numbers; NaN is dropped and `n` counts the rest.
        clusters: N objects' names, one per value.
        percent: which one, 0 to 100; the value is that of np.percentile.
        confidence: coverage of the interval.

    Raises:
        ValueError: lengths differ, or no such percentile.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"no percentile {percent}: 0 to 100")
    kept, codes = _clean(values, clusters)
    if len(kept) == 0:
        return _nothing(0)
    value = float(np.percentile(kept, percent))
    quantile = percent / 100
    steps = [-math.inf, *np.unique(kept).tolist()]

    @lru_cache
    def share(step: int) -> Estimate:
        return _rate((kept <= steps[step]).astype(float), codes, confidence)

    low = bisect_left(range(len(steps)), True, key=lambda step: share(step).high >= quantile)
    high = bisect_left(range(len(steps)), True, key=lambda step: share(step).low > quantile)
    method = "inverted-wilson" if codes[-1] == 0 else "inverted-clustered-wilson"
    return Estimate(value, steps[low], steps[high] if high < len(steps) else math.inf, len(kept), method)


def paired_difference(
    a: Mapping[str, float],
    b: Mapping[str, float],
    cluster_of: Mapping[str, Hashable],
    confidence: float = 0.95,
    resamples: int = SIGN_CHANGES,
    seed: int = 0,
) -> PairedDifference:
    """Mean of a − b over shared conditions, with an interval that takes whole objects.

    Outcomes of 0 and 1: a t interval on the objects' mean differences joined with Bonett & Price's for
    independent pairs (2012, *J. Educ. Behav. Stat.* 37(4)): where outcomes rarely differ, objects have nothing to
    show, and where the pairs are few, the second is too narrow for objects that change as a whole. Other values:
    `clustered_mean` of the differences. The p-value is that of changing the signs of whole objects' differences,
    valid for any number of trials per object (Good 2005, *Permutation, Parametric and Bootstrap Tests*, ch. 3).

    Args:
        a: condition id -> value of the first generator.
        b: the same for the second.
        cluster_of: condition id -> object, for every shared condition.
        confidence: coverage of the interval.
        resamples: random sign changes tried where there are too many for all.
        seed: of those.

    Raises:
        KeyError: a shared condition has no object.
    """
    shared = sorted(a.keys() & b.keys())
    pairs = np.array([(a[c], b[c]) for c in shared], dtype=float).reshape(-1, 2)
    kept = ~np.isnan(pairs).any(axis=1)
    objects = [cluster_of[c] for c, keep in zip(shared, kept, strict=True) if keep]
    pairs = pairs[kept]
    unmatched = len(a) - len(shared), len(b) - len(shared)
    if not len(pairs):
        return PairedDifference(_nothing(0), *unmatched, len(shared), None)
    difference, codes = _clean(pairs[:, 0] - pairs[:, 1], objects)
    k = int(codes[-1]) + 1
    binary = _is_binary(pairs.ravel())
    test = mcnemar(pairs[:, 0], pairs[:, 1]) if binary else None
    found = (
        _binary_difference(difference, codes, test, confidence)
        if test
        else clustered_mean(difference, codes.tolist(), confidence)
    )
    if found.method != "none":
        found = replace(found, method=f"paired-{found.method}")
    p_value = _sign_change_test(np.bincount(codes, difference).astype(float), resamples, seed)
    seen = _detectable(difference, codes, binary)
    return PairedDifference(found, *unmatched, len(shared) - len(pairs), test, k, p_value, seen)


def independent_difference(a: Estimate, b: Estimate) -> Estimate:
    """Difference a − b of two estimates that share no conditions, from their intervals.

    Newcombe's method 10 (1998, *Statistics in Medicine* 17), here with whatever intervals the estimates have
    (MOVER: Zou & Donner 2008, *Statistics in Medicine* 27); `n` is the smaller of the two.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high, min(a.n, b.n), "none" if math.isnan(low) else "newcombe")


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """Exact two-sided McNemar test of (N,) paired outcomes: is each discordant pair a fair coin? 1 for none.

    Raises:
        ValueError: lengths differ.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"paired outcomes of shapes {first.shape} and {second.shape}")
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    total = only_a + only_b
    return McNemar(only_a, only_b, float(binomtest(only_a, total, 0.5).pvalue) if total else 1.0)


def _nothing(n: int) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, n, "none")


def _is_binary(values: Array) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _clean(values: ArrayLike, clusters: Sequence[Hashable]) -> tuple[Array, NDArray[np.intp]]:
    """Drop NaN; return values and cluster codes 0..K−1, by (code, value) so that input order can't matter."""
    v = np.asarray(values, dtype=np.float64)
    if v.shape != (len(clusters),):
        raise ValueError(f"values of shape {v.shape} for {len(clusters)} cluster names")
    keep = ~np.isnan(v)
    names = [str(name) for name, kept in zip(clusters, keep, strict=True) if kept]
    code_of = {name: code for code, name in enumerate(sorted(set(names)))}
    codes = np.array([code_of[name] for name in names], dtype=np.intp)
    v = v[keep]
    order = np.lexsort((v, codes))
    return v[order], codes[order]


def _wilson_bounds(p: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval for a size that need not be a whole number."""
    z = _normal_quantile(0.5 + confidence / 2)
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if p == 0 else max(0.0, centre - half)), (1.0 if p == 1 else min(1.0, centre + half))


def _normal_quantile(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))


def _t_quantile(probability: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def _skewness(residuals: Array) -> float:
    """Sample skewness of (K,) residuals with the usual correction for few of them; 0 for fewer than three."""
    k = len(residuals)
    if k < 3:
        return 0.0
    spread = math.sqrt(float((residuals**2).mean()))
    return float((residuals**3).mean()) / spread**3 * math.sqrt(k * (k - 1)) / (k - 2)


def _undo_skewness(t: float, skewness: float, k: int) -> float:
    """Quantile of the studentised mean of K skewed values where that of Hall's transform of it is `t`."""
    g = skewness / math.sqrt(k)
    if abs(g) < 1e-9:
        return t
    return float(np.cbrt(1 + g * (t - g / 6)) - 1) / (g / 3)


def _cluster_error(values: Array, codes: NDArray[np.intp]) -> float:
    """Standard error of the mean of (N,) values in objects (N,) 0..K−1; 0 for a single object."""
    sizes = np.bincount(codes).astype(float)
    k, n = len(sizes), len(values)
    if k < 2:
        return 0.0
    residuals = np.bincount(codes, values) - sizes * values.mean()
    return math.sqrt(k / (k - 1) * float((residuals**2).sum())) / n


def _binary_difference(difference: Array, codes: NDArray[np.intp], test: McNemar, confidence: float) -> Estimate:
    """Interval of the mean of (N,) differences −1, 0, 1 of objects (N,) 0..K−1."""
    n, k, value = len(difference), int(codes[-1]) + 1, float(difference.mean())
    low, high = _bonett_price(test, n, confidence)
    if k == 1:
        return Estimate(value, low, high, n, "bonett-price")
    half = _t_quantile(0.5 + confidence / 2, k - 1) * _cluster_error(difference, codes)
    return Estimate(value, max(-1.0, min(low, value - half)), min(1.0, max(high, value + half)), n, "clustered-t")


def _bonett_price(test: McNemar, pairs: int, confidence: float) -> tuple[float, float]:
    """Adjusted Wald interval of a difference of paired proportions: one more pair in each discordant cell."""
    centre, error = _bonett_price_error(test.only_a, test.only_b, pairs)
    half = _normal_quantile(0.5 + confidence / 2) * error
    return max(-1.0, centre - half), min(1.0, centre + half)


def _bonett_price_error(only_a: int, only_b: int, pairs: int) -> tuple[float, float]:
    n = pairs + 2
    p, q = (only_a + 1) / n, (only_b + 1) / n
    return p - q, math.sqrt((p + q - (p - q) ** 2) / n)


def _sign_change_test(sums: Array, changes: int, seed: int) -> float:
    """Two-sided p-value of (K,) objects' summed differences: the share of sign changes that differ as much."""
    k, observed = len(sums), abs(float(sums.sum()))
    if k == 1:
        return math.nan
    if k <= EXACT_SIGNS:
        signs = 1.0 - 2.0 * ((np.arange(2**k)[:, None] >> np.arange(k)) & 1)
        return float((np.abs(signs @ sums) >= observed - 1e-9).mean())
    rng, rows = np.random.default_rng(seed), max(1, _CHUNK // k)
    extreme = 0
    for start in range(0, changes, rows):
        signs = rng.integers(0, 2, size=(min(rows, changes - start), k)) * 2.0 - 1
        extreme += int((np.abs(signs @ sums) >= observed - 1e-9).sum())
    return (extreme + 1) / (changes + 1)


def _detectable(difference: Array, codes: NDArray[np.intp], binary: bool) -> float:
    """Difference that a repetition with as many pairs and objects would show: 5 % two-sided, power 80 %.

    The observed standard error stands for the true one; outcomes get Bonett & Price's as its least.
    """
    k = int(codes[-1]) + 1
    error = _cluster_error(difference, codes)
    freedom = k - 1 if k > 1 else len(difference) - 1
    if k == 1 and len(difference) > 1:
        error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    if binary:
        only_a, only_b = int((difference > 0).sum()), int((difference < 0).sum())
        error = max(error, _bonett_price_error(only_a, only_b, len(difference))[1])
    if freedom < 1 or error == 0:
        return math.nan
    return (_t_quantile(0.975, freedom) + _t_quantile(POWER, freedom)) * error
