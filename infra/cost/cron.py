"""How often a cron expression fires in a month."""

from __future__ import annotations

from datetime import datetime, timedelta

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
# A year without a leap day; its twelfth is the month of the estimate.
_START = datetime(2026, 1, 1)  # noqa: DTZ001 - a calendar, no instant
_DAYS = 365


def starts_a_month(expression: str) -> float:
    """The mean number of starts in a month.

    Raises:
        ValueError: a field is none of cron's.
    """
    fields = expression.split()
    if len(fields) != len(_RANGES):
        raise ValueError(f"'{expression}' has {len(fields)} fields, and cron has five")
    pairs = zip(fields, _RANGES, strict=True)
    minutes, hours, days, months, weekdays = (_values(field, *limits) for field, limits in pairs)
    weekdays = {day % 7 for day in weekdays}
    matched = 0
    for number in range(_DAYS):
        day = _START + timedelta(days=number)
        by_date, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        # Where both are restricted, either is enough: cron(8) of Unix.
        restricted = fields[2] != "*" and fields[4] != "*"
        fires = (by_date or by_weekday) if restricted else (by_date and by_weekday)
        matched += fires and day.month in months
    return matched * len(minutes) * len(hours) / 12


def _values(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            start, end = low, high
        else:
            start = int(first)
            end = int(last) if last else (high if step else start)
        if not low <= start <= end <= high:
            raise ValueError(f"'{field}' is outside {low}-{high}")
        found.update(range(start, end + 1, int(step or 1)))
    return found
