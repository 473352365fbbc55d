"""Which alarms are new, which stand, and which have ended: read from what the runs before measured.

`monitoring.measurements` says of each figure that was held against a threshold whether it was an alarm. The alarm
of a figure stands when the last run that judged it found it an alarm; a run that could not judge it (too few rows,
no label) neither ends nor begins anything. What was found of one model says nothing of the next: an alarm about
the model ends with the first run for which another one is live, and what that run finds is new. Only runs before
this one's as-of are looked at, so a step that is repeated finds the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from caudal.alarms import EVENTS, Alarm, AlarmKind, State
from caudal.labels import watched_classes
from caudal.tables import monitoring_table
from monitor.earlier_runs import BEGINNING

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.step import StepContext
    from monitor.measurements import Measurement

Figure = tuple[str, str | None]
"""A figure's measure and feature."""

OF_A_MODEL: frozenset[AlarmKind] = frozenset(
    {"drift", "class_drift", "missing", "unseen", "prediction_drift", "quality"}
)
"""Kinds that tell of the live model, or hold what came against what that model was trained on."""


@dataclass(frozen=True)
class Stood:
    """An alarm that stood before this run.

    Attributes:
        since: the as-of of the run that found it first.
        latest: the as-of of the last run that found it.
        value, threshold: what that run measured, and against what.
        model_version: the model that it is about; None for what is about no model.
    """

    since: datetime
    latest: datetime
    value: float
    threshold: float
    model_version: str | None = None

    def state(self, as_of: datetime, remind_every: timedelta) -> State:
        """Whether a reminder is due: since `latest`, a multiple of `remind_every` after `since` has passed."""
        told = (self.latest - self.since) // remind_every
        return "reminder" if (as_of - self.since) // remind_every > told else "standing"


def stood_before(context: StepContext, step: str) -> dict[Figure, Stood]:
    """The alarms of a step that stood before this run, by the model that was live in the last run before."""
    before = f"FROM {monitoring_table().sql_name} WHERE contract = @contract AND step = @step AND as_of < @as_of"
    parameters: dict[str, Any] = {"contract": context.contract.name, "step": step, "as_of": context.run.as_of}
    models = context.warehouse.query(
        f"SELECT model_version, MAX(as_of) AS latest {before} GROUP BY model_version ORDER BY latest DESC LIMIT 2",
        parameters,
    ).to_pylist()
    model_version = models[0]["model_version"] if models else None
    # What an earlier model's runs found, even of this very model before it left and came back, has ended.
    other = models[1]["latest"] if len(models) > 1 else BEGINNING
    judged = (
        "SELECT measure, feature, as_of, value, threshold, alarm, "
        "MAX(CASE WHEN NOT alarm THEN as_of END) OVER (PARTITION BY measure, feature) AS calm "
        f"{before} AND threshold IS NOT NULL AND (measure IN UNNEST(@of_no_model) OR as_of > @other)"
    )
    answer = context.warehouse.query(
        f"WITH judged AS ({judged}) SELECT measure, feature, as_of AS latest, value, threshold, "
        "MIN(as_of) OVER (PARTITION BY measure, feature) AS since "
        "FROM judged WHERE alarm AND (calm IS NULL OR as_of > calm) "
        "QUALIFY ROW_NUMBER() OVER (PARTITION BY measure, feature ORDER BY as_of DESC) = 1 "
        "ORDER BY measure, feature",
        {
            **parameters,
            "other": other,
            "of_no_model": [measure for measure, kind in _KINDS.items() if kind not in OF_A_MODEL],
        },
    )
    return {
        (row["measure"], row["feature"]): Stood(
            row["since"],
            row["latest"],
            # An infinite distance is kept as null.
            math.inf if row["value"] is None else row["value"],
            row["threshold"],
            model_version if kind_of(row["measure"]) in OF_A_MODEL else None,
        )
        for row in answer.to_pylist()
    }


def alarms_of(
    context: StepContext,
    model_version: str | None,
    measured: Sequence[Measurement],
    stood_before: Mapping[Figure, Stood],
) -> Iterator[Alarm]:
    """The alarms that measurements raise, then the ends of those that stood, each in the measurements' order.

    Last come the ends of those that stood about a model that is not live any more.

    Args:
        model_version: the live model.
    """
    as_of, remind_every = context.run.as_of, context.contract.monitor.remind_every
    left = {figure: one for figure, one in stood_before.items() if one.model_version not in (None, model_version)}
    stood = {figure: one for figure, one in stood_before.items() if figure not in left}
    judged = [one for one in measured if one.value is not None and one.threshold is not None]
    for one in judged:
        before = stood.get((one.measure, one.feature))
        if one.kind is None:
            continue
        if before is None or one.kind in EVENTS or one.measure in _EVENTS:
            yield _alarm(context, model_version, one, one.kind, "new", as_of)
        else:
            state = before.state(as_of, remind_every)
            yield _alarm(context, model_version, one, one.kind, state, before.since)
    for one in judged:
        before = stood.get((one.measure, one.feature))
        if before is not None and one.kind is None:
            yield _alarm(context, model_version, one, kind_of(one.measure), "ended", before.since)
    for (measure, feature), old in left.items():
        yield _left(context, model_version, measure, feature, old)


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


def _alarm(
    context: StepContext,
    model_version: str | None,
    one: Measurement,
    kind: AlarmKind,
    state: State,
    since: datetime,
) -> Alarm:
    value, threshold = one.value, one.threshold
    about = {"model_version": model_version} if kind in OF_A_MODEL else {}
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
        evidence={"rows": one.rows, "run": context.run.id, **about, **one.evidence},
        among=one.among,
    )


def _left(context: StepContext, model_version: str | None, measure: str, feature: str | None, old: Stood) -> Alarm:
    """The end of an alarm about a model that was live in the run before and is not in this one."""
    return Alarm(
        contract=context.contract.name,
        as_of=context.run.as_of,
        kind=kind_of(measure),
        measure=measure,
        feature=feature,
        value=old.value,
        threshold=old.threshold,
        since=old.since,
        state="ended",
        evidence={
            "run": context.run.id,
            "model_version": old.model_version,
            "reason": f"model {model_version} is live in place of {old.model_version}",
        },
        among=_class_of(context.contract, measure),
    )


def _class_of(contract: Contract, measure: str) -> str | None:
    """The class that a measure of class drift is about. A class may be named like the beginning of another."""
    named = [name for name in watched_classes(contract) if measure.startswith(f"among_{name}_")]
    return max(named, key=len, default=None)
