"""Features that follow from the event's own time, as a clock in the contract's time zone shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from caudal.event_time import local_times

if TYPE_CHECKING:
    from caudal.contract import Contract

_SATURDAY = 5


def calendar_features(contract: Contract, moments: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """The contract's calendar features, by name.

    `weekend`: Saturday and Sunday. `night`: the hour lies between the two of `night_hours`, both included; when
    the first is the greater one, the night spans midnight. An event with a date alone is at midnight.
    """
    wanted = contract.features.calendar
    if not wanted:
        return {}
    local = local_times(contract, moments)
    features: dict[str, pa.ChunkedArray] = {}
    if "weekend" in wanted:
        features["weekend"] = pc.greater_equal(pc.day_of_week(local), _SATURDAY)
    if "night" in wanted:
        hour = pc.hour(local)
        first, last = contract.features.night_hours
        both = pc.and_ if first <= last else pc.or_
        features["night"] = both(pc.greater_equal(hour, first), pc.less_equal(hour, last))
    return features
