"""The metrics against scikit-learn and scipy, and against what they mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from caudal import metrics
from caudal.resampling import weighted, weights


def drawn(seed: int, rows: int = 400, ties: bool = True) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    labels = (generator.random(rows) < 0.3).astype(np.int8)
    scores = np.clip(0.3 * labels + generator.normal(0.4, 0.2, rows), 0.01, 0.99)
    return labels, np.round(scores, 2) if ties else scores


ORACLES = {
    "auc": oracle.roc_auc_score,
    "average_precision": oracle.average_precision_score,
    "log_loss": oracle.log_loss,
    "brier": oracle.brier_score_loss,
    "accuracy": lambda y, s: oracle.accuracy_score(y, s >= 0.5),
    "precision": lambda y, s: oracle.precision_score(y, s >= 0.5),
    "recall": lambda y, s: oracle.recall_score(y, s >= 0.5),
    "f1": lambda y, s: oracle.f1_score(y, s >= 0.5),
}


@pytest.mark.parametrize("name", sorted(ORACLES))
@pytest.mark.parametrize("ties", [True, False])
def test_a_binary_metric_is_scikit_learns(name: str, ties: bool) -> None:
    for seed in range(5):
        labels, scores = drawn(seed, ties=ties)
        assert metrics.metric(name)(labels, scores) == pytest.approx(ORACLES[name](labels, scores), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.5, 0.5000001, 0.9])), min_size=1))
def test_auc_is_the_share_of_pairs_that_are_ordered_rightly(rows: list[tuple[int, float]]) -> None:
    positives = [score for label, score in rows if label]
    negatives = [score for label, score in rows if not label]
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    figure = metrics.auc(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    assert math.isnan(figure) if not pairs else figure == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    labels, scores = drawn(1)
    order = np.random.default_rng(2).permutation(len(labels))
    function = metrics.metric(name)
    assert function(labels[order], scores[order]) == pytest.approx(function(labels, scores), abs=1e-12)


@pytest.mark.parametrize("name", sorted(metrics.BINARY))
def test_no_rows_give_no_figure_and_no_error(name: str) -> None:
    empty = np.empty(0)
    assert math.isnan(metrics.metric(name)(empty, empty))


def test_one_class_has_no_auc() -> None:
    assert math.isnan(metrics.auc(np.ones(5), np.linspace(0, 1, 5)))
    assert math.isnan(metrics.average_precision(np.zeros(5), np.linspace(0, 1, 5)))


def test_calibration_error_is_zero_for_right_probabilities_and_large_for_wrong_ones() -> None:
    generator = np.random.default_rng(0)
    scores = generator.random(200_000)
    labels = (generator.random(200_000) < scores).astype(np.int8)
    assert metrics.calibration_error(labels, scores) < 0.005
    # Half the probability: each bin is off by its own mean, .25 over all.
    assert metrics.calibration_error(labels, scores / 2) == pytest.approx(0.25, abs=0.005)


def test_calibration_error_of_a_constant_is_its_distance_from_the_share() -> None:
    labels = np.array([1, 0, 0, 0])
    assert metrics.calibration_error(labels, np.full(4, 0.5)) == pytest.approx(0.25)


@pytest.mark.parametrize("rows", [100, 1000])
def test_the_calibration_errors_interval_is_not_pushed_up_by_chance(rows: int) -> None:
    generator = np.random.default_rng(rows)
    above_none, above_a_tenth = 0, 0
    for _ in range(100):
        scores = generator.beta(2, 5, rows)
        labels = (generator.random(rows) < scores).astype(np.int8)
        interval = metrics.calibration_interval(labels, scores, level=0.90, samples=200)
        assert interval.value == pytest.approx(metrics.calibration_error(labels, scores))
        above_none += interval.low > 0
        above_a_tenth += interval.low > 0.1
    assert above_none <= 10
    assert above_a_tenth == 0


def test_the_calibration_errors_interval_holds_the_true_error_and_leaves_zero_behind() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(50):
        chance = generator.uniform(0.1, 0.7, 2000)
        labels = (generator.random(2000) < chance).astype(np.int8)
        interval = metrics.calibration_interval(labels, chance + 0.2, level=0.90, samples=200)
        assert interval.low > 0.1
        held += interval.low <= 0.2 <= interval.high
    assert held >= 45


def test_the_confusion_counts_a_score_at_the_threshold_as_positive() -> None:
    found = metrics.confusion(np.array([1, 1, 0, 0]), np.array([0.5, 0.4, 0.5, 0.1]), 0.5)
    assert vars(found) == {
        "true_positives": 1,
        "false_positives": 1,
        "true_negatives": 1,
        "false_negatives": 1,
    }


def cost(labels: Any, scores: Any, threshold: float, positive: float, negative: float) -> float:
    decided = scores >= threshold
    return float(positive * np.sum(decided & (labels == 0)) + negative * np.sum(~decided & (labels == 1)))


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=1, max_size=40),
    st.floats(0.1, 10),
    st.floats(0.1, 10),
)
def test_no_threshold_costs_less_than_the_cheapest(
    rows: list[tuple[int, float]], positive: float, negative: float
) -> None:
    labels = np.array([row[0] for row in rows])
    scores = np.array([row[1] for row in rows], dtype=np.float64)
    chosen = metrics.cheapest_threshold(labels, scores, positive, negative)
    if 0 < labels.sum() < len(labels):
        every = [*scores, 1.5, -0.5]
        best = min(cost(labels, scores, t, positive, negative) for t in every)
        assert cost(labels, scores, chosen, positive, negative) <= best * (1 + 1e-9) + 1e-9
    else:
        assert chosen == positive / (positive + negative)


def test_multiclass_metrics_are_scikit_learns() -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 3, 500)
    scores = generator.dirichlet(np.ones(3), 500) * 0.5
    scores[np.arange(500), labels] += 0.3
    scores /= scores.sum(axis=1, keepdims=True)
    decided = scores.argmax(axis=1)
    assert metrics.multiclass_accuracy(labels, scores) == oracle.accuracy_score(labels, decided)
    assert metrics.multiclass_log_loss(labels, scores) == pytest.approx(oracle.log_loss(labels, scores))
    assert metrics.macro_f1(labels, scores) == pytest.approx(oracle.f1_score(labels, decided, average="macro"))
    assert metrics.macro_auc(labels, scores) == pytest.approx(
        oracle.roc_auc_score(labels, scores, multi_class="ovr")
    )
    assert metrics.confusion_matrix(labels, scores).tolist() == oracle.confusion_matrix(labels, decided).tolist()


def test_regression_metrics_are_scikit_learns() -> None:
    generator = np.random.default_rng(4)
    labels = generator.normal(size=300)
    scores = labels + generator.normal(size=300)
    assert metrics.rmse(labels, scores) == pytest.approx(oracle.root_mean_squared_error(labels, scores))
    assert metrics.mae(labels, scores) == pytest.approx(oracle.mean_absolute_error(labels, scores))
    assert metrics.r2(labels, scores) == pytest.approx(oracle.r2_score(labels, scores))


def expanded(block: Any, values: Any) -> Any:
    return np.repeat(values, block.astype(int), axis=0)


@pytest.mark.parametrize("name", sorted(metrics.BINARY))
def test_a_weighted_binary_metric_is_the_metric_of_the_repeated_rows(name: str) -> None:
    labels, scores = drawn(7, rows=60)
    figure = weighted(name, labels, scores, "binary", 0.45)
    (block,) = weights(60, 8, seed=1)
    plain = metrics.metric(name, "binary", 0.45)
    wanted = [plain(expanded(one, labels), expanded(one, scores)) for one in block]
    assert figure(block) == pytest.approx(wanted, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", sorted(metrics.MULTICLASS))
def test_a_weighted_multiclass_metric_is_the_metric_of_the_repeated_rows(name: str) -> None:
    generator = np.random.default_rng(5)
    labels, scores = generator.integers(0, 3, 60), generator.dirichlet(np.ones(3), 60)
    (block,) = weights(60, 8, seed=1)
    plain = metrics.metric(name, "multiclass")
    wanted = [plain(expanded(one, labels), expanded(one, scores)) for one in block]
    assert weighted(name, labels, scores, "multiclass")(block) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", sorted(metrics.REGRESSION))
def test_a_weighted_regression_metric_is_the_metric_of_the_repeated_rows(name: str) -> None:
    generator = np.random.default_rng(5)
    labels, scores = generator.normal(size=60), generator.normal(size=60)
    (block,) = weights(60, 8, seed=1)
    plain = metrics.metric(name, "regression")
    wanted = [plain(expanded(one, labels), expanded(one, scores)) for one in block]
    assert weighted(name, labels, scores, "regression")(block) == pytest.approx(wanted, abs=1e-10)


def test_weights_are_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(weights(50, 20, seed=3)))
    monkeypatch.setattr("caudal.resampling._CELLS", 150)
    assert np.array_equal(np.concatenate(list(weights(50, 20, seed=3))), whole)
    assert (whole.sum(axis=1) == 50).all()


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one() -> None:
    labels, scores = drawn(11, rows=2000, ties=False)
    interval = metrics.bootstrap_metric("brier", labels, scores, samples=2000)
    losses = (scores - labels) ** 2
    half = stats.norm.ppf(0.95) * losses.std(ddof=1) / math.sqrt(len(losses))
    assert interval.low == pytest.approx(losses.mean() - half, abs=half / 10)
    assert interval.high == pytest.approx(losses.mean() + half, abs=half / 10)


def test_the_paired_difference_of_equal_models_is_nothing() -> None:
    labels, scores = drawn(12)
    found = metrics.bootstrap_difference("auc", labels, scores, scores)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_paired_difference_turns_its_sign_when_the_models_change_places() -> None:
    labels, scores = drawn(13)
    other = np.clip(scores + np.random.default_rng(1).normal(0, 0.1, len(scores)), 0, 1)
    for name in ("auc", "log_loss"):
        one = metrics.bootstrap_difference(name, labels, scores, other)
        two = metrics.bootstrap_difference(name, labels, other, scores)
        assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))


def test_more_loss_is_worse_and_more_auc_is_better() -> None:
    labels, scores = drawn(14)
    for name in ("auc", "log_loss", "brier", "average_precision"):
        assert metrics.bootstrap_difference(name, labels, scores, 1 - scores).value > 0
