"""A confidence sequence holds at every look."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import optimize, special, stats

from monitor.sequential import Arm, Sums, confidence_sequence, contrast

FIRST_LOOK, LAST = 200, 4000


def sums(values: np.ndarray, lowest: float = -math.inf, highest: float = math.inf) -> Sums:
    return Sums(len(values), float(values.sum()), float((values**2).sum()), lowest, highest)


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


def test_values_that_do_not_differ_say_nothing_of_those_that_did_not_come() -> None:
    bounds = confidence_sequence(sums(np.full(1000, 0.3)), 0.95, 500)
    assert (bounds.low, bounds.high) == (-math.inf, math.inf)


# Values in a known range


def test_bounds_of_values_in_a_range_are_where_a_bet_against_the_mean_would_have_won() -> None:
    """By the paper's process itself, over every value, with a root that is searched for."""
    values = np.random.default_rng(8).beta(0.5, 3, 700) - 0.2
    lowest, highest, alpha = -0.2, 0.8, 0.025

    def low(x: np.ndarray, reach: float) -> float:
        def wealth(mean: float) -> float:
            slopes = 0.8 * 0.5 ** np.arange(12)
            paths = [np.sum(s * (x - mean) / reach - (-np.log(1 - s) - s) * (x / reach) ** 2) for s in slopes]
            return float(special.logsumexp(paths) - math.log(12) + math.log(alpha))

        return float(optimize.brentq(wealth, x.mean() - 1, x.mean(), xtol=1e-13))

    bounds = confidence_sequence(sums(values, lowest, highest), 0.95, 500)
    assert bounds.mean == pytest.approx(values.mean())
    assert bounds.low == pytest.approx(low(values, -lowest), abs=1e-9)
    assert bounds.high == pytest.approx(-low(-values, highest), abs=1e-9)


def test_a_rare_loss_that_has_not_come_yet_is_not_taken_for_one_that_never_comes() -> None:
    """One row in 500 loses .5, the others gain a thousandth: the mean is 0."""
    generator = np.random.default_rng(9)
    fooled = asymptotically = 0
    for _ in range(200):
        values = np.where(generator.random(20_000) < 0.002, -0.499, 0.001)
        seen = [values[:n] for n in range(500, len(values) + 1, 500)]
        bounds = [confidence_sequence(sums(x, -1.0, 1.0), 0.95, 500) for x in seen]
        fooled += any(b.low > 0 or b.high < 0 for b in bounds)
        noise = [x + 1e-4 * np.tile([1, -1], len(x) // 2) for x in seen]
        asymptotically += any(confidence_sequence(sums(x), 0.95, 500).low > 0 for x in noise)
    assert fooled / 200 < 0.05
    assert asymptotically / 200 > 0.3


def test_a_range_costs_little_where_nothing_is_rare() -> None:
    values = np.random.default_rng(10).uniform(-1, 1, 4000)
    known, unknown = (confidence_sequence(x, 0.95, 500) for x in (sums(values, -1, 1), sums(values)))
    assert 0.9 < (known.high - known.low) / (unknown.high - unknown.low) < 1.2


# Two arms, as chance splits rows


def arm(values: np.ndarray, chances: np.ndarray) -> Arm:
    return Arm(
        len(values), (1 / chances).sum(), (values / chances).sum(), (1 / chances**2).sum(),
        (values / chances**2).sum(), (values**2 / chances**2).sum(),
        (1 / chances).max(),
    )  # fmt: skip


def pseudo_outcomes(values: np.ndarray, second: np.ndarray, shares: np.ndarray, weight: float) -> np.ndarray:
    """Row by row, as the literature writes it: the regression, plus the weighted residual of the arm taken."""
    means = [np.average(values[taken], weights=1 / p[taken])
             for taken, p in ((~second, 1 - shares), (second, shares))]  # fmt: skip
    residual = np.where(second, -(values - means[1]) / shares, weight * (values - means[0]) / (1 - shares))
    return weight * means[0] - means[1] + residual


@pytest.mark.parametrize("share", ["half", "a tenth", "growing"])
@pytest.mark.parametrize("weight", [1.0, 1.02])
def test_a_contrast_is_that_of_pseudo_outcomes_row_by_row(share: str, weight: float) -> None:
    generator = np.random.default_rng(5)
    rows = 3000
    shares = np.repeat([0.1, 0.3, 0.5], rows // 3) if share == "growing" else np.full(rows, 0.5)
    shares = np.full(rows, 0.1) if share == "a tenth" else shares
    second = generator.random(rows) < shares
    values = generator.beta(1, 4, rows)
    expected = pseudo_outcomes(values, second, shares, weight)

    found = contrast(arm(values[~second], 1 - shares[~second]), arm(values[second], shares[second]), weight)

    assert found.rows == rows
    assert found.mean == pytest.approx(expected.mean(), rel=1e-9)
    assert found.variance == pytest.approx(expected.var(), rel=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("weight", [1.0, 1.02])
def test_a_contrast_knows_the_range_of_rows_that_did_not_come(share: float, weight: float) -> None:
    generator = np.random.default_rng(5)
    second = generator.random(2000) < share
    values = np.where(second, generator.beta(1, 9, 2000), generator.beta(1, 3, 2000))
    first, other = values[~second], values[second]
    arms = arm(first, np.full(len(first), 1 - share)), arm(other, np.full(len(other), share))
    # By hand: what a row with the loss 0 or 1 would be in either arm.
    m1, m2 = first.mean(), other.mean()
    of_first = [weight * (m1 + (x - m1) / (1 - share)) - m2 for x in (0, 1)]
    of_second = [weight * m1 - (m2 + (x - m2) / share) for x in (0, 1)]

    found = contrast(*arms, weight, largest=1.0)

    assert found.lowest == pytest.approx(min(of_first + of_second))
    assert found.highest == pytest.approx(max(of_first + of_second))
    unknown = contrast(*arms, weight)
    assert (unknown.lowest, unknown.highest) == (-math.inf, math.inf)


def test_with_one_share_a_contrast_is_the_difference_of_the_arms_means_with_welchs_variance() -> None:
    generator = np.random.default_rng(6)
    first, second = generator.gamma(2, 1, 8000), generator.gamma(2, 2, 2000)

    found = contrast(arm(first, np.full(8000, 0.8)), arm(second, np.full(2000, 0.2)), 1.0)

    assert found.mean == pytest.approx(first.mean() - second.mean())
    welch = stats.ttest_ind(first, second, equal_var=False)
    assert found.mean / math.sqrt(found.variance / found.rows) == pytest.approx(welch.statistic, rel=1e-3)


def test_an_arm_without_rows_says_nothing() -> None:
    nobody = Arm(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    some = arm(np.ones(50), np.full(50, 0.5))
    for first, second in ((nobody, some), (some, nobody), (nobody, nobody)):
        bounds = confidence_sequence(contrast(first, second, 1.0), 0.95, 100)
        assert (bounds.low, bounds.high) == (-math.inf, math.inf)


def test_one_sequence_is_tighter_than_the_difference_of_two() -> None:
    generator = np.random.default_rng(7)
    first, second = generator.random(2000), generator.random(2000)
    half = np.full(2000, 0.5)
    bounds = confidence_sequence(contrast(arm(first, half), arm(second, half), 1.0), 0.95, 4000)
    # The union bound: each arm's mean at half the chance of error.
    each = [confidence_sequence(sums(values), 0.975, 2000) for values in (first, second)]
    union = sum((one.high - one.low) / 2 for one in each)
    assert 1.4 < union / ((bounds.high - bounds.low) / 2) < 1.6


def brier(generator: np.random.Generator, rows: int, noise: float, rate: np.ndarray | float = 0.15) -> np.ndarray:
    """Losses of a model that is the better the less noise it has."""
    labels = generator.random(rows) < rate
    scores = np.clip(0.15 + 0.3 * (labels - 0.15) + generator.normal(0, noise, rows), 0, 1)
    return (scores - labels) ** 2


def arms_at_looks(values: np.ndarray, second: np.ndarray, shares: np.ndarray, every: int) -> Iterator[Sums]:
    """The contrast after each batch of rows."""
    chances = np.where(second, shares, 1 - shares)
    columns = np.stack(
        [np.ones_like(values), 1 / chances, values / chances, chances**-2, values / chances**2,
         (values / chances) ** 2]
    )  # fmt: skip
    first_sums, second_sums = (np.cumsum(np.where(taken, columns, 0), axis=1) for taken in (~second, second))
    for n in range(every, len(values) + 1, every):
        a, b = first_sums[:, n - 1], second_sums[:, n - 1]
        if min(a[0], b[0]) >= FEWEST:
            first, second_ = (Arm(int(one[0]), *one[1:], heaviest=10.0) for one in (a, b))
            yield contrast(first, second_, 1.0)


FEWEST = 200


@pytest.mark.parametrize("share", [0.5, 0.1, "growing"])
def test_arms_of_equal_models_are_rarely_told_apart_however_often_one_looks(share: float | str) -> None:
    """Growing: the share rises while rows get harder, which a plain difference takes for a worse model."""
    generator = np.random.default_rng(11)
    rows, samples, told_apart, plain = 8000, 300, 0, 0
    for _ in range(samples):
        if share == "growing":
            shares, rates = np.repeat([0.1, 0.5], rows // 2), np.repeat([0.1, 0.3], rows // 2)
        else:
            shares, rates = np.full(rows, float(share)), np.full(rows, 0.15)
        values = brier(generator, rows, 0.1, rates)
        second = generator.random(rows) < shares
        looks_ = list(arms_at_looks(values, second, shares, 200))
        bounds = [confidence_sequence(one, 0.95, 2 * FEWEST) for one in looks_]
        told_apart += any(b.low > 0 or b.high < 0 for b in bounds)
        plain += stats.ttest_ind(values[second], values[~second], equal_var=False).pvalue < 0.05
    assert told_apart / samples < 0.05
    if share == "growing":
        assert plain / samples > 0.5


def test_a_better_arm_is_found_out() -> None:
    generator = np.random.default_rng(12)
    rows, found = 8000, 0
    for _ in range(100):
        second = generator.random(rows) < 0.5
        values = np.where(second, brier(generator, rows, 0.05), brier(generator, rows, 0.2))
        seen = arms_at_looks(values, second, np.full(rows, 0.5), 200)
        found += any(confidence_sequence(one, 0.95, 2 * FEWEST).low > 0 for one in seen)
    assert found / 100 > 0.9
