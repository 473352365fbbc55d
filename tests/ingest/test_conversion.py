"""Typed values as they come in Parquet, read as the contract's types."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_function.conversion import as_text, convert

UTC_ZONE = ZoneInfo("UTC")


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (12345678901.0, "integer", 12345678901),
        (2.0**53 - 1, "integer", 2**53 - 1),
        (2.0**53, "integer", None),  # 2^53 + 1 is the same float
        (1.5, "integer", None),
        (-3.0, "integer", -3),
        (25000000000.5, "decimal", Decimal("25000000000.5")),
        (1e10, "decimal", Decimal(10**10)),
        (1e-7, "decimal", Decimal("0.0000001")),
        (0.1, "decimal", Decimal("0.1")),
        (0.1 + 0.2, "decimal", None),  # seventeen places
        (1e-10, "decimal", None),
        (1e30, "decimal", None),
        (float("nan"), "decimal", None),
        (float("inf"), "integer", None),
        (1e10, "boolean", None),
        (1.0, "boolean", True),
        (12345678901.0, "text", "12345678901"),
        (25000000000.5, "text", "25000000000.5"),
        (1e-7, "text", "0.0000001"),
    ],
)
@pytest.mark.parametrize("beside", [None, 0.5, 3e10])
def test_a_float_is_the_number_that_it_stands_for_whatever_its_size(value, kind, expected, beside):
    first, _ = convert(pa.array([value, beside], pa.float64()), kind, UTC_ZONE).to_pylist()
    assert first == expected


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), max_size=30))
def test_a_floats_text_has_no_exponent_and_gives_the_float_back(values):
    texts = as_text(pa.array(values, pa.float64())).to_pylist()
    assert [None if text is None else float(text) for text in texts] == values
    assert not [text for text in texts if text is not None and set(text) - set("-.0123456789")]


@pytest.mark.parametrize(
    ("value", "of", "kind", "expected"),
    [
        (Decimal("2.000"), pa.decimal128(20, 3), "integer", 2),
        (Decimal("2.500"), pa.decimal128(20, 3), "integer", None),
        (Decimal("2.5000000000"), pa.decimal128(38, 18), "decimal", Decimal("2.5")),
        (Decimal("0.0000000001"), pa.decimal128(38, 18), "decimal", None),
        (2**53 + 1, pa.int64(), "number", 2.0**53),
        (2**64 - 1, pa.uint64(), "integer", None),
        (5, pa.int8(), "integer", 5),
    ],
)
def test_integers_and_decimals_are_taken_by_their_value(value, of, kind, expected):
    assert convert(pa.array([value, None], of), kind, UTC_ZONE).to_pylist() == [expected, None]


@pytest.mark.parametrize("of", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2)])
def test_bytes_are_text_where_they_are_utf8_and_otherwise_no_value_and_hex_aside(of):
    came = pa.array([b"ok", b"\xff\xd8", None, "ä".encode()], of)
    assert convert(came, "text", UTC_ZONE).to_pylist() == ["ok", None, None, "ä"]
    assert as_text(came).to_pylist() == ["ok", "ffd8", None, "ä"]
    assert convert(came, "integer", UTC_ZONE).null_count == 4


def test_a_uuid_is_its_usual_text():
    one, other = uuid.uuid4(), uuid.UUID(int=5)
    came = pa.array([one.bytes, None, other.bytes], pa.uuid())
    assert convert(came, "text", UTC_ZONE).to_pylist() == [str(one), None, str(other)]
    assert as_text(came.slice(1)).to_pylist() == [None, str(other)]
    assert as_text(came.slice(0, 0)).to_pylist() == []


def test_a_type_that_arrow_cannot_write_as_text_is_written_all_the_same():
    came = pa.array([pa.MonthDayNano([1, 2, 3]), None])
    text, nothing = as_text(came).to_pylist()
    assert "1" in text
    assert nothing is None
    assert convert(came, "number", UTC_ZONE).null_count == 2


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("9999-12-31T23:59:59", "UTC", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("9999-12-31T23:59:59", "America/New_York", None),
        ("9999-12-31T23:59:59-05:00", "UTC", None),
        ("0001-01-01T00:00:00", "UTC", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00", "Europe/Berlin", None),
        ("0000-06-01T00:00:00Z", "UTC", None),
    ],
)
def test_an_instant_lies_in_the_years_1_to_9999_in_utc_or_is_none(text, zone, expected):
    ordinary = "2024-01-01T00:00:00Z"
    first, second = convert(pa.array([text, ordinary]), "timestamp", ZoneInfo(zone)).to_pylist()
    assert first == expected
    assert second == datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_a_typed_instant_too_far_away_is_none_and_not_another_one(unit, zone, kind):
    second = {"s": 1, "ms": 1_000, "us": 1_000_000}[unit]
    # The last one's microseconds, cut off at 64 bits, are those of an instant of 1970.
    far = [2**63 - 1, -(10**18), -(-(2**64) // (1_000_000 // second)) if unit != "us" else 10**18]
    came = pa.array([*far, 86_400 * second], pa.timestamp(unit, tz=zone))
    assert convert(came, kind, UTC_ZONE).is_valid().to_pylist()[:3] == [False, False, False]
    assert convert(came, "timestamp", UTC_ZONE).to_pylist()[3] == datetime(1970, 1, 2, tzinfo=UTC)


def test_a_typed_day_too_far_away_is_none():
    came = pa.array(np.array([10**9, -(10**9), -719163, 2932897, -719162, 2932896], np.int32)).view(pa.date32())
    assert convert(came, "date", UTC_ZONE).to_pylist() == [None] * 4 + [date.min, date.max]
