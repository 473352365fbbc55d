"""What came in: volume, times, refused rows and files, and each feature beside the champion's training profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from caudal.event_time import event_times, happened_by
from caudal.profile import missing_share
from caudal.sql import quoted
from caudal.tables import monitoring_table, warehouse_table
from monitor.divergence import higher_share_p_value
from monitor.drift import Subject, Tested, drift_of, recent, verdicts
from monitor.earlier_runs import first_as_of
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
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Arrivals:
    """What the warehouse holds at this as-of.

    Attributes:
        rows: how many first arrived in this run.
        early: how many of them tell of an event of the future: more than a day and the schedule's period after the
            as-of. A run takes what landed until it starts, up to a period after its as-of, and time zones differ.
        first: the instant at which events begin: the first of the day by which a thousandth of all rows, and more
            than one, had happened. So a few wrong times of long ago begin nothing. None when there is no row.
        newest: the instant of the latest event not after the as-of; None when there is none.
    """

    rows: int
    early: int
    first: datetime | None
    newest: datetime | None


def arrivals(context: StepContext) -> Arrivals:
    """Looks what has arrived."""
    contract, as_of = context.contract, context.run.as_of
    event = quoted(contract.event_time)
    happened, now = happened_by(contract, as_of, "now")
    credible, latest = happened_by(contract, as_of + context.environment.schedule.every + _DAY, "latest")
    by_day = (
        f"SELECT _event_date, COUNT(*) AS n, MIN({event}) AS earliest, "
        f"MAX(CASE WHEN {happened} THEN {event} END) AS newest, COUNTIF(_first_as_of = @as_of) AS arrived, "
        f"COUNTIF(_first_as_of = @as_of AND NOT {credible}) AS early "
        f"FROM {warehouse_table(contract).sql_name} WHERE _first_as_of <= @as_of GROUP BY _event_date"
    )
    counted = "SELECT *, SUM(n) OVER (ORDER BY _event_date) AS upto, SUM(n) OVER () AS total FROM by_day"
    answer = context.warehouse.query(
        f"WITH by_day AS ({by_day}), counted AS ({counted}) "
        "SELECT SUM(arrived) AS arrived, SUM(early) AS early, MAX(newest) AS newest, "
        "COALESCE(MIN(CASE WHEN upto > 1 AND 1000 * upto >= total THEN earliest END), MIN(earliest)) AS first "
        "FROM counted",
        {"as_of": as_of, **now, **latest},
    )
    first, newest = (event_times(contract, answer.column(name))[0].as_py() for name in ("first", "newest"))
    arrived, early = (int(answer.column(name)[0].as_py() or 0) for name in ("arrived", "early"))
    return Arrivals(arrived, early, first, newest)


def volume_and_times(context: StepContext, arrived: Arrivals) -> Iterator[Measurement]:
    """How much came, how much of it from the future, and how old the newest of all is."""
    yield _volume(context, arrived.rows)
    if arrived.rows:
        share, allowed = arrived.early / arrived.rows, context.contract.monitor.rejected.allowed_share
        kind: AlarmKind | None = "rejected" if share > allowed else None
        yield Measurement("future_share", share, arrived.rows, None, allowed, kind)
    yield from _freshness(context, arrived)


def refused(context: StepContext) -> Iterator[Measurement]:
    """What of this run could not be used: rows that the checks rejected or nobody could read, and whole files."""
    ingest = context.results.get("ingest", {})
    files = int(ingest.get("files_quarantined", 0))
    if files:
        # How many rows such a file held nobody knows, so it is no part of a share.
        evidence = {"landed_files": int(ingest.get("loads", files))}
        yield Measurement("files_quarantined", files, 0, None, 0.0, "rejected", evidence)
    etl = context.results.get("etl", {})
    counted = etl.get("rows", {})
    bad = int(counted.get("rejected", 0)) + int(ingest.get("quarantined", 0))
    rows = int(counted.get("read", 0)) + int(ingest.get("quarantined", 0))
    if not rows:
        return
    threshold = context.contract.monitor.rejected.allowed_share
    evidence = {"reasons": etl.get("rejected", {}), "quarantined": int(ingest.get("quarantined", 0))}
    kind: AlarmKind | None = "rejected" if bad / rows > threshold else None
    yield Measurement("refused_share", bad / rows, rows, None, threshold, kind, evidence)


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
    # What is missing says nothing of what is new: each share needs rows enough of its own.
    enough = monitor.drift.minimum_rows
    if rows < enough:
        described.append(_not_judged(missing))
    else:
        chance = higher_share_p_value(profile["missing"], reference_rows, histogram.missing, rows)
        tests.append(Tested(missing, histogram.missing / rows > allowed, chance))
    if histogram.present < enough:
        described.append(_not_judged(unseen))
    else:
        chance = higher_share_p_value(0, sum(profile["counts"]), histogram.unseen, histogram.present)
        tests.append(Tested(unseen, share > monitor.unseen.allowed_share, chance))
    return described, tests


def _not_judged(one: Measurement) -> Measurement:
    return replace(one, threshold=None, kind=None)


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


def _freshness(context: StepContext, arrived: Arrivals) -> Iterator[Measurement]:
    """The age of the newest event, in days.

    Where no event has ever come though some are awaited, it counts from the first run that looked for them.
    """
    as_of, within = context.run.as_of, context.contract.monitor.fresh_within
    if arrived.newest is None and within is None:
        return
    age = (as_of - (arrived.newest or first_as_of(context))) / _DAY
    rows = int(arrived.newest is not None)
    if within is None:
        yield Measurement("newest_event_age_days", age, rows)
        return
    allowed = within / _DAY
    kind: AlarmKind | None = "freshness" if age > allowed else None
    yield Measurement("newest_event_age_days", age, rows, None, allowed, kind)
