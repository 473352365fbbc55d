"""What is well typed in a contract and still can't be meant: parts that don't fit together."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from caudal.contract.columns import CLASS_TYPES, KEY_TYPES, ORDERED_TYPES, VERSION_TYPES, class_value
from caudal.contract.modelling import TASK_METRICS, XgboostParameters
from caudal.contract.monitoring import LIVE_METRICS
from caudal.contract.values import format_duration
from caudal.yaml_document import Path

if TYPE_CHECKING:
    from caudal.contract.columns import Column
    from caudal.contract.contract import Contract
    from caudal.contract.monitoring import Retrain


@dataclass(frozen=True)
class Mismatch:
    """Two parts of a contract that don't fit together."""

    path: Path
    what: str
    mend: str


def mismatches(contract: Contract) -> Iterator[Mismatch]:
    """Everything that is well typed and still can't be meant."""
    columns = contract.columns
    named: list[tuple[Path, str]] = [
        (("key",), contract.key),
        (("event_time",), contract.event_time),
        (("label", "column"), contract.label.column),
        *((("features", "numeric", i), name) for i, name in enumerate(contract.features.numeric)),
        *((("features", "categorical", i), name) for i, name in enumerate(contract.features.categorical)),
        *((("features", "boolean", i), name) for i, name in enumerate(contract.features.boolean)),
        *((("features", "text", name), name) for name in contract.features.text),
        *((("never", name), name) for name in contract.never),
        *((("gate", "slices", i), name) for i, name in enumerate(contract.gate.slices)),
    ]
    if contract.version is not None:
        named.append((("version",), contract.version))
    for i, window in enumerate(contract.features.windows):
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
    yield from _source_mismatches(contract)
    yield from _column_mismatches(contract)
    yield from _role_mismatches(contract)
    yield from _feature_mismatches(contract)
    yield from _label_mismatches(contract)
    yield from _model_mismatches(contract)
    yield from _time_mismatches(contract)
    try:
        ZoneInfo(contract.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        # Only now: listing them all costs more than parsing the contract.
        mend = _closest(contract.time_zone, sorted(available_timezones()))
        yield Mismatch(("time_zone",), f"'{contract.time_zone}' is not a time zone", mend)


def _source_mismatches(contract: Contract) -> Iterator[Mismatch]:
    csv = contract.source.csv
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


def _role_mismatches(contract: Contract) -> Iterator[Mismatch]:
    """Key, event time and version: columns with a role of their own."""
    key, event = contract.columns.get(contract.key), contract.columns.get(contract.event_time)
    for role, name, column in (("key", contract.key, key), ("event_time", contract.event_time, event)):
        if column is not None and not column.required:
            yield Mismatch((role,), f"'{name}' is not required", f"say 'required: true' at columns.{name}")
    if event is not None and event.type not in ("date", "timestamp"):
        yield Mismatch(
            ("event_time",),
            f"'{contract.event_time}' is of type {event.type}",
            "the event time must be a column of type date or timestamp",
        )
    if key is not None and key.type not in KEY_TYPES:
        yield Mismatch(
            ("key",),
            f"'{contract.key}' is of type {key.type}, whose values are no good names",
            f"choose a key of type {', '.join(KEY_TYPES)}",
        )
    version = contract.columns.get(contract.version or "")
    if version is not None and version.type not in VERSION_TYPES:
        yield Mismatch(
            ("version",),
            f"'{contract.version}' is of type {version.type}, which has no order that can be meant",
            f"choose a column of type {', '.join(VERSION_TYPES)}",
        )
    if len({contract.key, contract.event_time, contract.label.column}) < 3:
        yield Mismatch(("key",), "key, event time and label are not three columns", "name a column for each")


def _column_mismatches(contract: Contract) -> Iterator[Mismatch]:
    first: dict[str, str] = {}
    for name in contract.columns:
        other = first.setdefault(name.lower(), name)
        if other != name:
            yield Mismatch(
                ("columns", name),
                f"the columns '{other}' and '{name}' differ only in case, and a warehouse does not see that",
                "rename one of them in the source",
            )
    for name, column in contract.columns.items():
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


def _feature_mismatches(contract: Contract) -> Iterator[Mismatch]:
    features = contract.features
    kinds: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
        ("numeric", features.numeric, ORDERED_TYPES),
        ("categorical", features.categorical, ("category", "boolean", "integer")),
        ("boolean", features.boolean, ("boolean",)),
        ("text", tuple(features.text), ("text", "category")),
    )
    for kind, names, types in kinds:
        for i, name in enumerate(names):
            path: Path = ("features", kind, name if kind == "text" else i)
            if name in contract.columns and contract.columns[name].type not in types:
                yield Mismatch(
                    path,
                    f"'{name}' is of type {contract.columns[name].type}; {kind} features are {', '.join(types)}",
                    "move it to the kind that fits its type",
                )
            for taken, role in ((contract.label.column, "the label"), (contract.key, "the key")):
                if name == taken:
                    yield Mismatch(path, f"'{name}' is {role}", "remove it from the features")
            if name in contract.never:
                yield Mismatch(
                    path,
                    f"'{name}' is both a feature and in 'never' ({contract.never[name]})",
                    "remove it from one of the two",
                )
    # A warehouse does not see case.
    columns = {name.lower(): name for name in contract.columns}
    for name in sorted({f.name for f in features.derived() if f.name.lower() in columns}):
        yield Mismatch(
            ("features",),
            f"the derived feature '{name}' has the name of the column '{columns[name.lower()]}'",
            "rename the column in the source",
        )
    yield from _ratio_mismatches(contract)
    inputs = [feature.name for feature in contract.model_features()]
    if not inputs:
        yield Mismatch(("features",), "there is no feature", "name at least one column")
    for name in sorted({name for name in inputs if inputs.count(name) > 1}):
        yield Mismatch(("features",), f"the feature '{name}' occurs twice", "keep one of them")
    for i, window in enumerate(features.windows):
        if window.entity == contract.label.column:
            yield Mismatch(
                ("features", "windows", i, "entity"),
                f"the label '{window.entity}' names the entity: which rows a window holds would tell the label",
                "name the column of whom or what the rows are about",
            )
        for j, length in enumerate(window.lengths):
            if not length:
                yield Mismatch(
                    ("features", "windows", i, "lengths", j),
                    "a window of no length is empty",
                    "write 1d, for example",
                )
        for aggregate, used in window.values.items():
            for name in used:
                yield from _aggregate_mismatches(contract, i, aggregate, name)
                if name == contract.label.column and (window.delay or None) is None:
                    yield Mismatch(
                        ("features", "windows", i),
                        f"the label '{name}' enters a window that has no delay",
                        "add 'delay', at least as long as label.due_after",
                    )
                elif name == contract.label.column and window.delay and window.delay < contract.label.due_after:
                    yield Mismatch(
                        ("features", "windows", i, "delay"),
                        f"the label '{name}' enters a window before it is due",
                        "make the delay at least as long as label.due_after",
                    )
                if name in contract.never:
                    yield Mismatch(
                        ("features", "windows", i, "values", aggregate),
                        f"'{name}' is in 'never' ({contract.never[name]})",
                        "aggregate another column",
                    )


def _ratio_mismatches(contract: Contract) -> Iterator[Mismatch]:
    numbers = [feature.name for feature in contract.model_features() if feature.kind == "numeric"]
    for ratio, parts in contract.features.ratios.items():
        for i, name in enumerate(parts):
            if name not in numbers:
                yield Mismatch(
                    ("features", "ratios", ratio, i), f"'{name}' is no numeric feature", _closest(name, numbers)
                )
        if ratio in contract.columns or ratio in numbers:
            yield Mismatch(
                ("features", "ratios", ratio), f"'{ratio}' is a column already", "give the ratio another name"
            )


def _aggregate_mismatches(contract: Contract, window: int, aggregate: str, name: str) -> Iterator[Mismatch]:
    column = contract.columns.get(name)
    path: Path = ("features", "windows", window, "values", aggregate)
    if column is not None and aggregate in ("sum", "mean") and column.type not in ORDERED_TYPES:
        yield Mismatch(
            path,
            f"a {column.type} has no {aggregate}",
            f"aggregate a column of type {', '.join(ORDERED_TYPES)}",
        )
    if column is not None and aggregate == "rate" and column.type != "boolean":
        if name != contract.label.column:
            yield Mismatch(path, f"a {column.type} has no rate", "aggregate the label, or a boolean")
        elif contract.label.positive is None:
            yield Mismatch(path, "a label without 'positive' has no rate", "take its mean, or add label.positive")


def _time_mismatches(contract: Contract) -> Iterator[Mismatch]:
    start, end = contract.features.night_hours
    if not (0 <= start <= 24 and 0 <= end <= 24):
        yield Mismatch(("features", "night_hours"), f"[{start}, {end}] are not hours of a day", "write [0, 6]")
    train_on = contract.model.train_on
    if train_on.latest is not None and train_on.latest < train_on.minimum:
        yield Mismatch(
            ("model", "train_on"),
            f"no training can use at most {train_on.latest} and at least {train_on.minimum} rows",
            "lower 'minimum', or raise 'latest'",
        )
    yield from _schedule_mismatches(contract.retrain)


def _schedule_mismatches(retrain: Retrain) -> Iterator[Mismatch]:
    """A schedule that the pause or the budget does not leave room for; both have defaults."""
    most, least, budget = retrain.at_most_every, retrain.at_least_every, retrain.budget
    if least is None:
        return
    if most is not None and most > least:
        mend = "exchange them: the first is the pause, the second the schedule"
        if "at_most_every" not in retrain.model_fields_set:
            mend = f"write an 'at_most_every' of {format_duration(least)} or less; it is {format_duration(most)}"
        yield Mismatch(("retrain",), "'at_most_every' is longer than 'at_least_every'", mend)
    if budget is not None and least * (budget.trainings + 1) < budget.within:
        asked, within = budget.within // least, format_duration(budget.within)
        yield Mismatch(
            ("retrain",),
            f"the schedule asks for {asked} trainings within {within}, and the budget allows {budget.trainings}",
            f"write 'budget: {{trainings: {asked}, within: {within}}}' or more, or a longer 'at_least_every'",
        )


def _label_mismatches(contract: Contract) -> Iterator[Mismatch]:
    column = contract.columns.get(contract.label.column)
    if contract.task == "binary" and contract.label.positive is None:
        yield Mismatch(("label",), "a binary task needs 'positive'", "say which value counts as 1")
    if column is not None and contract.label.positive is not None:
        yield from _positive_mismatches(contract.label.positive, contract.label.column, column)
    if contract.task == "multiclass" and column is not None and column.values is None:
        yield Mismatch(
            ("label", "column"),
            f"'{contract.label.column}' lists no values, and they are the classes",
            f"add 'values' at columns.{contract.label.column}",
        )
    if contract.task == "regression" and contract.monitor.class_drift is not None:
        yield Mismatch(("monitor", "class_drift"), "a regression has no classes", "remove the section")


def _positive_mismatches(positive: str, name: str, column: Column) -> Iterator[Mismatch]:
    if column.values is not None and positive not in column.values:
        yield Mismatch(
            ("label", "positive"),
            f"'{positive}' is not a value of '{name}'",
            f"choose one of {', '.join(column.values)}",
        )
    if column.type not in CLASS_TYPES:
        yield Mismatch(
            ("label", "positive"),
            f"'{name}' is of type {column.type}, which has no classes",
            f"choose a label of type {', '.join(CLASS_TYPES)}",
        )
        return
    try:
        class_value(column.type, positive)
    except ValueError as error:
        yield Mismatch(
            ("label", "positive"),
            f"{error}, and '{name}' is of type {column.type}",
            "write the positive value as the column holds it",
        )


def _model_mismatches(contract: Contract) -> Iterator[Mismatch]:
    model, known, live = contract.model, TASK_METRICS[contract.task], LIVE_METRICS[contract.task]
    quality = ("monitor", "quality")
    asked: list[tuple[Path, str | None, tuple[str, ...], str]] = [
        (("gate", "metric"), contract.gate.metric, known, ""),
        (("model", "search", "metric"), model.search.metric if model.search else None, known, ""),
        ((*quality, "metric"), contract.monitor.quality.metric, live, " for live predictions"),
        *(
            ((*quality, "limits", name), name, live, " for live predictions")
            for name in contract.monitor.quality.limits
        ),
    ]
    for path, name, metrics, what in asked:
        if name is not None and name not in metrics:
            mend = f"choose one of {', '.join(metrics)}"
            yield Mismatch(path, f"a {contract.task} task has no metric '{name}'{what}", mend)
    for part in ("calibration", "threshold"):
        if getattr(model, part) is not None and contract.task != "binary":
            yield Mismatch(("model", part), f"a {contract.task} task has no {part}", f"remove '{part}'")
    if model.parameters.scale_pos_weight != 1 and contract.task != "binary":
        yield Mismatch(
            ("model", "parameters", "scale_pos_weight"),
            f"a {contract.task} task has no positive class to weigh",
            "remove 'scale_pos_weight'",
        )
    if model.parameters.tree_method == "exact" and contract.features.categorical:
        yield Mismatch(
            ("model", "parameters", "tree_method"),
            "XGBoost's exact trees take no categories",
            "write 'tree_method: hist', or leave out the categorical features",
        )
    ordered = {f.name for f in contract.model_features() if f.kind in ("numeric", "boolean")}
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


def _closest(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"write '{close[0]}'" if close else "name a column that stands under 'columns'"
