"""The contract as a whole: its sections, the checks that span them, and what follows from them."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import Field, PrivateAttr

from caudal.contract.columns import KEY_TYPES, ORDERED_TYPES, VERSION_TYPES, Column, Source
from caudal.contract.features import Feature, Features
from caudal.contract.modelling import TASK_METRICS, Gate, Label, Model, Task, XgboostParameters
from caudal.contract.monitoring import Monitor, Retrain
from caudal.contract.serving import Serving
from caudal.yaml_document import Document, Path, Section

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Mismatch:
    """Two parts of a contract that don't fit together."""

    path: Path
    what: str
    mend: str


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

    def mismatches(self) -> Iterator[Mismatch]:
        """Everything that is well typed and still can't be meant."""
        columns = self.columns
        named: list[tuple[Path, str]] = [
            (("key",), self.key),
            (("event_time",), self.event_time),
            (("label", "column"), self.label.column),
            *((("features", "numeric", i), name) for i, name in enumerate(self.features.numeric)),
            *((("features", "categorical", i), name) for i, name in enumerate(self.features.categorical)),
            *((("features", "boolean", i), name) for i, name in enumerate(self.features.boolean)),
            *((("features", "text", name), name) for name in self.features.text),
            *((("never", name), name) for name in self.never),
            *((("gate", "slices", i), name) for i, name in enumerate(self.gate.slices)),
        ]
        if self.version is not None:
            named.append((("version",), self.version))
        for i, window in enumerate(self.features.windows):
            named.append((("features", "windows", i, "entity"), window.entity))
            for aggregate, used in window.values.items():
                named += [
                    (("features", "windows", i, "values", aggregate), name)
                    for name in used
                    if not (name == "*" and aggregate == "count")
                ]
        for path, name in named:
            if name not in columns:
                yield Mismatch(path, f"'{name}' is not one of the columns", _closest(name, list(columns)))
        yield from self._source_mismatches()
        yield from self._column_mismatches()
        yield from self._role_mismatches()
        yield from self._feature_mismatches()
        yield from self._label_mismatches()
        yield from self._model_mismatches()
        yield from self._time_mismatches()
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            # Only now: listing them all costs more than parsing the contract.
            mend = _closest(self.time_zone, sorted(available_timezones()))
            yield Mismatch(("time_zone",), f"'{self.time_zone}' is not a time zone", mend)

    def _source_mismatches(self) -> Iterator[Mismatch]:
        csv = self.source.csv
        path: Path = ("source", "csv")
        if csv.delimiter == csv.quote:
            yield Mismatch(path, "delimiter and quote are one character", "choose another delimiter")
        if csv.delimiter == csv.decimal:
            yield Mismatch(path, "delimiter and decimal are one character", "write another delimiter, such as ';'")
        try:
            codecs.lookup(csv.encoding)
        except LookupError:
            yield Mismatch(
                (*path, "encoding"), f"'{csv.encoding}' is not an encoding", "write utf8, latin1, cp1252, ..."
            )

    def _role_mismatches(self) -> Iterator[Mismatch]:
        """Key, event time and version: columns with a role of their own."""
        key, event = self.columns.get(self.key), self.columns.get(self.event_time)
        for role, name, column in (("key", self.key, key), ("event_time", self.event_time, event)):
            if column is not None and not column.required:
                yield Mismatch((role,), f"'{name}' is not required", f"say 'required: true' at columns.{name}")
        if event is not None and event.type not in ("date", "timestamp"):
            yield Mismatch(
                ("event_time",),
                f"'{self.event_time}' is of type {event.type}",
                "the event time must be a column of type date or timestamp",
            )
        if key is not None and key.type not in KEY_TYPES:
            yield Mismatch(
                ("key",),
                f"'{self.key}' is of type {key.type}, whose values are no good names",
                f"choose a key of type {', '.join(KEY_TYPES)}",
            )
        version = self.columns.get(self.version or "")
        if version is not None and version.type not in VERSION_TYPES:
            yield Mismatch(
                ("version",),
                f"'{self.version}' is of type {version.type}, which has no order that can be meant",
                f"choose a column of type {', '.join(VERSION_TYPES)}",
            )
        if len({self.key, self.event_time, self.label.column}) < 3:
            yield Mismatch(("key",), "key, event time and label are not three columns", "name a column for each")

    def _column_mismatches(self) -> Iterator[Mismatch]:
        first: dict[str, str] = {}
        for name in self.columns:
            other = first.setdefault(name.lower(), name)
            if other != name:
                yield Mismatch(
                    ("columns", name),
                    f"the columns '{other}' and '{name}' differ only in case, and a warehouse does not see that",
                    "rename one of them in the source",
                )
        for name, column in self.columns.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,299}", name):
                yield Mismatch(
                    ("columns", name),
                    f"'{name}' can't be the name of a column in a warehouse",
                    "use letters, digits and underscores, starting with a letter: rename it in the source",
                )
            if name.startswith("_"):
                yield Mismatch(
                    ("columns", name),
                    f"the column '{name}' starts with an underscore, as Caudal's own columns do",
                    "rename it in the source",
                )
            if column.range is not None:
                low, high = column.range
                if column.type not in ORDERED_TYPES:
                    yield Mismatch(
                        ("columns", name, "range"),
                        f"a {column.type} has no range",
                        "remove 'range', or write the type integer, number or decimal",
                    )
                if low > high:
                    yield Mismatch(
                        ("columns", name, "range"),
                        f"the range of '{name}' is impossible: {low:g} is above {high:g}",
                        f"write [{high:g}, {low:g}]",
                    )
            if column.values is not None and column.type not in ("category", "text"):
                yield Mismatch(
                    ("columns", name, "values"),
                    f"'{name}' lists values but is of type {column.type}",
                    "write 'type: category', or give a range",
                )
            if column.values is not None and len(set(column.values)) < max(len(column.values), 1):
                yield Mismatch(
                    ("columns", name, "values"),
                    f"'{name}' lists no value, or one twice",
                    "list each allowed value once",
                )

    def _feature_mismatches(self) -> Iterator[Mismatch]:
        features = self.features
        kinds: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
            ("numeric", features.numeric, ORDERED_TYPES),
            ("categorical", features.categorical, ("category", "boolean", "integer")),
            ("boolean", features.boolean, ("boolean",)),
            ("text", tuple(features.text), ("text", "category")),
        )
        for kind, names, types in kinds:
            for i, name in enumerate(names):
                path: Path = ("features", kind, name if kind == "text" else i)
                if name in self.columns and self.columns[name].type not in types:
                    yield Mismatch(
                        path,
                        f"'{name}' is of type {self.columns[name].type}; {kind} features are {', '.join(types)}",
                        "move it to the kind that fits its type",
                    )
                for taken, role in ((self.label.column, "the label"), (self.key, "the key")):
                    if name == taken:
                        yield Mismatch(path, f"'{name}' is {role}", "remove it from the features")
                if name in self.never:
                    yield Mismatch(
                        path,
                        f"'{name}' is both a feature and in 'never' ({self.never[name]})",
                        "remove it from one of the two",
                    )
        for name in sorted({f.name for f in features.derived()} & set(self.columns)):
            yield Mismatch(
                ("features",),
                f"the derived feature '{name}' has the name of a column",
                "rename the column in the source",
            )
        inputs = [feature.name for feature in self.model_features()]
        if not inputs:
            yield Mismatch(("features",), "there is no feature", "name at least one column")
        for name in sorted({name for name in inputs if inputs.count(name) > 1}):
            yield Mismatch(("features",), f"the feature '{name}' occurs twice", "keep one of them")
        for i, window in enumerate(features.windows):
            for j, length in enumerate(window.lengths):
                if not length:
                    yield Mismatch(
                        ("features", "windows", i, "lengths", j),
                        "a window of no length is empty",
                        "write 1d, for example",
                    )
            for aggregate, used in window.values.items():
                for name in used:
                    yield from self._aggregate_mismatches(i, aggregate, name)
                    if name == self.label.column and (window.delay or None) is None:
                        yield Mismatch(
                            ("features", "windows", i),
                            f"the label '{name}' enters a window that has no delay",
                            "add 'delay', at least as long as label.due_after",
                        )
                    elif name == self.label.column and window.delay and window.delay < self.label.due_after:
                        yield Mismatch(
                            ("features", "windows", i, "delay"),
                            f"the label '{name}' enters a window before it is due",
                            "make the delay at least as long as label.due_after",
                        )
                    if name in self.never:
                        yield Mismatch(
                            ("features", "windows", i, "values", aggregate),
                            f"'{name}' is in 'never' ({self.never[name]})",
                            "aggregate another column",
                        )

    def _aggregate_mismatches(self, window: int, aggregate: str, name: str) -> Iterator[Mismatch]:
        column = self.columns.get(name)
        path: Path = ("features", "windows", window, "values", aggregate)
        if column is not None and aggregate in ("sum", "mean") and column.type not in ORDERED_TYPES:
            yield Mismatch(
                path,
                f"a {column.type} has no {aggregate}",
                f"aggregate a column of type {', '.join(ORDERED_TYPES)}",
            )
        if column is not None and aggregate == "rate" and column.type != "boolean" and name != self.label.column:
            yield Mismatch(path, f"a {column.type} has no rate", "aggregate the label, or a boolean")

    def _time_mismatches(self) -> Iterator[Mismatch]:
        start, end = self.features.night_hours
        if not (0 <= start <= 24 and 0 <= end <= 24):
            yield Mismatch(("features", "night_hours"), f"[{start}, {end}] are not hours of a day", "write [0, 6]")
        train_on = self.model.train_on
        if train_on.latest is not None and train_on.latest < train_on.minimum:
            yield Mismatch(
                ("model", "train_on"),
                f"no training can use at most {train_on.latest} and at least {train_on.minimum} rows",
                "lower 'minimum', or raise 'latest'",
            )
        most, least = self.retrain.at_most_every, self.retrain.at_least_every
        if most is not None and least is not None and most > least:
            yield Mismatch(
                ("retrain",),
                "'at_most_every' is longer than 'at_least_every'",
                "exchange them: the first is the pause, the second the schedule",
            )

    def _label_mismatches(self) -> Iterator[Mismatch]:
        column = self.columns.get(self.label.column)
        if self.task == "binary" and self.label.positive is None:
            yield Mismatch(("label",), "a binary task needs 'positive'", "say which value counts as 1")
        if (
            column is not None
            and column.values is not None
            and self.label.positive is not None
            and self.label.positive not in column.values
        ):
            yield Mismatch(
                ("label", "positive"),
                f"'{self.label.positive}' is not a value of '{self.label.column}'",
                f"choose one of {', '.join(column.values)}",
            )

        if self.task == "multiclass" and column is not None and column.values is None:
            yield Mismatch(
                ("label", "column"),
                f"'{self.label.column}' lists no values, and they are the classes",
                f"add 'values' at columns.{self.label.column}",
            )

    def _model_mismatches(self) -> Iterator[Mismatch]:
        model, known = self.model, TASK_METRICS[self.task]
        asked: list[tuple[Path, str | None]] = [
            (("gate", "metric"), self.gate.metric),
            (("monitor", "quality", "metric"), self.monitor.quality.metric),
            (("model", "search", "metric"), model.search.metric if model.search else None),
        ]
        for path, name in asked:
            written = path in self._document.lines or path[0] == "gate"
            if name is not None and written and name not in known:
                mend = f"choose one of {', '.join(known)}"
                yield Mismatch(path, f"a {self.task} task has no metric '{name}'", mend)
        for part in ("calibration", "threshold"):
            if getattr(model, part) is not None and self.task != "binary":
                yield Mismatch(("model", part), f"a {self.task} task has no {part}", f"remove '{part}'")
        if model.parameters.scale_pos_weight != 1 and self.task != "binary":
            yield Mismatch(
                ("model", "parameters", "scale_pos_weight"),
                f"a {self.task} task has no positive class to weigh",
                "remove 'scale_pos_weight'",
            )
        if model.parameters.tree_method == "exact" and self.features.categorical:
            yield Mismatch(
                ("model", "parameters", "tree_method"),
                "XGBoost's exact trees take no categories",
                "write 'tree_method: hist', or leave out the categorical features",
            )
        ordered = {f.name for f in self.model_features() if f.kind in ("numeric", "boolean")}
        for name in model.monotone:
            if name not in ordered:
                yield Mismatch(
                    ("model", "monotone", name),
                    f"'{name}' is no numeric or boolean feature",
                    _closest(name, sorted(ordered)),
                )
        for name in model.search.space if model.search else ():
            if name not in XgboostParameters.model_fields:
                yield Mismatch(
                    ("model", "search", "space", name),
                    f"'{name}' is not a parameter of the model",
                    _closest(name, sorted(XgboostParameters.model_fields)),
                )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _closest(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"write '{close[0]}'" if close else "name a column that stands under 'columns'"
