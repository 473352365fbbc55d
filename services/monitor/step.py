"""The monitor's two steps.

`inputs` looks at the rows that first arrived in this run; `outcomes` at the predictions, and at the labels that
became due. Alarms about inputs and about quality are told apart by their kind. `outcomes` owns the decision to
train. Both steps measure first, load the measurements once, then send alarms once, and return what they found: a
repeated step finds, loads and sends the same, which is to say nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING

from caudal.event_time import happened_by
from caudal.identity import format_instant
from caudal.promotions import Promotion, Promotions
from caudal.sql import quoted
from caudal.step import StepContext, StepResult
from caudal.tables import predictions_table, warehouse_table
from caudal.tracking import Tracking
from monitor.decision import Facts, decide
from monitor.histograms import HistogramQuery
from monitor.inputs import arrivals, drift_of, features, recent, refused, verdicts
from monitor.measurements import Measurement, record
from monitor.quality import BEGINNING, deciding_figure, due_predictions, quality_of
from monitor.trainings import Attempt, Recipe, Trainings

if TYPE_CHECKING:
    from caudal.package import ModelPackage

# What MLflow does not take in the name of a metric.
_NOT_IN_A_NAME = re.compile(r"[^\w .:/-]", re.ASCII)


def inputs(context: StepContext) -> StepResult:
    """Measures what came in, and raises alarms about it.

    Returns:
        `alarms`; `model_version`, the champion whose training is the yardstick; `measures`, figure by name.
    """
    with context.warehouse:
        champion = _champion(context)
        measured = [*arrivals(context), *refused(context)]
        if champion is not None:
            measured += features(context, _package(context, champion).profile)
        version = champion.version if champion else None
        alarms = record(context, "inputs", version, measured)
    _track(context, "inputs", version, measured, {"alarms": str(len(alarms))})
    return {"alarms": alarms, "model_version": version, "measures": _summary(measured)}


def outcomes(context: StepContext) -> StepResult:
    """Measures predictions and their quality, raises alarms, and decides whether to train.

    Returns:
        `alarms`; `retrain` and its `reasons`; `withheld`, what asked for a training that is not done, and why not;
        `due_rows`, labelled and due; `new_rows`, those of them that became known since the last training;
        `quality`, the contract's own figure, None with too few labels; `model_version` and `measures` as in
        `inputs`.
    """
    with context.warehouse:
        champion = _champion(context)
        measured: list[Measurement] = []
        quality = None
        if champion is not None:
            package = _package(context, champion)
            measured += _prediction_drift(context, package)
            judged = due_predictions(context, champion)
            measured += quality_of(context, package, judged)
            quality = deciding_figure(context, judged, measured)
        trainings = Trainings(context)
        facts = _facts(context, champion, trainings, measured)
        measured += [
            Measurement("due_rows", facts.due_rows, facts.due_rows),
            Measurement("new_rows", facts.new_rows, facts.due_rows),
        ]
        train_on = context.contract.model.train_on
        minimum = train_on.minimum if champion else train_on.rows_for_first
        decision = decide(facts, context.contract.retrain, minimum)
        version = champion.version if champion else None
        alarms = record(context, "outcomes", version, measured)
        if decision.retrain:
            trainings.record(Attempt(context.run.id, context.run.as_of, decision.reasons, Recipe.current(context)))
    tags = {
        "alarms": str(len(alarms)),
        "retrain": str(decision.retrain).lower(),
        "reasons": ", ".join(decision.reasons),
        "withheld": decision.withheld,
    }
    _track(context, "outcomes", version, measured, tags)
    return {
        "alarms": alarms,
        "retrain": decision.retrain,
        "reasons": list(decision.reasons),
        "withheld": decision.withheld,
        "due_rows": facts.due_rows,
        "new_rows": facts.new_rows,
        "quality": quality,
        "model_version": version,
        "measures": _summary(measured),
    }


def _champion(context: StepContext) -> Promotion | None:
    ledger = context.environment.ledger(context.contract.name, "promotions")
    return Promotions(context.storage, ledger).live_at(context.run.as_of)


def _package(context: StepContext, champion: Promotion) -> ModelPackage:
    from caudal.package import open_package

    return open_package(context.storage, champion.package)


def _prediction_drift(context: StepContext, package: ModelPackage) -> list[Measurement]:
    """The champion's scores beside those that it gave on its judging rows."""
    known = package.profile.get("scores")
    if known is None:
        return []
    monitor = context.contract.monitor
    profile = {"kind": "numeric", "missing": 0, **known}
    condition, parameters = recent("as_of", monitor.prediction_drift, context.run.as_of)
    table = predictions_table(context.contract)
    query = HistogramQuery(
        table.sql_name,
        f"model_version = @version AND {condition}",
        {"version": package.version, **parameters},
    )
    query.add("score", profile, table.schema.field("score").type)
    _, histograms = query.run(context.warehouse)
    described, tested = drift_of("prediction_", None, profile, histograms["score"], monitor.prediction_drift)
    return [*described, *verdicts([tested] if tested else [], monitor.false_alarms)]


def _facts(
    context: StepContext, champion: Promotion | None, trainings: Trainings, measured: Sequence[Measurement]
) -> Facts:
    attempts = trainings.before()
    last = attempts[0].as_of if attempts else champion.as_of if champion else None
    due, new = _due_rows(context, last)
    raised = context.results.get("inputs", {}).get("alarms", [])
    return Facts(
        as_of=context.run.as_of,
        champion=champion is not None,
        alarms=frozenset([*(a["kind"] for a in raised), *(one.kind for one in measured if one.kind is not None)]),
        due_rows=due,
        new_rows=new,
        code_changed=_recipe_changed(context, champion, attempts),
        last_training=last,
    )


def _due_rows(context: StepContext, last_training: datetime | None) -> tuple[int, int]:
    """Rows whose label is known and due, and those of them that were not at the last training."""
    contract = context.contract
    due, parameters = happened_by(contract, context.run.as_of - contract.label.due_after, "due")
    since = last_training or BEGINNING
    then_due, then_parameters = happened_by(contract, since - contract.label.due_after, "then_due")
    answer = context.warehouse.query(
        f"SELECT COUNT(*) AS due_rows, COUNTIF(NOT {then_due} OR _ingested_at > @since) AS new_rows "
        f"FROM {warehouse_table(contract).sql_name} "
        f"WHERE {quoted(contract.label.column)} IS NOT NULL AND {due}",
        {**parameters, **then_parameters, "since": since},
    )
    return int(answer.column("due_rows")[0].as_py()), int(answer.column("new_rows")[0].as_py())


def _recipe_changed(context: StepContext, champion: Promotion | None, attempts: Sequence[Attempt]) -> bool:
    """Whether a training now would follow another recipe than the last one.

    The last one is that of the latest attempt, else the champion's. A run that was started because code was
    deployed says so itself.
    """
    if context.run.reason == "code":
        return True
    now = Recipe.current(context)
    if attempts:
        return now.differs_from(attempts[0].recipe)
    if champion is None:
        return False
    package = _package(context, champion)
    return now.differs_from(Recipe(package.metadata["unit"], package.contract.model_digest()))


def _track(
    context: StepContext, step: str, version: str | None, measured: Sequence[Measurement], tags: dict[str, str]
) -> None:
    """In MLflow too: what is about no feature, and of each feature what is held against a threshold."""
    contract, run = context.contract.name, context.run
    shown = [one for one in measured if one.feature is None or one.threshold is not None]
    Tracking.of(context.environment).record(
        f"{contract}/monitor",
        f"{contract}/{run.id}/{step}",
        name=f"{step} {format_instant(run.as_of)}",
        at=run.as_of,
        metrics={_NOT_IN_A_NAME.sub("_", one.name): one.value for one in shown},
        tags={**tags, "step": step, "model_version": version or ""},
    )


def _summary(measured: Sequence[Measurement]) -> dict[str, float]:
    """The figures that a reader of a run wants to see at once; the others stand in the warehouse."""
    return {
        one.name: round(one.value, 6)
        for one in measured
        if one.feature is None and one.value is not None and isfinite(one.value)
    }
