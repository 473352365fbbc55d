"""What a report shows, free of where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Lane = Literal[
    "arrival alarm", "input alarm", "prediction alarm", "quality alarm", "time alarm", "training",
    "failed training", "refused", "trial", "promotion",
]  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A figure with the interval it lies in; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class QualityPoint:
    """The quality on the rows of one period: of the live model, and of a frozen one where it is known."""

    label: str
    start: datetime
    stop: datetime
    rows: int
    champion: Figure
    frozen: Figure | None = None


@dataclass(frozen=True)
class DriftCell:
    """How far a feature was from its training at one as-of.

    Attributes:
        judged: there were rows enough to hold it against the threshold.
        alarm: it was above the threshold, and chance does not explain it.
    """

    value: float
    rows: int
    judged: bool = True
    alarm: bool = False


@dataclass(frozen=True)
class Event:
    """Something that happened at an as-of."""

    at: datetime
    lane: Lane
    said: str


@dataclass(frozen=True)
class RunLine:
    """One run.

    Attributes:
        landed: rows of readable files and broken lines together; `quarantined` are the broken ones.
        read: rows that ETL took from the lake; each is `rejected`, a duplicate, or brings a new key.
        removed: keys whose rows a newer generation of their file no longer has.
        warehouse: its net growth; in a run that rebuilt it, all that it holds.
        reasons: refused rows by reason; a row with several reasons counts in each.
        bytes_shuffled: None where the run has no ETL result.
        quality: the monitor's own figure with what it is held against; None with too few labels.
        training_seconds, scoring_seconds: None where nothing was trained or scored.
    """

    label: str
    landed: int = 0
    quarantined: int = 0
    read: int = 0
    rejected: int = 0
    duplicates: int = 0
    removed: int = 0
    warehouse: int = 0
    scored: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    bytes_shuffled: int | None = None
    training_seconds: float | None = None
    scoring_seconds: float | None = None
    quality: tuple[float, float | None] | None = None
    alarms: tuple[str, ...] = ()
    decision: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        kind: what it reports on: a replay, or an environment.
        metric: the name of the quality metric.
        monitored: the name of the metric that the monitor holds against a threshold, run by run.
        pooled: by model, its figures over all scored rows with a label.
        drift: by feature, the measure at each as-of.
        rows: rows by fate, as in the summary.
        cards: headline figures: what, figure, and a word on it.
    """

    title: str
    kind: str
    question: str
    citation: str
    first: datetime
    last: datetime
    metric: str
    monitored: str
    pooled: Mapping[str, Mapping[str, Any]]
    quality: Sequence[QualityPoint]
    drift: Mapping[str, Mapping[datetime, DriftCell]]
    drift_measure: str
    drift_threshold: float
    events: Sequence[Event]
    rows: Mapping[str, int]
    runs: Sequence[RunLine]
    cards: Sequence[tuple[str, str, str]]
    details: Mapping[str, Any]

    @property
    def compared(self) -> bool:
        """Whether a frozen model is shown beside the live one."""
        return "frozen" in self.pooled

    def reasons(self) -> dict[str, tuple[int, int]]:
        """By reason, the refused rows and the runs in which they came; most rows first."""
        found: dict[str, tuple[int, int]] = {}
        for run in self.runs:
            for reason, rows in run.reasons.items():
                before = found.get(reason, (0, 0))
                found[reason] = (before[0] + rows, before[1] + 1)
        return dict(sorted(found.items(), key=lambda pair: (-pair[1][0], pair[0])))
