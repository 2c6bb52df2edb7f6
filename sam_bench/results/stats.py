"""What may be said of a few seeds: spread, paired differences, exact tests, ranks, profiles."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.05
ENOUGH_SEEDS = 6  # 2 / 2**n <= 0.05 needs n >= 6: with fewer pairs the exact test cannot reject, whatever the data
EXACT_UP_TO = 14  # pairs; beyond, 2**n sign patterns are drawn at random
RESAMPLES = 9999
TOGETHER = 1000  # values that scipy resamples at once: each takes 8 bytes per resample, several times


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation (NaN for one value) and number of values."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """A method against the base arm, paired by seed: method minus base, in the metric's unit.

    `low`, `high`: 95 % BCa bootstrap interval (NaN below two pairs); `p`: exact two-sided sign-flip test; `p_holm`:
    after Holm's correction over all comparisons of the table; `better` is the sign of the mean difference in the
    metric's direction; `too_few`: fewer than six pairs, no test can reject.
    """

    mean: float
    std: float
    n: int
    low: float
    high: float
    p: float
    p_holm: float
    better: bool

    @property
    def too_few(self) -> bool:
        """Whether no data at all could have been significant."""
        return self.n < ENOUGH_SEEDS

    @property
    def significant(self) -> bool:
        """Whether the difference passes the corrected test."""
        return not self.too_few and self.p_holm < LEVEL


def summary(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and n of the values that are not NaN."""
    known = np.array([value for value in values if not math.isnan(value)], dtype=float)
    mean = float(known.mean()) if known.size else math.nan
    return Summary(mean, float(known.std(ddof=1)) if known.size > 1 else math.nan, int(known.size))


def differences(method: Mapping[Any, float], base: Mapping[Any, float]) -> np.ndarray:
    """method - base for the keys (seeds) that both have a value for, in sorted order."""
    pairs = [method[key] - base[key] for key in sorted(method.keys() & base.keys())]
    return np.array([pair for pair in pairs if not math.isnan(pair)], dtype=float)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, bias-corrected and accelerated (Efron 1987); NaN below two values."""
    return intervals([np.asarray(values, dtype=float)])[0]


def intervals(samples: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """`interval` of each sample; what a sample's interval is does not depend on the others."""
    found = [(math.nan, math.nan) if x.size < 2 else (float(x.min()), float(x.max())) for x in samples]
    for places in _alike([x if x.size and np.ptp(x) > 0 else x[:0] for x in samples]):
        from scipy.stats import bootstrap

        rows = np.stack([samples[place] for place in places])
        ends = bootstrap(
            (rows,), np.mean, axis=-1, confidence_level=1 - LEVEL, n_resamples=RESAMPLES, method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        for place, low, high in zip(places, ends.low, ends.high, strict=True):
            found[place] = (float(low), float(high))
    return found


def sign_flip(values: Sequence[float]) -> float:
    """Two-sided p of the sign-flip test that paired differences are symmetric about 0 (Fisher 1935); exact up to 14."""
    return sign_flips([np.asarray(values, dtype=float)])[0]


def sign_flips(samples: Sequence[np.ndarray]) -> list[float]:
    """`sign_flip` of each sample."""
    found = [1.0 if x.size else math.nan for x in samples]
    for places in _alike(samples):
        rows = np.stack([samples[place] for place in places])
        p_values = _counted(rows) if rows.shape[1] <= EXACT_UP_TO else _drawn(rows)
        for place, p in zip(places, p_values, strict=True):
            found[place] = float(min(1.0, p))
    return found


def _counted(rows: np.ndarray) -> np.ndarray:
    """p of each row (k, n) over all 2^n sign patterns."""
    from scipy.stats import permutation_test

    p_values: np.ndarray = permutation_test(
        (rows,), np.mean, axis=-1, permutation_type="samples", vectorized=True, n_resamples=2**EXACT_UP_TO,
        batch=2**EXACT_UP_TO,
    ).pvalue  # fmt: skip
    return p_values


def _drawn(rows: np.ndarray) -> np.ndarray:
    """p of each row (k, n) over 2^14 drawn sign patterns, the same for all, and the observed one.

    scipy draws them one after the other, which takes longer than to read ten thousand records.
    """
    signs = np.random.default_rng(0).integers(0, 2, (2**EXACT_UP_TO, rows.shape[1])) * 2.0 - 1.0
    reached = np.abs(signs @ rows.T) >= np.abs(rows.sum(1)) * (1 - 1e-12)
    p_values: np.ndarray = (reached.sum(0) + 1) / (len(signs) + 1)
    return p_values


def _alike(samples: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Places of the samples of one size (two or more), a few at a time: scipy takes them together, memory allowing."""
    sizes: dict[int, list[int]] = {}
    for place, x in enumerate(samples):
        if x.size > 1:
            sizes.setdefault(x.size, []).append(place)
    for size, places in sizes.items():
        count = max(1, TOGETHER // size)
        yield from (places[first : first + count] for first in range(0, len(places), count))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm's step-down procedure (1979), in the given order; NaN stays NaN and is not counted."""
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted


def pairs_needed(comparisons: int) -> int:
    """Fewest pairs with which Holm's correction over so many exact tests can give p < 0.05 at all."""
    return next(n for n in range(1, 64) if comparisons * 2 / 2**n < LEVEL)


def compare(pairs: Sequence[tuple[np.ndarray, bool]]) -> list[Comparison]:
    """All comparisons of one table, (differences, higher_is_better) each; Holm's family is those with enough pairs."""
    samples = [values for values, _ in pairs]
    p_values, ends = sign_flips(samples), intervals(samples)
    adjusted = holm([p if len(pair[0]) >= ENOUGH_SEEDS else math.nan for p, pair in zip(p_values, pairs, strict=True)])
    found = []
    for (values, higher), p, p_holm, (low, high) in zip(pairs, p_values, adjusted, ends, strict=True):
        mean = summary(values.tolist())
        better = mean.mean > 0 if higher else mean.mean < 0
        found.append(Comparison(mean.mean, mean.std, mean.n, low, high, p, p_holm, better))
    return found


@dataclass(frozen=True)
class Ranks:
    """Average ranks over data sets (1 is best), Friedman's test, and the critical difference of Nemenyi's."""

    names: tuple[str, ...]
    average: tuple[float, ...]
    datasets: int
    friedman_chi2: float
    friedman_p: float
    critical_difference: float

    def cliques(self) -> list[tuple[str, ...]]:
        """Maximal groups of neighbours in rank that the test cannot tell apart, best first."""
        order = sorted(range(len(self.names)), key=lambda i: self.average[i])
        groups: list[tuple[int, int]] = []
        for first in range(len(order)):
            last = first
            while last + 1 < len(order) and (
                self.average[order[last + 1]] - self.average[order[first]] < self.critical_difference
            ):
                last += 1
            if last > first and (not groups or last > groups[-1][1]):
                groups.append((first, last))
        return [tuple(self.names[i] for i in order[first : last + 1]) for first, last in groups]


def ranks(scores: Mapping[str, Sequence[float]], higher_is_better: Sequence[bool]) -> Ranks:
    """Average ranks of methods; `scores[name]` has one mean score per data set (Demsar, JMLR 2006, section 3.2.2)."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    names, table = tuple(scores), np.array([list(values) for values in scores.values()], dtype=float)
    table = np.where(np.asarray(higher_is_better)[None, :], -table, table)
    table = table[:, ~np.isnan(table).any(axis=0)]
    k, n = table.shape
    if k < 2 or n < 1:
        return Ranks(names, (math.nan,) * k, n, math.nan, math.nan, math.nan)
    placed = rankdata(table, axis=0)
    chi2, p = friedmanchisquare(*table) if k > 2 and n > 1 else (math.nan, math.nan)
    q = studentized_range.ppf(1 - LEVEL, k, np.inf) / math.sqrt(2)
    average = tuple(float(value) for value in placed.mean(axis=1))
    return Ranks(names, average, n, float(chi2), float(p), float(q * math.sqrt(k * (k + 1) / (6 * n))))


def time_to_target(curve: Sequence[Mapping[str, float]], metric: str, target: float, higher: bool, clock: str) -> float:
    """The value of `clock` (a column of the curve) when the valid metric first reaches `target`; inf if never."""
    for row in curve:
        value = row.get(f"valid/{metric}", math.nan)
        if value >= target if higher else value <= target:
            return row[clock]
    return math.inf


def performance_profile(
    times: Mapping[str, Sequence[float]], ratios: Sequence[float] | np.ndarray
) -> dict[str, np.ndarray]:
    """Share of problems solved within each ratio of the best time (Dolan & More 2002); inf is an unsolved problem."""
    table = np.array([list(values) for values in times.values()], dtype=float)
    best = table.min(axis=0)
    with np.errstate(invalid="ignore"):
        relative = np.where(np.isfinite(table), table / best, np.inf)
    shares = (relative[:, :, None] <= np.asarray(ratios, dtype=float)[None, None, :]).mean(axis=1)
    return dict(zip(times, shares, strict=True))


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half, a quarter of the values being cut at each end (Agarwal et al., NeurIPS 2021, 4.3)."""
    from scipy.stats import trim_mean

    known = [value for value in values if not math.isnan(value)]
    return float(trim_mean(known, 0.25)) if known else math.nan


def minimum_detectable_difference(std: float, n: int, power: float = 0.8) -> float:
    """Smallest true mean difference that a two-sided paired t-test of n pairs would find with this power.

    `std` is that of the paired differences; the answer has its unit. NaN below two pairs.
    """
    return math.nan if n < 2 or math.isnan(std) else float(std * _detectable_effect(n, power))


@functools.cache
def _detectable_effect(n: int, power: float) -> float:
    """The detectable difference in standard deviations."""
    from scipy.optimize import brentq
    from scipy.special import chdtri, ndtr, stdtrit

    # The power of t given the sample variance is normal: average it over the variance's quantiles. (scipy's
    # noncentral t is not a number from a noncentrality of about 10 on.)
    quantiles = (np.arange(4000) + 0.5) / 4000
    edge = stdtrit(n - 1, 1 - LEVEL / 2) * np.sqrt(chdtri(n - 1, quantiles) / (n - 1))

    def lack(effect: float) -> float:
        shift = effect * math.sqrt(n)
        return float((ndtr(shift - edge) + ndtr(-shift - edge)).mean()) - power

    return float(brentq(lack, 0.0, 100.0))
