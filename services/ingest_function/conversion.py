"""From values as they came to the contract's types, a column at a time.

A value that can't be read as its column's type becomes null there and keeps its text aside, so that nothing is
lost and the rejection can say what came. What counts as an integer, a number or an instant is written here, not
left to a parser's leniency: `0x1F`, `1e3` for an integer, `NaN` and 30 February are not values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caudal.contract.columns import ColumnType
from caudal.contract.types import DECIMAL_TEXT, arrow_type

_INTEGER = r"^-?[0-9]{1,19}$"
_NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_BOOLEAN = r"^(?i:true|false|0|1)$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_ZONED = _INSTANT + r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
_NAIVE = _INSTANT + "$"


def convert(values: pa.Array, column_type: ColumnType, zone: ZoneInfo, decimal: str = ".") -> pa.Array:
    """Reads values as a contract's type.

    Args:
        values: as they came: text, or already typed by Parquet or JSON.
        column_type: the contract's type of the column.
        zone: of timestamps that name none.
        decimal: the decimal mark of numbers in text.

    Returns:
        An array of `arrow_type(column_type)`; null where the value was null or can't be read.
    """
    target = arrow_type(column_type)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_finite(values), values, None)
    if values.type == target or pa.types.is_null(values.type):
        return values.cast(target)
    if column_type in ("category", "text"):
        return as_text(values)
    if pa.types.is_timestamp(values.type):
        if column_type == "timestamp":
            return _located(values.cast(pa.timestamp("us", tz=values.type.tz), safe=False), zone)
        if column_type == "date":
            return _whole_days(values)
    if pa.types.is_integer(values.type) and column_type in ("number", "decimal"):
        return _cast_where_possible(values, target)
    return _from_text(as_text(values), column_type, zone, decimal)


def as_text(values: pa.Array) -> pa.Array:
    """The values' text, as a person would write it."""
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_nested(values.type):
        import json

        return pa.array(
            [None if v is None else json.dumps(v, default=str) for v in values.to_pylist()], pa.string()
        )
    return pc.cast(values, pa.string())


def _from_text(text: pa.Array, column_type: ColumnType, zone: ZoneInfo, decimal: str) -> pa.Array:
    text = pc.utf8_trim_whitespace(text)
    target = arrow_type(column_type)
    if column_type in ("number", "decimal") and decimal != ".":
        text = pc.if_else(pc.match_substring(text, "."), None, pc.replace_substring(text, decimal, "."))
    if column_type == "timestamp":
        zoned = _cast_where_possible(_matching(text, _ZONED), pa.timestamp("us", tz="UTC"))
        naive = _cast_where_possible(_matching(text, _NAIVE), pa.timestamp("us"))
        return pc.coalesce(zoned, _located(naive, zone))
    patterns: dict[ColumnType, str] = {
        "integer": _INTEGER,
        "number": _NUMBER,
        "decimal": DECIMAL_TEXT,
        "boolean": _BOOLEAN,
        "date": _DATE,
    }
    values = _cast_where_possible(_matching(text, patterns[column_type]), target)
    return pc.if_else(pc.is_finite(values), values, None) if column_type == "number" else values


def _matching(text: pa.Array, pattern: str) -> pa.Array:
    return pc.if_else(pc.match_substring_regex(text, pattern), text, None)


def _located(naive: pa.Array, zone: ZoneInfo) -> pa.Array:
    """Naive wall-clock times in a zone, as UTC; of an hour that occurs twice the earlier one counts."""
    utc = pa.timestamp("us", tz="UTC")
    if naive.type.tz is not None:
        return naive.cast(utc)
    located = pc.assume_timezone(naive, zone.key, ambiguous="earliest", nonexistent="latest")
    return located.cast(utc)


def _whole_days(instants: pa.Array) -> pa.Array:
    days = instants.cast(pa.timestamp("us", tz=instants.type.tz), safe=False)
    midnight = pc.equal(pc.floor_temporal(days, unit="day"), days)
    return pc.if_else(midnight, days, None).cast(pa.date32())


def _cast_where_possible(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Casts what can be cast; the rest is null. Failures are searched among the distinct values only."""

    def cast(some: pa.Array) -> pa.Array:
        return pc.cast(some, target)

    try:
        return cast(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        encoded = values.dictionary_encode()
        good = _castable(encoded.dictionary, cast)
        kept = pc.if_else(pa.array(good), encoded.dictionary, None)
        return cast(kept.take(encoded.indices))


def _castable(values: pa.Array, cast: Callable[[pa.Array], Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which values the cast accepts, by halving what it refuses."""
    good = np.zeros(len(values), bool)
    pending = [(0, len(values))]
    while pending:
        start, stop = pending.pop()
        try:
            cast(values.slice(start, stop - start))
            good[start:stop] = True
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            if stop - start > 1:
                middle = (start + stop) // 2
                pending += [(start, middle), (middle, stop)]
    return good
