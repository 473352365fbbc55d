"""What comes out of the model: the distribution of scores, and the time that scoring takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caudal.tables import predictions_table
from monitor.drift import Subject, Tested, drift_of, recent
from monitor.histograms import HistogramQuery
from monitor.measurements import Measurement, time_taken

if TYPE_CHECKING:
    from caudal.package import ModelPackage
    from caudal.step import StepContext
    from monitor.live_predictions import LivePredictions


def prediction_drift(
    context: StepContext, live: LivePredictions, package: ModelPackage
) -> tuple[list[Measurement], list[Tested]]:
    """The champion's live scores beside those that it gave on its judging rows: distances, and the test."""
    known = package.profile.get("scores")
    if known is None:
        return [], []
    monitor = context.contract.monitor
    profile = {"kind": "numeric", "missing": 0, **known}
    condition, parameters = recent("as_of", monitor.prediction_drift, context.run.as_of)
    rows = f"(SELECT p.score, p.as_of {live.sql}) AS live"
    query = HistogramQuery(rows, condition, {**live.parameters, **parameters})
    query.add("score", profile, predictions_table(context.contract).schema.field("score").type)
    _, histograms = query.run(context.warehouse)
    subject = Subject("prediction_drift", "prediction_")
    described, tested = drift_of(subject, profile, histograms["score"], monitor.prediction_drift)
    return described, [tested] if tested else []


def scoring_time(context: StepContext) -> list[Measurement]:
    """The seconds that this run's scoring took, over the rows that it scored."""
    scored = context.results.get("score", {})
    if not scored.get("rows") or "seconds" not in scored:
        return []
    allowed = context.contract.monitor.time.scoring
    return [time_taken("scoring_seconds", float(scored["seconds"]), int(scored["rows"]), allowed)]
