"""The contract's column types as Arrow and BigQuery know them."""

from __future__ import annotations

import pyarrow as pa

from caudal.contract.columns import ColumnType

_ARROW: dict[ColumnType, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "decimal": pa.decimal128(38, 9),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "text": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


DECIMAL_TEXT = r"^-?[0-9]{1,29}(\.[0-9]{1,9})?$"
"""How a decimal is written: what `NUMERIC` holds without loss."""


def arrow_type(column_type: ColumnType) -> pa.DataType:
    """The Arrow type in which a column is stored; decimals are BigQuery's NUMERIC, timestamps are UTC."""
    return _ARROW[column_type]
