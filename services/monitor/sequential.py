"""Intervals that hold at every look: for comparisons that are watched while rows come in.

A fixed-sample interval that is looked at again and again excludes the truth sooner or later. A confidence sequence
holds at all sample sizes together, so one may look after every run, and stop when one likes.
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
    """

    rows: int
    total: float
    squares: float

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
    """

    rows: int
    weight: float
    total: float
    weight_squares: float
    products: float
    squares: float

    @property
    def mean(self) -> float:
        """The mean of x over all rows of the comparison, had all fallen to this arm; of equal p the arm's mean."""
        return self.total / self.weight if self.weight else math.nan

    @property
    def scatter(self) -> float:
        """The sum of ((x - mean) / p)^2."""
        mean = self.mean
        return max(self.squares - 2 * mean * self.products + mean**2 * self.weight_squares, 0.0)


def contrast(first: Arm, second: Arm, weight: float) -> Sums:
    """Weight x the mean of the first arm less that of the second, as sums over the rows of both.

    The augmented inverse-probability-weighted estimator of a randomised experiment with known probabilities. With
    m1 and m2 in the place of a regression, a row of the first arm has the value weight (m1 + (x - m1) / p) - m2, a
    row of the second weight m1 - (m2 + (x - m2) / p). Its expectation is the difference of interest whatever m1
    and m2 are, and whether p is one number or grows while rows come in. With the arms' own means in their place
    the values sum up to rows x (weight m1 - m2), which of equal p is the plain difference; their variance is
    var(x1) / p + var(x2) / (1 - p). A `confidence_sequence` of these values needs no union bound over the arms: of
    equal arms it is about sqrt(2) times as tight as two sequences that are.

    Source: Waudby-Smith et al. (2024), section 3, randomised experiments; see `confidence_sequence`. The means are
    of the same rows: what that adds is of the order log log n / n, and vanishes beside the bounds.
    """
    rows = first.rows + second.rows
    if not first.rows or not second.rows:
        return Sums(0, 0.0, 0.0)
    mean = weight * first.mean - second.mean
    return Sums(rows, rows * mean, rows * mean**2 + weight**2 * first.scatter + second.scatter)


def confidence_sequence(sums: Sums, level: float, tuned_for: int) -> Bounds:
    """The asymptotic confidence sequence of a mean.

    Robbins' normal mixture with the sample's own variance: with n values, variance v and alpha = 1 - level the
    bounds are mean +- sqrt(v * 2 (n r + 1) / (n^2 r) * log(sqrt(n r + 1) / alpha)). It holds for values of any
    distribution with a finite variance (somewhat more than two moments), at all n from some hundred values on.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), Time-uniform central limit theory and asymptotic
    confidence sequences, Annals of Statistics 52(6), theorem 2.2; r by their equation for the tightest bounds at a
    given sample size. The mixture is Robbins (1970).

    Args:
        tuned_for: the sample size at which the bounds are the tightest; they hold at all others too.
    """
    if sums.rows < 2:
        return Bounds(sums.mean, -math.inf, math.inf)
    alpha = 1 - level
    log_alpha = -2 * math.log(alpha)
    r = (log_alpha + math.log(log_alpha) + 1) / tuned_for
    n = sums.rows
    half = math.sqrt(sums.variance * 2 * (n * r + 1) / (n * n * r) * math.log(math.sqrt(n * r + 1) / alpha))
    return Bounds(sums.mean, sums.mean - half, sums.mean + half)
