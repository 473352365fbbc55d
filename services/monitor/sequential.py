"""Intervals that hold at every look: for comparisons that are watched while rows come in.

A fixed-sample interval that is looked at again and again excludes the truth sooner or later. A confidence sequence
holds at all sample sizes together, so one may look after every run, and stop when one likes. There are two. Values
that lie in a known range get an empirical-Bernstein sequence, which holds however few there are and however rare
the large ones are. Others get an asymptotic one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Sums:
    """All that is needed of a sample.

    Attributes:
        rows: number of values.
        total: their sum.
        squares: the sum of their squares.
        lowest, highest: between which any such value lies, seen or not; infinite when nobody knows.
    """

    rows: int
    total: float
    squares: float
    lowest: float = -math.inf
    highest: float = math.inf

    @property
    def mean(self) -> float:
        return self.total / self.rows if self.rows else math.nan

    @property
    def variance(self) -> float:
        return max(self.squares / self.rows - self.mean**2, 0.0) if self.rows else math.nan


@dataclass(frozen=True)
class Bounds:
    """A mean, and the bounds of its confidence sequence at this sample size."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Arm:
    """One arm of a comparison whose rows were assigned by chance, with known probabilities.

    Attributes:
        rows: that fell to this arm.
        weight: the sum over them of 1 / p, where p is the probability with which the row was to fall here.
        total: the sum of x / p.
        weight_squares, products, squares: the sums of 1 / p^2, of x / p^2 and of x^2 / p^2.
        heaviest: the largest 1 / p.
    """

    rows: int
    weight: float
    total: float
    weight_squares: float
    products: float
    squares: float
    heaviest: float

    @property
    def mean(self) -> float:
        """The mean of x over all rows of the comparison, had all fallen to this arm; of equal p the arm's mean."""
        return self.total / self.weight if self.weight else math.nan

    @property
    def scatter(self) -> float:
        """The sum of ((x - mean) / p)^2."""
        mean = self.mean
        return max(self.squares - 2 * mean * self.products + mean**2 * self.weight_squares, 0.0)


def contrast(first: Arm, second: Arm, weight: float, largest: float = math.inf) -> Sums:
    """Weight x the mean of the first arm less that of the second, as sums over the rows of both.

    The augmented inverse-probability-weighted estimator of a randomised experiment with known probabilities. With
    m1 and m2 in the place of a regression, a row of the first arm has the value weight (m1 + (x - m1) / p) - m2, a
    row of the second weight m1 - (m2 + (x - m2) / p). Its expectation is the difference of interest whatever m1
    and m2 are, and whether p is one number or grows while rows come in. With the arms' own means in their place
    the values sum up to rows x (weight m1 - m2), which of equal p is the plain difference; their variance is
    var(x1) / p + var(x2) / (1 - p). A `confidence_sequence` of these values needs no union bound over the arms: of
    equal arms it is about sqrt(2) times as tight as two sequences that are.

    Source: Waudby-Smith et al. (2024), section 3, randomised experiments; see `asymptotic`. The means are of the
    same rows: what that adds is of the order log log n / n, and vanishes beside the bounds.

    Args:
        largest: every x lies between 0 and this.
    """
    rows = first.rows + second.rows
    if not first.rows or not second.rows:
        return Sums(0, 0.0, 0.0)
    mean = weight * first.mean - second.mean
    # Of a row of either arm, at x = 0 and at the largest x.
    ends = [
        mean + sign * (x - arm.mean) * arm.heaviest
        for arm, sign in ((first, weight), (second, -1.0))
        for x in (0.0, largest)
    ]
    squares = rows * mean**2 + weight**2 * first.scatter + second.scatter
    return Sums(rows, rows * mean, squares, min(ends), max(ends))


def confidence_sequence(sums: Sums, level: float, tuned_for: int) -> Bounds:
    """The bounds of a mean that hold at all sample sizes together.

    Args:
        tuned_for: as for `asymptotic`; values in a known range need none.
    """
    if sums.rows < 2:
        return Bounds(sums.mean, -math.inf, math.inf)
    if math.isfinite(sums.lowest) and math.isfinite(sums.highest):
        return empirical_bernstein(sums, level)
    return asymptotic(sums, level, tuned_for)


def empirical_bernstein(sums: Sums, level: float) -> Bounds:
    """The confidence sequence of a mean of values in a known range; it holds at every sample size.

    With values x >= -c, the sum S of x less its expectation, the sum V of x^2, and psi(l) = -log(1 - l) - l, the
    process exp(l S / c - psi(l) V / c^2) is a supermartingale that begins at 1, for each l from 0 to 1. So is a
    mixture over several l, and by Ville's inequality it ever reaches 1 / alpha with a chance of at most alpha. The
    lower bound is the mean at which the mixture stands there; the upper one is that of the values' negatives, each
    at half the chance of error. Rows must be independent; their distribution may change, and then the bounds are
    of the average of the expectations.

    Source: Howard, Ramdas, McAuliffe, Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence
    sequences, Annals of Statistics 49(2), theorem 4, with 0 as the prediction of each value: it needs no order of
    rows, and differences of losses have a mean near 0.
    """
    alpha = (1 - level) / 2
    low = _lowest_mean(sums.rows, sums.total, sums.squares, -sums.lowest, alpha)
    high = -_lowest_mean(sums.rows, -sums.total, sums.squares, sums.highest, alpha)
    return Bounds(sums.mean, low, high)


# Each l suits sums of squares of about 12 c^2 / l^2, the last one up to some 10^8 c^2.
_MIXED: tuple[float, ...] = tuple(0.8 / 2**power for power in range(12))


def _lowest_mean(rows: int, total: float, squares: float, reach: float, alpha: float) -> float:
    """The lower bound of the mean of values of at least -reach."""
    goal = math.log(len(_MIXED) / alpha)
    costs = [(-math.log1p(-slope) - slope) * squares / reach**2 for slope in _MIXED]
    # Where one term of the mixture alone is at the goal the mixture is beyond it; its logarithm grows and is
    # convex, so that Newton's steps come down to the root and never pass it.
    excess = min((goal + cost) / slope for slope, cost in zip(_MIXED, costs, strict=True))
    for _ in range(50):
        exponents = [slope * excess - cost for slope, cost in zip(_MIXED, costs, strict=True)]
        most = max(exponents)
        terms = [math.exp(exponent - most) for exponent in exponents]
        beyond = most + math.log(sum(terms)) - goal
        excess -= beyond * sum(terms) / sum(slope * term for slope, term in zip(_MIXED, terms, strict=True))
        if beyond < 1e-9:
            break
    return (total - excess * reach) / rows


def asymptotic(sums: Sums, level: float, tuned_for: int) -> Bounds:
    """The asymptotic confidence sequence of a mean.

    Robbins' normal mixture with the sample's own variance: with n values, variance v and alpha = 1 - level the
    bounds are mean +- sqrt(v * 2 (n r + 1) / (n^2 r) * log(sqrt(n r + 1) / alpha)). It holds for values of any
    distribution with a finite variance (somewhat more than two moments), at all n from some hundred values on, if
    no rare value decides the mean. Values that don't differ say nothing of those that did not come.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), Time-uniform central limit theory and asymptotic
    confidence sequences, Annals of Statistics 52(6), theorem 2.2; r by their equation for the tightest bounds at a
    given sample size. The mixture is Robbins (1970).

    Args:
        tuned_for: the sample size at which the bounds are the tightest; they hold at all others too.
    """
    # What is left of a difference of sums that are alike is their rounding.
    if sums.variance <= 1e-12 * sums.squares / sums.rows:
        return Bounds(sums.mean, -math.inf, math.inf)
    alpha = 1 - level
    log_alpha = -2 * math.log(alpha)
    r = (log_alpha + math.log(log_alpha) + 1) / tuned_for
    n = sums.rows
    half = math.sqrt(sums.variance * 2 * (n * r + 1) / (n * n * r) * math.log(math.sqrt(n * r + 1) / alpha))
    return Bounds(sums.mean, sums.mean - half, sums.mean + half)
