"""What came in: volume, freshness, refused rows, and each feature beside the champion's training profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from caudal.event_time import event_times
from caudal.profile import missing_share
from caudal.sql import quoted
from caudal.tables import monitoring_table, warehouse_table
from monitor.divergence import higher_share_p_value
from monitor.drift import Subject, Tested, drift_of, recent, verdicts
from monitor.histograms import Histogram, HistogramQuery
from monitor.measurements import Measurement
from monitor.warm_up import WarmUp

if TYPE_CHECKING:
    from caudal.alarms import AlarmKind
    from caudal.contract.monitoring import Monitor, Volume
    from caudal.package import ModelPackage
    from caudal.step import StepContext

ARRIVED = "rows_arrived"
_FEWEST_RUNS = 3
_DAY = 86400.0


@dataclass(frozen=True)
class Arrivals:
    """What the warehouse holds at this as-of.

    Attributes:
        rows: how many first arrived in this run.
        first, newest: the instants of the first and of the latest event; None when there is no row.
    """

    rows: int
    first: datetime | None
    newest: datetime | None


def arrivals(context: StepContext) -> Arrivals:
    """Looks what has arrived."""
    contract = context.contract
    event = quoted(contract.event_time)
    answer = context.warehouse.query(
        f"SELECT COUNTIF(_first_as_of = @as_of) AS arrived, MIN({event}) AS first, MAX({event}) AS newest "
        f"FROM {warehouse_table(contract).sql_name} WHERE _first_as_of <= @as_of",
        {"as_of": context.run.as_of},
    )
    first, newest = (event_times(contract, answer.column(name))[0].as_py() for name in ("first", "newest"))
    return Arrivals(int(answer.column("arrived")[0].as_py()), first, newest)


def volume_and_freshness(context: StepContext, arrived: Arrivals) -> list[Measurement]:
    """How much came, and how old the newest of all is."""
    measured = [_volume(context, arrived.rows)]
    if arrived.newest is not None:
        measured.append(_freshness(context, arrived.newest))
    return measured


def refused(context: StepContext) -> list[Measurement]:
    """The share of rows of this run that were rejected by the contract's checks, or could not be read at all."""
    etl = context.results.get("etl", {})
    ingest = context.results.get("ingest", {})
    counted = etl.get("rows", {})
    bad = int(counted.get("rejected", 0)) + int(ingest.get("quarantined", 0))
    rows = int(counted.get("read", 0)) + int(ingest.get("quarantined", 0))
    if not rows:
        return []
    threshold = context.contract.monitor.rejected.allowed_share
    evidence = {"reasons": etl.get("rejected", {}), "quarantined": int(ingest.get("quarantined", 0))}
    kind: AlarmKind | None = "rejected" if bad / rows > threshold else None
    return [Measurement("refused_share", bad / rows, rows, None, threshold, kind, evidence)]


def features(context: StepContext, package: ModelPackage, arrived: Arrivals) -> list[Measurement]:
    """Drift, missing and unseen values of each feature of the model, counted in one query."""
    contract, monitor = context.contract, context.contract.monitor
    warm_up = WarmUp(contract, arrived.first)
    known = package.profile["features"]
    profiled = warm_up.comparable(
        context, package, {f.name: known[f.name] for f in contract.model_features() if f.name in known}
    )
    condition, parameters = recent("_first_as_of", monitor.drift, context.run.as_of)
    table = warehouse_table(contract)
    query = HistogramQuery(table.sql_name, condition, parameters)
    for name, one in profiled.items():
        within = warm_up.condition(name, query.unused_parameter())
        query.add(name, one, table.schema.field(name).type, *within)
    _, histograms = query.run(context.warehouse)
    measured: list[Measurement] = []
    tested: list[Tested] = []
    for name, one in profiled.items():
        described, tests = _feature(name, one, histograms[name], monitor)
        measured += described
        tested += tests
    return [*measured, *verdicts(tested, monitor.false_alarms)]


def _feature(
    name: str, profile: Mapping[str, Any], histogram: Histogram, monitor: Monitor
) -> tuple[list[Measurement], list[Tested]]:
    described, drift = drift_of(Subject("drift", feature=name), profile, histogram, monitor.drift)
    tests = [drift] if drift else []
    rows, reference_rows = histogram.rows, sum(profile["counts"]) + profile["missing"]
    if not rows or not reference_rows:
        return described, tests
    usual = missing_share(profile)
    allowed = usual + monitor.missing.allowed_increase
    missing = Measurement(
        "missing_share", histogram.missing / rows, rows, name, allowed, "missing", {"in_training": usual}
    )
    share = histogram.unseen / histogram.present if histogram.present else 0.0
    unseen = Measurement("unseen_share", share, histogram.present, name, monitor.unseen.allowed_share, "unseen")
    if rows < monitor.drift.minimum_rows:
        return [*described, *(replace(one, threshold=None, kind=None) for one in (missing, unseen))], tests
    tests.append(
        Tested(
            missing,
            histogram.missing / rows > allowed,
            higher_share_p_value(profile["missing"], reference_rows, histogram.missing, rows),
        )
    )
    tests.append(
        Tested(
            unseen,
            share > monitor.unseen.allowed_share,
            higher_share_p_value(0, sum(profile["counts"]), histogram.unseen, histogram.present),
        )
    )
    return described, tests


def _volume(context: StepContext, arrived: int) -> Measurement:
    volume = context.contract.monitor.volume
    usual = _usual(context, volume)
    if usual is None:
        return Measurement(ARRIVED, arrived, arrived)
    fewest = None if volume.at_least is None else volume.at_least * usual
    most = None if volume.at_most is None else volume.at_most * usual
    unusual = (fewest is not None and arrived < fewest) or (most is not None and arrived > most)
    threshold = fewest if most is None or (fewest is not None and arrived < usual) else most
    kind: AlarmKind | None = "volume" if unusual else None
    return Measurement(ARRIVED, arrived, arrived, None, threshold, kind, {"usual": usual})


def _usual(context: StepContext, volume: Volume) -> float | None:
    """The median number of rows of the latest runs that brought any; None when not asked for, or of too few.

    Runs may start more often than files land, so an empty one says nothing of how many rows are usual.
    """
    if volume.at_least is None and volume.at_most is None:
        return None
    answer = context.warehouse.query(
        f"SELECT value FROM {monitoring_table().sql_name} "
        f"WHERE contract = @contract AND step = 'inputs' AND measure = '{ARRIVED}' AND value > 0 "
        "AND as_of < @as_of "
        f"ORDER BY as_of DESC LIMIT {volume.of_last}",
        {"contract": context.contract.name, "as_of": context.run.as_of},
    )
    values = answer.column("value").to_pylist()
    return float(median(values)) if len(values) >= _FEWEST_RUNS else None


def _freshness(context: StepContext, newest: datetime) -> Measurement:
    """The age of the newest event, in days."""
    age = (context.run.as_of - newest).total_seconds() / _DAY
    within = context.contract.monitor.fresh_within
    if within is None:
        return Measurement("newest_event_age_days", age, 1)
    allowed = within.total_seconds() / _DAY
    kind: AlarmKind | None = "freshness" if age > allowed else None
    return Measurement("newest_event_age_days", age, 1, None, allowed, kind)
