"""What came of predictions: the live figures of the champion, beside those of its validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from caudal.contract.monitoring import LIVE_METRICS
from caudal.labels import classes, encode_labels
from caudal.metrics import (
    Interval,
    auc_interval,
    bootstrap_metric,
    calibration_error,
    calibration_interval,
    metric,
    sign,
)
from caudal.sql import quoted
from monitor.earlier_runs import previous_as_of, taken_after
from monitor.measurements import Measurement

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.contract.modelling import Task
    from caudal.contract.monitoring import Limit, Quality
    from caudal.package import ModelPackage
    from caudal.step import StepContext
    from monitor.live_predictions import LivePredictions

Array = NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """The predictions whose labels are judged.

    Attributes:
        labels: as numbers, the latest event first.
        scores: in the same order.
        newly_due: how many of all due ones became due since the run before.
        window: `newly due`, or `latest` when those were too few.
    """

    labels: Array
    scores: Array
    newly_due: int
    window: str

    @property
    def rows(self) -> int:
        return len(self.labels)


def due_predictions(context: StepContext, live: LivePredictions) -> Judged:
    """The champion's live predictions whose labels are known and due."""
    contract, quality = context.contract, context.contract.monitor.quality
    previous = previous_as_of(context)
    taken, since = taken_after(contract, previous, "w")
    answer = context.warehouse.query(
        f"SELECT w.{quoted(contract.label.column)}, p.score, p.prediction, "
        f"(p.event_time > @due_before OR {taken}) AS newly_due "
        f"{live.sql} AND p.event_time <= @due AND w.{quoted(contract.label.column)} IS NOT NULL "
        f"ORDER BY p.event_time DESC, p.key LIMIT {quality.maximum_rows}",
        {
            **live.parameters,
            "due": context.run.as_of - contract.label.due_after,
            "due_before": previous - contract.label.due_after,
            **since,
        },
    )
    labels = encode_labels(contract, answer)
    scores = _scores(contract, answer)
    new = np.asarray(answer.column("newly_due").to_numpy(zero_copy_only=False), dtype=bool)
    count = int(new.sum())
    if count >= quality.minimum_rows:
        return Judged(labels[new], scores[new], count, "newly due")
    return Judged(labels[: quality.minimum_rows], scores[: quality.minimum_rows], count, "latest")


def quality_of(context: StepContext, package: ModelPackage, judged: Judged) -> list[Measurement]:
    """Every figure of the task against the contract's limits, and the contract's own one against validation."""
    contract, quality = context.contract, context.contract.monitor.quality
    measured = [Measurement("labels_newly_due", judged.newly_due, judged.newly_due)]
    if judged.rows < quality.minimum_rows:
        return measured
    for name, figure in figures(contract.task, package.threshold).items():
        value = figure(judged.labels, judged.scores)
        one = Measurement(f"live_{name}", None if math.isnan(value) else value, judged.rows)
        if name == contract.live_metric:
            one = _against_validation(context, package, judged, one)
        limit = quality.limits.get(name)
        if limit is not None and one.kind is None:
            one = _against_limit(context, package, judged, one, name, limit)
        measured.append(one)
    return measured


def deciding_figure(
    context: StepContext, judged: Judged, measured: Sequence[Measurement]
) -> dict[str, Any] | None:
    """The contract's own figure as a step's result says it; None where there are too few labels."""
    name = context.contract.live_metric
    for one in measured:
        if one.measure == f"live_{name}" and one.value is not None:
            return {
                "metric": name,
                "value": round(one.value, 6),
                "threshold": one.threshold,
                "rows": one.rows,
                "window": judged.window,
            }
    return None


def _scores(contract: Contract, predictions: pa.Table) -> Array:
    """The scores as metrics take them. Of several classes only the decision counts: 1 for it, and 0 for others."""
    if contract.task != "multiclass":
        return np.asarray(predictions.column("score").to_numpy(), dtype=np.float64)
    named = classes(contract)
    decided = pc.index_in(predictions.column("prediction"), pa.array(named, pa.string())).to_numpy()
    return np.asarray(np.eye(len(named))[decided])


def figures(task: Task, threshold: float | None) -> Mapping[str, Callable[[Array, Array], float]]:
    """The metrics that are measured of a task, by name."""
    own = {"calibration_error": calibration_error}
    return {name: own.get(name) or metric(name, task, threshold) for name in LIVE_METRICS[task]}


def validation_figure(package: ModelPackage, name: str) -> float | None:
    """A metric of the champion's validation."""
    found = package.metadata.get("metrics", {}).get("all", {}).get(name, {}).get("value")
    return None if found is None else float(found)


def _against_validation(
    context: StepContext, package: ModelPackage, judged: Judged, one: Measurement
) -> Measurement:
    quality, name = context.contract.monitor.quality, context.contract.live_metric
    validated = validation_figure(package, name)
    if validated is None or one.value is None:
        return one
    way = sign(name)
    threshold = validated - way * quality.allowed_loss
    compared = replace(one, threshold=threshold)
    if way * (threshold - one.value) <= 0:
        return compared
    interval = _interval(context, package, judged, name)
    best = interval.high if way > 0 else interval.low
    if not way * (validated - best) > 0:
        return compared
    evidence = {"validation": validated, **_evidence(quality, interval, judged)}
    return replace(compared, kind="quality", evidence=evidence)


def _against_limit(
    context: StepContext, package: ModelPackage, judged: Judged, one: Measurement, name: str, limit: Limit
) -> Measurement:
    """The figure within the contract's bounds, an alarm where its whole interval lies beyond one.

    A figure that is also held against validation keeps that threshold as long as it is within its bounds.
    """
    value = one.value
    if value is None:
        return one
    for bound, way in ((limit.at_least, 1), (limit.at_most, -1)):
        if bound is None:
            continue
        if one.threshold is None:
            one = replace(one, threshold=bound)
        if not way * (bound - value) > 0:
            continue
        interval = _interval(context, package, judged, name)
        best = interval.high if way > 0 else interval.low
        if way * (bound - best) > 0:
            evidence = _evidence(context.contract.monitor.quality, interval, judged)
            return replace(one, threshold=bound, kind="quality", evidence=evidence)
    return one


def _evidence(quality: Quality, interval: Interval, judged: Judged) -> dict[str, Any]:
    return {"low": interval.low, "high": interval.high, "level": quality.level, "window": judged.window}


def _interval(context: StepContext, package: ModelPackage, judged: Judged, name: str) -> Interval:
    task, quality = context.contract.task, context.contract.monitor.quality
    if task == "binary" and name == "auc":
        return auc_interval(judged.labels, judged.scores, quality.level)
    if name == "calibration_error":
        return calibration_interval(judged.labels, judged.scores, quality.level, quality.samples)
    return bootstrap_metric(
        name,
        judged.labels,
        judged.scores,
        task=task,
        threshold=package.threshold,
        level=quality.level,
        samples=quality.samples,
    )
