"""Metrics in numpy: the figures of scikit-learn without its 1.8 s of import (tests use it as the oracle).

Binary metrics take `labels` (shape (n,), 0 or 1) and `scores` (shape (n,), the probability of 1). Those that
need a decision take a threshold; a score at the threshold counts as positive. A figure that the rows can't
give (an AUC with one class only, anything of no rows) is NaN, never an error: a monitor has to survive it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caudal.resampling import weighted, weights

Array = NDArray[Any]
Metric = Callable[[Array, Array], float]

NAN = float("nan")
_SMALLEST = 1e-15


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve: the Mann-Whitney statistic, ties counting one half."""
    labels, scores = _binary(labels, scores)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return NAN
    rank_sum = float(_mid_ranks(scores)[labels == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def average_precision(labels: Array, scores: Array) -> float:
    """Sum of precision times the gain in recall over falling thresholds, rows of equal score taken together."""
    labels, scores = _binary(labels, scores)
    positives = int(labels.sum())
    if not positives:
        return NAN
    true_positives, predicted = _curve(labels, scores)
    precision = true_positives / predicted
    return float(np.sum(precision * np.diff(true_positives, prepend=0)) / positives)


def log_loss(labels: Array, scores: Array) -> float:
    """Mean negative log likelihood; probabilities are kept away from 0 and 1 by 1e-15."""
    labels, scores = _binary(labels, scores)
    if not len(labels):
        return NAN
    kept = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return float(-np.mean(np.where(labels == 1, np.log(kept), np.log1p(-kept))))


def brier(labels: Array, scores: Array) -> float:
    """Mean squared difference between probability and label."""
    labels, scores = _binary(labels, scores)
    return float(np.mean((scores - labels) ** 2)) if len(labels) else NAN


def calibration_error(labels: Array, scores: Array, bins: int = 10) -> float:
    """Expected calibration error over bins of equal numbers of rows.

    The mean over rows of |share of positives - mean probability| of the row's bin. Rows are cut in the order of
    their scores; rows of equal score never part, so the order of rows does not matter.

    Source: Naeini, Cooper, Hauskrecht (2015), with equal-frequency bins (Nguyen, O'Connor, 2015).
    """
    labels, scores = _binary(labels, scores)
    if not len(labels):
        return NAN
    gaps = np.bincount(_calibration_bins(scores, bins), labels - scores, bins)
    return float(np.abs(gaps).sum() / len(labels))


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions at a threshold."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def rows(self) -> int:
        return self.true_positives + self.false_positives + self.true_negatives + self.false_negatives

    @property
    def accuracy(self) -> float:
        return _ratio(self.true_positives + self.true_negatives, self.rows)

    @property
    def precision(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        return _ratio(
            2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives
        )


def confusion(labels: Array, scores: Array, threshold: float = 0.5) -> Confusion:
    """Decisions against labels."""
    labels, scores = _binary(labels, scores)
    decided = scores >= threshold
    actual = labels == 1
    return Confusion(
        int(np.sum(decided & actual)),
        int(np.sum(decided & ~actual)),
        int(np.sum(~decided & ~actual)),
        int(np.sum(~decided & actual)),
    )


def accuracy(labels: Array, scores: Array, threshold: float = 0.5) -> float:
    """Share of right decisions."""
    return confusion(labels, scores, threshold).accuracy


def precision(labels: Array, scores: Array, threshold: float = 0.5) -> float:
    """Share of true positives among the rows decided positive; NaN when none is."""
    return confusion(labels, scores, threshold).precision


def recall(labels: Array, scores: Array, threshold: float = 0.5) -> float:
    """Share of the positives that were decided positive; NaN when there is none."""
    return confusion(labels, scores, threshold).recall


def f1(labels: Array, scores: Array, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall."""
    return confusion(labels, scores, threshold).f1


def cheapest_threshold(labels: Array, scores: Array, false_positive: float, false_negative: float) -> float:
    """The threshold at which decisions cost least.

    Candidates are the middles between neighbouring scores, and thresholds that decide all rows one way; of those
    that cost alike the one nearest to fp / (fp + fn), which is right for perfect probabilities, is taken.
    That one is also the answer when one class is missing (Elkan, 2001, The Foundations of Cost-Sensitive
    Learning).
    """
    labels, scores = _binary(labels, scores)
    ideal = false_positive / (false_positive + false_negative)
    positives = int(labels.sum())
    if not positives or positives == len(labels):
        return ideal
    values, codes = np.unique(scores, return_inverse=True)
    positive = np.bincount(codes, labels, len(values))
    negative = np.bincount(codes, 1 - labels, len(values))
    # Decided positive from value i on; i = len(values) decides none.
    missed = np.concatenate([[0.0], np.cumsum(positive)])
    raised = negative.sum() - np.concatenate([[0.0], np.cumsum(negative)])
    cost = false_positive * raised + false_negative * missed
    # Thresholds in (values[i - 1], values[i]] decide alike: the middle is taken, and at the ends, where there is
    # none, the one nearest to the ideal. The middle of two neighbouring floats can round to the lower one.
    middles = np.maximum((values[1:] + values[:-1]) / 2, np.nextafter(values[:-1], 2))
    all_positive, none_positive = min(values[0], ideal), max(np.nextafter(values[-1], 2), ideal)
    edges = np.concatenate([[all_positive], middles, [none_positive]])
    cheapest = np.flatnonzero(cost <= cost.min() * (1 + 1e-12))
    return float(edges[cheapest[np.argmin(np.abs(edges[cheapest] - ideal))]])


def multiclass_accuracy(labels: Array, scores: Array) -> float:
    """Share of rows whose most probable class is the label; `scores` has shape (n, classes)."""
    return float(np.mean(scores.argmax(axis=1) == labels)) if len(labels) else NAN


def multiclass_log_loss(labels: Array, scores: Array) -> float:
    """Mean negative log probability of the label's class; `scores` has shape (n, classes)."""
    if not len(labels):
        return NAN
    chosen = scores[np.arange(len(labels)), np.asarray(labels, dtype=np.int64)]
    return float(-np.mean(np.log(np.clip(chosen, _SMALLEST, 1.0))))


def macro_f1(labels: Array, scores: Array) -> float:
    """Mean over the classes that occur, in labels or decisions, of each one's F1."""
    decided = scores.argmax(axis=1)
    figures = []
    for one in np.union1d(labels, decided):
        both = np.sum((decided == one) & (labels == one))
        figures.append(2 * both / (np.sum(decided == one) + np.sum(labels == one)))
    return float(np.mean(figures)) if figures else NAN


def macro_auc(labels: Array, scores: Array) -> float:
    """Mean of one-against-the-rest AUC over the classes that occur."""
    figures = [auc((labels == one).astype(np.int8), scores[:, int(one)]) for one in np.unique(labels)]
    return float(np.mean(figures)) if figures else NAN


def confusion_matrix(labels: Array, scores: Array) -> Array:
    """Counts by label (rows) and decided class (columns), shape (classes, classes)."""
    classes = scores.shape[1]
    pairs = np.asarray(labels, dtype=np.int64) * classes + scores.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def rmse(labels: Array, scores: Array) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((scores - labels) ** 2))) if len(labels) else NAN


def mae(labels: Array, scores: Array) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(scores - labels))) if len(labels) else NAN


def r2(labels: Array, scores: Array) -> float:
    """Share of the labels' variance that is explained; NaN when they have none."""
    spread = float(np.sum((labels - np.mean(labels)) ** 2)) if len(labels) else 0.0
    return float(1 - np.sum((labels - scores) ** 2) / spread) if spread else NAN


BINARY: Mapping[str, Metric] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
}
AT_A_THRESHOLD: Mapping[str, Callable[[Array, Array, float], float]] = {
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
}
MULTICLASS: Mapping[str, Metric] = {
    "auc": macro_auc,
    "log_loss": multiclass_log_loss,
    "accuracy": multiclass_accuracy,
    "f1": macro_f1,
}
REGRESSION: Mapping[str, Metric] = {"rmse": rmse, "mae": mae, "r2": r2}
BY_TASK: Mapping[str, Mapping[str, Metric]] = {
    "binary": BINARY,
    "multiclass": MULTICLASS,
    "regression": REGRESSION,
}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae"})


def metric(name: str, task: str = "binary", threshold: float | None = None) -> Metric:
    """The function behind a contract's name for a metric, at the model's threshold where one is needed.

    Raises:
        KeyError: the task has no such metric.
    """
    if task == "binary" and threshold is not None and name in AT_A_THRESHOLD:
        decided, at = AT_A_THRESHOLD[name], threshold
        return lambda labels, scores: decided(labels, scores, at)
    return BY_TASK[task][name]


def sign(name: str) -> int:
    """1 when more is better, -1 when less is."""
    return -1 if name in LOWER_IS_BETTER else 1


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval: the two-sided percentile interval of a figure, and the figure itself."""

    value: float
    low: float
    high: float


def bootstrap_metric(
    name: str,
    labels: Array,
    scores: Array,
    *,
    task: str = "binary",
    threshold: float | None = None,
    level: float = 0.90,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The interval of one metric of one model (percentile bootstrap; Efron, Tibshirani, 1993)."""
    value = metric(name, task, threshold)(labels, scores)
    figure = weighted(name, labels, scores, task, threshold)
    drawn = [figure(block) for block in weights(len(labels), samples, seed)] if len(labels) else []
    return _interval(value, drawn, level)


def bootstrap_difference(
    name: str,
    labels: Array,
    first: Array,
    second: Array,
    *,
    task: str = "binary",
    thresholds: tuple[float | None, float | None] = (None, None),
    level: float = 0.90,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The paired interval of how much better the first model is than the second, on the same rows.

    Positive is better for the first, whichever way the metric runs.
    """
    way = sign(name)
    value = way * (
        metric(name, task, thresholds[0])(labels, first) - metric(name, task, thresholds[1])(labels, second)
    )
    one = weighted(name, labels, first, task, thresholds[0])
    two = weighted(name, labels, second, task, thresholds[1])
    blocks = weights(len(labels), samples, seed) if len(labels) else iter(())
    return _interval(value, [way * (one(block) - two(block)) for block in blocks], level)


def auc_interval(labels: Array, scores: Array, level: float = 0.90) -> Interval:
    """The AUC with its normal interval from DeLong's variance (DeLong, DeLong, Clarke-Pearson, 1988).

    Without resampling, so it is cheap on many rows. The bounds are NaN with fewer than two rows of a class.
    """
    labels, scores = _binary(labels, scores)
    value = auc(labels, scores)
    positive = labels == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if min(ones, zeros) < 2:
        return Interval(value, NAN, NAN)
    # The share of the other class that each row outranks, a tie counting half, from mid-ranks.
    ranks = _mid_ranks(scores)
    outranked = (ranks[positive] - _mid_ranks(scores[positive])) / zeros
    outranks = (ranks[~positive] - _mid_ranks(scores[~positive])) / ones
    spread = float(np.var(outranked, ddof=1) / ones + np.var(outranks, ddof=1) / zeros)
    half = NormalDist().inv_cdf((1 + level) / 2) * spread**0.5
    return Interval(value, max(value - half, 0.0), min(value + half, 1.0))


def calibration_interval(
    labels: Array, scores: Array, level: float = 0.90, samples: int = 1000, seed: int = 0, bins: int = 10
) -> Interval:
    """The expected calibration error with an interval that chance alone does not push up.

    The error is a mean of absolute gaps, so noise only ever adds to it, and adds again when rows are resampled: a
    percentile interval of few well calibrated rows lies wholly above 0. Here the noise is resampled alone: by the
    triangle inequality the error differs from that of the true gaps by at most the mean over rows of
    |bin's gap - bin's true gap|, whose quantile the bootstrap gives with the bins held fixed. So the interval errs
    on the wide side.
    """
    labels, scores = _binary(labels, scores)
    if not len(labels):
        return Interval(NAN, NAN, NAN)
    in_bins = np.eye(bins)[_calibration_bins(scores, bins)] * (labels - scores)[:, None]
    gaps = in_bins.sum(axis=0)
    value = float(np.abs(gaps).sum() / len(labels))
    drawn = [np.abs(block @ in_bins - gaps).sum(axis=1) for block in weights(len(labels), samples, seed)]
    noise = float(np.quantile(np.concatenate(drawn), (1 + level) / 2) / len(labels))
    return Interval(value, max(value - noise, 0.0), min(value + noise, 1.0))


def _calibration_bins(scores: Array, bins: int) -> Array:
    """Bins of equal numbers of rows, in the order of scores; equal scores share one."""
    values, codes, counts = np.unique(scores, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return np.asarray((first * min(bins, len(values)) // len(scores))[codes])


def _interval(value: float, drawn: list[Array], level: float) -> Interval:
    figures = np.concatenate(drawn) if drawn else np.empty(0)
    figures = figures[~np.isnan(figures)]
    if not len(figures) or np.isnan(value):
        return Interval(value, NAN, NAN)
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _binary(labels: Array, scores: Array) -> tuple[Array, Array]:
    if len(labels) != len(scores):
        raise ValueError(f"{len(labels)} labels but {len(scores)} scores")
    return np.asarray(labels, dtype=np.int8), np.asarray(scores, dtype=np.float64)


def _curve(labels: Array, scores: Array) -> tuple[Array, Array]:
    """True positives and rows predicted positive, at each distinct score from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return np.cumsum(labels[order])[last], last + 1


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else NAN


def _mid_ranks(scores: Array) -> Array:
    """Ranks from 1; equal scores share the mean of theirs."""
    _, codes, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[codes])
