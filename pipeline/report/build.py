"""From an environment's run records, measurements, scored rows and promotion ledger to what a report shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from caudal.errors import NotFound
from caudal.identity import format_instant
from caudal.package import open_package
from caudal.promotions import Promotions
from caudal.tables import monitoring_table
from pipeline.report.events import alarm_text, alarms_of, ledger_events, rebuilt_text, run_events, verdict_text
from pipeline.report.model import DriftCell, Event, Figure, QualityPoint, Report, RunLine
from pipeline.report.scored import Scored, interval, scored_rows
from pipeline.report.summary import run_rows, run_seconds, summarise
from pipeline.runs import list_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.promotions import Promotion
    from caudal.storage import Storage
    from caudal.warehouse import Warehouse
    from pipeline.runs import RunRecord


@dataclass(frozen=True)
class Period:
    """A run that is over, and the stretch of time before its as-of that it looked at."""

    label: str
    since: datetime
    record: RunRecord


@dataclass(frozen=True)
class Reported:
    """The figures for machines, and the same for the page."""

    summary: Mapping[str, Any]
    report: Report


def environment_report(
    contract: Contract, environment: Environment, storage: Storage, warehouse: Warehouse
) -> Reported:
    """Reports on every run of an environment that is over, with the labels that are due by the last one.

    Raises:
        NotFound: no run is over yet.
    """
    listed = list_runs(storage, environment, contract.name)
    records = sorted(
        (record for _, record in listed if record is not None), key=lambda one: (one.run.as_of, one.run.id)
    )
    if not records:
        begun = f"; {len(listed)} began and none is over" if listed else ""
        raise NotFound(
            f"there is nothing to report: no run of {contract.name} is over{begun}",
            where=environment.runs(contract.name),
            mend=f"call `caudal run {contract.name}`, or name the right --env or --root",
        )
    instants = [record.run.as_of for record in records]
    starts = [instants[0] - environment.schedule.every, *instants[:-1]]
    periods = [
        Period(format_instant(record.run.as_of)[:16].replace("T00:00", "").replace("T", " "), since, record)
        for since, record in zip(starts, records, strict=True)
    ]
    due_by = instants[-1] - contract.label.due_after
    history = Promotions(storage, environment.ledger(contract.name, "promotions")).history()
    with warehouse:
        scored = scored_rows(contract, warehouse, due_by=due_by)
        return _reported("environment", contract, periods, scored, history, warehouse)


def replay_report(
    contract: Contract,
    environment: Environment,
    storage: Storage,
    warehouse: Warehouse,
    periods: Sequence[Period],
) -> Reported:
    """Reports on a replay: the same, with every label, and with the first model beside the live one."""
    history = Promotions(storage, environment.ledger(contract.name, "promotions")).history()
    frozen = open_package(storage, history[0].package) if history else None
    return _reported(
        "replay", contract, periods, scored_rows(contract, warehouse, frozen=frozen), history, warehouse
    )


def _reported(
    kind: str,
    contract: Contract,
    periods: Sequence[Period],
    scored: Scored,
    history: Sequence[Promotion],
    warehouse: Warehouse,
) -> Reported:
    records = [period.record for period in periods]
    summary = summarise(contract, records, scored, history, warehouse)
    last = records[-1].run.as_of
    events: list[Event] = [event for record in records for event in run_events(record)]
    events += ledger_events(history)
    report = Report(
        title=contract.name.replace("_", " "),
        kind=kind,
        question=contract.question,
        citation=contract.source.citation,
        first=min([periods[0].since, *(event.at for event in events)]),
        last=max([last, *(event.at for event in events)]),
        metric=contract.gate.metric,
        monitored=contract.live_metric,
        pooled=summary["pooled"],
        quality=_quality(contract, scored, periods[0].since, last),
        drift=_drift(contract, warehouse, records[0].run.as_of, last),
        drift_measure=contract.monitor.drift.measure,
        drift_threshold=contract.monitor.drift.threshold,
        events=sorted(events, key=lambda event: event.at),
        rows=summary["rows"],
        runs=[_line(period) for period in periods],
        cards=_cards(contract, summary),
        details={"Licence": contract.source.licence or "not stated", "contract digest": contract.digest()[:12]},
    )
    return Reported(summary, report)


def _cards(contract: Contract, summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    metric, pooled = contract.gate.metric, summary["pooled"]
    cards = [
        (
            f"{metric}, live model",
            _figure(pooled["champion"].get(metric)),
            f"{pooled['champion']['n']:,} scored rows with a label",
        )
    ]
    if "frozen" in pooled:
        never = _figure(pooled["frozen"].get(metric))
        cards.append((f"{metric}, never retrained", never, "the first model on the same rows"))
    cards += [
        ("retrainings", str(summary["retrainings"]), f"{summary['candidates_refused']} candidates refused"),
        ("promotions", str(summary["promotions"]), "each with evidence in the ledger"),
        ("alarms", str(len(summary["alarms"])), f"in {summary['runs']} runs"),
    ]
    trials = summary["trials"]
    if trials["begun"]:
        ended = f"{trials['promoted']} promoted, {trials['dropped']} dropped"
        cards.append(("challengers on trial", str(trials["begun"]), ended))
    return cards


def _figure(value: float | None) -> str:
    return "none yet" if value is None else f"{value:.3f}"


def _quality(contract: Contract, scored: Scored, first: datetime, last: datetime) -> list[QualityPoint]:
    points = []
    for label, part in scored.quarters().items():
        start, stop = _quarter(label)
        # A quarter that the report covers in part is drawn over that part.
        start, stop = max(start, min(first, stop)), min(stop, max(last, start))
        drawn = {name: _interval(contract, part.label, score) for name, score in part.models.items()}
        points.append(QualityPoint(label, start, stop, len(part), drawn["champion"], drawn.get("frozen")))
    return points


def _quarter(label: str) -> tuple[datetime, datetime]:
    year, number = int(label[:4]), int(label[5])
    return (
        datetime(year, 3 * number - 2, 1, tzinfo=UTC),
        datetime(year + number // 4, 3 * number % 12 + 1, 1, tzinfo=UTC),
    )


def _interval(contract: Contract, labels: NDArray[Any], scores: NDArray[Any]) -> Figure:
    found = interval(contract, labels, scores)
    return Figure(*(float(v) if np.isfinite(v) else None for v in (found.value, found.low, found.high)))


def _drift(
    contract: Contract, warehouse: Warehouse, first: datetime, last: datetime
) -> dict[str, dict[datetime, DriftCell]]:
    rows = warehouse.query(
        f"SELECT feature, as_of, value, threshold, `rows`, alarm FROM {monitoring_table().sql_name} "
        "WHERE contract = @contract AND step = 'inputs' AND measure = @measure "
        "AND feature IS NOT NULL AND value IS NOT NULL "
        "AND as_of >= @first AND as_of <= @last ORDER BY feature, as_of",
        {"contract": contract.name, "measure": contract.monitor.drift.measure, "first": first, "last": last},
    ).to_pylist()
    found: dict[str, dict[datetime, DriftCell]] = defaultdict(dict)
    for row in rows:
        judged = row["threshold"] is not None
        found[row["feature"]][row["as_of"]] = DriftCell(row["value"], row["rows"], judged, row["alarm"])
    order = [feature.name for feature in contract.model_features()]
    return {name: found[name] for name in order if name in found}


def _line(period: Period) -> RunLine:
    record, results = period.record, period.record.results
    counted, seconds = run_rows(record), run_seconds(record)
    outcomes = results.get("outcomes", {})
    quality = outcomes.get("quality")
    failed = [name for name, step in record.steps.items() if step.status == "failed"]
    said = [
        f"the run failed at {', '.join(failed)}" if failed else "",
        rebuilt_text(results),
        verdict_text(results),
    ]
    return RunLine(
        period.label,
        **counted["rows"],
        reasons=counted["rejected_by_reason"],
        bytes_shuffled=counted["bytes_shuffled"],
        training_seconds=seconds["training"],
        scoring_seconds=seconds["scoring"],
        quality=(quality["value"], quality["threshold"]) if quality else None,
        alarms=tuple(alarm_text(alarm) for alarm in alarms_of(results)),
        decision=", ".join(outcomes.get("reasons", ())) if outcomes.get("retrain") else "no",
        verdict="; ".join(text for text in said if text),
    )
