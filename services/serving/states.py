"""Aggregates of entities for requests that carry only the entity's key.

A server reads the snapshot that ETL published last (`caudal.entity_state`). A live feature store would be another
`EntityStates`: nothing else here would change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import TypedDict

from caudal.contract.types import arrow_type
from caudal.entity_state import entities
from serving.instances import ENTITIES, Flag, Instance, InvalidRequest
from serving.keys import located

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.entity_state import Publication


class StateAge(TypedDict):
    """The event that a looked-up state is of, and how old it was at the instance's own event.

    Both are null when nothing is known of the entity.
    """

    as_of: str | None
    age_seconds: float | None


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one entity.

    Attributes:
        features: its aggregates by name; those that were not published are not there.
        as_of: the event after which they are true.
    """

    features: Mapping[str, float | None]
    as_of: datetime


class EntityStates(Protocol):
    """Where states come from."""

    def lookup(self, entity: str, key: Any) -> State | None:
        """The state of an entity, or None when nothing is known of it.

        Args:
            key: as a request's reader has checked it, by the contract's column.
        """


class NoStates:
    """For contracts without windows, and until a snapshot is published."""

    def lookup(self, entity: str, key: Any) -> State | None:
        return None


class Windows:
    """Completes instances whose aggregates the request left out."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._names: dict[str, list[str]] = {}
        for window in contract.features.windows:
            self._names.setdefault(window.entity, []).extend(window.feature_names())
        self._within = contract.serving.state_within

    def complete(self, instance: Instance, states: EntityStates) -> dict[str, StateAge]:
        """Fills in what the states know; what the request says itself is kept.

        Returns:
            how old the state of every entity is that was looked up.

        Raises:
            InvalidRequest: the contract refuses missing values, and the request has neither aggregates nor a key.
        """
        told: dict[str, StateAge] = {}
        row = instance.row
        for entity, names in self._names.items():
            absent = [name for name in names if row[name] is None]
            if not absent:
                continue
            key = instance.entities.get(entity)
            if key is None:
                self._without_key(instance, entity, names, absent)
                continue
            state = states.lookup(entity, key)
            if state is None:
                instance.flags.append(Flag(entity, "no_state"))
                told[entity] = {"as_of": None, "age_seconds": None}
                continue
            if not all(name in state.features for name in absent):
                instance.flags.append(Flag(entity, "no_state"))
            for name in absent:
                row[name] = state.features.get(name)
            age = instance.event_time - state.as_of
            if self._within is not None and age > self._within:
                instance.flags.append(Flag(entity, "stale_state"))
            told[entity] = {"as_of": state.as_of.isoformat(), "age_seconds": age.total_seconds()}
        return told

    def _without_key(self, instance: Instance, entity: str, names: list[str], absent: list[str]) -> None:
        if self._contract.serving.missing == "flag":
            instance.flags.append(Flag(entity, "missing"))
        elif len(absent) == len(names):
            # Some aggregates may be null in a row that says the others: an average over nothing.
            said = f"give {ENTITIES}.{entity}, or the aggregates over its rows ({', '.join(names)})"
            raise InvalidRequest([{"loc": ["body", ENTITIES, entity], "msg": said, "type": "missing"}])


class SnapshotStates:
    """A publication in memory: sorted keys and their features as arrays, so a million entities take some 60 MB.

    It may have been made by another contract than the model's, before or after an edit: what the model wants and
    it does not have is not known.
    """

    def __init__(self, contract: Contract, publication: Publication) -> None:
        self._zone = contract.zone
        self._columns: dict[str, _Columns] = {}
        for entity, names in entities(contract).items():
            if not publication.holds(entity):
                continue
            table = publication.table(entity)
            if table.schema.field("key").type != arrow_type(contract.columns[entity].type):
                continue
            self._columns[entity] = _Columns(
                table.column("key").to_numpy(),
                table.column("as_of").cast(pa.int64()).to_numpy(),
                {
                    name: table.column(name).cast(pa.float64()).to_numpy()
                    for name in names
                    if name in table.column_names
                },
            )

    def lookup(self, entity: str, key: Any) -> State | None:
        columns = self._columns.get(entity)
        if columns is None:
            return None
        key = self._comparable(key)
        at = int(np.searchsorted(columns.keys, key))
        if at == len(columns.keys) or columns.keys[at] != key:
            return None
        features = {name: _present(values[at]) for name, values in columns.features.items()}
        return State(features, datetime.fromtimestamp(columns.as_of[at] / 1e6, UTC))

    def _comparable(self, key: Any) -> Any:
        """A key as the arrays hold it."""
        if isinstance(key, datetime):
            return np.datetime64(located(key, self._zone).replace(tzinfo=None), "us")
        return np.datetime64(key, "D") if isinstance(key, date) else key


@dataclass(frozen=True)
class _Columns:
    """One kind of entity: keys in order, microseconds since 1970, and each feature; NaN is missing."""

    keys: NDArray[Any]
    as_of: NDArray[np.int64]
    features: Mapping[str, NDArray[np.float64]]


def _present(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
