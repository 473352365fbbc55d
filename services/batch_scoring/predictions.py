"""From warehouse rows and a model package to rows of the predictions table."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from caudal.event_time import event_times
from caudal.tables import predictions_table

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.package import ModelPackage


def predict(contract: Contract, package: ModelPackage, rows: pa.Table, as_of: datetime) -> pa.Table:
    """Scores rows.

    Args:
        rows: key, event time, `_event_date` and every feature.
        as_of: the as-of of the run that makes the prediction.

    Returns:
        a table with the predictions table's schema, in the order of `rows`.
    """
    scores = package.score(rows)
    schema = predictions_table(contract).schema
    return pa.Table.from_arrays(
        [
            rows.column(contract.key),
            event_times(contract, rows.column(contract.event_time)),
            rows.column("_event_date"),
            # Of a multiclass model the probability of the predicted class is kept.
            pa.array(scores.max(axis=1) if scores.ndim == 2 else scores, pa.float64()),
            package.prediction(scores),
            pa.repeat(package.version, rows.num_rows),
            pa.repeat(pa.scalar(as_of, schema.field("as_of").type), rows.num_rows),
        ],
        schema=schema,
    )
