"""Small value types that contracts and environments share."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

LONGEST = timedelta(days=36525)
"""A hundred years: an instant of any row, and so much before or after it, lies within the calendar."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: object) -> timedelta:
    """Reads `14d`, `36h`, `90m`, `30s` or `2w`; at most 100 years (`LONGEST`)."""
    if isinstance(text, timedelta):
        return text
    match = re.fullmatch(r"(\d+)\s*([smhdw])", str(text))
    if not match:
        raise ValueError(f"'{text}' is not a length of time such as 14d, 36h, 90m or 30s")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise PydanticCustomError(
            "too_long", "'{text}' is longer than 100 years", {"text": str(text), "mend": "write 36525d or less"}
        )
    return timedelta(seconds=seconds)


def format_duration(length: timedelta) -> str:
    """The shortest way to write a length of time that `parse_duration` reads back."""
    seconds = int(length.total_seconds())
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)]
