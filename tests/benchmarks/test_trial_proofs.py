"""How often a trial proves what is not so, by the simulation that decision 12 quotes."""

from __future__ import annotations

import pytest

from benchmarks.trial.__main__ import false_proofs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "share"), [(0.001, None), (0.002, None), (0.0085, 0.05), (0.0085, 0.1), (0.1, None), (0.3, 0.5)]
)
def test_no_more_trials_end_in_a_false_proof_than_the_level_allows(rate: float, share: float | None) -> None:
    """At a share or by pairs, with few positives and many, for equal challengers and worse ones."""
    assert false_proofs(rate, share, samples=60)["shipped"] <= 0.05


@pytest.mark.slow
def test_a_minimum_of_each_class_would_not_have_been_enough() -> None:
    wrong = false_proofs(0.1, None, samples=60)
    assert wrong["asymptotic, 50 of each class"] > 0.1
