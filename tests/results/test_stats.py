"""Each statistic against an independent implementation or a textbook case."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm, permutation_test, rankdata

from sam_bench.results import stats

DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])  # Fisher 1935, 21: Darwin's maize


def bca_by_hand(values, level=0.95, resamples=20000):
    """Efron & Tibshirani 1993, equations 14.10 to 14.15."""
    draw = np.random.default_rng(7)
    means = values[draw.integers(0, len(values), (resamples, len(values)))].mean(1)
    below = (means < values.mean()).mean() + 0.5 * (means == values.mean()).mean()
    z0 = norm.ppf(below)
    left_out = (values.sum() - values) / (len(values) - 1)
    spread = left_out.mean() - left_out
    a = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    ends = [z0 + (z0 + z) / (1 - a * (z0 + z)) for z in norm.ppf([(1 - level) / 2, (1 + level) / 2])]
    return np.quantile(means, norm.cdf(ends))


def test_summary_uses_the_sample_standard_deviation_and_counts_what_is_there():
    assert stats.summary([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).std == pytest.approx(math.sqrt(32 / 7))
    assert stats.summary([1.0, math.nan, 3.0]) == stats.Summary(2.0, math.sqrt(2), 2)
    one = stats.summary([1.0])
    assert (one.mean, one.n) == (1.0, 1)
    assert math.isnan(one.std)
    assert math.isnan(stats.summary([]).mean)


def test_differences_pair_by_seed_and_leave_the_unpaired_out():
    found = stats.differences({0: 1.0, 2: 5.0, 3: 9.0}, {3: 1.0, 0: 0.5, 1: 7.0})
    assert found.tolist() == [0.5, 8.0]


def test_interval_agrees_with_the_formulas_done_by_hand():
    values = np.array([0.3, 0.9, 1.1, 1.4, 2.0, 2.2, 4.9, 7.5])
    assert stats.interval(values) == pytest.approx(bca_by_hand(values), abs=0.08)
    assert stats.interval(values) == stats.interval(values)


def test_interval_of_degenerate_samples():
    assert stats.interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert all(math.isnan(end) for end in stats.interval([1.0]))
    low, high = stats.interval([0.0, 1.0])
    assert low <= 0.5 <= high


def test_interval_covers():
    draw = np.random.default_rng(3)
    hits = sum(low <= 1.0 <= high for low, high in (stats.interval(draw.normal(1.0, 2.0, 15)) for _ in range(100)))
    assert 85 <= hits <= 99


def test_sign_flip_on_darwins_maize():
    """Fisher counts 863 of 32768 sign patterns with a sum at least as large: 5.267 % two-sided."""
    exact = DARWIN.astype(float)[:14]
    sums = [
        abs(sum(s * v for s, v in zip(signs, exact, strict=True))) for signs in itertools.product((1, -1), repeat=14)
    ]
    expected = sum(s >= abs(exact.sum()) - 1e-9 for s in sums) / 2**14
    assert stats.sign_flip(exact) == pytest.approx(expected, abs=1e-12)
    assert stats.sign_flip(DARWIN) == pytest.approx(0.05267, abs=0.004)  # 15 pairs: drawn, not counted


def test_sign_flips_that_are_drawn_agree_with_scipy_and_with_the_normal_limit():
    draw = np.random.default_rng(2)
    rows = draw.normal(0.25, 1.0, (6, 40))
    scipy_p = permutation_test((rows,), np.mean, axis=-1, permutation_type="samples", vectorized=True,
                               n_resamples=2**14, rng=np.random.default_rng(9)).pvalue  # fmt: skip
    limit = 2 * norm.sf(np.abs(rows.sum(1)) / np.sqrt((rows**2).sum(1)))  # the variance of a sum of flipped signs
    assert np.allclose(stats.sign_flips(rows), scipy_p, rtol=0, atol=0.015)
    assert np.allclose(stats.sign_flips(rows), limit, rtol=0, atol=0.02)
    assert stats.sign_flip(np.full(40, 1.0)) == pytest.approx(1 / (2**14 + 1))


@pytest.mark.parametrize("n", range(1, 8))
def test_sign_flip_cannot_reject_below_six_pairs(n):
    p = stats.sign_flip(np.arange(1.0, n + 1))
    assert p == pytest.approx(2 / 2**n if n > 1 else 1.0)
    assert (p <= stats.LEVEL) is (n >= stats.ENOUGH_SEEDS)


def test_sign_flip_of_no_difference_and_of_nothing():
    assert stats.sign_flip(np.zeros(6)) == 1.0
    assert math.isnan(stats.sign_flip([]))


def test_a_larger_table_needs_more_pairs():
    assert [stats.pairs_needed(m) for m in (1, 2, 6, 15)] == [stats.ENOUGH_SEEDS, 7, 8, 10]
    for m in (2, 6):
        n = stats.pairs_needed(m)
        assert all(c.significant for c in stats.compare([(np.arange(1.0, n + 1), True)] * m))
        assert not any(c.significant for c in stats.compare([(np.arange(1.0, n), True)] * m))


def test_holm_textbook():
    """Holm's step-down on 0.01, 0.04, 0.03, 0.005: 4 * 0.005, 3 * 0.01, 2 * 0.03, then kept monotone."""
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, math.nan, 0.9])[0] == 1.0
    assert math.isnan(stats.holm([0.5, math.nan])[1])
    assert stats.holm([]) == []


def test_holm_bounds_the_family_error():
    draw = np.random.default_rng(0)
    wrong = sum(min(stats.holm(draw.uniform(size=5))) < 0.05 for _ in range(2000))
    assert wrong / 2000 < 0.065


def test_compare_says_too_few_and_corrects_only_what_can_be_tested():
    sure, few = np.arange(1.0, 9.0), np.array([1.0, 2.0])
    first, second, third = stats.compare([(sure, True), (few, True), (sure, False)])
    assert first.p == pytest.approx(2 / 2**8)
    assert first.p_holm == pytest.approx(4 / 2**8)
    assert (first.significant, first.better) == (True, True)
    assert (third.significant, third.better) == (True, False)
    assert second.too_few
    assert not second.significant
    assert math.isnan(second.p_holm)


DEMSAR = {  # Demsar 2006, table 6: AUC of C4.5 and variants on 14 data sets
    "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
    "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
    "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
    "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
}


def test_ranks_of_demsars_example():
    found = stats.ranks(DEMSAR, [True] * 14)
    assert found.average == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    k, n = 4, 14
    by_formula = 12 * n / (k * (k + 1)) * (sum(r**2 for r in found.average) - k * (k + 1) ** 2 / 4)
    assert by_formula == pytest.approx(9.28, abs=0.01)  # as printed; scipy also corrects for ties:
    placed = rankdata(-np.array(list(DEMSAR.values())), axis=0)
    spread = (k - 1) * n**2 * sum((r - (k + 1) / 2) ** 2 for r in found.average)
    assert found.friedman_chi2 == pytest.approx(spread / ((placed**2).sum() - n * k * (k + 1) ** 2 / 4))
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.cliques() == [("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")]


def test_ranks_follow_the_direction_and_leave_incomplete_data_sets_out():
    found = stats.ranks({"a": [1.0, 0.9, math.nan], "b": [2.0, 0.8, 1.0], "c": [3.0, 0.7, 1.0]}, [False, True, True])
    assert found.average == (1.0, 2.0, 3.0)
    assert found.datasets == 2


def test_cliques_split_where_the_ranks_differ_enough():
    found = stats.Ranks(("a", "b", "c"), (1.0, 1.5, 3.0), 10, 9.0, 0.01, 1.0)
    assert found.cliques() == [("a", "b")]


def test_performance_profile_by_hand():
    """Two solvers, three problems; the second fails the last one."""
    found = stats.performance_profile({"a": [1.0, 4.0, 3.0], "b": [2.0, 2.0, math.inf]}, [1.0, 2.0, 10.0])
    assert found["a"].tolist() == pytest.approx([2 / 3, 1.0, 1.0])
    assert found["b"].tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])


def test_a_problem_nobody_solves_counts_for_nobody():
    found = stats.performance_profile({"a": [1.0, math.inf], "b": [1.0, math.inf]}, [1.0, 100.0])
    assert found["a"].tolist() == [0.5, 0.5]


def test_time_to_target():
    curve = [{"valid/rmse": 1.0, "train_seconds": 2.0}, {"valid/rmse": 0.7, "train_seconds": 4.0}]
    assert stats.time_to_target(curve, "rmse", 0.8, False, "train_seconds") == 4.0
    assert stats.time_to_target(curve, "rmse", 0.1, False, "train_seconds") == math.inf
    assert stats.time_to_target(curve, "rmse", 0.9, True, "train_seconds") == 2.0


def test_interquartile_mean():
    assert stats.interquartile_mean([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0]) == 3.5
    assert math.isnan(stats.interquartile_mean([]))


def test_minimum_detectable_difference_against_simulation():
    n = 8
    effect = stats.minimum_detectable_difference(1.0, n)
    draw = np.random.default_rng(1).normal(effect, 1.0, (20000, n))
    t = draw.mean(1) / (draw.std(1, ddof=1) / math.sqrt(n))
    assert (abs(t) > 2.3646).mean() == pytest.approx(0.8, abs=0.01)  # t(0.975, 7) from the tables
    assert stats.minimum_detectable_difference(2.0, n) == pytest.approx(2 * effect)
    assert stats.minimum_detectable_difference(1.0, 34) == pytest.approx(
        0.4953, abs=0.002
    )  # Cohen: 34 pairs for d = 0.5
    assert math.isnan(stats.minimum_detectable_difference(1.0, 1))


def test_what_is_computed_together_is_what_is_computed_alone():
    draw = np.random.default_rng(5)
    samples = [draw.normal(size=n) for n in (6, 3, 6, 1, 0, 9, 6, 2)] + [np.full(4, 0.5)] + [draw.normal(size=6)] * 60
    alone = [stats.interval(x) for x in samples[:9]]
    assert np.allclose(stats.intervals(samples)[:9], alone, rtol=1e-12, equal_nan=True)
    assert stats.sign_flips(samples)[:9] == pytest.approx([stats.sign_flip(x) for x in samples[:9]], nan_ok=True)
    assert np.ptp(stats.intervals(samples)[9:], axis=0).max() < 1e-12
