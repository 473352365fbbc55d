"""The monitor's two steps.

`inputs` looks at the rows that first arrived in this run; `outcomes` at the predictions, at the labels that
became due and the rows they belong to, and at a challenger's trial. Alarms about inputs and about quality are told
apart by their kind. `outcomes` owns the decision to train. Both steps measure first, send alarms once, then load
the measurements once, and return what they found: a repeated step finds, sends and loads the same, which is to say
nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from caudal.identity import format_instant
from caudal.promotions import Promotion, Promotions
from caudal.step import StepContext, StepResult
from caudal.tracking import Tracking
from monitor import trial
from monitor.class_drift import class_drift
from monitor.decision import Decision, decide
from monitor.drift import verdicts
from monitor.facts import facts_of
from monitor.inputs import arrivals, features, refused, volume_and_times
from monitor.last_training import last_training
from monitor.last_training import measurements as of_training
from monitor.live_predictions import LivePredictions, live_predictions
from monitor.measurements import Measurement, record
from monitor.predictions import prediction_drift, scoring_time
from monitor.quality import deciding_figure, due_predictions, quality_of
from monitor.served import collect
from monitor.trainings import Attempt, Recipe, Trainings

if TYPE_CHECKING:
    from caudal.package import ModelPackage


def inputs(context: StepContext) -> StepResult:
    """Measures what came in, and raises alarms about it.

    Returns:
        `alarms`, each new or standing; `ended`, those that are over; `model_version`, the champion whose training
        is the yardstick; `measures`, figure by name.
    """
    with context.warehouse:
        champion = _promotions(context).live_at(context.run.as_of)
        arrived = arrivals(context)
        measured = [*volume_and_times(context, arrived), *refused(context)]
        if champion is not None:
            measured += features(context, _package(context, champion), arrived)
        version = champion.version if champion else None
        told = record(context, "inputs", version, measured)
    _track(context, "inputs", version, measured, _counts(told))
    return {**told, "model_version": version, "measures": _summary(measured)}


def outcomes(context: StepContext) -> StepResult:
    """Measures predictions and their quality, raises alarms, concludes a trial, and decides whether to train.

    What servers answered is taken up first.

    Returns:
        `alarms` and `ended` as in `inputs`; `retrain` and its `reasons`; `withheld`, what asked for a training
        that is not done, and why not; `due_rows`, labelled and due; `new_rows`, those of them that became known
        since the last training that did not fail; `last_training`, what became of the last one; `quality`, the
        contract's own figure, None with too few labels; `served`, which lines of the servers' log were taken up;
        `trial`, what a challenger's trial has come to, None without one; `model_version` and `measures` as in
        `inputs`.
    """
    with context.warehouse:
        promotions, trainings = _promotions(context), Trainings(context)
        champion = promotions.live_at(context.run.as_of)
        package = _package(context, champion) if champion else None
        served = collect(context)
        measured = [*scoring_time(context), *served.measurements()]
        quality, tried = None, None
        if champion is not None and package is not None:
            live = live_predictions(context, promotions, champion)
            measured += _drift(context, live, package)
            judged = due_predictions(context, live)
            measured += quality_of(context, package, judged)
            quality = deciding_figure(context, judged, measured)
            tried = _trial(context, promotions, champion, package, measured)
        last = last_training(context, trainings)
        measured += of_training(context, last)
        facts = facts_of(context, champion, package, trainings, measured, tried)
        measured += [
            Measurement("due_rows", facts.due_rows, facts.due_rows),
            Measurement("new_rows", facts.new_rows, facts.due_rows),
        ]
        decision = decide(facts, context.contract.retrain, _fewest_rows(context, champion))
        version = champion.version if champion else None
        told = record(context, "outcomes", version, measured)
        if decision.retrain:
            trainings.record(Attempt(context.run.id, context.run.as_of, decision.reasons, Recipe.current(context)))
    _track(context, "outcomes", version, measured, {**_counts(told), **_said(decision)})
    return {
        **told,
        **_said(decision),
        "due_rows": facts.due_rows,
        "new_rows": facts.new_rows,
        "last_training": last.to_json() if last else None,
        "quality": quality,
        "served": served.to_json(),
        "trial": tried.evidence() if tried else None,
        "model_version": version,
        "measures": _summary(measured),
    }


def _drift(context: StepContext, live: LivePredictions, package: ModelPackage) -> list[Measurement]:
    """Drift of predictions and of each class's rows; one verdict over both."""
    of_scores, tests = prediction_drift(context, live, package)
    of_classes, more = class_drift(context, package)
    return [*of_scores, *of_classes, *verdicts([*tests, *more], context.contract.monitor.false_alarms)]


def _trial(
    context: StepContext,
    promotions: Promotions,
    champion: Promotion,
    package: ModelPackage,
    measured: list[Measurement],
) -> trial.Outcome | None:
    """Judges and concludes the trial of the challenger that there is; adds its figures."""
    challenger = promotions.challenger_at(context.run.as_of)
    if challenger is None:
        return None
    outcome = trial.run_trial(context, package, champion, challenger)
    measured += trial.measurements(outcome)
    trial.conclude(context, promotions, champion, challenger, outcome)
    return outcome


def _promotions(context: StepContext) -> Promotions:
    return Promotions(context.storage, context.environment.ledger(context.contract.name, "promotions"))


def _package(context: StepContext, champion: Promotion) -> ModelPackage:
    from caudal.package import open_package

    return open_package(context.storage, champion.package)


def _fewest_rows(context: StepContext, champion: Promotion | None) -> int:
    train_on = context.contract.model.train_on
    return train_on.minimum if champion else train_on.rows_for_first


def _said(decision: Decision) -> dict[str, Any]:
    return {"retrain": decision.retrain, "reasons": list(decision.reasons), "withheld": decision.withheld}


def _counts(told: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    new = sum(alarm["state"] == "new" for alarm in told["alarms"])
    return {"alarms": len(told["alarms"]), "new_alarms": new, "ended_alarms": len(told["ended"])}


def _track(
    context: StepContext,
    step: str,
    version: str | None,
    measured: Sequence[Measurement],
    said: Mapping[str, Any],
) -> None:
    """In MLflow too: what is about no feature, and of each feature its drift and what is held against a threshold.

    The report draws the drift of a feature with too few rows to judge as well, so it is here too.
    """
    contract, run, drift = context.contract.name, context.run, context.contract.monitor.drift.measure
    shown = [one for one in measured if one.feature is None or one.threshold is not None or one.measure == drift]
    tags = {name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in said.items()}
    Tracking.of(context.environment).record(
        f"{contract}/monitor",
        f"{contract}/{run.id}/{step}",
        name=f"{step} {format_instant(run.as_of)}",
        at=run.as_of,
        metrics={one.name: one.value for one in shown},
        tags={**tags, "step": step, "model_version": version or ""},
    )


def _summary(measured: Sequence[Measurement]) -> dict[str, float]:
    """The figures that a reader of a run wants to see at once; the others stand in the warehouse."""
    return {
        one.name: round(one.value, 6)
        for one in measured
        if one.feature is None and one.value is not None and isfinite(one.value)
    }
