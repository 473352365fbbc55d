"""The event's instant and day, from the contract's column for it.

A timestamp column holds instants. A date column stands for midnight in the contract's time zone: where clocks
skip that midnight, the first instant after it; where they repeat it, the first of the two.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from caudal.contract import Contract

INSTANT = pa.timestamp("us", tz="UTC")


def event_times(contract: Contract, values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The instants of the event time column's values, as timestamps in UTC; null stays null."""
    if pa.types.is_timestamp(values.type):
        return values.cast(INSTANT)
    midnight = values.cast(pa.timestamp("us"))
    if contract.time_zone == "UTC":
        return midnight.cast(INSTANT)
    local = pc.assume_timezone(midnight, contract.time_zone, ambiguous="earliest", nonexistent="latest")
    return local.cast(INSTANT)


def event_dates(contract: Contract, values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The days, in the contract's time zone, on which the event time column's values lie."""
    if pa.types.is_date(values.type):
        return values.cast(pa.date32())
    return local_times(contract, values).cast(pa.date32(), safe=False)


def local_times(contract: Contract, values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """What a clock in the contract's time zone showed at the event: timestamps without a zone."""
    if pa.types.is_date(values.type):
        return values.cast(pa.timestamp("us"))
    if contract.time_zone == "UTC":
        return values.cast(INSTANT).cast(pa.timestamp("us"))
    return pc.local_timestamp(values.cast(pa.timestamp("us", tz=contract.time_zone)))


def latest_value(contract: Contract, moment: datetime) -> date | datetime:
    """The greatest value of the event time column whose event had happened at a moment."""
    if contract.columns[contract.event_time].type == "timestamp":
        return moment
    day = moment.astimezone(contract.zone).date()
    candidates = [day + timedelta(days=1), day, day - timedelta(days=1)]
    instants = event_times(contract, pa.array(candidates, pa.date32())).to_pylist()
    return next(day for day, instant in zip(candidates, instants, strict=True) if instant <= moment)


def happened_by(contract: Contract, moment: datetime, parameter: str) -> tuple[str, dict[str, date | datetime]]:
    """A condition in SQL on the event time column: the event had happened at the moment.

    Labels that are due at an as-of are those of `happened_by(contract, as_of - contract.label.due_after, "due")`.

    Returns:
        The condition, and the parameter that it uses.
    """
    return f"`{contract.event_time}` <= @{parameter}", {parameter: latest_value(contract, moment)}
