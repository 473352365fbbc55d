"""From a booster's scores to probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Method = Literal["sigmoid", "isotonic"]

_SMALLEST = 1e-7


@dataclass(frozen=True)
class Calibrator:
    """A monotone map of probabilities.

    `sigmoid` is Platt's: logistic regression on the score's logit, `x` = (slope, intercept). `isotonic` is the
    best non-decreasing step function, read with linear interpolation between its `x` (scores) and `y`.
    """

    method: Method
    x: tuple[float, ...]
    y: tuple[float, ...] = ()

    @staticmethod
    def fit(method: Method, labels: Array, scores: Array) -> Calibrator:
        """Learns the map from rows that the booster was not trained on.

        Raises:
            ValueError: the rows hold only one class.
        """
        labels = np.asarray(labels, dtype=np.float64)
        scores = np.asarray(scores, dtype=np.float64)
        if len(np.unique(labels)) < 2:
            raise ValueError("calibration needs rows of both classes")
        return _sigmoid(labels, scores) if method == "sigmoid" else _isotonic(labels, scores)

    def apply(self, scores: Array) -> Array:
        """Calibrated probabilities, float64, of the same shape."""
        scores = np.asarray(scores, dtype=np.float64)
        if self.method == "sigmoid":
            slope, intercept = self.x
            return _inverse_logit(slope * _logit(scores) + intercept)
        return np.interp(scores, self.x, self.y)

    def to_json(self) -> dict[str, Any]:
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Calibrator:
        return Calibrator(value["method"], tuple(value["x"]), tuple(value["y"]))


def _logit(scores: Array) -> Array:
    kept = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(kept / (1 - kept)))


def _inverse_logit(values: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))


def _platt_loss(design: Array, targets: Array, weights: Array) -> float:
    values = design @ weights
    return float(np.sum(np.logaddexp(0, values) - targets * values))


def _sigmoid(labels: Array, scores: Array) -> Calibrator:
    """Platt (1999) with his smoothed targets, by Newton's method; the sums are small and their order is fixed."""
    positives = labels.sum()
    negatives = len(labels) - positives
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.column_stack([_logit(scores), np.ones(len(scores))])
    weights = np.array([1.0, 0.0])
    loss = _platt_loss(design, targets, weights)
    for _ in range(100):
        predicted = _inverse_logit(design @ weights)
        gradient = design.T @ (predicted - targets)
        curvature = (design * (predicted * (1 - predicted))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # A whole step can overshoot where the curve is flat: halve it until the loss falls.
        size = 1.0
        while size > 1e-10 and _platt_loss(design, targets, weights - size * step) > loss:
            size /= 2
        weights = weights - size * step
        loss = _platt_loss(design, targets, weights)
        if size * np.abs(step).max() < 1e-10:
            break
    # A map that turns the order round would only hide that the model is wrong.
    return Calibrator("sigmoid", (max(float(weights[0]), 0.0), float(weights[1])))


def _isotonic(labels: Array, scores: Array) -> Calibrator:
    """Pool adjacent violators (Ayer et al., 1955) over the distinct scores."""
    values, codes = np.unique(scores, return_inverse=True)
    weight = np.bincount(codes).astype(float)
    mean = np.bincount(codes, labels) / weight
    blocks: list[list[float]] = []  # mean, weight, number of distinct scores
    for level, count in zip(mean, weight, strict=True):
        blocks.append([level, count, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            level2, count2, size2 = blocks.pop()
            level1, count1, size1 = blocks.pop()
            total = count1 + count2
            blocks.append([(level1 * count1 + level2 * count2) / total, total, size1 + size2])
    x: list[float] = []
    y: list[float] = []
    start = 0
    for level, _, size in blocks:
        end = start + int(size) - 1
        for position in sorted({start, end}):
            x.append(float(values[position]))
            y.append(float(level))
        start = end + 1
    return Calibrator("isotonic", tuple(x), tuple(y))
