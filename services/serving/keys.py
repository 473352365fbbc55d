"""What names rows and entities, and the instants of events: how a request writes them, and what they become.

A request, the prediction log and the warehouse must mean the same row by a key. So a key becomes, once, what the
warehouse holds of it: an integer, or the text from which the warehouse's own type is read back without loss.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError, PydanticKnownError

from caudal.contract.types import DECIMAL_TEXT
from caudal.identity import format_instant

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from caudal.contract.columns import Column

LONGEST = 1024
"""Characters that a key of type text or category may have."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(_DAY.pattern + "[Tt ]")
_DECIMAL = re.compile(DECIMAL_TEXT)
_DECIMAL_DIGITS = 29


def canonical(value: int | str | Decimal | date, zone: ZoneInfo) -> int | str:
    """A key as the warehouse has it, as an integer or text.

    Args:
        zone: of an instant that names none.

    Raises:
        OverflowError: an instant that is none in UTC.
    """
    if isinstance(value, (int, str)):
        return value
    if isinstance(value, Decimal):
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text
    if isinstance(value, datetime):
        return format_instant(located(value, zone))
    return value.isoformat()


def located(value: datetime, zone: ZoneInfo) -> datetime:
    """An instant in UTC; one that names no zone is in the contract's, and read as ingest reads it.

    Raises:
        OverflowError: it is none in UTC.
    """
    if value.tzinfo is not None:
        return value.astimezone(UTC)
    instant = value.replace(tzinfo=zone).astimezone(UTC)
    if zone.key != "UTC" and instant.astimezone(zone).replace(tzinfo=None) != value:
        # The clocks skipped it; of an hour that they repeated, the first is meant.
        naive = pa.scalar(value, pa.timestamp("us"))
        found: datetime = pc.assume_timezone(naive, zone.key, nonexistent="latest").as_py()
        return found.astimezone(UTC)
    return instant


def example_of(column: Column) -> int | str:
    """A key that the column takes."""
    if column.type in ("integer", "decimal"):
        low, high = column.range if column.range is not None else (1, 1)
        number = min(max(1, math.ceil(low)), math.floor(high))
        return number if column.type == "integer" else str(number)
    if column.type == "date":
        return "2026-01-01"
    if column.type == "timestamp":
        return "2026-01-01T00:00:00Z"
    return column.values[0] if column.values else "example-1"


def decimal_type(low: float, high: float) -> Any:
    """A decimal that loses no digit: a whole number, or text, since a number of JSON is read as a double."""
    least, most = (None if math.isinf(limit) else Decimal(repr(limit)) for limit in (low, high))
    shown = {"anyOf": [{"type": "string", "pattern": DECIMAL_TEXT}, {"type": "integer"}]}
    return Annotated[Decimal, BeforeValidator(_decimal), Field(ge=least, le=most), WithJsonSchema(shown)]


def day_type(kind: Literal["date", "timestamp"]) -> Any:
    """A day, or an instant, in ISO 8601. Text of digits alone would be taken for seconds since 1970."""
    # Not strict, since strictly no text is an instant once Python has seen it; what is no text is refused before.
    if kind == "date":
        return Annotated[date, Strict(False), BeforeValidator(_day)]
    return Annotated[datetime, Strict(False), BeforeValidator(_instant)]


def _decimal(value: object) -> Decimal:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**_DECIMAL_DIGITS:
        return Decimal(value)
    if not isinstance(value, str):
        raise PydanticCustomError(
            "decimal_type", "Input should be a whole number of at most 29 digits, or text such as '12.50'"
        )
    if not _DECIMAL.fullmatch(value):
        raise PydanticCustomError(
            "decimal_parsing", "Input should be a decimal of at most 29 digits before the point and 9 after it"
        )
    return Decimal(value)


def _day(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticKnownError("date_type")
    if not _DAY.fullmatch(value):
        raise PydanticKnownError("date_parsing", {"error": "write it as YYYY-MM-DD"})
    return value


def _instant(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticKnownError("datetime_type")
    if not _INSTANT.match(value):
        raise PydanticKnownError("datetime_parsing", {"error": "write it as YYYY-MM-DDThh:mm:ss, with its offset"})
    return value
