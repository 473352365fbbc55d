"""The scored rows whose labels are known, and their figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caudal import metrics
from caudal.event_time import event_dates
from caudal.labels import encode_labels
from caudal.sql import quoted
from caudal.tables import predictions_table, warehouse_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caudal.contract import Contract
    from caudal.package import ModelPackage
    from caudal.warehouse import Warehouse

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("auc", "average_precision", "log_loss"),
    "multiclass": ("auc", "log_loss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}


@dataclass(frozen=True)
class Scored:
    """Scored rows with a label, in the order of (event time, key).

    Attributes:
        quarter: the event's quarter, such as `2008Q4`.
        label: as `caudal.labels` encodes it.
        champion: what the system said of each row, before its label was known.
        frozen: what the first model, never trained again, gives; None where nobody asked.
    """

    quarter: NDArray[Any]
    label: NDArray[Any]
    champion: NDArray[Any]
    frozen: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.label)

    @property
    def models(self) -> dict[str, NDArray[Any]]:
        """The scores by model."""
        frozen = {} if self.frozen is None else {"frozen": self.frozen}
        return {"champion": self.champion, **frozen}

    def quarters(self) -> dict[str, Scored]:
        """The rows by quarter, oldest first."""
        return {label: self._part(self.quarter == label) for label in sorted(set(self.quarter.tolist()))}

    def _part(self, chosen: NDArray[np.bool_]) -> Scored:
        frozen = None if self.frozen is None else self.frozen[chosen]
        return Scored(self.quarter[chosen], self.label[chosen], self.champion[chosen], frozen)


def scored_rows(
    contract: Contract,
    warehouse: Warehouse,
    *,
    due_by: datetime | None = None,
    frozen: ModelPackage | None = None,
) -> Scored:
    """Joins predictions with what came true.

    Args:
        due_by: only events up to this instant, whose labels are due; all that have a label when None, which fits
            a history that is over.
        frozen: a model that scores the same rows again.
    """
    wanted = "w.*" if frozen else f"w.{quoted(contract.event_time)}, w.{quoted(contract.label.column)}"
    due, parameters = "", {}
    if due_by is not None:
        due, parameters = "AND p.event_time <= @due_by ", {"due_by": due_by}
    rows = warehouse.query(
        f"SELECT {wanted}, p.score AS _score FROM {warehouse_table(contract).sql_name} AS w "
        f"JOIN {predictions_table(contract).sql_name} AS p ON p.key = w.{quoted(contract.key)} "
        f"WHERE w.{quoted(contract.label.column)} IS NOT NULL {due}"
        f"ORDER BY w.{quoted(contract.event_time)}, w.{quoted(contract.key)}",
        parameters,
    )
    days = event_dates(contract, rows.column(contract.event_time))
    quarter = pc.binary_join_element_wise(
        pc.cast(pc.year(days), pa.string()), pc.cast(pc.quarter(days), pa.string()), "Q"
    )
    return Scored(
        np.asarray(quarter.to_pylist(), dtype=object),
        encode_labels(contract, rows),
        rows.column("_score").to_numpy(),
        frozen.score(rows) if frozen else None,
    )


def figures(contract: Contract, label: NDArray[Any], score: NDArray[Any]) -> dict[str, Any]:
    """The task's metrics over some rows; null where one is not defined, as AUC is for a single class."""
    found: dict[str, Any] = {}
    for name in METRICS[contract.task]:
        value = metrics.metric(name, contract.task)(label, score) if len(label) else float("nan")
        found[name] = round(float(value), 6) if np.isfinite(value) else None
    return found


def interval(contract: Contract, label: NDArray[Any], score: NDArray[Any]) -> metrics.Interval:
    """The gate's metric over some rows with its 90 % interval."""
    name = contract.gate.metric
    if name == "auc" and contract.task == "binary":
        return metrics.auc_interval(label, score)
    return metrics.bootstrap_metric(name, label, score, task=contract.task, samples=200)
