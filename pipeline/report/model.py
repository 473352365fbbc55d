"""What a report shows, free of where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Lane = Literal["input alarm", "quality alarm", "training", "refused", "promotion"]


@dataclass(frozen=True)
class Figure:
    """A figure with the interval it lies in; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class QualityPoint:
    """The quality of both models on the rows of one period."""

    label: str
    start: datetime
    stop: datetime
    rows: int
    champion: Figure
    frozen: Figure


@dataclass(frozen=True)
class Event:
    """Something that happened at an as-of."""

    at: datetime
    lane: Lane
    said: str


@dataclass(frozen=True)
class RunLine:
    """One run, in a line of the table."""

    label: str
    rows: int
    scored: int
    alarms: tuple[str, ...]
    decision: str
    verdict: str


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        metric: the name of the quality metric.
        drift: by feature, the measure at each as-of.
        rows: rows by fate, as in the summary.
        cards: headline figures: what, figure, and a word on it.
    """

    title: str
    question: str
    citation: str
    first: datetime
    last: datetime
    metric: str
    quality: Sequence[QualityPoint]
    drift: Mapping[str, Mapping[datetime, float]]
    drift_measure: str
    drift_threshold: float
    events: Sequence[Event]
    rows: Mapping[str, int]
    runs: Sequence[RunLine]
    cards: Sequence[tuple[str, str, str]]
    details: Mapping[str, Any]
