"""Histograms counted inside the warehouse, in the bins that the champion's profile fixed.

One query, one scan, one row as its answer, however many rows there are: every count is a COUNTIF. The edges and
values are parameters, so that the text of the query changes only with the shape of the profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from caudal.sql import quoted

if TYPE_CHECKING:
    from caudal.warehouse import Warehouse

Value = str | float | int | bool | date | datetime


@dataclass(frozen=True)
class Histogram:
    """One column's counts over some rows.

    Attributes:
        counts: rows in each bin of the profile; for categories the last bin holds all other values.
        missing: rows without a value.
        unseen: rows with a value that training did not have: another category, or beyond smallest and largest.
    """

    counts: tuple[int, ...]
    missing: int = 0
    unseen: int = 0

    @property
    def present(self) -> int:
        return sum(self.counts)

    @property
    def rows(self) -> int:
        return self.present + self.missing


@dataclass
class HistogramQuery:
    """Collects columns to count, and counts them all in one query.

    Args:
        source: a table's name in SQL, or a query in brackets with a name.
        condition: which rows count, in SQL.
        parameters: of the condition.
    """

    source: str
    condition: str
    parameters: Mapping[str, Value]
    _within: str = ""
    _selected: list[str] = field(default_factory=list)
    _values: dict[str, Value] = field(default_factory=dict)
    _profiles: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _first: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        column: str,
        profile: Mapping[str, Any],
        kind: pa.DataType,
        within: str = "",
        parameters: Mapping[str, Value] | None = None,
        name: str | None = None,
    ) -> None:
        """Asks for one column.

        Args:
            profile: the column's part of the training profile (`caudal.profile`).
            kind: the column's type in the warehouse.
            within: a further condition on the rows that count for this column, in SQL.
            parameters: of that condition.
            name: of the histogram, where one column is asked for more than once; the column's otherwise.
        """
        name = column if name is None else name
        self._profiles[name] = profile
        self._first[name] = len(self._selected)
        self._within = within
        self._values.update(parameters or {})
        value = quoted(column)
        self._count("TRUE")
        self._count(f"{value} IS NULL")
        if profile["kind"] == "numeric":
            beyond = [
                f"{value} {sign} {self._parameter(float(bound))}"
                for sign, bound in (("<", profile.get("min")), (">", profile.get("max")))
                if bound is not None
            ]
            self._count(f"({' OR '.join(beyond)})" if beyond else "FALSE")
            for edge in profile["edges"]:
                self._count(f"{value} >= {self._parameter(float(edge))}")
        else:
            for category in profile["values"]:
                self._count(f"{value} = {self._parameter(_typed(category, kind))}")

    def run(self, warehouse: Warehouse) -> tuple[int, dict[str, Histogram]]:
        """The number of rows, and every histogram by its name."""
        selected = ", ".join(["COUNT(*) AS n", *self._selected])
        answer = warehouse.query(
            f"SELECT {selected} FROM {self.source} WHERE {self.condition}", {**self.parameters, **self._values}
        )
        rows, *counts = (int(column[0].as_py()) for column in answer.columns)
        return rows, {
            name: _histogram(profile, counts[self._first[name] :]) for name, profile in self._profiles.items()
        }

    def unused_parameter(self) -> str:
        """A name for a parameter of a further condition."""
        return f"w{len(self._profiles)}"

    def _count(self, condition: str) -> None:
        if self._within:
            condition = f"{self._within} AND {condition}"
        self._selected.append(f"COUNTIF({condition}) AS c{len(self._selected)}")

    def _parameter(self, value: Value) -> str:
        name = f"v{len(self._values)}"
        self._values[name] = value
        return f"@{name}"


def _typed(value: str, kind: pa.DataType) -> Value:
    """A category, which the profile keeps as text, in the type of its column."""
    if pa.types.is_boolean(kind):
        return value == "true"
    return int(value) if pa.types.is_integer(kind) else value


def _histogram(profile: Mapping[str, Any], counts: list[int]) -> Histogram:
    rows, missing, *counts = counts
    present = rows - missing
    if profile["kind"] == "numeric":
        unseen, *counts = counts
        at_least = [present, *counts[: len(profile["edges"])], 0]
        binned = tuple(at_least[i] - at_least[i + 1] for i in range(len(at_least) - 1))
        return Histogram(binned, missing, unseen)
    listed = counts[: len(profile["values"])]
    other = present - sum(listed)
    # Training's own last bin is not empty when it met more values than the profile lists.
    return Histogram((*listed, other), missing, other if not profile["counts"][-1] else 0)
