"""The loss of a row, in SQL: what a score was worth once the label is known.

Sums of losses and of their squares are exact: of NUMERIC, which has 29 digits before the point and 9 behind it.
Errors of a regression are in the label's unit, thousandths or millions, and their fourth powers would vanish or
overflow. So they are summed in multiples of the champion's usual error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caudal.labels import label_value
from caudal.sql import quoted
from monitor.quality import validation_figure

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.package import ModelPackage

LARGEST_ERROR = 1e4
"""In multiples of the usual one: a larger error counts as this. Of its fourth power 10^13 can be summed."""


@dataclass(frozen=True)
class Loss:
    """The loss of a contract's task: the Brier score, the squared error, or 0 and 1 for right and wrong.

    Attributes:
        label: the label's column, as the query names it.
        truth: the label as a number, for tasks that have one.
        positive: 1 for the positive label; 0 in tasks without one.
        parameters: what the expressions use.
        unit: what a loss of 1 is, in the label's own unit squared.
        largest: no loss is above it; infinite for squared errors.
    """

    label: str
    truth: str | None
    parameters: Mapping[str, str | bool | int | float]
    unit: float = 1.0
    largest: float = 1.0
    positive: str = "0.0"

    @staticmethod
    def of(contract: Contract, package: ModelPackage, table: str) -> Loss:
        """The loss of rows whose label is in a table of this alias.

        Args:
            package: the champion's; what is usual was known before the trial.
        """
        label = f"{table}.{quoted(contract.label.column)}"
        if contract.task == "regression":
            usual = usual_error(package)
            parameters = {"usual": usual, "largest": LARGEST_ERROR}
            return Loss(label, label, parameters, usual**2, math.inf)
        if contract.task == "multiclass":
            return Loss(label, None, {})
        positive = label_value(contract, contract.label.positive or "")
        truth = f"CASE WHEN {label} = @positive THEN 1.0 ELSE 0.0 END"
        return Loss(label, truth, {"positive": positive}, positive=truth)

    def sql(self, score: str, prediction: str) -> str:
        """The loss of a score and its prediction."""
        if self.truth is None:
            return f"CASE WHEN {prediction} = {self.label} THEN 0.0 ELSE 1.0 END"
        error = f"({score} - {self.truth})"
        if math.isfinite(self.largest):
            return f"{error} * {error}"
        # Both numbers are there: neither a score nor a label that is due is null.
        error = f"LEAST(SAFE_DIVIDE(ABS({error}), @usual), @largest)"
        return f"{error} * {error}"


def usual_error(package: ModelPackage) -> float:
    """The size of a regression's errors, in the label's unit, from what its package knows; above 0.

    That is the validation's root mean squared error. A model that made none has the span of its scores instead.
    """
    validated = validation_figure(package, "rmse")
    edges = package.profile.get("scores", {}).get("edges") or [0.0]
    found = (size for size in (validated, max(edges) - min(edges)) if size and math.isfinite(size))
    return next(found, 1.0)


def exact_sum(value: str, name: str) -> str:
    """A sum that comes out alike whatever the order: of NUMERIC; sums of FLOAT64 do not."""
    return f"CAST(SUM(CAST({value} AS NUMERIC)) AS FLOAT64) AS {name}"
