"""The loss of a row, in SQL: what a score was worth once the label is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caudal.labels import label_value
from caudal.sql import quoted

if TYPE_CHECKING:
    from caudal.contract import Contract


@dataclass(frozen=True)
class Loss:
    """The loss of a contract's task: the Brier score, the squared error, or 0 and 1 for right and wrong.

    Attributes:
        label: the label's column, as the query names it.
        truth: the label as a number, for tasks that have one.
        parameters: what the expressions use.
    """

    label: str
    truth: str | None
    parameters: Mapping[str, str | bool | int]

    @staticmethod
    def of(contract: Contract, table: str) -> Loss:
        """The loss of rows whose label is in a table of this alias."""
        label = f"{table}.{quoted(contract.label.column)}"
        if contract.task == "regression":
            return Loss(label, label, {})
        if contract.task == "multiclass":
            return Loss(label, None, {})
        positive = label_value(contract, contract.label.positive or "")
        return Loss(label, f"CASE WHEN {label} = @positive THEN 1.0 ELSE 0.0 END", {"positive": positive})

    def sql(self, score: str, prediction: str) -> str:
        """The loss of a score and its prediction."""
        if self.truth is None:
            return f"CASE WHEN {prediction} = {self.label} THEN 0.0 ELSE 1.0 END"
        return f"({score} - {self.truth}) * ({score} - {self.truth})"


def exact_sum(value: str, name: str) -> str:
    """A sum that comes out alike whatever the order: of NUMERIC; sums of FLOAT64 do not."""
    return f"CAST(SUM(CAST({value} AS NUMERIC)) AS FLOAT64) AS {name}"
