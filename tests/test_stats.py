import math

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test, ttest_1samp

from simeval.stats import (
    clustered_mean,
    clustered_percentile,
    effective_size,
    independent_difference,
    mcnemar,
    paired_difference,
    rate,
    wilson,
)


def objects(count: int, trials: int) -> list[str]:
    return [f"object-{i:03d}" for i in range(count) for _ in range(trials)]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, Table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_newcombes_table(successes: int, n: int, low: float, high: float) -> None:
    found = wilson(successes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    assert (found.value, found.n, found.method) == (successes / n, n, "wilson")


def test_wilson_of_no_trials_is_nan_and_nonsense_is_an_error() -> None:
    assert wilson(0, 0).n == 0
    assert math.isnan(wilson(0, 0).value)
    with pytest.raises(ValueError, match="21 successes of 20"):
        wilson(21, 20)


def test_rate_of_one_trial_per_object_is_wilson() -> None:
    outcomes = [True] * 17 + [False] * 3
    found, expected = rate(outcomes, objects(20, 1)), wilson(17, 20)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_rate_within_one_object_is_wilson_of_its_grasps() -> None:
    assert rate([1] * 17 + [0] * 3, ["mug"] * 20) == wilson(17, 20)


@pytest.mark.parametrize("outcome", [0, 1])
@pytest.mark.parametrize(("count", "trials"), [(20, 1), (1, 20), (4, 5), (50, 5)])
def test_rate_is_never_certain(outcome: int, count: int, trials: int) -> None:
    found = rate([outcome] * count * trials, objects(count, trials))
    assert found.value == outcome
    assert found.low <= outcome <= found.high
    independent = wilson(outcome * count * trials, count * trials)
    assert found.high - found.low >= independent.high - independent.low - 1e-12
    if count > 1:
        per_object = wilson(outcome * count, count)
        assert found.high - found.low <= per_object.high - per_object.low + 1e-12


def test_rate_lower_bound_falls_with_every_failure() -> None:
    names = objects(50, 5)
    lows = [rate([0] * failures + [1] * (250 - failures), names).low for failures in range(20)]
    assert lows == sorted(lows, reverse=True)
    assert lows[0] > lows[10] > lows[19]


def test_agreement_within_objects_widens_the_interval() -> None:
    names = objects(20, 5)
    together = rate(np.repeat([1] * 15 + [0] * 5, 5), names)
    spread = rate(np.tile([1, 1, 1, 1, 0], 20), names)
    assert together.high - together.low > 1.5 * (spread.high - spread.low)


def test_rate_takes_outcomes_only() -> None:
    with pytest.raises(ValueError, match="clustered_mean"):
        rate([0.5, 1.0], ["a", "b"])
    with pytest.raises(ValueError, match="2 cluster names"):
        rate([1], ["a", "b"])
    assert rate([1, math.nan, 0], ["a", "b", "c"]).n == 2
    assert rate([], []).n == 0


def test_rate_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    p, correlation, names = 0.88, 0.2, objects(20, 5)
    size = 1 / correlation - 1
    hits = 0
    for _ in range(400):
        chance = rng.beta(p * size, (1 - p) * size, 20)
        found = rate(rng.random(100) < np.repeat(chance, 5), names)
        hits += found.low <= p <= found.high
    assert 0.92 <= hits / 400 <= 0.985


def test_paired_difference_pairs_by_condition() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 5, 100)  # a condition's difficulty cancels within a pair
    a = {f"c{i}": hard[i] + 1 + rng.normal(0, 0.1) for i in range(100)} | {"only-a": 1.0}
    b = {f"c{i}": hard[i] + rng.normal(0, 0.1) for i in range(100)} | {"only-b": 1.0, "more-b": 2.0}
    b["c7"] = math.nan
    found = paired_difference(a, b, {f"c{i}": i // 5 for i in range(100)})
    assert found.estimate.low > 0.9
    assert found.estimate.high < 1.1
    assert (found.estimate.n, found.unmatched_a, found.unmatched_b, found.missing) == (99, 1, 2, 1)
    assert found.estimate.method == "paired-clustered-t"
    assert found.mcnemar is None


def test_equal_outcomes_differ_by_zero_within_an_interval() -> None:
    outcomes = {f"c{i}": 1.0 for i in range(20)}
    found = paired_difference(outcomes, outcomes, {c: c for c in outcomes})
    assert found.estimate.value == 0
    half = 1.96 * math.sqrt(2 / 22) / math.sqrt(22)  # Bonett & Price with no discordant pair
    assert (found.estimate.low, found.estimate.high) == pytest.approx((-half, half), abs=1e-4)
    assert found.mcnemar is not None
    assert found.mcnemar.p_value == 1.0


def test_nothing_shared_gives_nan() -> None:
    found = paired_difference({"x": 1.0}, {"y": 1.0}, {})
    assert math.isnan(found.estimate.value)
    assert (found.estimate.n, found.estimate.method) == (0, "none")
    assert (found.unmatched_a, found.unmatched_b, found.mcnemar) == (1, 1, None)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    a = [True] * 30 + [True] * 12 + [False] * 3 + [False] * 5
    b = [True] * 30 + [False] * 12 + [True] * 3 + [False] * 5
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (12, 3)
    assert found.p_value == binomtest(12, 15, 0.5).pvalue == pytest.approx(0.03515625)


def test_intervals_are_those_of_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for held, n in ((0, 20), (7, 20), (81, 263), (2000, 2000)):
        found = wilson(held, n)
        assert (found.low, found.high) == pytest.approx(
            proportion.proportion_confint(held, n, method="wilson"), abs=1e-9
        )
    low, high = proportion.confint_proportions_2indep(56, 70, 48, 80, method="newcomb")
    found = independent_difference(wilson(56, 70), wilson(48, 80))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    a, b = [True] * 30 + [True] * 12 + [False] * 8, [True] * 30 + [False] * 12 + [True] * 3 + [False] * 5
    assert mcnemar(a, b).p_value == pytest.approx(tables.mcnemar([[30, 12], [3, 5]], exact=True).pvalue)


def test_independent_difference_is_newcombes_table() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, Table II, method 10: 56/70 - 48/80 and 10/10 - 0/10
    found = independent_difference(wilson(56, 70), wilson(48, 80))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=6e-5)
    found = independent_difference(wilson(10, 10), wilson(0, 10))
    assert (found.low, found.high) == pytest.approx((0.6075, 1.0), abs=6e-5)


def test_mean_of_symmetric_values_is_the_t_interval_of_scipy() -> None:
    half = np.random.default_rng(0).normal(0, 1, 10)
    values = np.concatenate([3 + half, 3 - half])  # no skewness to correct
    found, expected = clustered_mean(values, range(20)), ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.value, found.n, found.method) == (pytest.approx(3), 20, "clustered-t")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    one_object = clustered_mean(values, ["mug"] * 20)
    assert (one_object.low, one_object.high) == pytest.approx((found.low, found.high))
    assert one_object.method == "t"


def test_mean_of_skewed_values_reaches_further_up() -> None:
    found = clustered_mean(np.random.default_rng(1).lognormal(0, 1, 40), objects(20, 2))
    assert found.high - found.value > 1.2 * (found.value - found.low)
    mirrored = clustered_mean(-np.random.default_rng(1).lognormal(0, 1, 40), objects(20, 2))
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_mean_is_cluster_robust_as_statsmodels() -> None:
    linear = pytest.importorskip("statsmodels.regression.linear_model")
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 4)
    values = np.concatenate([x := rng.normal(0, 1, (15, 4)) + rng.normal(0, 1, (15, 1)), -x]).ravel()  # symmetric
    fit = linear.OLS(values, np.ones(120)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    # statsmodels multiplies the variance by (N - 1) / (N - 1) * K / (K - 1), as here
    assert (clustered_mean(values, groups.tolist()).low) == pytest.approx(fit.conf_int()[0][0], rel=1e-3)


def test_mean_of_little_says_so() -> None:
    assert clustered_mean([], []).n == 0
    assert clustered_mean([2.0, 2.0], ["a", "b"]).method == "none"
    assert clustered_mean([True] * 20, objects(20, 1)) == rate([True] * 20, objects(20, 1))
    assert clustered_mean([1.0, math.nan], ["a", "b"]).n == 1
    assert clustered_mean([0.0, 0.1, 9.0], "abc").low < 0 == clustered_mean([0.0, 0.1, 9.0], "abc", least=0.0).low


def test_percentile_interval_is_that_of_order_statistics() -> None:
    values = np.arange(1.0, 201.0)
    found = clustered_percentile(values, range(200), 50)
    # exact binomial: ranks 87 and 115 for the median of 200 values (Conover 1999); Wilson's lie within one of them
    assert found.value == 100.5
    assert abs(found.low - 87) <= 1
    assert abs(found.high - 114) <= 1
    tail = clustered_percentile(values, range(200))
    assert 180 < tail.low < 190.05 < tail.high <= 199


def test_percentile_beyond_the_values_is_infinite() -> None:
    values = np.random.default_rng(0).lognormal(0, 1, 60)
    assert clustered_percentile(values, range(60)).high == math.inf  # 0.95^60 = 4.6 %: it may lie above all
    assert clustered_percentile(-values, range(60), 5).low == -math.inf
    assert clustered_percentile(values, range(60)).low > np.median(values)
    with pytest.raises(ValueError, match="101"):
        clustered_percentile([1.0], ["a"], 101)


def test_effective_size_lies_between_objects_and_trials() -> None:
    codes = np.repeat(np.arange(40), 5)
    assert effective_size(np.repeat([1.0, 0.0], 100), codes) == pytest.approx(40, rel=0.15)
    assert 150 < effective_size(np.tile([1.0, 1.0, 1.0, 1.0, 0.0], 40), codes) <= 200


def test_hopeless_objects_do_not_bias_the_rate() -> None:
    """A third of the objects never hold: no beta distribution looks like that."""
    rng, hits = np.random.default_rng(7), 0
    for _ in range(300):
        own = np.where(rng.random(50) < 1 / 3, 0.0, 0.7)
        found = rate(rng.random(1000) < np.repeat(own, 20), objects(50, 20))
        hits += found.low <= 0.7 * 2 / 3 <= found.high
    assert 0.92 <= hits / 300 <= 0.985


def test_sign_changes_give_the_exact_p_value() -> None:
    a = {str(i): 1.0 for i in range(6)}
    found = paired_difference(a, dict.fromkeys(a, 0.0), {c: c for c in a})
    assert found.p_value == 2 / 2**6
    assert found.objects == 6
    values = np.random.default_rng(0).normal(0.4, 1, 11)
    scipys = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    pairs = {str(i): v for i, v in enumerate(values)}
    exact = paired_difference(pairs, dict.fromkeys(pairs, 0.0), {c: c for c in pairs})
    assert exact.p_value == pytest.approx(scipys)
    more = {str(i): v for i, v in enumerate(np.random.default_rng(1).normal(0.3, 1, 40))}
    drawn = paired_difference(more, dict.fromkeys(more, 0.0), {c: c for c in more})
    assert drawn.p_value == pytest.approx(ttest_1samp(list(more.values()), 0).pvalue, abs=0.02)


def test_detectable_difference_is_that_of_a_t_test() -> None:
    power = pytest.importorskip("statsmodels.stats.power")
    values = np.random.default_rng(3).normal(0, 2, 40)
    pairs = {str(i): v for i, v in enumerate(values)}
    found = paired_difference(pairs, dict.fromkeys(pairs, 0.0), {c: c for c in pairs})
    effect = power.TTestPower().solve_power(nobs=40, alpha=0.05, power=0.8)
    assert found.detectable == pytest.approx(effect * values.std(ddof=1), rel=0.01)


def test_one_object_says_nothing_of_others() -> None:
    a = {str(i): float(i % 3 > 0) for i in range(30)}
    found = paired_difference(a, dict.fromkeys(a, 1.0), dict.fromkeys(a, "mug"))
    assert found.estimate.method == "paired-bonett-price"
    assert math.isnan(found.p_value)
