"""Where a run's rows come from: queries, split into streams that workers read side by side.

The lake is partitioned by landing and the warehouse by event date, so every query names the landings of the loads
and the days that it looks for, as values: BigQuery then reads no other partitions. The days follow from one look
for the touched keys in all of the warehouse (`moving_days`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import pyarrow as pa

from caudal.errors import TooManyDays
from caudal.event_time import INSTANT
from caudal.tables import MOST_PARTITIONS, covered_table, lake_table, warehouse_table
from caudal.warehouse import ReadStream
from etl_beam.checks import FIRST_DAY, LAST_DAY, UNPARSED, event_bounds
from etl_beam.rows import DAY, FIRST, ROW, window_features, with_load_index

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.warehouse import Parameters
    from etl_beam.job import OpenJob
    from etl_beam.plan import Plan
    from etl_beam.windows import EntityWindows

Days = tuple[date, date]
"""A first and a last day, both included."""

ROWS_A_STREAM = 1_000_000
LEAST_AT_ONCE, MOST_AT_ONCE = 131_072, 2_000_000
ROWS_A_SLICE = 2_000
"""Rows are checked and spread so many at once that a slice for one shard has about this many: each slice has fixed
costs of some 0.5 KB. The bounds keep the memory of a reader within reason."""

_A_DAY = timedelta(days=1)
_DAY_US = 86_400 * 10**6

# Names within a query, which no column of a contract can have.
_TOUCHED, _MOVING, _MOMENT = "_touched", "_moving", "_moment"


class Source(StrEnum):
    """Why a row is read."""

    GAIN = "gain"
    """A row of the lake that no commit covers."""

    RECALLED = "recalled"
    """An older row of the lake whose key has lost a row to a newer generation of its object."""

    STANDING = "standing"
    """A row of the warehouse whose key the run touches, or which lies within reach of such a row's windows."""

    KNOWN = "known"
    """When a key of the warehouse first arrived, and on which day its row lies; all that a rebuild takes over."""


def sources(plan: Plan) -> list[Source]:
    """What a run must read."""
    if not plan.new:
        return []
    wanted = [Source.GAIN] if plan.new_rows else []
    if plan.rebuilt:
        wanted.append(Source.KNOWN)
    elif not plan.first_run:
        wanted.append(Source.STANDING)
    if plan.displaced:
        wanted.append(Source.RECALLED)
    return wanted


def plan_streams(job: OpenJob, source: Source) -> list[ReadStream]:
    """Splits a source into streams."""
    asked = _QUERIES[source](job)
    if asked is None:
        return []
    query, parameters = asked
    bound = job.plan.new_rows if source is Source.GAIN else job.plan.all_rows
    return job.warehouse.plan_read(query, parameters, streams=1 + bound // ROWS_A_STREAM)


def read_rows(job: OpenJob, source: Source, stream: ReadStream) -> Iterator[pa.Table]:
    """Reads a stream as tables of rows in flight, large enough to be worth splitting."""
    schema = _schema(job.contract, source)
    enough = min(max(LEAST_AT_ONCE, ROWS_A_SLICE * job.shards), MOST_AT_ONCE)
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in job.warehouse.read_stream(stream):
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= enough:
            yield _conformed(job, schema, waiting)
            waiting, rows = [], 0
    if rows:
        yield _conformed(job, schema, waiting)


def _conformed(job: OpenJob, schema: pa.Schema, batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches).cast(schema).combine_chunks()
    return with_load_index(job, table) if "_load_id" in schema.names else table


def _schema(contract: Contract, source: Source) -> pa.Schema:
    fields = list(contract.arrow_schema())
    taken_over = [pa.field(DAY, pa.date32()), pa.field(FIRST, INSTANT)]
    if source is Source.KNOWN:
        return pa.schema([contract.arrow_schema().field(contract.key), *taken_over])
    if source is Source.STANDING:
        fields += [pa.field(name, pa.float64()) for name in window_features(contract)]
        fields += taken_over
    else:
        fields.append(pa.field(UNPARSED, pa.string()))
    return pa.schema([*fields, pa.field("_load_id", pa.string()), pa.field(ROW, pa.int64())])


def _columns(contract: Contract, source: Source, alias: str) -> str:
    return ", ".join(f"{alias}.`{name}`" for name in _schema(contract, source).names)


def _lake(contract: Contract) -> str:
    return lake_table(contract).sql_name


def _of_loads(plan: Plan, alias: str, name: str, load_ids: Sequence[str]) -> tuple[str, Parameters]:
    """A condition for the lake's rows of some loads, within the partitions in which they landed."""
    landed, parameters = _landed(plan, alias, name, load_ids)
    return (
        f"{alias}._load_id IN (SELECT l FROM UNNEST(@{name}) AS l) AND {landed}",
        {**parameters, name: load_ids},
    )


def _landed(plan: Plan, alias: str, name: str, load_ids: Iterable[str]) -> tuple[str, Parameters]:
    first, last = plan.landed(load_ids)
    return (
        f"{alias}._ingested_at >= @{name}_first AND {alias}._ingested_at <= @{name}_last",
        {f"{name}_first": first, f"{name}_last": last},
    )


def _gain(job: OpenJob) -> tuple[str, Parameters] | None:
    new, parameters = _of_loads(job.plan, "g", "new", job.plan.new)
    return (
        f"SELECT {_columns(job.contract, Source.GAIN, 'g')} FROM {_lake(job.contract)} AS g WHERE {new}",
        parameters,
    )


def _standing(job: OpenJob) -> tuple[str, Parameters] | None:
    """Rows of the warehouse whose key the run touches, and those within reach of a row that may come or go."""
    contract = job.contract
    if job.days is None:
        return None
    moving, parameters = moving_rows(job, job.days)
    near, reach = [f"w.`{contract.key}` IN (SELECT t.`{contract.key}` FROM {_TOUCHED} AS t)"], 0
    joins = []
    for number, group in enumerate(job.windows):
        join, condition = within_reach(job, group, f"b{number}")
        joins.append(join)
        near.append(condition)
        reach = max(reach, group.reach)
    days, limits = within_days("w", "read", _widened(job.days, reach))
    columns = _columns(contract, Source.STANDING, "w")
    return (
        f"{moving} SELECT {columns} FROM {warehouse_table(contract).sql_name} AS w "
        f"{' '.join(joins)} WHERE {days} AND ({' OR '.join(near)})",
        {**parameters, **limits},
    )


def moving_days(job: OpenJob) -> Days | None:
    """The days between which all rows lie that may come to the warehouse, leave it or change; None without any.

    The only query that looks for keys in all of the warehouse.
    """
    if not job.plan.new or job.plan.first_run:
        return None
    moving, parameters = moving_rows(job, None)
    found = job.warehouse.query(
        f"{moving} SELECT MIN(m.{_MOMENT}) AS first, MAX(m.{_MOMENT}) AS last FROM {_MOVING} AS m", parameters
    )
    first, last = found["first"][0].as_py(), found["last"][0].as_py()
    # A day counts in the contract's time zone, and a moment in UTC.
    return None if first is None else _widened((first.date(), last.date()), _DAY_US)


def check_days(job: OpenJob) -> None:
    """Makes sure that the days of the lake's gain can be partitions of one table.

    They are counted in UTC, so a time zone may add or take a few. A table that outgrows the limit over many runs
    is found by BigQuery itself, in the commit.

    Raises:
        TooManyDays: they can't.
    """
    if job.plan.new_rows <= MOST_PARTITIONS:
        return
    rows, parameters = gained_moments(job, job.contract.key)
    found = job.warehouse.query(
        "SELECT COUNT(DISTINCT CAST(n.t AS DATE)) AS days, MIN(n.t) AS first, MAX(n.t) AS last "
        f"FROM ({rows}) AS n",
        parameters,
    )
    [days] = found["days"].to_pylist()
    if days > MOST_PARTITIONS:
        first, last = found["first"][0].as_py().date(), found["last"][0].as_py().date()
        raise TooManyDays(
            f"the new rows lie on {days:,} days from {first} to {last}, and a table has at most "
            f"{MOST_PARTITIONS:,} (27 years)",
            where=f"{_lake(job.contract)}, column '{job.contract.event_time}'",
            mend="correct the event times if they are wrong; else land files of fewer years, the newest",
        )


def within_days(alias: str, name: str, days: Days) -> tuple[str, Parameters]:
    """A condition for the warehouse's rows within some days, both included."""
    return (
        f"{alias}._event_date >= @{name}_from AND {alias}._event_date <= @{name}_to",
        {f"{name}_from": days[0], f"{name}_to": days[1]},
    )


def _widened(days: Days, reach: int) -> Days:
    """The days within reach of some, as far as there can be rows; the reach in microseconds."""
    room = -(-reach // _DAY_US)
    return (
        days[0] - timedelta(days=min(room, (days[0] - FIRST_DAY).days)),
        days[1] + timedelta(days=min(room, (LAST_DAY - days[1]).days)),
    )


def gained_moments(job: OpenJob, entity: str) -> tuple[str, Parameters]:
    """An entity's column, as `entity`, and the instants, as `t`, of the lake's gain."""
    moment = job.contract.event_time
    first, last = event_bounds(job.contract.columns[moment])
    new, parameters = _of_loads(job.plan, "n", "new", job.plan.new)
    return (
        f"SELECT n.`{entity}` AS entity, CAST(n.`{moment}` AS TIMESTAMP) AS t FROM {_lake(job.contract)} AS n "
        f"WHERE {new} AND n.`{moment}` >= @first_moment AND n.`{moment}` <= @last_moment",
        {**parameters, "first_moment": first.as_py(), "last_moment": last.as_py()},
    )


def moving_rows(job: OpenJob, days: Days | None) -> tuple[str, Parameters]:
    """A WITH clause: the keys that the run touches, and the rows that may come, go or change in the warehouse.

    The rows have their instant, as `_moment`, and the windows' entities. Without windows only rows that stand in
    the warehouse matter.

    Args:
        job: the job.
        days: where the rows lie that stand in the warehouse; without them all of it is read, and no entity.
    """
    contract, plan = job.contract, job.plan
    touching, parameters = _of_loads(plan, "g", "touching", [*plan.new, *plan.displaced])

    def moments(alias: str) -> str:
        entities = "".join(f"{alias}.`{group.entity}`, " for group in job.windows if days is not None)
        return f"SELECT {entities}CAST({alias}.`{contract.event_time}` AS TIMESTAMP) AS {_MOMENT}"

    lake, key = f"FROM {_lake(contract)} AS g", f"`{contract.key}`"
    touched = f"SELECT g.{key} {lake} WHERE {touching}"
    standing = (
        f"{moments('s')} FROM {warehouse_table(contract).sql_name} AS s "
        f"WHERE s.{key} IN (SELECT t.{key} FROM {_TOUCHED} AS t)"
    )
    if days is not None:
        limited, limits = within_days("s", "moving", days)
        standing, parameters = f"{standing} AND {limited}", {**parameters, **limits}
    parts = [standing]
    if job.windows:
        first, last = event_bounds(contract.columns[contract.event_time])
        moment = f"g.`{contract.event_time}`"
        lake = f"{moments('g')} {lake} WHERE {moment} >= @first_moment AND {moment} <= @last_moment AND "
        parts.append(lake + touching)
        parameters = {**parameters, "first_moment": first.as_py(), "last_moment": last.as_py()}
        if plan.displaced:
            # Rows that were duplicates until now may take the places of those that leave.
            older, more = _of_displaced_keys(job, "g")
            parts.append(lake + older)
            parameters = {**parameters, **more}
    return f"WITH {_TOUCHED} AS ({touched}), {_MOVING} AS ({' UNION ALL '.join(parts)})", parameters


def _of_displaced_keys(job: OpenJob, alias: str) -> tuple[str, Parameters]:
    """A condition for the lake's rows that may take the place of displaced ones: in whichever load that counts."""
    plan, key = job.plan, f"`{job.contract.key}`"
    displaced, parameters = _of_loads(plan, "t", "displaced", plan.displaced)
    gone = frozenset(plan.superseded)
    landed, limits = _landed(
        plan, alias, "counting", (load.load_id for load in plan.loads if load.load_id not in gone)
    )
    return (
        f"{landed} AND {alias}.{key} IN (SELECT t.{key} FROM {_lake(job.contract)} AS t WHERE {displaced})",
        {**parameters, **limits},
    )


def within_reach(job: OpenJob, group: EntityWindows, alias: str) -> tuple[str, str]:
    """A join and a condition for rows `w` of the warehouse that lie within reach of their entity's moving rows."""
    seconds = -(-group.reach // 10**6)
    if job.contract.columns[job.contract.event_time].type == "date":
        # Two local midnights are not always as far apart as two midnights of UTC.
        seconds += 2 * 86_400
    moment = f"CAST(w.`{job.contract.event_time}` AS TIMESTAMP)"
    return (
        f"LEFT JOIN (SELECT m.`{group.entity}` AS entity, MIN(m.{_MOMENT}) AS first, MAX(m.{_MOMENT}) AS last "
        f"FROM {_MOVING} AS m GROUP BY m.`{group.entity}`) AS {alias} ON {alias}.entity = w.`{group.entity}`",
        f"({moment} > TIMESTAMP_SUB({alias}.first, INTERVAL {seconds} SECOND) "
        f"AND {moment} < TIMESTAMP_ADD({alias}.last, INTERVAL {seconds} SECOND))",
    )


def reached_days(job: OpenJob, group: EntityWindows) -> Days | None:
    """The days between which rows lie within reach of moving rows, over one entity; None without any."""
    return None if job.days is None else _widened(job.days, group.reach)


def _recalled(job: OpenJob) -> tuple[str, Parameters] | None:
    contract = job.contract
    displaced, parameters = _of_displaced_keys(job, "r")
    return (
        f"SELECT {_columns(contract, Source.RECALLED, 'r')} FROM {_lake(contract)} AS r "
        f"WHERE r._load_id IN (SELECT c.load_id FROM {covered_table().sql_name} AS c "
        "WHERE c.contract = @contract) "
        "AND r._load_id NOT IN (SELECT l FROM UNNEST(@superseded) AS l) "
        f"AND {displaced}",
        {**parameters, "contract": contract.name, "superseded": job.plan.superseded},
    )


def _known(job: OpenJob) -> tuple[str, Parameters] | None:
    key = f"k.`{job.contract.key}`"
    return (
        f"SELECT {key}, k.{DAY}, MIN(k.{FIRST}) AS {FIRST} FROM {warehouse_table(job.contract).sql_name} AS k "
        f"GROUP BY {key}, k.{DAY}",
        {},
    )


_QUERIES = {
    Source.GAIN: _gain,
    Source.RECALLED: _recalled,
    Source.STANDING: _standing,
    Source.KNOWN: _known,
}
