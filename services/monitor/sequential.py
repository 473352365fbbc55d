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
