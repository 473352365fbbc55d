"""What a replay amounted to: the figures of summary.json, and the scored rows behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caudal import metrics
from caudal.event_time import event_dates
from caudal.identity import format_instant
from caudal.labels import encode_labels
from caudal.package import open_package
from caudal.promotions import Promotions
from caudal.tables import lake_table, predictions_table, rejected_table, warehouse_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.storage import Storage
    from caudal.warehouse import Warehouse
    from pipeline.runs import RunRecord

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("auc", "average_precision", "log_loss"),
    "multiclass": ("auc", "log_loss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}


@dataclass(frozen=True)
class Scored:
    """Every scored row with a label, in the order of (event time, key).

    Attributes:
        quarter: the event's quarter, such as `2008Q4`.
        label: as `caudal.labels` encodes it.
        champion: what the system used, before the label was known.
        frozen: what the first model, never trained again, gives.
    """

    quarter: NDArray[Any]
    label: NDArray[Any]
    champion: NDArray[Any]
    frozen: NDArray[Any]

    def __len__(self) -> int:
        return len(self.label)

    def part(self, chosen: NDArray[np.bool_]) -> Scored:
        """The chosen rows."""
        return Scored(self.quarter[chosen], self.label[chosen], self.champion[chosen], self.frozen[chosen])


def scored_rows(contract: Contract, environment: Environment, storage: Storage, warehouse: Warehouse) -> Scored:
    """Joins predictions with what came true, and scores the same rows with the first model."""
    promotions = Promotions(storage, environment.ledger(contract.name, "promotions")).history()
    if not promotions:
        nothing = np.zeros(0)
        return Scored(nothing, nothing, nothing, nothing)
    rows = warehouse.query(
        f"SELECT w.*, p.score AS _score FROM {warehouse_table(contract).sql_name} AS w "
        f"JOIN {predictions_table(contract).sql_name} AS p ON p.key = w.`{contract.key}` "
        f"WHERE w.`{contract.label.column}` IS NOT NULL "
        f"ORDER BY w.`{contract.event_time}`, w.`{contract.key}`"
    )
    frozen = open_package(storage, promotions[0].package).score(rows)
    days = event_dates(contract, rows.column(contract.event_time))
    quarter = pc.binary_join_element_wise(
        pc.cast(pc.year(days), pa.string()), pc.cast(pc.quarter(days), pa.string()), "Q"
    )
    return Scored(
        np.asarray(quarter.to_pylist(), dtype=object),
        encode_labels(contract, rows),
        rows.column("_score").to_numpy(),
        frozen,
    )


def figures(contract: Contract, label: NDArray[Any], score: NDArray[Any]) -> dict[str, Any]:
    """The task's metrics over some rows; null where one is not defined, as AUC is for a single class."""
    found: dict[str, Any] = {}
    for name in METRICS[contract.task]:
        value = metrics.metric(name, contract.task)(label, score) if len(label) else float("nan")
        found[name] = round(float(value), 6) if np.isfinite(value) else None
    return found


def summarise(
    contract: Contract,
    records: Sequence[RunRecord],
    scored: Scored,
    warehouse: Warehouse,
) -> dict[str, Any]:
    """The figures of summary.json.

    `champion` is what the system used on each row before its label was known, `frozen` the first model. Rows of
    readable files add up: landed = quarantined + lake, and lake = duplicates + rejected + warehouse.
    """
    results = [record.results for record in records]

    def total(step: str, *path: str) -> int:
        amount = 0
        for result in results:
            value: Any = result.get(step, {})
            for part in path:
                value = value.get(part, 0) if isinstance(value, dict) else 0
            amount += int(value or 0)
        return amount

    seconds: dict[str, float] = defaultdict(float)
    for record in records:
        for name, step in record.steps.items():
            seconds[name] += step.seconds
    quarantined, taken = total("ingest", "quarantined"), total("ingest", "rows")
    return {
        "contract": contract.name,
        "as_of_first": format_instant(records[0].run.as_of),
        "as_of_last": format_instant(records[-1].run.as_of),
        "rows": {
            "landed": taken + quarantined,
            "quarantined": quarantined,
            "lake": _count(warehouse, lake_table(contract).sql_name),
            "duplicates": total("etl", "rows", "duplicates"),
            "rejected": _count(warehouse, rejected_table(contract).sql_name),
            "warehouse": _count(warehouse, warehouse_table(contract).sql_name),
            "scored": _count(warehouse, predictions_table(contract).sql_name),
        },
        "files_quarantined": total("ingest", "files_quarantined"),
        "runs": len(records),
        "retrainings": sum("train" in result and "first_model" not in _reasons(result) for result in results),
        "candidates_refused": sum(not result["validate"]["passed"] for result in results if "validate" in result),
        "promotions": sum("promote" in result for result in results),
        "alarms": [
            {name: alarm[name] for name in ("as_of", "kind", "feature", "value", "threshold")}
            for result in results
            for step in ("inputs", "outcomes")
            for alarm in result.get(step, {}).get("alarms", ())
        ],
        "pooled": _compared(contract, scored),
        "quarters": [
            {"quarter": quarter, **_quarter(contract, scored.part(scored.quarter == quarter))}
            for quarter in sorted(set(scored.quarter.tolist()))
        ],
        "seconds": round(sum(seconds.values()), 3),
        "seconds_by_step": {name: round(spent, 3) for name, spent in seconds.items()},
    }


def _reasons(result: Any) -> Sequence[str]:
    reasons: Sequence[str] = result.get("outcomes", {}).get("reasons", ())
    return reasons


def _compared(contract: Contract, scored: Scored) -> dict[str, Any]:
    return {
        name: {"n": len(scored), **figures(contract, scored.label, getattr(scored, name))}
        for name in ("champion", "frozen")
    }


def _quarter(contract: Contract, scored: Scored) -> dict[str, Any]:
    return {
        "n": len(scored),
        "champion": figures(contract, scored.label, scored.champion),
        "frozen": figures(contract, scored.label, scored.frozen),
    }


def _count(warehouse: Warehouse, table: str) -> int:
    rows: int = warehouse.query(f"SELECT COUNT(*) AS n FROM {table}").column("n")[0].as_py()
    return rows
