"""What the ETL must leave behind, said a second time: in SQL, over the whole lake at once.

Nothing of services/etl_beam is used here. DuckDB finds the rejected rows with every reason, the row that stands
for each key, and the windows. Only the hash that decides between rows that nothing else orders is plain Python: it
is a definition, written here a second time, value by value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from caudal.contract import Contract
from caudal.contract.columns import Column
from caudal.contract.features import Window
from caudal.tables import LINEAGE

SOURCE = tuple(field.name for field in LINEAGE)
_FIRST_INSTANT, _LAST_INSTANT = "1960-01-02 00:00:00+00", "2159-12-30 23:59:59.999999+00"
_FIRST_DATE, _LAST_DATE = "1960-01-01", "2159-12-31"


@dataclass(frozen=True)
class Expected:
    """The content of the warehouse after every load was transformed, in any order and any number of runs.

    Attributes:
        warehouse: one row a key with features, by key; without `_first_as_of`, which depends on the runs.
        rejected: lineage and `_reasons`, by source and row.
        duplicates: good rows that stand for no key.
    """

    warehouse: pa.Table
    rejected: pa.Table
    duplicates: int


def expected(
    contract: Contract, connection: duckdb.DuckDBPyConnection, lake: str, loads: Iterable[Mapping[str, Any]]
) -> Expected:
    """Works out the outcome.

    Args:
        contract: what a row must be, and which features it gets.
        connection: where the lake is; temporary tables are made there.
        lake: the SQL name of a table with the columns of `caudal.tables.lake_table`.
        loads: the ledger's records of loads: load_id, bucket, name, generation, landed_at, and perhaps unreadable.
    """
    con = connection
    con.execute("SET TimeZone = 'UTC'")
    _register_loads(con, loads)
    source = ", ".join(f'"{name}"' for name in SOURCE)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE o_checked AS SELECT *, {reasons_sql(contract)} AS _reasons "
        f"FROM (SELECT *, coalesce(json_keys(_unparsed), []) AS _keys FROM {lake})"
    )
    rejected = con.sql(
        f"SELECT {source}, _reasons FROM o_checked WHERE len(_reasons) > 0 "
        "ORDER BY _source_uri, _source_generation, _load_id, _row"
    ).to_arrow_table()
    _stand_for_keys(con, contract)
    columns = ", ".join(f'w."{name}"' for name in contract.columns)
    features = "".join(f', {sql} AS "{name}"' for name, sql in features_sql(contract))
    warehouse = con.sql(
        f"SELECT {columns}{features}, CAST(_local AS DATE) AS _event_date, {source} "
        f"FROM (SELECT *, {local_sql(contract)} AS _local, epoch_us({instant_sql(contract)}) AS _us "
        "FROM o_kept) AS w "
        f'ORDER BY "{contract.key}"'
    ).to_arrow_table()
    good = con.sql("SELECT count(*) FROM o_checked WHERE len(_reasons) = 0").fetchall()[0][0]
    return Expected(warehouse, rejected, good - warehouse.num_rows)


def _register_loads(con: duckdb.DuckDBPyConnection, loads: Iterable[Mapping[str, Any]]) -> None:
    """`o_loads`: every load that counts, and those that a newer generation of their object has superseded."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE o_all (load_id VARCHAR, bucket VARCHAR, name VARCHAR, generation VARCHAR, "
        "landed_at TIMESTAMPTZ, unreadable BOOLEAN)"
    )
    rows = [
        [
            *(load[key] for key in ("load_id", "bucket", "name", "generation", "landed_at")),
            bool(load.get("unreadable")),
        ]
        for load in loads
    ]
    if rows:
        con.executemany("INSERT INTO o_all VALUES (?, ?, ?, ?, ?, ?)", rows)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE o_superseded AS SELECT old.load_id FROM o_all AS old WHERE EXISTS ("
        "SELECT 1 FROM o_all AS new WHERE new.bucket = old.bucket AND new.name = old.name AND NOT new.unreadable "
        "AND (new.landed_at, new.generation) > (old.landed_at, old.generation))"
    )


def reasons_sql(contract: Contract) -> str:
    """The list of a row's reasons, over rows with `_keys`, the names in `_unparsed`."""
    found = []
    for name, column in contract.columns.items():
        unread = f"list_contains(_keys, '{name}')"
        found.append((unread, f"'type:{name}'"))
        for code, refused in _refusals(contract, name, column):
            found.append((f"{refused} AND NOT {unread}" if code == "missing" else refused, f"'{code}:{name}'"))
    cases = ", ".join(f"CASE WHEN {condition} THEN {reason} END" for condition, reason in found)
    known = ", ".join(f"'{name}'" for name in contract.columns)
    unknown = (
        f"list_transform(list_sort(list_filter(_keys, lambda k: NOT list_contains([{known}], k))), "
        "lambda k: 'unknown:' || k)"
    )
    return f"list_concat(list_filter([{cases}], lambda r: r IS NOT NULL), {unknown})"


def refusals_sql(contract: Contract) -> str:
    """Whether a row without `_unparsed` is refused; true or not true."""
    return " OR ".join(
        f"coalesce({refused}, false)"
        for name, column in contract.columns.items()
        for _, refused in _refusals(contract, name, column)
    )


def _refusals(contract: Contract, name: str, column: Column) -> list[tuple[str, str]]:
    """Codes and conditions of what a column's values can be refused for."""
    here = f'"{name}"'
    found = [("missing", f"{here} IS NULL")] if column.required else []
    outside = _outside(contract, name, column)
    if outside:
        found.append(("range", outside))
    if column.values is not None:
        allowed = ", ".join("'" + value.replace("'", "''") + "'" for value in column.values)
        found.append(("value", f"{here} NOT IN ({allowed})"))
    return found


def _outside(contract: Contract, name: str, column: Column) -> str:
    here = f'"{name}"'
    if name == contract.event_time:
        if column.type == "date":
            return f"{here} NOT BETWEEN DATE '{_FIRST_DATE}' AND DATE '{_LAST_DATE}'"
        return f"{here} NOT BETWEEN TIMESTAMPTZ '{_FIRST_INSTANT}' AND TIMESTAMPTZ '{_LAST_INSTANT}'"
    if column.range is not None:
        kind = "DECIMAL(38, 9)" if column.type == "decimal" else "DOUBLE"
        low, high = (f"CAST('{limit}' AS {kind})" for limit in column.range)
        return f"NOT ({here} >= {low} AND {here} <= {high})"
    return f"NOT isfinite({here})" if column.type == "number" else ""


def _stand_for_keys(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """`o_kept`: of each key's good rows the one that stands for it."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE o_good AS SELECT *, row_number() OVER () AS _n, "
        f'count(*) OVER (PARTITION BY "{contract.key}") AS _rivals FROM o_checked '
        "WHERE len(_reasons) = 0 AND _load_id NOT IN (SELECT load_id FROM o_superseded)"
    )
    columns = ", ".join(f'"{name}"' for name in contract.columns)
    rivals = con.sql(f"SELECT _n, {columns} FROM o_good WHERE _rivals > 1").fetchall()
    kinds = [column.type for column in contract.columns.values()]
    numbers = pa.array([row[0] for row in rivals], pa.int64())
    hashes = pa.array([content_hash(row[1:], kinds) for row in rivals], pa.uint64())
    o_hashes = pa.table({"_n": numbers, "_hash": hashes})
    con.register("o_hashes", o_hashes)
    version = f'"{contract.version}" DESC NULLS LAST, ' if contract.version else ""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE o_kept AS SELECT g.* FROM o_good AS g LEFT JOIN o_hashes AS h USING (_n) "
        f'QUALIFY row_number() OVER (PARTITION BY "{contract.key}" '
        f"ORDER BY {version}_hash, _source_uri, _row) = 1"
    )
    con.unregister("o_hashes")


def features_sql(contract: Contract) -> list[tuple[str, str]]:
    """Every derived feature and its SQL, over rows with `_local` and `_us` (see `local_sql`, `instant_sql`)."""
    found: list[tuple[str, str]] = []
    for name in contract.features.calendar:
        if name == "weekend":
            found.append((name, "isodow(_local) IN (6, 7)"))
        else:
            first, last = contract.features.night_hours
            joint = "AND" if first <= last else "OR"
            found.append((name, f"(hour(_local) >= {first} {joint} hour(_local) <= {last})"))
    for window in contract.features.windows:
        found += _window_features(contract, window)
    return found


def _window_features(contract: Contract, window: Window) -> list[tuple[str, str]]:
    found = []
    delay = _micros(window.delay) if window.delay else 0
    for length in window.lengths:
        over = (
            f'OVER (PARTITION BY "{window.entity}" ORDER BY _us RANGE BETWEEN '
            f"{_micros(length) + delay - 1} PRECEDING AND {delay} PRECEDING)"
        )
        for aggregate, columns in window.values.items():
            for column in columns:
                if column == "*":
                    sql = f"CAST(count(*) {over} AS DOUBLE)"
                elif aggregate == "count":
                    sql = f'CAST(count("{column}") {over} AS DOUBLE)'
                elif aggregate == "rate":
                    sql = f'sum({_hit(contract, column)}) {over} / count("{column}") {over}'
                else:
                    total = f'CAST(coalesce(sum(CAST("{column}" AS DECIMAL(38, 9))) {over}, 0) AS DOUBLE)'
                    sql = total if aggregate == "sum" else f'{total} / nullif(count("{column}") {over}, 0)'
                name = window.feature_name(aggregate, column, length)
                found.append((name, f'CASE WHEN "{window.entity}" IS NOT NULL THEN {sql} END'))
    return found


def _hit(contract: Contract, column: str) -> str:
    if contract.columns[column].type == "boolean" and contract.label.column != column:
        return f'CAST("{column}" AS BIGINT)'
    if contract.columns[column].type == "boolean":
        positive = str(contract.label.positive).lower()
        return f'CAST("{column}" = {positive} AS BIGINT)'
    return f"CAST(\"{column}\" = '{contract.label.positive}' AS BIGINT)"


def instant_sql(contract: Contract) -> str:
    """The event's instant."""
    if contract.columns[contract.event_time].type == "date":
        return f"timezone('{contract.time_zone}', CAST(\"{contract.event_time}\" AS TIMESTAMP))"
    return f'"{contract.event_time}"'


def local_sql(contract: Contract) -> str:
    """What a clock in the contract's time zone showed at the event."""
    if contract.columns[contract.event_time].type == "date":
        return f'CAST("{contract.event_time}" AS TIMESTAMP)'
    return f"timezone('{contract.time_zone}', \"{contract.event_time}\")"


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)


# The content hash, as etl_beam/hashing.py defines it, over plain integers.

_WORD = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15
_NULL = 0xA0761D6478BD642F


def content_hash(values: Sequence[Any], kinds: Sequence[str]) -> int:
    """The hash of a row's values, in the contract's order of columns."""
    combined = 0
    for value, kind in zip(values, kinds, strict=True):
        one = _NULL if value is None else _mix((_bits(value, kind) + _ODD) & _WORD)
        combined = _mix((combined * _ODD + one) & _WORD)
    return combined


def _mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def _bits(value: Any, kind: str) -> int:
    if kind in ("category", "text"):
        data = value.encode()
        words: int = sum(_byte_words()[byte] * pow(_ODD, place + 1, 1 << 64) for place, byte in enumerate(data))
        return (len(data) + words) & _WORD
    if kind == "decimal":
        scaled = int(Decimal(value).scaleb(9)) & ((1 << 128) - 1)
        return (_mix(scaled & _WORD) + (scaled >> 64)) & _WORD
    if kind == "number":
        return int(np.float64(value + 0.0).view(np.uint64))
    if isinstance(value, datetime):
        return ((value - datetime(1970, 1, 1, tzinfo=value.tzinfo)) // timedelta(microseconds=1)) & _WORD
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days & _WORD
    return int(value) & _WORD


@cache
def _byte_words() -> list[int]:
    random = np.random.Generator(np.random.PCG64(20260401))
    words: list[int] = random.integers(0, 1 << 64, size=256, dtype=np.uint64, endpoint=False).tolist()
    return words
