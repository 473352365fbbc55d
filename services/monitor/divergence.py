"""How far two histograms are apart, and whether chance explains it.

Every function takes counts in the same bins: `reference` from training, `recent` from live rows, shape (bins,).
Distances are what thresholds are set on: they don't grow with the number of rows. P-values say whether so few or
so many rows can show that distance by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caudal.contract.monitoring import DriftMeasure

Counts = NDArray[np.float64]
# Half a row in each bin (Jeffreys' prior): an empty bin would make the index infinite.
_PRIOR = 0.5
# Cochran's rule: a chi-square statistic needs about so many expected rows in a cell.
_EXPECTED = 5.0


def psi(reference: ArrayLike, recent: ArrayLike) -> float:
    """Population stability index: sum of (q - p) ln(q / p), natural logarithm, half a row added to each bin.

    The sum of both Kullback-Leibler divergences (Jeffreys, 1946; Siddiqi, 2006, Credit Risk Scorecards).
    """
    first, second = _arrays(reference, recent)
    p = (first + _PRIOR) / (first.sum() + _PRIOR * len(first))
    q = (second + _PRIOR) / (second.sum() + _PRIOR * len(second))
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(reference: ArrayLike, recent: ArrayLike) -> float:
    """Jensen-Shannon distance: root of the divergence in bits, from 0 to 1 (Endres, Schindelin, 2003)."""
    p, q = _shares(reference, recent)
    middle = (p + q) / 2
    divergence = (_entropy_to(p, middle) + _entropy_to(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def kolmogorov_smirnov(reference: ArrayLike, recent: ArrayLike) -> float:
    """Largest difference of the cumulative shares at the bins' edges; never above that of the raw values."""
    p, q = _shares(reference, recent)
    return float(np.max(np.abs(np.cumsum(p - q)), initial=0.0))


def total_variation(reference: ArrayLike, recent: ArrayLike) -> float:
    """Largest difference of the share of any set of bins: half the sum of |p - q|."""
    p, q = _shares(reference, recent)
    return float(np.abs(p - q).sum() / 2)


def cramers_v(reference: ArrayLike, recent: ArrayLike) -> float:
    """Cramer's V of the table of two rows: root of chi-square over the number of rows, from 0 to 1."""
    first, second = _arrays(reference, recent)
    statistic, _ = _chi_square(first, second)
    rows = float(first.sum() + second.sum())
    return math.sqrt(statistic / rows) if rows else 0.0


def homogeneity_p_value(reference: ArrayLike, recent: ArrayLike) -> float:
    """P-value of Pearson's chi-square test that both samples come from one distribution.

    Bins in which the smaller sample expects fewer than five rows are taken together (Cochran, 1954).
    """
    first, second = _together(*_arrays(reference, recent))
    statistic, freedom = _chi_square(first, second)
    return chi_square_survival(statistic, freedom)


def kolmogorov_smirnov_p_value(reference: ArrayLike, recent: ArrayLike) -> float:
    """Asymptotic p-value of the two-sample Kolmogorov-Smirnov test; on bins it errs to the safe side.

    Kolmogorov's series with Stephens' (1970) correction for finite samples.
    """
    first, second = _arrays(reference, recent)
    n, m = float(first.sum()), float(second.sum())
    if not n or not m:
        return 1.0
    root = math.sqrt(n * m / (n + m))
    x = (root + 0.12 + 0.11 / root) * kolmogorov_smirnov(first, second)
    if x < 0.2:  # the series converges slowly, and the answer is 1 to ten digits
        return 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(1.0, max(0.0, math.fsum(terms)))


def higher_share_p_value(of_first: int, first: int, of_second: int, second: int) -> float:
    """One-sided p-value that the second sample's share is higher than the first's: Fisher's exact test.

    The tail of the hypergeometric distribution, summed until a term no longer counts. 1 when the second sample's
    share is not the higher one.
    """
    if not first or not second or of_second * first <= of_first * second:
        return 1.0
    marked = of_first + of_second
    total = _log_choose(first + second, marked)
    tail = 0.0
    for k in range(of_second, min(marked, second) + 1):
        term = math.exp(_log_choose(second, k) + _log_choose(first, marked - k) - total)
        tail += term
        # Beyond the mode, where the second share is the higher one, terms fall ever faster. Far beyond, all are 0.
        if term <= tail * 1e-12:
            break
    return min(1.0, tail)


def chi_square_survival(statistic: float, freedom: int) -> float:
    """P(X >= statistic) of a chi-square variable with whole degrees of freedom.

    The closed form by recurrence from 1 or 2 degrees (Abramowitz, Stegun, 1964, 26.4.4 and 26.4.5): the monitor's
    image needs no SciPy for this one function.
    """
    half = statistic / 2
    if freedom <= 0 or half <= 0:
        return 1.0
    a = 0.5 if freedom % 2 else 1.0
    survival = math.erfc(math.sqrt(half)) if freedom % 2 else math.exp(-half)
    while a < freedom / 2:
        survival += math.exp(a * math.log(half) - half - math.lgamma(a + 1))
        a += 1
    return min(1.0, survival)


def discoveries(p_values: Sequence[float], false_discovery_rate: float) -> list[bool]:
    """Which of many hypotheses are rejected when so large a share of the rejections may be false.

    Benjamini, Hochberg (1995); when no hypothesis is false, the chance of any rejection is at most the rate.
    """
    order = np.argsort(np.asarray(p_values, dtype=np.float64), kind="stable")
    count = len(p_values)
    passed = 0
    for rank, index in enumerate(order, start=1):
        if p_values[index] <= false_discovery_rate * rank / count:
            passed = rank
    rejected = [False] * count
    for index in order[:passed]:
        rejected[int(index)] = True
    return rejected


Distance = Callable[[ArrayLike, ArrayLike], float]

DISTANCES: Mapping[DriftMeasure, Distance] = {
    "psi": psi,
    "jensen_shannon": jensen_shannon,
    "kolmogorov_smirnov": kolmogorov_smirnov,
    "chi_square": cramers_v,
}


def distance(measure: DriftMeasure, ordered: bool) -> Distance:
    """The distance behind a contract's word; categories have no order, so total variation stands for KS."""
    if measure == "kolmogorov_smirnov" and not ordered:
        return total_variation
    return DISTANCES[measure]


def p_value(measure: DriftMeasure, ordered: bool) -> Distance:
    """The test that goes with a measure."""
    if measure == "kolmogorov_smirnov" and ordered:
        return kolmogorov_smirnov_p_value
    return homogeneity_p_value


def _arrays(reference: ArrayLike, recent: ArrayLike) -> tuple[Counts, Counts]:
    return np.asarray(reference, dtype=np.float64), np.asarray(recent, dtype=np.float64)


def _shares(reference: ArrayLike, recent: ArrayLike) -> tuple[Counts, Counts]:
    first, second = _arrays(reference, recent)
    return first / max(first.sum(), 1.0), second / max(second.sum(), 1.0)


def _entropy_to(p: Counts, middle: Counts) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / middle[some])))


def _together(first: Counts, second: Counts) -> tuple[Counts, Counts]:
    rows = first.sum() + second.sum()
    if not rows:
        return first, second
    expected = (first + second) * min(first.sum(), second.sum()) / rows
    rare = expected < _EXPECTED
    if rare.sum() < 2:
        return first, second
    return (
        np.append(first[~rare], first[rare].sum()),
        np.append(second[~rare], second[rare].sum()),
    )


def _chi_square(first: Counts, second: Counts) -> tuple[float, int]:
    """Statistic and degrees of freedom; bins that are empty in both samples don't count."""
    both: Any = first + second
    used = both > 0
    first, second, both = first[used], second[used], both[used]
    rows = both.sum()
    if not rows or not first.sum() or not second.sum():
        return 0.0, 0
    statistic = 0.0
    for sample in (first, second):
        expected = both * sample.sum() / rows
        statistic += float(np.sum((sample - expected) ** 2 / expected))
    return statistic, len(both) - 1


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
