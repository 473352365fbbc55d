"""What a request may hold, derived from the contract: types, limits, and what is flagged instead of refused.

Bodies are parsed and checked by pydantic's compiled validator, straight from bytes. Only what the contract wants
flagged, not refused, is looked at again in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from caudal.package.encoder import as_text
from serving import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caudal.contract import Contract
    from caudal.contract.columns import Column
    from caudal.package import Encoder

FlagKind = Literal["missing", "out_of_range", "unknown_category", "unseen_category", "no_state", "stale_state"]
ENTITIES = "entities"

_INTEGERS = (-(2**63), 2**63 - 1)
# The model computes in float32: a larger number would reach it as infinity.
_LARGEST = float(np.finfo(np.float32).max)
# Problems that are told; and that are worded at all, since wording 100,000 of them takes a second.
_MOST_PROBLEMS = 20
_MOST_WORDED = 1000

Row = TypeVar("Row")
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that is wrong with an instance which is scored all the same."""

    field: str
    flag: FlagKind


@dataclass(slots=True)
class Instance:
    """One checked row.

    Attributes:
        event_time: in UTC; a request that does not say it is about now.
        row: the model's features by name; what is absent is missing.
        key: as the warehouse has it (`serving.keys`).
        entities: keys whose published state is to be looked up.
    """

    key: int | str
    event_time: datetime
    row: dict[str, Any]
    entities: dict[str, Any]
    flags: list[Flag] = field(default_factory=list)


class InvalidRequest(Exception):
    """A request that is refused: the problems, each with its place, kind and words; never with the value."""

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        self.problems = list(problems)
        super().__init__(f"{len(self.problems)} problems")


def each(rows: Iterable[Row], work: Callable[[Row], Done]) -> list[Done]:
    """What the work makes of each row of a batch.

    Raises:
        InvalidRequest: some rows are refused; all that is wrong with them is told at once, by their numbers.
    """
    done: list[Done] = []
    problems: list[Mapping[str, Any]] = []
    for i, row in enumerate(rows):
        try:
            done.append(work(row))
        except InvalidRequest as refused:
            problems += [
                {**problem, "loc": ["body", "instances", i, *problem["loc"][1:]]} for problem in refused.problems
            ]
    if problems:
        raise InvalidRequest(_cut(problems))
    return done


class InstanceReader:
    """Reads the requests for one model.

    Attributes:
        fields: the names that an instance may have.
        example: a made-up instance.
    """

    def __init__(self, contract: Contract, encoder: Encoder, example: Mapping[str, Any], batch: int) -> None:
        self._contract = contract
        self._zone = contract.zone
        self._calendar = contract.features.calendar
        self._night = contract.features.night_hours
        fields = _fields(contract, example)
        config = ConfigDict(extra="forbid", strict=True)
        make: Any = TypedDict  # a class whose fields are data
        instance: Any = make("Instance", fields)
        instance.__pydantic_config__ = config
        instance.__doc__ = contract.question
        listed: Any = list.__class_getitem__(instance)
        instances = make("Batch", {"instances": Annotated[listed, Field(min_length=1, max_length=batch)]})
        instances.__pydantic_config__ = config
        self.fields = frozenset(fields)
        # Names in one row at most, with those of its entities.
        self._names = len(fields) + len({window.entity for window in contract.features.windows})
        self._batch = batch
        self._one = TypeAdapter(instance)
        self._many = TypeAdapter(instances)
        self._features = [f.name for f in contract.model_features() if not f.derived or f.kind == "numeric"]
        self.example: dict[str, Any] = {
            contract.key: keys.example_of(contract.columns[contract.key]),
            **{name: value for name, value in example.items() if name in fields},
        }

        columns = {f.name: contract.columns[f.name] for f in contract.model_features() if not f.derived}
        serving = contract.serving
        self._required = [n for n, c in columns.items() if c.required] if serving.missing == "flag" else []
        self._ranges = [
            (n, *c.range) for n, c in columns.items() if c.range is not None and serving.out_of_range == "flag"
        ]
        self._seen = [
            (f.name, frozenset(f.categories), _listed(columns[f.name], serving.unknown_category))
            for f in encoder.features
            if f.kind == "categorical"
        ]

    def one(self, body: bytes) -> Instance:
        """The instance in a request's body.

        Raises:
            InvalidRequest: it is no JSON, or not what the contract asks for.
        """
        _bounded(body, self._names)
        try:
            values = self._one.validator.validate_json(body)
        except ValidationError as error:
            raise _refusal(error) from None
        return self._instance(values)

    def many(self, body: bytes) -> list[Instance]:
        """The instances of a batch, whole or not at all.

        Raises:
            InvalidRequest: one of them is not what the contract asks for, or there are too many.
        """
        # A row more is a value more in the list.
        _bounded(body, (self._names + 1) * self._batch)
        try:
            values = self._many.validator.validate_json(body)
        except ValidationError as error:
            raise _refusal(error) from None
        return each(values["instances"], self._instance)

    def schemas(self) -> dict[str, Any]:
        """JSON schemas of `Instance` and `Batch`."""
        template = "#/components/schemas/{model}"
        made = self._many.json_schema(ref_template=template)
        return {**made.pop("$defs"), "Batch": made}

    def _instance(self, values: dict[str, Any]) -> Instance:
        contract = self._contract
        row = {name: values.get(name) for name in self._features}
        name = contract.event_time
        try:
            moment = self._moment(values.get(name))
            if self._calendar:
                row.update(self._calendar_features(moment))
            name = contract.key
            key = keys.canonical(values[name], self._zone)
        except OverflowError:
            said = "Input should be an instant of the years 1 to 9999, in UTC and in the contract's time zone"
            raise InvalidRequest([{"loc": ["body", name], "msg": said, "type": "datetime_range"}]) from None
        instance = Instance(key, moment, row, values.get(ENTITIES) or {})
        self._flag(instance)
        return instance

    def _flag(self, instance: Instance) -> None:
        row, flags = instance.row, instance.flags
        for name in self._required:
            if row[name] is None:
                flags.append(Flag(name, "missing"))
        for name, low, high in self._ranges:
            value = row[name]
            if value is not None and not low <= value <= high:
                flags.append(Flag(name, "out_of_range"))
        for name, seen, listed in self._seen:
            value = row[name]
            if value is None or value in seen:
                continue
            text = as_text(value)
            if listed is not None and text not in listed:
                flags.append(Flag(name, "unknown_category"))
            elif text not in seen:
                flags.append(Flag(name, "unseen_category"))

    def _moment(self, value: date | datetime | None) -> datetime:
        """The event's instant in UTC.

        Raises:
            OverflowError: it is none in UTC.
        """
        if value is None:
            return datetime.now(UTC)
        if not isinstance(value, datetime):
            value = datetime.combine(value, time())
        return keys.located(value, self._zone)

    def _calendar_features(self, moment: datetime) -> dict[str, bool]:
        local = moment.astimezone(self._zone)
        first, last = self._night
        # As ETL defines them: both hours belong to the night, and it may span midnight.
        night = first <= local.hour <= last if first <= last else local.hour >= first or local.hour <= last
        both = {"weekend": local.weekday() >= 5, "night": night}
        return {name: both[name] for name in self._calendar}


def _fields(contract: Contract, example: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an instance, in the order of key, event time, features, entities."""
    refuse_missing = contract.serving.missing == "refuse"
    key = contract.columns[contract.key]
    when = contract.columns[contract.event_time]
    fields: dict[str, Any] = {
        contract.key: Annotated[_key_type(contract, key), Field(description=f"names the row{_unit(key)}")],
        contract.event_time: NotRequired[
            Annotated[_type(contract, when), Field(description="when the event happened; now, when absent")]
        ],
    }
    for feature in contract.model_features():
        if not feature.derived:
            column = contract.columns[feature.name]
            shown = Field(
                description=f"{feature.kind} feature{_unit(column)}", examples=_examples(example.get(feature.name))
            )
            must = column.required and refuse_missing
            value = _type(contract, column)
            fields[feature.name] = Annotated[value, shown] if must else NotRequired[Annotated[value | None, shown]]
    for window in contract.features.windows:
        for name in window.feature_names():
            number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)]
            said = f"over the rows of {window.entity}; when absent, looked up by {ENTITIES}.{window.entity}"
            shown = Field(description=said, examples=_examples(example.get(name)))
            fields[name] = NotRequired[Annotated[number | None, shown]]
    entities = dict.fromkeys(window.entity for window in contract.features.windows)
    if entities:
        make: Any = TypedDict
        named = make("Entities", {e: NotRequired[_key_type(contract, contract.columns[e])] for e in entities})
        named.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
        named.__doc__ = "Whose last published state gives the aggregates; never an input of the model."
        fields[ENTITIES] = NotRequired[named]
    return fields


def _key_type(contract: Contract, column: Column) -> Any:
    """The type of what names a row or an entity."""
    if column.type == "decimal":
        return keys.decimal_type(*_range(contract, column))
    found = _type(contract, column)
    listed = column.values is not None and contract.serving.unknown_category == "refuse"
    if column.type in ("text", "category") and not listed:
        return Annotated[found, Field(max_length=keys.LONGEST)]
    return found


def _type(contract: Contract, column: Column) -> Any:
    low, high = _range(contract, column)
    if column.type == "integer":
        smallest = _INTEGERS[0] if low == -math.inf else math.ceil(low)
        largest = _INTEGERS[1] if high == math.inf else math.floor(high)
        return Annotated[int, Field(strict=True, ge=smallest, le=largest)]
    if column.type in ("number", "decimal"):
        bounds = Field(strict=True, allow_inf_nan=False, ge=max(low, -_LARGEST), le=min(high, _LARGEST))
        return Annotated[float, bounds]
    if column.type == "boolean":
        return bool
    if column.type in ("date", "timestamp"):
        return keys.day_type(column.type)
    if column.values is not None and contract.serving.unknown_category == "refuse":
        return Literal[column.values]
    return Annotated[str, Field(strict=True)]


def _range(contract: Contract, column: Column) -> tuple[float, float]:
    """What a number is refused outside of."""
    if column.range is None or contract.serving.out_of_range == "flag":
        return -math.inf, math.inf
    return column.range


def _listed(column: Column, policy: str) -> frozenset[str] | None:
    return frozenset(column.values) if column.values is not None and policy == "flag" else None


def _unit(column: Column) -> str:
    return f", {column.unit}" if column.unit else ""


def _examples(value: object) -> list[Any] | None:
    return None if value is None else [value]


def _bounded(body: bytes, most: int) -> None:
    """Refuses a body with far more names or values than any request has, before each becomes an object.

    A few too many go on to the validator, which says which.

    Args:
        most: names that a request may hold.

    Raises:
        InvalidRequest: there are over 1,000 more.
    """
    most += _MOST_WORDED
    if body.count(b":") <= most and body.count(b",") <= most:
        return
    # What is within quotes doesn't count, and of backslashes only those before a quote would matter.
    parts = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    outside = b"".join(parts[::2])
    found = max(outside.count(b":"), outside.count(b","))
    if found > most:
        said = f"the body has over {found} fields or values: more than a request can have"
        raise InvalidRequest([{"loc": ["body"], "msg": said, "type": "too_many"}])


def _refusal(error: ValidationError) -> InvalidRequest:
    """Pydantic's complaints without the values that they are about: those may be personal."""
    if error.error_count() > _MOST_WORDED:
        said = f"{error.error_count()} problems: too many to tell"
        return InvalidRequest([{"loc": ["body"], "msg": said, "type": "too_many"}])
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidRequest(
        _cut([{"loc": ["body", *one["loc"]], "msg": one["msg"], "type": one["type"]} for one in found])
    )


def _cut(problems: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first problems, and how many more there are."""
    kept = list(problems[:_MOST_PROBLEMS])
    if len(problems) > _MOST_PROBLEMS:
        more = len(problems) - _MOST_PROBLEMS
        kept.append({"loc": ["body"], "msg": f"and {more} more problems", "type": "more"})
    return kept
