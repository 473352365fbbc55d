"""The contract's checks over whole columns: which rows are refused, each with every reason.

| reason | meaning |
|---|---|
| `type:<column>` | the value does not parse as the column's type |
| `missing:<column>` | a required value is absent |
| `range:<column>` | the value is out of range, not finite, of 10^29 or more and to be summed in a window (SQL's |
| | NUMERIC ends there), or an event time before 1960 or after 2159 |
| `value:<column>` | the value is not among those allowed |
| `unknown:<column>` | the source has a column that the contract does not know |
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caudal.contract.types import arrow_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caudal.contract import Contract
    from caudal.contract.columns import Column

UNPARSED = "_unparsed"
REASONS = "_reasons"
CONTENT = "_content"

# BigQuery keeps days outside of these in a partition of their own, which no day names.
# https://cloud.google.com/bigquery/docs/partitioned-tables
FIRST_DAY = date(1960, 1, 1)
LAST_DAY = date(2159, 12, 31)


def check(contract: Contract, table: pa.Table) -> tuple[pa.Table, pa.Table | None]:
    """Parts good rows from those that the contract refuses.

    Args:
        contract: what a row must be.
        table: lake rows: the contract's columns, `_unparsed`, and whatever else travels with them.

    Returns:
        The good rows without `_unparsed`, and the refused ones with their reasons, their content as JSON text and
        the other columns, or None when there are none.
    """
    found = list(_reasons(contract, table))
    good = table.drop_columns([UNPARSED])
    if not found:
        return good, None
    refused = np.zeros(table.num_rows, bool)
    for _, rows in found:
        refused[rows] = True
    return good.filter(pa.array(~refused)), _rejected(contract, table, found, np.flatnonzero(refused))


def count_reasons(rejected: pa.Table) -> dict[str, int]:
    """How many rows each reason has; a row with two counts for both."""
    counts = pc.value_counts(pc.list_flatten(rejected[REASONS]))
    return {count["values"]: count["counts"] for count in counts.to_pylist()}


def _reasons(contract: Contract, table: pa.Table) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each reason that occurs, with the rows that have it."""
    unparsed = _unparsed(table[UNPARSED])
    for name, column in contract.columns.items():
        values = table[name]
        if name in unparsed:
            yield f"type:{name}", unparsed[name]
        if column.required and values.null_count:
            missing = np.asarray(values.is_null())
            missing[unparsed.get(name, np.array([], np.int64))] = False
            if missing.any():
                yield f"missing:{name}", np.flatnonzero(missing)
        outside = _outside(contract, name, column, values)
        if outside is not None:
            yield f"range:{name}", np.flatnonzero(outside)
        if column.values is not None:
            allowed = pc.is_in(values, pa.array([*column.values, None], values.type))
            if not pc.all(allowed).as_py():
                yield f"value:{name}", np.flatnonzero(~np.asarray(allowed))
    for name in sorted(unparsed.keys() - contract.columns.keys()):
        yield f"unknown:{name}", unparsed[name]


def _unparsed(texts: pa.ChunkedArray) -> dict[str, NDArray[np.int64]]:
    """The rows in which each column was not parsed; row by row, but only over rows that will be refused."""
    if texts.null_count == len(texts):
        return {}
    rows = np.flatnonzero(np.asarray(texts.is_valid()))
    found: dict[str, list[int]] = {}
    for row, text in zip(rows.tolist(), texts.drop_null().to_pylist(), strict=True):
        for name in _parsed(text):
            found.setdefault(name, []).append(row)
    return {name: np.array(where, np.int64) for name, where in found.items()}


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Mapping[str, str]:
    """What a text of `_unparsed` says; rows of one file often say the same."""
    values: dict[str, str] = json.loads(text)
    return values


def _outside(contract: Contract, name: str, column: Column, values: pa.ChunkedArray) -> NDArray[np.bool_] | None:
    """Where values lie outside of what the column may hold; None when nowhere."""
    low: Any
    high: Any
    if name == contract.event_time:
        low, high = event_bounds(column)
    elif column.range is not None:
        low, high = _bounds(column, *column.range)
    elif column.type == "number":
        finite = pc.fill_null(pc.less(pc.abs(values), _number_limit(contract, name)), True)
        return None if pc.all(finite).as_py() else ~np.asarray(finite)
    else:
        return None
    extremes = pc.min_max(values)
    smallest, largest = extremes["min"], extremes["max"]
    if not smallest.is_valid:
        # No value at all, or nothing but NaN.
        if column.type != "number" or values.null_count == len(values):
            return None
    elif (
        pc.greater_equal(smallest, low).as_py()
        and pc.less_equal(largest, high).as_py()
        and not (column.type == "number" and pc.any(pc.is_nan(values)).as_py())
    ):
        return None
    inside = pc.fill_null(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)), True)
    return ~np.asarray(inside)


def _number_limit(contract: Contract, name: str) -> pa.Scalar:
    """What a number without a range must be below."""
    windows = contract.features.windows
    summed = any(name in columns for window in windows for columns in window.values.values())
    return pa.scalar(1e29 if summed else math.inf)


def event_bounds(column: Column) -> tuple[pa.Scalar, pa.Scalar]:
    """The first and the last value that the event time column may have."""
    kind = arrow_type(column.type)
    if column.type == "date":
        return pa.scalar(FIRST_DAY, kind), pa.scalar(LAST_DAY, kind)
    # A day's margin: the day is counted in the contract's time zone.
    first = datetime(FIRST_DAY.year, 1, 2, tzinfo=UTC)
    last = datetime(LAST_DAY.year, 12, 30, 23, 59, 59, 999999, tzinfo=UTC)
    return pa.scalar(first, kind), pa.scalar(last, kind)


def _bounds(column: Column, low: float, high: float) -> tuple[pa.Scalar, pa.Scalar]:
    kind = arrow_type(column.type)
    if column.type == "decimal":
        return pa.scalar(Decimal(str(low)), kind), pa.scalar(Decimal(str(high)), kind)
    if column.type == "integer":
        # As integers: a large one compared as a float would lose its last digits.
        least, most = -(1 << 63), (1 << 63) - 1
        whole = max(least, math.ceil(low)), min(most, math.floor(high))
        return pa.scalar(whole[0], kind), pa.scalar(whole[1], kind)
    return pa.scalar(low, kind), pa.scalar(high, kind)


def _rejected(
    contract: Contract,
    table: pa.Table,
    found: list[tuple[str, NDArray[np.int64]]],
    rows: NDArray[np.int64],
) -> pa.Table:
    """The refused rows, as text; row by row, since they are few and each is a document."""
    reasons: dict[int, list[str]] = {row: [] for row in rows.tolist()}
    for reason, where in found:
        for row in where.tolist():
            reasons[row].append(reason)
    refused = table.take(pa.array(rows))
    names = list(contract.columns)
    texts = [_as_text(refused[name]).to_pylist() for name in names]
    contents = []
    for unparsed, values in zip(refused[UNPARSED].to_pylist(), zip(*texts, strict=True), strict=True):
        content = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        content.update(_parsed(unparsed) if unparsed else {})
        contents.append(json.dumps(content, ensure_ascii=False))
    rest = refused.drop_columns([*names, UNPARSED])
    return rest.append_column(
        pa.field(REASONS, pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
        pa.array([reasons[row] for row in rows.tolist()], pa.list_(pa.field("item", pa.string(), nullable=False))),
    ).append_column(pa.field(CONTENT, pa.string(), nullable=False), pa.array(contents, pa.string()))


def _as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(values.type):
        return pc.strftime(values, format="%Y-%m-%dT%H:%M:%SZ")
    return values.cast(pa.string())
