"""Bank Marketing: what the gate costs, and whether the recipe is as good as what is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import xgboost as xgb
from numpy.typing import NDArray

from caudal import metrics
from caudal.contract import Contract, parse_contract
from caudal.labels import encode_labels
from caudal.package import Encoder

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDS = 10
MONTHS = "datetime64[M]"
DAYS = "datetime64[D]"


def rows(contract: Contract) -> pa.Table:
    """The sample, in its order."""
    table = pa.csv.read_csv(REPOSITORY / "data" / contract.name / f"{contract.name}.csv.gz")
    return table.cast(pa.schema([(n, contract.arrow_schema().field(n).type) for n in table.column_names]))


def parity_contract(contract: Contract) -> Contract:
    """What public figures of this set rest on: with the column that leaks, and with day and month of the call."""
    leaking = ", ".join(contract.never)
    text = contract.text.replace("  numeric: [", f"  numeric: [{leaking}, day, ", 1)
    text = text.replace("  categorical: [", "  categorical: [month, ", 1)
    text = text.replace("columns:\n", "columns:\n  day: {type: integer}\n  month: {type: category}\n", 1)
    start = text.index("never:")
    end = text.index("\n\n", start)
    return parse_contract(text[:start] + text[end:])


def _with_day_and_month(contract: Contract, table: pa.Table) -> pa.Table:
    date = table.column(contract.event_time)
    table = table.append_column("day", pc.cast(pc.day(date), pa.int64()))
    return table.append_column("month", pc.cast(pc.month(date), pa.string()))


def cross_validated(contract: Contract, parameters: dict[str, Any], rounds: int, seed: int = 0) -> float:
    """Mean AUC of ten random folds of the parity contract: the protocol of published figures, not of operation."""
    made = parity_contract(contract)
    X, y, types = _encoded(made, _with_day_and_month(contract, rows(contract)))
    fold_of = np.random.default_rng(seed).permutation(len(y)) % FOLDS
    found = []
    for fold in range(FOLDS):
        learned, judged = fold_of != fold, fold_of == fold
        booster = _trained(X[learned], y[learned], types, parameters, rounds)
        found.append(metrics.auc(y[judged], booster.inplace_predict(X[judged])))
    return float(np.mean(found))


def ungated(contract: Contract, parameters: dict[str, Any], rounds: int, latest: int) -> dict[str, float]:
    """Pooled figures of a retraining at every month's end on the last due rows, whatever it is worth."""
    table = rows(contract)
    X, y, types = _encoded(contract, table)
    day = np.asarray(table.column(contract.event_time)).astype(DAYS)
    month = day.astype(MONTHS)
    first = contract.model.train_on.rows_for_first
    scores = np.full(len(y), np.nan)
    booster = None
    last = None
    for one in np.arange(month.min(), month.max() + 1):
        if booster is not None:
            arrived = month == one
            scores[arrived] = booster.inplace_predict(X[arrived]) if arrived.any() else np.empty(0)
        due_day = (one + 1).astype(DAYS) - np.timedelta64(contract.label.due_after.days, "D")
        due = int(np.searchsorted(day, due_day, side="right"))
        if due >= first and due != last:
            start = max(0, due - latest)
            booster = _trained(X[start:due], y[start:due], types, parameters, rounds)
            last = due
    scored = ~np.isnan(scores)
    return {
        "rows": int(scored.sum()),
        "auc": metrics.auc(y[scored], scores[scored]),
        "average_precision": metrics.average_precision(y[scored], scores[scored]),
        "log_loss": metrics.log_loss(y[scored], scores[scored]),
    }


def _encoded(contract: Contract, table: pa.Table) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    encoder = Encoder.fit(contract, [table])
    return encoder.encode(table), encode_labels(contract, table), encoder.column_types()


def _trained(
    X: NDArray[Any], y: NDArray[Any], types: list[str], parameters: dict[str, Any], rounds: int
) -> xgb.Booster:
    data = xgb.QuantileDMatrix(X, y, feature_types=types, enable_categorical=True, max_bin=256)
    return xgb.train({"objective": "binary:logistic", "nthread": 1, **parameters}, data, rounds)
