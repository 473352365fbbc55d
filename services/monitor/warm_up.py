"""Windows that reach back before the first row: until they are full, their values grow whatever the world does.

A stream that begins on one day gives counts over 30 days that grow for 30 days. Such values are right, but they
are no yardstick: a monitor that took them for one would report drift in a stream where nothing changes. So a
window feature is compared only on rows whose window lies within the data, on both sides. Where the champion
learned from earlier rows too, its side is counted again in the warehouse, in the bins that its profile fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from caudal.event_time import latest_value
from caudal.identity import parse_instant
from caudal.sql import quoted
from caudal.tables import warehouse_table
from monitor.histograms import HistogramQuery, Value

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.package import ModelPackage
    from caudal.step import StepContext

Profile = Mapping[str, Any]


def reaches(contract: Contract) -> dict[str, timedelta]:
    """How far back each window feature looks: its delay and its length together."""
    return {
        window.feature_name(aggregate, column, length): length + (window.delay or timedelta())
        for window in contract.features.windows
        for length in window.lengths
        for aggregate, columns in window.values.items()
        for column in columns
    }


def learned(contract: Contract, package: ModelPackage) -> tuple[str, dict[str, date | datetime]]:
    """The condition, in SQL, for rows of the time that a model learned from; and its parameters."""
    trained, event = package.metadata["trained"], quoted(contract.event_time)
    return f"({event} >= @trained_from AND {event} <= @trained_until)", {
        "trained_from": latest_value(contract, parse_instant(trained["from"])),
        "trained_until": latest_value(contract, parse_instant(trained["until"])),
    }


class WarmUp:
    """From when on each window feature is full.

    Args:
        first: the instant of the first event in the warehouse; None when it is empty.
    """

    def __init__(self, contract: Contract, first: datetime | None) -> None:
        self._contract = contract
        self._full = {} if first is None else {n: first + reach for n, reach in reaches(contract).items()}

    def condition(self, feature: str, parameter: str) -> tuple[str, dict[str, date | datetime]]:
        """The condition, in SQL, for rows in which the feature's window is full; empty when all are."""
        if feature not in self._full:
            return "", {}
        value = latest_value(self._contract, self._full[feature])
        return f"{quoted(self._contract.event_time)} > @{parameter}", {parameter: value}

    def comparable(
        self,
        context: StepContext,
        package: ModelPackage,
        profiled: Mapping[str, Profile],
        among: str = "",
        parameters: Mapping[str, Value] | None = None,
    ) -> dict[str, Profile]:
        """The champion's profile by feature, counted again where it learned from windows that were not full.

        Smallest and largest are then unknown, so nothing counts as unseen.

        Args:
            among: a condition, in SQL, that the profile's rows meet; all training rows when empty.
            parameters: of that condition.
        """
        begin = parse_instant(package.metadata["trained"]["from"])
        early = {
            name: {**one, "min": None, "max": None}
            for name, one in profiled.items()
            if name in self._full and begin < self._full[name]
        }
        if not early:
            return dict(profiled)
        table = warehouse_table(self._contract)
        condition, times = learned(self._contract, package)
        if among:
            condition = f"{condition} AND {among}"
        query = HistogramQuery(table.sql_name, condition, {**times, **(parameters or {})})
        for name, one in early.items():
            query.add(name, one, table.schema.field(name).type, *self.condition(name, query.unused_parameter()))
        _, counted = query.run(context.warehouse)
        again = {
            name: {**one, "counts": list(counted[name].counts), "missing": counted[name].missing}
            for name, one in early.items()
        }
        return {**profiled, **again}
