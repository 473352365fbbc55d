"""Where a run's rows come from: queries, split into streams that workers read side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from caudal.event_time import INSTANT
from caudal.tables import covered_table, lake_table, warehouse_table
from caudal.warehouse import ReadStream
from etl_beam.checks import UNPARSED, event_bounds
from etl_beam.rows import DAY, FIRST, ROW, window_features, with_load_index

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.warehouse import Parameters
    from etl_beam.job import OpenJob
    from etl_beam.plan import Plan
    from etl_beam.windows import EntityWindows

ROWS_A_STREAM = 1_000_000
LEAST_AT_ONCE, MOST_AT_ONCE = 131_072, 2_000_000
ROWS_A_SLICE = 2_000
"""Rows are checked and spread so many at once that a slice for one shard has about this many: each slice has fixed
costs of some 0.5 KB. The bounds keep the memory of a reader within reason."""

_A_DAY = timedelta(days=1)


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


def _gain(job: OpenJob) -> tuple[str, Parameters] | None:
    first, last = job.plan.landed
    return (
        f"SELECT {_columns(job.contract, Source.GAIN, '_g')} FROM {_lake(job.contract)} AS _g "
        "WHERE _g._load_id IN (SELECT _l FROM UNNEST(@loads) AS _l) "
        "AND _g._ingested_at >= @first AND _g._ingested_at <= @last",
        {"loads": job.plan.new, "first": first, "last": last},
    )


def _standing(job: OpenJob) -> tuple[str, Parameters] | None:
    """Rows of the warehouse whose key the run touches, and those within reach of a row that may come or go.

    A first query finds the days between which all of them lie, so that BigQuery need not look at other partitions.
    """
    contract = job.contract
    moments, parameters = moving_rows(job, [])
    found = job.warehouse.query(
        f"SELECT MIN(_m._at) AS first, MAX(_m._at) AS last FROM ({moments}) AS _m", parameters
    )
    first, last = found["first"][0].as_py(), found["last"][0].as_py()
    if first is None:
        return None
    reach = timedelta(microseconds=max((group.reach for group in job.windows), default=0))
    joins, near = [], [f"_w.`{contract.key}` IN ({_touched_keys(contract)})"]
    for number, group in enumerate(job.windows):
        join, condition = within_reach(job, group, f"_b{number}")
        joins.append(join)
        near.append(condition)
    return (
        f"SELECT {_columns(contract, Source.STANDING, '_w')} FROM {warehouse_table(contract).sql_name} AS _w "
        f"{' '.join(joins)} WHERE _w._event_date >= @from_day AND _w._event_date <= @to_day "
        f"AND ({' OR '.join(near)})",
        {
            **parameters,
            "from_day": (first - reach).date() - _A_DAY,
            "to_day": (last + reach).date() + _A_DAY,
        },
    )


def gained_moments(job: OpenJob, entity: str) -> tuple[str, Parameters]:
    """An entity's column, as `entity`, and the instants, as `_at`, of the lake's gain."""
    moment = job.contract.event_time
    first, last = event_bounds(job.contract.columns[moment])
    return (
        f"SELECT _n.`{entity}` AS entity, CAST(_n.`{moment}` AS TIMESTAMP) AS _at "
        f"FROM {_lake(job.contract)} AS _n WHERE _n._load_id IN (SELECT _l FROM UNNEST(@loads) AS _l) "
        f"AND _n.`{moment}` >= @first_moment AND _n.`{moment}` <= @last_moment",
        {"loads": job.plan.new, "first_moment": first.as_py(), "last_moment": last.as_py()},
    )


def moving_rows(job: OpenJob, columns: Sequence[str]) -> tuple[str, Parameters]:
    """The instants, as `_at`, and columns of all rows that may come to the warehouse, leave it or change.

    Without windows only rows that stand in the warehouse matter.
    """
    contract = job.contract
    moment = contract.event_time
    chosen = "".join(f"{{0}}.`{name}`, " for name in columns)
    first, last = event_bounds(contract.columns[moment])
    standing = (
        f"SELECT {chosen.format('_s')}CAST(_s.`{moment}` AS TIMESTAMP) AS _at "
        f"FROM {warehouse_table(contract).sql_name} AS _s WHERE _s.`{contract.key}` IN ({_touched_keys(contract)})"
    )
    parameters: dict[str, Any] = {"touching": [*job.plan.new, *job.plan.displaced]}
    if not job.windows:
        return standing, parameters
    parameters |= {"first_moment": first.as_py(), "last_moment": last.as_py()}
    lake = (
        f"SELECT {chosen.format('_g')}CAST(_g.`{moment}` AS TIMESTAMP) AS _at FROM {_lake(contract)} AS _g "
        f"WHERE _g.`{moment}` >= @first_moment AND _g.`{moment}` <= @last_moment AND "
    )
    parts = [standing, lake + "_g._load_id IN (SELECT _l FROM UNNEST(@touching) AS _l)"]
    if job.plan.displaced:
        # Rows that were duplicates until now may take the places of those that leave.
        parts.append(lake + f"_g.`{contract.key}` IN ({_touched_keys(contract, 'displaced')})")
        parameters["displaced"] = job.plan.displaced
    return " UNION ALL ".join(parts), parameters


def within_reach(job: OpenJob, group: EntityWindows, alias: str) -> tuple[str, str]:
    """A join and a condition for rows `_w` of the warehouse within reach of their entity's moving rows."""
    moving, _ = moving_rows(job, [group.entity])
    seconds = -(-group.reach // 10**6)
    if job.contract.columns[job.contract.event_time].type == "date":
        # Two local midnights are not always as far apart as two midnights of UTC.
        seconds += 2 * 86_400
    moment = f"CAST(_w.`{job.contract.event_time}` AS TIMESTAMP)"
    return (
        f"LEFT JOIN (SELECT _m.`{group.entity}` AS entity, MIN(_m._at) AS first, MAX(_m._at) AS last "
        f"FROM ({moving}) AS _m GROUP BY _m.`{group.entity}`) AS {alias} ON {alias}.entity = _w.`{group.entity}`",
        f"({moment} > TIMESTAMP_SUB({alias}.first, INTERVAL {seconds} SECOND) "
        f"AND {moment} < TIMESTAMP_ADD({alias}.last, INTERVAL {seconds} SECOND))",
    )


def _touched_keys(contract: Contract, loads: str = "touching") -> str:
    return (
        f"SELECT _t.`{contract.key}` FROM {_lake(contract)} AS _t "
        f"WHERE _t._load_id IN (SELECT _l FROM UNNEST(@{loads}) AS _l)"
    )


def _recalled(job: OpenJob) -> tuple[str, Parameters] | None:
    contract = job.contract
    return (
        f"SELECT {_columns(contract, Source.RECALLED, '_r')} FROM {_lake(contract)} AS _r "
        f"WHERE _r._load_id IN (SELECT _c.load_id FROM {covered_table().sql_name} AS _c "
        "WHERE _c.contract = @contract) "
        "AND _r._load_id NOT IN (SELECT _l FROM UNNEST(@superseded) AS _l) "
        f"AND _r.`{contract.key}` IN ({_touched_keys(contract, 'displaced')})",
        {
            "contract": contract.name,
            "superseded": job.plan.superseded,
            "displaced": job.plan.displaced,
        },
    )


def _known(job: OpenJob) -> tuple[str, Parameters] | None:
    key = f"_k.`{job.contract.key}`"
    return (
        f"SELECT {key}, _k.{DAY}, MIN(_k.{FIRST}) AS {FIRST} FROM {warehouse_table(job.contract).sql_name} AS _k "
        f"GROUP BY {key}, _k.{DAY}",
        {},
    )


_QUERIES = {
    Source.GAIN: _gain,
    Source.RECALLED: _recalled,
    Source.STANDING: _standing,
    Source.KNOWN: _known,
}
