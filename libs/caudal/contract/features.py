"""The contract's features: columns the model sees, and columns that ETL derives for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from caudal.contract.values import Duration, format_duration
from caudal.yaml_document import Section

FeatureKind = Literal["numeric", "categorical", "boolean", "text"]
Calendar = Literal["weekend", "night"]
Aggregate = Literal["count", "sum", "mean", "rate"]


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class HashedText(Section):
    """N-grams of the words of a text column, hashed into a fixed number of columns.

    Attributes:
        hashed: the number of columns.
        ngrams: the longest run of words that counts as one.
    """

    hashed: int = Field(default=16384, gt=0)
    ngrams: int = Field(default=1, ge=1, le=3)


class Window(Section):
    """Aggregates over the rows of one entity, for each of several lengths of time before a row.

    The window of a row at time t with length L and delay D holds the entity's rows with event time in
    (t - D - L, t - D]: with no delay the row itself and its ties (rows of equal time) count, with a delay
    only rows whose label was due by then.

    Attributes:
        lengths: how far the window reaches back, one feature a length.
        delay: how long before the row the window ends; at least `label.due_after` when it aggregates the label.
        entity: the column that names the entity. A row without one has no windows: its features are null.
        values: `count` of rows (`"*"`) or of a column's values; `sum` and `mean` of an integer, number or decimal;
            `rate`: the share of true among a boolean's values, or of the positive value among the label's. Missing
            values are left out. With nothing in the window, count and sum are 0, and mean and rate are null.
            Sums are exact: a number or decimal enters with nine places, as SQL's NUMERIC does.
    """

    entity: str
    lengths: tuple[Duration, ...] = Field(min_length=1)
    delay: Duration | None = None
    values: dict[Aggregate, Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]] = Field(min_length=1)

    def feature_name(self, aggregate: Aggregate, column: str, length: Duration) -> str:
        """The name of one derived column, such as `entity_mean_amount_7d`."""
        middle = aggregate if column == "*" else f"{aggregate}_{column}"
        return f"{self.entity}_{middle}_{format_duration(length)}"

    def feature_names(self) -> tuple[str, ...]:
        """The derived columns in the order in which ETL writes them."""
        return tuple(
            self.feature_name(aggregate, column, length)
            for length in self.lengths
            for aggregate, columns in self.values.items()
            for column in columns
        )


@dataclass(frozen=True)
class Feature:
    """One input of the model: a column of the warehouse and how the encoder reads it."""

    name: str
    kind: FeatureKind
    derived: bool = False


class Features(Section):
    """What the model may see.

    Attributes:
        numeric: columns taken as numbers.
        categorical: columns taken as one of several values.
        boolean: columns taken as true or false.
        text: columns of free text, and how each is turned into numbers.
        calendar: `weekend` (Saturday or Sunday) and `night`, of the event in the contract's time zone.
        night_hours: the first and the last hour of the night, both included.
        windows: aggregates over what an entity did before.
        ratios: one numeric feature by another, under a new name. The encoder computes them from the row itself, so
            they are no columns; without both values, or by zero, a ratio is missing.
    """

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    boolean: tuple[str, ...] = ()
    text: dict[str, HashedText] = Field(default_factory=dict)
    calendar: tuple[Calendar, ...] = ()
    night_hours: tuple[int, int] = (0, 6)
    windows: tuple[Window, ...] = ()
    ratios: dict[str, tuple[str, str]] = Field(default_factory=dict)

    def derived(self) -> tuple[Feature, ...]:
        """Features that ETL computes, in the order of the warehouse's columns."""
        windows = [Feature(n, "numeric", derived=True) for w in self.windows for n in w.feature_names()]
        return (*(Feature(name, "boolean", derived=True) for name in self.calendar), *windows)

    def all(self) -> tuple[Feature, ...]:
        """Every feature, in the order in which the model sees them."""
        return (
            *(Feature(name, "numeric") for name in self.numeric),
            *(Feature(name, "categorical") for name in self.categorical),
            *(Feature(name, "boolean") for name in self.boolean),
            *(Feature(name, "text") for name in self.text),
            *self.derived(),
        )
