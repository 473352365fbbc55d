"""A model package, ready to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.instances import InstanceReader

if TYPE_CHECKING:
    from caudal.package import ModelPackage


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

    def reasons(self, rows: Sequence[Mapping[str, Any]], most: int) -> list[list[dict[str, Any]]]:
        """For each row the features that moved its score most: exact Shapley values of the trees.

        XGBoost computes them (Lundberg et al., 2020, "From local explanations to global understanding with
        explainable AI for trees"). A contribution is in the booster's own unit, log-odds for classes, before
        calibration; over all features they add up to the row's score less that of an average row. Of a multiclass
        model they speak of the predicted class.
        """
        import xgboost as xgb

        package = self.package
        encoder = package.encoder
        data = xgb.DMatrix(
            self._matrix(rows), feature_types=encoder.column_types(), enable_categorical=True, nthread=1
        )
        found = package.booster.predict(data, pred_contribs=True, validate_features=False)
        if found.ndim == 3:
            chosen = self.score(rows).argmax(axis=1)
            found = found[np.arange(len(rows)), chosen]
        starts = [feature.first for feature in encoder.features]
        # The last column is the average row's score; a text's many columns are one feature.
        by_feature = np.add.reduceat(found[:, :-1], starts, axis=1)
        return [_largest(encoder.names, row, line, most) for row, line in zip(rows, by_feature, strict=True)]

    def _matrix(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        return np.concatenate([self.package.encoder.encode_row(row) for row in rows])


def _largest(
    names: Sequence[str], row: Mapping[str, Any], contributions: NDArray[Any], most: int
) -> list[dict[str, Any]]:
    order = np.argsort(-np.abs(contributions), kind="stable")[:most]
    return [
        {"feature": names[i], "value": row.get(names[i]), "contribution": float(contributions[i])} for i in order
    ]
