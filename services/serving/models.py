"""A model package, ready to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from serving.instances import InstanceReader

if TYPE_CHECKING:
    import xgboost as xgb

    from caudal.package import Encoder, ModelPackage


class Reason(TypedDict):
    """How far a feature moved the score: in log-odds for classes, before calibration."""

    feature: str
    value: bool | int | float | str | None
    contribution: float


class ServedModel:
    """One version of the model: reads requests, scores rows, gives reasons.

    Attributes:
        version: the package's identity.
        reader: what a request may hold, by the package's own contract.
    """

    def __init__(self, package: ModelPackage, largest_batch: int) -> None:
        self.package = package
        self.version = package.version
        self.contract = package.contract
        self.reader = InstanceReader(package.contract, package.encoder, package.input_example, largest_batch)
        self.threshold = package.threshold
        if self.contract.task == "binary":
            self._decisions: list[str] = package.prediction(np.array([-np.inf, np.inf])).to_pylist()
        # The first call of an engine is slow: it must not be a caller's.
        self.score([package.input_example])
        self.reasons([package.input_example], 1)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Every decision that the model can give; none for a regression."""
        if self.contract.task == "binary":
            return tuple(self._decisions)
        return self.package.classes

    def score(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
        """Scores by ONNX Runtime: shape (rows,), of a multiclass model (rows, classes)."""
        if len(rows) == 1:
            return self.package.score_row(rows[0])
        return self.package.calibrated(self.package.onnx_model.predict(self._matrix(rows)))

    def decide(self, score: Any) -> tuple[float, str]:
        """A row's score and decision, as the predictions table holds them."""
        if self.contract.task == "binary":
            number = float(score)
            cut = 0.5 if self.threshold is None else self.threshold
            return number, self._decisions[number >= cut]
        if self.contract.task == "multiclass":
            best = int(score.argmax())
            return float(score[best]), self.package.classes[best]
        return float(score), repr(float(score))

    def reasons(self, rows: Sequence[Mapping[str, Any]], most: int) -> list[list[Reason]]:
        """For each row the features that moved its score most: exact Shapley values of the trees.

        A contribution is in the booster's own unit, log-odds for classes, before calibration; over all features
        they add up to the row's score less that of an average row. Of a multiclass model they speak of the
        predicted class.
        """
        chosen = self.score(rows).argmax(axis=1) if self.contract.task == "multiclass" else None
        found = contributions(self.package.booster, self.package.encoder, self._matrix(rows), chosen)
        names = [feature.name for feature in self.package.encoder.features]
        return [_largest(names, row, line, most) for row, line in zip(rows, found, strict=True)]

    def _matrix(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        return np.concatenate([self.package.encoder.encode_row(row) for row in rows])


def contributions(
    booster: xgb.Booster, encoder: Encoder, matrix: NDArray[np.float32], chosen: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Each feature's contribution to each row's margin, shape (rows, features).

    XGBoost computes them exactly (Lundberg et al., 2020, "From local explanations to global understanding with
    explainable AI for trees").

    Args:
        matrix: encoded rows; the many columns of a text become one feature.
        chosen: of a multiclass booster, the class that each row's contributions speak of.
    """
    import xgboost as xgb

    data = xgb.DMatrix(matrix, feature_types=encoder.column_types(), enable_categorical=True, nthread=1)
    found = booster.predict(data, pred_contribs=True, validate_features=False)
    if chosen is not None:
        found = found[np.arange(len(found)), chosen]
    # The last column is the average row's margin.
    summed: NDArray[Any] = np.add.reduceat(found[:, :-1], [f.first for f in encoder.features], axis=1)
    return summed


def _largest(names: Sequence[str], row: Mapping[str, Any], contributions: NDArray[Any], most: int) -> list[Reason]:
    order = np.argsort(-np.abs(contributions), kind="stable")[:most]
    return [
        {"feature": names[i], "value": row.get(names[i]), "contribution": float(contributions[i])} for i in order
    ]
