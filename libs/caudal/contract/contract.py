"""The contract as a whole: its sections, and what follows from them."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, PrivateAttr

from caudal.contract.columns import Column, Source
from caudal.contract.features import Feature, Features
from caudal.contract.modelling import Gate, Label, Model, Task
from caudal.contract.monitoring import LIVE_METRICS, Monitor, Retrain
from caudal.contract.serving import Serving
from caudal.contract.values import format_duration
from caudal.yaml_document import Document, Section

if TYPE_CHECKING:
    import pyarrow as pa


_PART = 16
"""Digits of the digest of one part."""


class Contract(Section):
    """One data set and its model.

    Attributes:
        contract: version of this format.
        name: the data set's name, as its tables, folders and models carry it.
        question: what the model answers, for people.
        key: the column that names a row; one row a key reaches the warehouse.
        event_time: the column that says when the row's event happened.
        version: the column that orders two rows of one key, if the source has one.
        time_zone: of naive timestamps, event dates and calendar features; stored values are UTC.
        columns: every column of the source; one that is not named here is refused.
        task: what kind of answer the model gives.
        never: columns that never reach a model, with the reason.
    """

    contract: Literal[1]
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    question: str
    source: Source = Source()
    key: str
    event_time: str
    version: str | None = None
    time_zone: str = "UTC"
    columns: dict[str, Column] = Field(min_length=3)
    label: Label
    task: Task
    features: Features
    never: dict[str, str] = Field(default_factory=dict)
    model: Model = Model()
    gate: Gate
    monitor: Monitor = Monitor()
    retrain: Retrain = Retrain()
    serving: Serving = Serving()

    _document: Document = PrivateAttr(default=Document("contract", {}))
    _text: str = PrivateAttr(default="")

    @property
    def text(self) -> str:
        """The contract as it was written."""
        return self._text

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def where(self, *path: str | int) -> str:
        """`file:line` at which a part of the contract was written."""
        return self._document.where(path)

    @property
    def live_metric(self) -> str:
        """The figure by which the quality of live predictions is judged."""
        return self.monitor.quality.metric or LIVE_METRICS[self.task][0]

    def model_features(self) -> tuple[Feature, ...]:
        """Every input of the model, in order."""
        return self.features.all()

    def personal_columns(self) -> frozenset[str]:
        return frozenset(name for name, column in self.columns.items() if column.personal)

    def arrow_schema(self) -> pa.Schema:
        """The source's columns as Arrow types (see `arrow_type`)."""
        import pyarrow as pa

        from caudal.contract.types import arrow_type

        return pa.schema([pa.field(name, arrow_type(column.type)) for name, column in self.columns.items()])

    def digest(self) -> str:
        """SHA-256 of the contract's meaning: comments, order of keys and layout don't count."""
        return _digest(self.model_dump(mode="json"))

    def rows_digests(self) -> dict[str, str]:
        """A digest of each part of the contract on which the warehouse's rows depend, by its place.

        As long as all stay the same, a run may add to rows that earlier runs left.
        """
        said = self.model_dump(mode="json")
        features = said["features"]
        windows = [
            [
                *(window.entity, aggregate, column, format_duration(length)),
                format_duration(window.delay or timedelta()),
                *([str(self.label.positive)] if (aggregate, column) == ("rate", self.label.column) else []),
            ]
            for window in self.features.windows
            for length in window.lengths
            for aggregate, columns in window.values.items()
            for column in columns
        ]
        parts = {
            **{name: said[name] for name in ("key", "event_time", "version", "time_zone")},
            # In their order: of rows that nothing else orders, a hash over all columns decides.
            "columns": [
                [name, {k: v for k, v in column.items() if k not in ("unit", "personal")}]
                for name, column in said["columns"].items()
            ],
            "features.calendar": sorted(features["calendar"]),
            "features.windows": sorted(windows),
        }
        if "night" in features["calendar"]:
            parts["features.night_hours"] = features["night_hours"]
        return {name: _digest(part)[:_PART] for name, part in parts.items()}

    def model_digest(self) -> str:
        """SHA-256 of the sections that decide which model comes out of given rows."""
        said = self.model_dump(mode="json")
        sections = {k: said[k] for k in ("key", "event_time", "time_zone", "label", "task", "features")}
        # Their order decides which columns a tree samples, and mappings lose theirs in a digest.
        sections["inputs"] = [feature.name for feature in self.model_features()]
        sections["model"] = {k: v for k, v in said["model"].items() if k != "search"}
        sections["columns"] = {
            name: {k: v for k, v in said["columns"][name].items() if k not in ("unit", "personal")}
            for name in sorted({f.name for f in self.model_features() if not f.derived} | {self.label.column})
        }
        return _digest(sections)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
