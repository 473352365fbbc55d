"""From values as they came to the contract's types, a column at a time.

A value that can't be read as its column's type becomes null there and keeps its text aside, so that nothing is
lost and the rejection can say what came. What counts as an integer, a number or an instant is written here, not
left to a parser's leniency: `0x1F`, `1e3` for an integer, `NaN` and 30 February are not values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caudal.contract.columns import ColumnType
from caudal.contract.types import DECIMAL_TEXT, arrow_type

_INTEGER = r"^-?[0-9]{1,19}$"
_NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_DECIMAL_FLOAT = r"^-?[0-9]{1,29}(\.[0-9]{1,9}|(\.[0-9]+)?e[+-][0-9]+)?$"  # as Arrow writes floats
_BOOLEAN = r"^(?i:true|false|0|1)$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_ZONED = _INSTANT + r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
_NAIVE = _INSTANT + "$"

EXACT_BELOW = 2.0**53
"""Whole numbers below this are floats of their own."""

# Days from 1970-01-01.
_FIRST_DAY = (date.min - date(1970, 1, 1)).days
_LAST_DAY = (date.max - date(1970, 1, 1)).days


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
    values = _plain(values)
    if pa.types.is_binary(values.type):
        values = decoded(values)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_finite(values), values, None)
    converted = _converted(values, column_type, zone, decimal)
    return _within_calendar(converted) if column_type in ("timestamp", "date") else converted


def _converted(values: pa.Array, column_type: ColumnType, zone: ZoneInfo, decimal: str) -> pa.Array:
    kind, target = values.type, arrow_type(column_type)
    if kind == target or pa.types.is_null(kind):
        return values.cast(target)
    if column_type in ("category", "text"):
        return as_text(values)
    if pa.types.is_timestamp(kind) and column_type in ("timestamp", "date"):
        # Before the unit changes: a far instant would come out as another one.
        values = _within_calendar(values)
        if column_type == "date":
            return _whole_days(values)
        return _located(values.cast(pa.timestamp("us", tz=kind.tz), safe=False), zone)
    if column_type == "integer":
        if pa.types.is_floating(kind):
            return pc.if_else(_whole(values), values, None).cast(target)
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            return _cast_where_possible(values, target)
    if column_type == "number" and pa.types.is_integer(kind):
        # The nearest number, as of text and beside fractions.
        return values.cast(target, safe=False)
    if column_type == "decimal":
        if pa.types.is_floating(kind):
            text = pc.cast(values, pa.string())
            return _cast_where_possible(_matching(text, _DECIMAL_FLOAT), target)
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            return _cast_where_possible(values, target)
    return _from_text(as_text(values), column_type, zone, decimal)


def as_text(values: pa.Array) -> pa.Array:
    """The values' text, as a person would write it: numbers without an exponent, bytes that are no text in hex."""
    values = _plain(values)
    if pa.types.is_binary(values.type):
        return _text_or_hex(values)
    if pa.types.is_floating(values.type):
        return _number_text(values)
    if not pa.types.is_nested(values.type):
        try:
            return pc.cast(values, pa.string())
        except pa.ArrowNotImplementedError:
            pass  # a type that Arrow can't write, such as an interval
    return pa.array([None if v is None else written(v) for v in values.to_pylist()], pa.string())


def written(value: object) -> str:
    """One value as text: as JSON, where it is part of it."""
    return json.dumps(value, default=str)


def decoded(values: pa.Array) -> pa.Array:
    """Bytes as text; null where they are no UTF-8."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        # Value by value, but only those that are not plain ASCII.
        odd = pc.indices_nonzero(pc.match_substring_regex(values, r"[\x80-\xff]"))
        bad = np.zeros(len(values), bool)
        for position, value in zip(odd.to_pylist(), values.take(odd).to_pylist(), strict=True):
            bad[position] = not _is_utf8(value)
        return pc.if_else(pa.array(bad), None, values).cast(pa.string())


def plain_number(text: str) -> str:
    """A number's text without an exponent."""
    return f"{Decimal(text):f}"


def _plain(values: pa.Array) -> pa.Array:
    """The same values in a type that the compute functions know."""
    kind = values.type
    if isinstance(kind, pa.UuidType):
        return _uuid_text(values.storage)
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(values.storage)
    if pa.types.is_dictionary(kind):
        return _plain(values.dictionary_decode())
    if pa.types.is_float16(kind):
        return values.cast(pa.float32())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string())
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return values.cast(pa.binary())
    return values


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text_or_hex(values: pa.Array) -> pa.Array:
    text = decoded(values)
    bad = pc.and_(pc.is_null(text), pc.is_valid(values))
    hexadecimal = [value.hex() for value in values.filter(bad).to_pylist()]
    return pc.replace_with_mask(text, bad, pa.array(hexadecimal, pa.string()))


def _uuid_text(values: pa.Array) -> pa.Array:
    """UUIDs as RFC 9562 writes them, such as `f81d4fae-7dec-11d0-a765-00a0c91e6bf6`."""
    digits = b"".join(pc.fill_null(values, bytes(16)).to_pylist()).hex().encode()
    letters = np.full((len(values), 36), b"-")
    letters[:, [i for i in range(36) if i not in (8, 13, 18, 23)]] = np.frombuffer(digits, "S1").reshape(-1, 32)
    texts = pa.array(letters.reshape(-1).view("S36"), pa.binary()).cast(pa.string())
    return pc.if_else(pc.is_valid(values), texts, None)


def _whole(values: pa.Array) -> pa.Array:
    """Which floats are whole numbers for certain: from 2^53 on, a float stands for several of them."""
    return pc.fill_null(pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), EXACT_BELOW)), False)


def _number_text(values: pa.Array) -> pa.Array:
    whole = pc.if_else(_whole(values), values, None).cast(pa.int64()).cast(pa.string())
    text = pc.coalesce(whole, pc.cast(values, pa.string()))
    # What is left with an exponent is rare: fractions beyond 10^10 or nearly 0, and numbers from 2^53 on.
    exponent = pc.fill_null(pc.match_substring(text, "e"), False)
    plain = [plain_number(value) for value in text.filter(exponent).to_pylist()]
    return pc.replace_with_mask(text, exponent, pa.array(plain, pa.string()))


def _from_text(text: pa.Array, column_type: ColumnType, zone: ZoneInfo, decimal: str) -> pa.Array:
    text = pc.utf8_trim_whitespace(text)
    target = arrow_type(column_type)
    if column_type in ("number", "decimal") and decimal != ".":
        text = pc.if_else(pc.match_substring(text, "."), None, pc.replace_substring(text, decimal, "."))
    if column_type == "timestamp":
        zoned = _cast_where_possible(_matching(text, _ZONED), pa.timestamp("us", tz="UTC"))
        naive = _within_calendar(_cast_where_possible(_matching(text, _NAIVE), pa.timestamp("us")))
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


def _within_calendar(values: pa.Array) -> pa.Array:
    """Instants and days of the years 1 to 9999, which is what a warehouse holds; null for others."""
    kind = values.type
    if pa.types.is_date32(kind):
        ticks, low, high = values.view(pa.int32()), _FIRST_DAY, _LAST_DAY
    elif kind.unit == "ns":
        return values  # from 1677 to 2262
    else:
        second = {"s": 1, "ms": 1_000, "us": 1_000_000}[kind.unit]
        ticks = values.view(pa.int64())
        low, high = _FIRST_DAY * 86_400 * second, (_LAST_DAY + 1) * 86_400 * second - 1
    extremes = pc.min_max(ticks).as_py()
    if extremes["min"] is None or (extremes["min"] >= low and extremes["max"] <= high):
        return values
    return pc.if_else(pc.and_(pc.greater_equal(ticks, low), pc.less_equal(ticks, high)), values, None)


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
