"""Metrics of resampled rows, many samples at a time.

A bootstrap sample is a row of weights: how often each row was drawn. Sorted once, a metric of a thousand samples
is a few passes over a matrix instead of a thousand sorts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weighted = Callable[[Array], Array]
"""From weights, shape (samples, rows), to one figure a sample, NaN where a sample can't give it."""

_CELLS = 4_000_000
_SMALLEST = 1e-15


def weights(rows: int, samples: int, seed: int = 0) -> Iterator[Array]:
    """Bootstrap weights in blocks of shape (some samples, rows), float64; equal for equal arguments."""
    generator = np.random.default_rng(seed)
    at_once = max(1, min(samples, _CELLS // max(rows, 1)))
    for start in range(0, samples, at_once):
        count = min(at_once, samples - start)
        drawn = generator.integers(0, rows, (count, rows)) + np.arange(count)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)


def weighted(name: str, labels: Array, scores: Array, task: str, threshold: float | None = None) -> Weighted:
    """A metric of `caudal.metrics` as a function of weights.

    Raises:
        KeyError: the task has no such metric.
    """
    if task == "binary":
        return _binary(name, np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64), threshold)
    if task == "multiclass":
        return _multiclass(name, np.asarray(labels, dtype=np.int64), scores)
    return _regression(name, np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64))


def _binary(name: str, labels: Array, scores: Array, threshold: float | None) -> Weighted:
    if name == "auc":
        return _auc(labels, scores)
    if name == "average_precision":
        return _average_precision(labels, scores)
    if name == "log_loss":
        kept = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
        return _mean(-np.where(labels == 1, np.log(kept), np.log1p(-kept)))
    if name == "brier":
        return _mean((scores - labels) ** 2)
    decided = scores >= (0.5 if threshold is None else threshold)
    if name == "accuracy":
        return _mean((decided == (labels == 1)).astype(np.float64))
    both, either = decided * labels, decided + labels
    if name == "f1":
        return lambda w: _divide(2 * (w @ both), w @ either)
    if name == "precision":
        return lambda w: _divide(w @ both, w @ decided.astype(np.float64))
    if name == "recall":
        return lambda w: _divide(w @ both, w @ labels)
    raise KeyError(name)


def _multiclass(name: str, labels: Array, scores: Array) -> Weighted:
    decided = scores.argmax(axis=1)
    if name == "accuracy":
        return _mean((decided == labels).astype(np.float64))
    if name == "log_loss":
        chosen = scores[np.arange(len(labels)), labels]
        return _mean(-np.log(np.clip(chosen, _SMALLEST, 1.0)))
    occurring = np.arange(scores.shape[1])
    if name == "auc":
        each = [_auc((labels == one).astype(np.float64), scores[:, one]) for one in occurring]
        return lambda w: _mean_of([figure(w) for figure in each])
    if name == "f1":
        actual = [(labels == one).astype(np.float64) for one in occurring]
        chosen_as = [(decided == one).astype(np.float64) for one in occurring]
        return lambda w: _mean_of(
            [_divide(2 * (w @ (a * c)), w @ (a + c)) for a, c in zip(actual, chosen_as, strict=True)]
        )
    raise KeyError(name)


def _regression(name: str, labels: Array, scores: Array) -> Weighted:
    squared = (scores - labels) ** 2
    if name == "rmse":
        return lambda w: np.sqrt(_divide(w @ squared, w.sum(axis=1)))
    if name == "mae":
        return _mean(np.abs(scores - labels))
    if name == "r2":
        centred = labels - labels.mean() if len(labels) else labels

        def r2(w: Array) -> Array:
            total = w.sum(axis=1)
            spread = w @ centred**2 - _divide((w @ centred) ** 2, total)
            return 1 - _divide(w @ squared, spread)

        return r2
    raise KeyError(name)


def _mean(values: Array) -> Weighted:
    return lambda w: _divide(w @ values, w.sum(axis=1))


def _auc(labels: Array, scores: Array) -> Weighted:
    order = np.argsort(scores, kind="stable")
    starts = _starts(scores[order])
    positive = labels[order]

    def auc(w: Array) -> Array:
        ordered = w[:, order]
        positives = np.add.reduceat(ordered * positive, starts, axis=1)
        negatives = np.add.reduceat(ordered * (1 - positive), starts, axis=1)
        # Each positive beats the negatives of lower scores, and half of those of its own score.
        beaten = np.cumsum(negatives, axis=1) - negatives / 2
        won = (positives * beaten).sum(axis=1)
        return _divide(won, positives.sum(axis=1) * negatives.sum(axis=1))

    return auc if len(scores) else _nothing


def _average_precision(labels: Array, scores: Array) -> Weighted:
    order = np.argsort(-scores, kind="stable")
    starts = _starts(scores[order])
    positive = labels[order]

    def average_precision(w: Array) -> Array:
        ordered = w[:, order]
        gained = np.add.reduceat(ordered * positive, starts, axis=1)
        predicted = np.cumsum(np.add.reduceat(ordered, starts, axis=1), axis=1)
        precision = np.cumsum(gained, axis=1) / np.maximum(predicted, 1.0)
        return _divide((precision * gained).sum(axis=1), gained.sum(axis=1))

    return average_precision if len(scores) else _nothing


def _starts(ordered: Array) -> Array:
    """Where each run of equal scores begins."""
    return np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1]) if len(ordered) else np.empty(0, np.int64)


def _nothing(w: Array) -> Array:
    return np.full(len(w), np.nan)


def _mean_of(figures: list[Array]) -> Array:
    """The mean over the figures that are there."""
    stacked = np.vstack(figures)
    present = ~np.isnan(stacked)
    return _divide(np.where(present, stacked, 0).sum(axis=0), present.sum(axis=0).astype(np.float64))


def _divide(part: Array, whole: Array) -> Array:
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))
