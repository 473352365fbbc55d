"""Window features: for each row, aggregates over its entity's rows of the time before it.

The window of a row at t with length L and delay D holds the entity's rows in (t - D - L, t - D]
(`caudal.contract.features.Window`). All rows of an entity that are within reach lie in one shard, so that a window
is the difference of two running sums.

A run reads only a part of the warehouse. A row that stands there is computed again when a row that comes or goes
lies in one of its windows; for such a row everything within reach was read. Any other keeps its stored features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caudal.event_time import event_times
from caudal.labels import has_label
from etl_beam.exact_sums import RunningSums, running
from etl_beam.rows import COPY, SLICE, STATE, State
from etl_beam.timeline import Timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caudal.contract import Contract
    from caudal.contract.features import Window
    from etl_beam.timeline import Integers

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class EntityWindows:
    """All windows of a contract over one entity."""

    entity: str
    windows: tuple[Window, ...]

    @property
    def reach(self) -> int:
        """How far back a window begins, in microseconds; a row matters for others up to so much later."""
        return max(_delay(window) + _longest(window) for window in self.windows)

    @property
    def features(self) -> list[str]:
        return [name for window in self.windows for name in window.feature_names()]


def windows_by_entity(contract: Contract) -> tuple[EntityWindows, ...]:
    """The contract's windows, those of one entity together: each entity costs one shuffle."""
    found: dict[str, list[Window]] = {}
    for window in contract.features.windows:
        found.setdefault(window.entity, []).append(window)
    return tuple(EntityWindows(entity, tuple(windows)) for entity, windows in found.items())


def add_features(contract: Contract, group: EntityWindows, table: pa.Table) -> pa.Table:
    """Computes an entity's features.

    Args:
        contract: its event time, and its label.
        group: the windows of the entity that the rows are spread by.
        table: rows in flight, all within reach of one another; copies from other time slices are dropped.

    Returns:
        The other rows with the features. A standing row whose features have changed is `REFRESHED`.
    """
    rows = _Rows(contract, group, table)
    state = rows.state.copy()
    due = rows.in_line(rows.due())
    values = {name: _stored(table, name) for name in group.features}
    before = {name: column[due] for name, column in values.items()} if rows.any_standing else {}
    for window in group.windows:
        for name, computed in _window(rows, window, due):
            values[name][due] = computed
    if before:
        changed = np.zeros(len(due), bool)
        for name, old in before.items():
            now = values[name][due]
            changed |= ~((old == now) | (np.isnan(old) & np.isnan(now)))
        refreshed = due[changed & (state[due] == State.STANDING)]
        state[refreshed] = State.REFRESHED
    table = _with_column(table, STATE, pa.array(state))
    for name, column in values.items():
        table = _with_column(table, name, pa.array(column, from_pandas=True))
    if COPY in table.column_names:
        table = table.filter(pc.invert(table[COPY])).drop_columns([COPY, SLICE])
    return table


class _Rows:
    """A shard's rows as arrays."""

    def __init__(self, contract: Contract, group: EntityWindows, table: pa.Table) -> None:
        self._contract = contract
        self._group = group
        self._table = table
        self.times: Integers = microseconds(contract, table)
        self.state = table[STATE].to_numpy()
        self.copied = np.asarray(table[COPY]) if COPY in table.column_names else np.zeros(table.num_rows, bool)
        self.entities, self.known, self._entity_count = _entities(table, group.entity)
        self.any_standing = bool((self.state != State.NEW).any())

    @cached_property
    def _counted(self) -> Integers:
        """The rows that windows hold."""
        return np.flatnonzero(self.known & (self.state != State.GONE))

    @cached_property
    def line(self) -> Timeline:
        return self._line(self._counted)

    @cached_property
    def order(self) -> Integers:
        """The counted rows in the line's order."""
        return np.asarray(self._counted[self.line.order])

    def _line(self, rows: Integers) -> Timeline:
        return Timeline(self.entities[rows], self.times[rows], self._entity_count)

    def bounds(self, window: Window, line: Timeline, rows: Integers) -> Iterator[tuple[Integers, Integers]]:
        """For each length, the places before and at the end of each row's window."""
        entities, ends = self.entities[rows], self.times[rows] - _delay(window)
        high = line.until(entities, ends)
        for length in window.lengths:
            yield line.until(entities, ends - length // _MICROSECOND), high

    def due(self) -> Integers:
        """The rows whose features are to be computed."""
        own = ~self.copied & (self.state != State.GONE)
        if not self.any_standing:
            return np.flatnonzero(own)
        new = own & (self.state == State.NEW)
        moved = np.flatnonzero(self.known & ((self.state == State.NEW) | (self.state == State.GONE)))
        others = np.flatnonzero(own & self.known & ~new)
        triggers = self._line(moved)
        for window in self._group.windows:
            ends = self.times[others] - _delay(window)
            high = triggers.until(self.entities[others], ends)
            low = triggers.until(self.entities[others], ends - _longest(window))
            new[others[high > low]] = True
        return np.flatnonzero(new)

    def in_line(self, due: Integers) -> Integers:
        """The same rows in the line's order, where neighbours' searches touch the same memory."""
        wanted = np.zeros(len(self.state), bool)
        wanted[due] = True
        return np.concatenate([self.order[wanted[self.order]], np.flatnonzero(wanted & ~self.known)])

    def column(self, name: str) -> pa.Array:
        values = self._table[name].combine_chunks()
        return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values

    def hits(self, name: str) -> pa.Array:
        """1 for the label's positive value, or another boolean's true; null where there is no value."""
        values, label = self.column(name), self._contract.label
        if name == label.column and label.positive is not None:
            values = has_label(self._contract, values, label.positive)
        return values.cast(pa.int64())


def _window(rows: _Rows, window: Window, due: Integers) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Each feature's values for the rows that are due, NaN where it has none."""
    known = rows.known[due]
    order = rows.order
    sums: dict[tuple[str, str], RunningSums] = {}
    counts: dict[str, Integers] = {}
    for aggregate, columns in window.values.items():
        for name in columns:
            if name == "*":
                continue
            values = rows.hits(name) if aggregate == "rate" else rows.column(name)
            if values.null_count and name not in counts:
                counts[name] = running(np.asarray(values.is_valid()).astype(np.int64), order)
            if aggregate != "count":
                kind = "rate" if aggregate == "rate" else "sum"
                sums.setdefault((kind, name), RunningSums(values, order))
    for length, (low, high) in zip(window.lengths, rows.bounds(window, rows.line, due), strict=True):
        for aggregate, columns in window.values.items():
            for name in columns:
                count = counts[name][high] - counts[name][low] if name in counts else high - low
                if aggregate == "count":
                    feature = count.astype(np.float64)
                else:
                    feature = sums["rate" if aggregate == "rate" else "sum", name].between(low, high)
                    if aggregate != "sum":
                        with np.errstate(invalid="ignore"):
                            feature = np.where(count > 0, feature / np.maximum(count, 1), np.nan)
                feature[~known] = np.nan
                yield window.feature_name(aggregate, name, length), feature


def microseconds(contract: Contract, table: pa.Table) -> Integers:
    """The rows' event times as microseconds since 1970-01-01 UTC."""
    times = event_times(contract, table[contract.event_time]).cast(pa.int64())
    return np.asarray(times.to_numpy())


def _entities(table: pa.Table, entity: str) -> tuple[Integers, NDArray[np.bool_], int]:
    """A number for each row's entity (and time slice), where it is known, and how many numbers there are."""
    column = table[entity].combine_chunks()
    encoded = pc.dictionary_encode(column)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    known = np.asarray(encoded.is_valid())
    numbers = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    count = len(encoded.dictionary)
    if SLICE in table.column_names:
        slices, number = np.unique(table[SLICE].to_numpy(), return_inverse=True)
        numbers = numbers * len(slices) + number
        count *= len(slices)
    return numbers, known, count


def _stored(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A feature as it is stored, NaN where it is null or was never computed."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.array(table[name].to_numpy())


def _with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


def _delay(window: Window) -> int:
    return window.delay // _MICROSECOND if window.delay else 0


def _longest(window: Window) -> int:
    return max(window.lengths) // _MICROSECOND
