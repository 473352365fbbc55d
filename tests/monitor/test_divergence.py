"""Distances and p-values beside SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from monitor import divergence
from monitor.divergence import (
    chi_square_survival,
    cramers_v,
    discoveries,
    higher_share_p_value,
    homogeneity_p_value,
    jensen_shannon,
    kolmogorov_smirnov,
    kolmogorov_smirnov_p_value,
    psi,
    total_variation,
)

two_histograms = st.integers(2, 12).flatmap(
    lambda bins: st.tuples(*[st.lists(st.integers(0, 500), min_size=bins, max_size=bins)] * 2)
).filter(lambda pair: sum(pair[0]) > 0 and sum(pair[1]) > 0)  # fmt: skip


@given(two_histograms)
def test_psi_is_both_kullback_leibler_divergences_with_half_a_row_in_each_bin(
    pair: tuple[list[int], list[int]],
) -> None:
    p, q = np.asarray(pair[0]) + 0.5, np.asarray(pair[1]) + 0.5
    expected = stats.entropy(p, q) + stats.entropy(q, p)
    assert psi(*pair) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_psi_of_a_textbook_table() -> None:
    # Shares .2/.3/.5 against .4/.3/.3 of many rows: .2 ln 2 + .2 ln(5/3).
    assert psi([200_000, 300_000, 500_000], [400_000, 300_000, 300_000]) == pytest.approx(
        0.2 * math.log(2) + 0.2 * math.log(5 / 3), abs=1e-4
    )


@given(two_histograms)
def test_jensen_shannon_is_scipys(pair: tuple[list[int], list[int]]) -> None:
    assert jensen_shannon(*pair) == pytest.approx(jensenshannon(*pair, base=2), abs=1e-7)


@given(two_histograms)
def test_kolmogorov_smirnov_of_bins_is_that_of_rows_at_the_bins(pair: tuple[list[int], list[int]]) -> None:
    bins = np.arange(len(pair[0]))
    rows = [np.repeat(bins, counts) for counts in pair]
    assert kolmogorov_smirnov(*pair) == pytest.approx(stats.ks_2samp(*rows).statistic, abs=1e-12)


@given(st.floats(0.3, 2.5), st.integers(30, 400), st.integers(30, 400))
def test_kolmogorov_smirnov_p_value_is_near_the_exact_one(x: float, n: int, m: int) -> None:
    distance = min(1.0, x / math.sqrt(n * m / (n + m)))
    shift = round(distance * m)
    reference, recent = [n, 0], [m - shift, shift]
    exact = stats.ks_2samp(np.zeros(n), np.r_[np.zeros(m - shift), np.ones(shift)], method="asymp").pvalue
    assert kolmogorov_smirnov_p_value(reference, recent) == pytest.approx(exact, abs=0.06)


@given(two_histograms)
def test_cramers_v_is_scipys(pair: tuple[list[int], list[int]]) -> None:
    table = np.asarray(pair)[:, np.sum(pair, axis=0) > 0]
    expected = 0.0 if table.shape[1] < 2 else stats.contingency.association(table, method="cramer")
    assert cramers_v(*pair) == pytest.approx(expected, abs=1e-9)


@given(two_histograms)
def test_the_homogeneity_test_is_scipys_where_no_bin_is_rare(pair: tuple[list[int], list[int]]) -> None:
    table = np.asarray(pair) + 2000
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert homogeneity_p_value(*table) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(st.floats(0, 400), st.integers(1, 80))
def test_the_chi_square_tail_is_scipys(statistic: float, freedom: int) -> None:
    assert chi_square_survival(statistic, freedom) == pytest.approx(stats.chi2.sf(statistic, freedom), abs=1e-12)


@given(st.integers(0, 60), st.integers(1, 300), st.integers(0, 60), st.integers(1, 300))
def test_a_higher_share_is_tested_as_fisher_does(a: int, n: int, b: int, m: int) -> None:
    a, b = min(a, n), min(b, m)
    if b * n <= a * m:
        assert higher_share_p_value(a, n, b, m) == 1.0
    else:
        expected = stats.fisher_exact([[b, m - b], [a, n - a]], alternative="greater").pvalue
        assert higher_share_p_value(a, n, b, m) == pytest.approx(expected, rel=1e-6)


def test_the_share_test_is_quick_on_millions_of_rows() -> None:
    n, a, b = 10_000_000, 1_000_000, 1_003_000
    share = (a + b) / (2 * n)
    normal = stats.norm.sf((b - a - 1) / math.sqrt(2 * n * share * (1 - share)))
    assert higher_share_p_value(a, n, b, n) == pytest.approx(normal, rel=1e-3)


def test_the_share_test_ends_at_once_where_nothing_of_the_tail_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    n, a, b = 50_000_000, 1_000_000, 5_000_000
    asked: list[tuple[int, int]] = []
    log_choose = divergence._log_choose

    def counted(n: int, k: int) -> float:
        assert len(asked) < 100, "the sum goes on"
        asked.append((n, k))
        return log_choose(n, k)

    monkeypatch.setattr(divergence, "_log_choose", counted)
    normal = stats.norm.sf((b - a) / math.sqrt((a + b) * (1 - (a + b) / (2 * n))))
    assert higher_share_p_value(a, n, b, n) == normal == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from([0.01, 0.05, 0.2]))
def test_discoveries_are_those_of_benjamini_and_hochberg(p_values: list[float], rate: float) -> None:
    expected = stats.false_discovery_control(p_values, method="bh") <= rate
    ours = np.asarray(discoveries(p_values, rate))
    # A p-value on the very boundary may fall either way by a rounding.
    boundary = np.isclose(stats.false_discovery_control(p_values, method="bh"), rate, rtol=1e-12)
    assert np.all((ours == expected) | boundary)


@given(two_histograms)
def test_equal_histograms_are_at_no_distance_and_any_distance_is_symmetric(
    pair: tuple[list[int], list[int]],
) -> None:
    for distance in (psi, jensen_shannon, kolmogorov_smirnov, total_variation, cramers_v):
        assert distance(pair[0], pair[0]) == pytest.approx(0.0, abs=1e-6)
        assert distance(pair[0], pair[1]) == pytest.approx(distance(pair[1], pair[0]), abs=1e-9)


def test_the_homogeneity_test_keeps_its_level_on_small_samples_with_rare_categories() -> None:
    generator = np.random.default_rng(5)
    shares = np.array([0.6, 0.3, 0.05, 0.03, 0.015, 0.005])
    reference = generator.multinomial(5000, shares, size=4000)
    recent = generator.multinomial(100, shares, size=4000)
    p_values = np.array([homogeneity_p_value(a, b) for a, b in zip(reference, recent, strict=True)])
    assert np.mean(p_values < 0.01) < 0.02
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.02)
