"""Which alarms are new, which stand, and which have ended: read from what the runs before measured.

`monitoring.measurements` says of each figure that was held against a threshold whether it was an alarm. The alarm
of a figure stands when the last run that judged it found it an alarm; a run that could not judge it (too few rows,
no label) neither ends nor begins anything. Only runs before this one's as-of are looked at, so a step that is
repeated finds the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from caudal.alarms import EVENTS, Alarm, AlarmKind, State
from caudal.tables import monitoring_table

if TYPE_CHECKING:
    from caudal.step import StepContext
    from monitor.measurements import Measurement

Figure = tuple[str, str | None]
"""A figure's measure and feature."""


@dataclass(frozen=True)
class Stood:
    """An alarm that stood before this run.

    Attributes:
        since: the as-of of the run that found it first.
        latest: the as-of of the last run that found it.
    """

    since: datetime
    latest: datetime

    def state(self, as_of: datetime, remind_every: timedelta) -> State:
        """Whether a reminder is due: since `latest`, a multiple of `remind_every` after `since` has passed."""
        told = (self.latest - self.since) // remind_every
        return "reminder" if (as_of - self.since) // remind_every > told else "standing"


def stood_before(context: StepContext, step: str) -> dict[Figure, Stood]:
    """The alarms of a step that stood before this run."""
    judged = (
        "SELECT measure, feature, as_of, alarm, "
        "MAX(CASE WHEN NOT alarm THEN as_of END) OVER (PARTITION BY measure, feature) AS calm "
        f"FROM {monitoring_table().sql_name} "
        "WHERE contract = @contract AND step = @step AND as_of < @as_of AND threshold IS NOT NULL"
    )
    answer = context.warehouse.query(
        f"WITH judged AS ({judged}) SELECT measure, feature, MIN(as_of) AS since, MAX(as_of) AS latest "
        "FROM judged WHERE alarm AND (calm IS NULL OR as_of > calm) GROUP BY measure, feature",
        {"contract": context.contract.name, "step": step, "as_of": context.run.as_of},
    )
    return {(row["measure"], row["feature"]): Stood(row["since"], row["latest"]) for row in answer.to_pylist()}


def alarms_of(
    context: StepContext, measured: Sequence[Measurement], stood: Mapping[Figure, Stood]
) -> Iterator[Alarm]:
    """The alarms that measurements raise, then the ends of those that stood, each in the measurements' order."""
    as_of, remind_every = context.run.as_of, context.contract.monitor.remind_every
    judged = [one for one in measured if one.value is not None and one.threshold is not None]
    for one in judged:
        before = stood.get((one.measure, one.feature))
        if one.kind is None:
            continue
        if before is None or one.kind in EVENTS or one.measure in _EVENTS:
            yield _alarm(context, one, one.kind, "new", as_of)
        else:
            yield _alarm(context, one, one.kind, before.state(as_of, remind_every), before.since)
    for one in judged:
        before = stood.get((one.measure, one.feature))
        if before is not None and one.kind is None:
            yield _alarm(context, one, kind_of(one.measure), "ended", before.since)


def kind_of(measure: str) -> AlarmKind:
    """The kind of alarm that a measure raises."""
    if measure.startswith("live_"):
        return "quality"
    if measure.startswith("prediction_"):
        return "prediction_drift"
    if measure.startswith("among_"):
        return "class_drift"
    return _KINDS.get(measure, "drift")


# Events of a kind that tells of states too.
_EVENTS: frozenset[str] = frozenset({"files_quarantined"})

# All others are distances between distributions.
_KINDS: Mapping[str, AlarmKind] = {
    "missing_share": "missing",
    "unseen_share": "unseen",
    "refused_share": "rejected",
    "files_quarantined": "rejected",
    "future_share": "rejected",
    "rows_arrived": "volume",
    "newest_event_age_days": "freshness",
    "failed_trainings": "training",
    "training_seconds": "time",
    "scoring_seconds": "time",
}


def _alarm(context: StepContext, one: Measurement, kind: AlarmKind, state: State, since: datetime) -> Alarm:
    value, threshold = one.value, one.threshold
    if value is None or threshold is None:
        raise ValueError(f"'{one.name}' was not judged")
    return Alarm(
        contract=context.contract.name,
        as_of=context.run.as_of,
        kind=kind,
        measure=one.measure,
        feature=one.feature,
        value=value,
        threshold=threshold,
        since=since,
        state=state,
        evidence={"rows": one.rows, "run": context.run.id, **one.evidence},
        among=one.among,
    )
