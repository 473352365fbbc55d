"""A confidence sequence holds at every look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from monitor.sequential import Sums, confidence_sequence

FIRST_LOOK, LAST = 200, 4000


def sums(values: np.ndarray) -> Sums:
    return Sums(len(values), float(values.sum()), float((values**2).sum()))


def looks(values: np.ndarray, every: int = 50) -> list[Sums]:
    """The sums at each look at a growing sample."""
    total, squares = np.cumsum(values), np.cumsum(values**2)
    return [Sums(n, total[n - 1], squares[n - 1]) for n in range(FIRST_LOOK, len(values) + 1, every)]


def differences(generator: np.random.Generator, advantage: float) -> np.ndarray:
    """Skewed and bounded, like differences of Brier scores."""
    labels = generator.random(LAST) < 0.15
    first = np.clip(0.15 + generator.normal(0, 0.1, LAST) + 0.2 * labels, 0, 1)
    second = np.clip(first + generator.normal(0, 0.1, LAST), 0, 1)
    values = (first - labels) ** 2 - (second - labels) ** 2
    return values - _mean() + advantage


def _mean(cache: list[float] = []) -> float:  # noqa: B006
    if not cache:
        generator = np.random.default_rng(99)
        labels = generator.random(2_000_000) < 0.15
        first = np.clip(0.15 + generator.normal(0, 0.1, len(labels)) + 0.2 * labels, 0, 1)
        second = np.clip(first + generator.normal(0, 0.1, len(labels)), 0, 1)
        cache.append(float(np.mean((first - labels) ** 2 - (second - labels) ** 2)))
    return cache[0]


def test_equal_models_are_rarely_told_apart_however_often_one_looks() -> None:
    generator = np.random.default_rng(1)
    told_apart = fixed = 0
    samples = 600
    for _ in range(samples):
        seen = looks(differences(generator, 0.0))
        bounds = [confidence_sequence(one, 0.95, FIRST_LOOK) for one in seen]
        told_apart += any(b.low > 0 or b.high < 0 for b in bounds)
        fixed += any(abs(one.mean) > 1.96 * math.sqrt(one.variance / one.rows) for one in seen)
    assert told_apart / samples < 0.05
    # What one would do without it is wrong several times as often as it says.
    assert fixed / samples > 0.15


def test_a_better_model_is_found_out() -> None:
    generator = np.random.default_rng(2)
    found = sum(
        any(confidence_sequence(one, 0.95, FIRST_LOOK).low > 0 for one in looks(differences(generator, 0.01)))
        for _ in range(200)
    )
    assert found / 200 > 0.9


def test_the_bounds_are_those_of_the_paper_at_a_worked_size() -> None:
    # Variance 1, n = 1000, alpha = .05, r = 1: sqrt(2 * 1001 / 10^6 * ln(sqrt(1001) / .05)).
    values = np.tile([1.0, -1.0], 500)
    alpha = 0.05
    log_alpha = -2 * math.log(alpha)
    tuned = round(log_alpha + math.log(log_alpha) + 1)
    r = (log_alpha + math.log(log_alpha) + 1) / tuned
    expected = math.sqrt(2 * (1000 * r + 1) / (1000**2 * r) * math.log(math.sqrt(1000 * r + 1) / alpha))
    bounds = confidence_sequence(sums(values), 0.95, tuned)
    assert bounds.high == pytest.approx(expected)
    assert bounds.low == pytest.approx(-expected)


def test_the_price_of_looking_is_bounded_at_the_size_that_it_is_tuned_for() -> None:
    values = np.random.default_rng(3).normal(size=2000)
    fixed = stats.norm.ppf(0.975) * values.std() / math.sqrt(2000)
    bounds = confidence_sequence(sums(values), 0.95, 2000)
    assert 1 < (bounds.high - bounds.mean) / fixed < 1.7


def test_one_value_says_nothing() -> None:
    bounds = confidence_sequence(Sums(1, 0.3, 0.09), 0.95, 100)
    assert (bounds.low, bounds.high) == (-math.inf, math.inf)
