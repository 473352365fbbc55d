"""A model's figures on rows that it has not learned: over all of them with intervals, and by slice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caudal import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from caudal.contract import Contract

NAMES = {
    "binary": ("auc", "average_precision", "log_loss", "brier", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("auc", "log_loss", "accuracy", "f1"),
    "regression": ("rmse", "mae", "r2"),
}
SLICE_NAMES = {
    "binary": ("auc", "average_precision", "log_loss"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("rmse", "mae"),
}
_SAMPLES = 300


def evaluate(
    contract: Contract,
    labels: NDArray[Any],
    scores: NDArray[Any],
    threshold: float | None,
    slices: dict[str, pa.Array] | None = None,
    samples: int = _SAMPLES,
) -> dict[str, Any]:
    """Metrics as plain values; a figure that the rows can't give is None.

    Args:
        slices: by column, the value of every row.

    Returns:
        `{"rows", "all": {metric: {"value", "low", "high"}}, "slices": {column: {value: {"rows", "metrics"}}},
        "confusion"}`.
    """
    task, level = contract.task, contract.gate.against_champion.level
    figures: dict[str, Any] = {}
    for name in NAMES[task]:
        interval = metrics.bootstrap_metric(
            name, labels, scores, task=task, threshold=threshold, level=level, samples=samples
        )
        figures[name] = {
            "value": number(interval.value),
            "low": number(interval.low),
            "high": number(interval.high),
        }
    made: dict[str, Any] = {"rows": len(labels), "all": figures, "slices": {}}
    if task == "binary":
        figures["calibration_error"] = {"value": number(metrics.calibration_error(labels, scores))}
        made["confusion"] = vars(metrics.confusion(labels, scores, 0.5 if threshold is None else threshold))
    elif task == "multiclass":
        made["confusion"] = metrics.confusion_matrix(labels, scores).tolist()
    for column, value, rows in each_slice(slices or {}):
        made["slices"].setdefault(column, {})[value] = {
            "rows": len(rows),
            "metrics": {
                name: number(metrics.metric(name, task, threshold)(labels[rows], scores[rows]))
                for name in SLICE_NAMES[task]
            },
        }
    return made


def each_slice(slices: dict[str, pa.Array]) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Column, value as text, and the numbers of the rows with it; missing values are no slice."""
    for column, values in slices.items():
        text = pc.cast(values, pa.string())
        for value in sorted(pc.unique(text).drop_null().to_pylist()):
            chosen = pc.fill_null(pc.equal(text, value), False)
            yield column, value, np.flatnonzero(np.asarray(chosen))


def slice_columns(contract: Contract, table: pa.Table) -> dict[str, pa.Array]:
    """The slice columns of some rows."""
    return {name: table.column(name).combine_chunks() for name in contract.gate.slices}


def number(value: float) -> float | None:
    """A figure as JSON can hold it."""
    return float(value) if math.isfinite(value) else None
