"""From a replay's runs, scored rows and measurements to what its report shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from caudal import metrics
from pipeline.replay.summary import Scored
from pipeline.report.model import Event, Figure, Lane, QualityPoint, Report, RunLine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caudal.contract import Contract
    from caudal.warehouse import Warehouse
    from pipeline.replay.replay import Month

_QUALITY_KINDS = ("quality",)


def replay_report(
    contract: Contract, months: Sequence[Month], scored: Scored, summary: Mapping[str, Any], warehouse: Warehouse
) -> Report:
    """What the report of a replay shows."""
    pooled = summary["pooled"]
    metric = contract.gate.metric
    cards = [
        (
            f"{metric}, live model",
            _figure(pooled["champion"].get(metric)),
            f"{pooled['champion']['n']:,} scored rows",
        ),
        (f"{metric}, never retrained", _figure(pooled["frozen"].get(metric)), "the first model on the same rows"),
        ("retrainings", str(summary["retrainings"]), f"{summary['candidates_refused']} candidates refused"),
        ("promotions", str(summary["promotions"]), "each with evidence in the ledger"),
        ("alarms", str(len(summary["alarms"])), "inputs and outcomes apart"),
    ]
    return Report(
        title=contract.name.replace("_", " "),
        question=contract.question,
        citation=contract.source.citation,
        first=months[0].delivery.since,
        last=months[-1].delivery.as_of,
        metric=metric,
        quality=_quality(contract, scored),
        drift=_drift(contract, warehouse),
        drift_measure=contract.monitor.drift.measure,
        drift_threshold=contract.monitor.drift.threshold,
        events=[event for month in months for event in _events(month)],
        rows=summary["rows"],
        runs=[_line(month) for month in months],
        cards=cards,
        details={"Licence": contract.source.licence or "not stated", "contract digest": contract.digest()[:12]},
    )


def _figure(value: float | None) -> str:
    return "none yet" if value is None else f"{value:.3f}"


def _quality(contract: Contract, scored: Scored) -> list[QualityPoint]:
    points = []
    for label in sorted(set(scored.quarter.tolist())):
        part = scored.part(scored.quarter == label)
        start = _quarter_start(label)
        stop = _quarter_start(f"{start.year + 1}Q1" if label.endswith("4") else f"{label[:5]}{int(label[5]) + 1}")
        champion = _interval(contract, part.label, part.champion)
        frozen = _interval(contract, part.label, part.frozen)
        points.append(QualityPoint(label, start, stop, len(part), champion, frozen))
    return points


def _quarter_start(label: str) -> datetime:
    return datetime(int(label[:4]), 3 * int(label[5]) - 2, 1, tzinfo=UTC)


def _interval(contract: Contract, labels: NDArray[Any], scores: NDArray[Any]) -> Figure:
    name = contract.gate.metric
    if name == "auc" and contract.task == "binary":
        interval = metrics.auc_interval(labels, scores)
    else:
        interval = metrics.bootstrap_metric(name, labels, scores, task=contract.task, samples=200)
    return Figure(*(float(v) if np.isfinite(v) else None for v in (interval.value, interval.low, interval.high)))


def _drift(contract: Contract, warehouse: Warehouse) -> dict[str, dict[datetime, float]]:
    rows = warehouse.query(
        "SELECT feature, as_of, value FROM monitoring.measurements "
        "WHERE contract = @contract AND measure = @measure AND feature IS NOT NULL AND value IS NOT NULL "
        "ORDER BY feature, as_of",
        {"contract": contract.name, "measure": contract.monitor.drift.measure},
    ).to_pylist()
    found: dict[str, dict[datetime, float]] = defaultdict(dict)
    for row in rows:
        found[row["feature"]][row["as_of"]] = row["value"]
    order = [feature.name for feature in contract.model_features()]
    return {name: found[name] for name in order if name in found}


def _events(month: Month) -> list[Event]:
    at = month.delivery.as_of
    results = month.record.results
    events: list[Event] = []

    def add(lane: Lane, said: str) -> None:
        events.append(Event(at, lane, said))

    for step in ("inputs", "outcomes"):
        alarms = results.get(step, {}).get("alarms", ())
        by_lane: dict[Lane, list[str]] = defaultdict(list)
        for alarm in alarms:
            by_lane["quality alarm" if alarm["kind"] in _QUALITY_KINDS else "input alarm"].append(
                alarm_text(alarm)
            )
        for lane, said in by_lane.items():
            add(lane, ", ".join(said))
    if "train" in results:
        add("training", ", ".join(results.get("outcomes", {}).get("reasons", ())))
    if "validate" in results and not results["validate"]["passed"]:
        add("refused", str(results["validate"].get("reason", "")))
    if "promote" in results:
        add("promotion", f"model {results['promote']['version']}")
    return events


def alarm_text(alarm: Mapping[str, Any]) -> str:
    """An alarm in a few words, such as `drift of x 0.41`, or `class_drift of x among yes 0.41`."""
    of = f" of {alarm['feature']}" if alarm.get("feature") else ""
    among = f" among {alarm['among']}" if alarm.get("among") is not None else ""
    return f"{alarm['kind']}{of}{among} {alarm['value']:.3g}"


def _line(month: Month) -> RunLine:
    results = month.record.results
    alarms = tuple(
        alarm_text(alarm) for step in ("inputs", "outcomes") for alarm in results.get(step, {}).get("alarms", ())
    )
    outcomes = results.get("outcomes", {})
    decision = ", ".join(outcomes.get("reasons", ())) if outcomes.get("retrain") else "no"
    return RunLine(
        month.delivery.label,
        results.get("ingest", {}).get("rows", 0),
        results.get("score", {}).get("rows", 0),
        alarms,
        decision,
        verdict_text(results),
    )


def verdict_text(results: Mapping[str, Any]) -> str:
    """What became of a candidate, or nothing when none was trained."""
    if "validate" not in results:
        return ""
    if results["validate"]["passed"]:
        return f"promoted {results['promote']['version'][:8]}" if "promote" in results else "passed"
    return f"refused: {results['validate'].get('reason', '')}"
