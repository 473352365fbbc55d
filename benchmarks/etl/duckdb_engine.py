"""The same job in DuckDB's SQL: from the lake in a DuckDB file to the warehouse in that file, in one transaction.

Rows are checked by one predicate; only those that fail it are looked at reason by reason. Only keys that occur
twice are ordered. Windows are window functions, one frame each.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks.etl.workspace import DATABASE, Workspace, open_context, run_engine, superseded_loads
from caudal.contract import Contract
from caudal.identity import format_instant
from caudal.tables import LINEAGE, lake_table, rejected_table, warehouse_table
from tests.etl_oracle.oracle import (
    content_hash,
    features_sql,
    instant_sql,
    local_sql,
    reasons_sql,
    refusals_sql,
)

SOURCE = ", ".join(field.name for field in LINEAGE)


def run(workspace: Workspace, folder: Path) -> None:
    """Transforms the whole lake of a copy of the base."""
    context = open_context(folder)
    contract = context.contract
    lake, warehouse, rejected = (
        table(contract).sql_name for table in (lake_table, warehouse_table, rejected_table)
    )
    columns = ", ".join(f'"{name}"' for name in contract.columns)
    as_of = format_instant(context.run.as_of)
    with duckdb.connect(str(folder / DATABASE), config={"threads": 2}) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET preserve_insertion_order = false; SET enable_progress_bar = false")
        con.register("gone", pa.table({"load_id": pa.array(sorted(superseded_loads(context)), pa.string())}))
        con.execute("BEGIN TRANSACTION")
        good = f"_unparsed IS NULL AND NOT coalesce({refusals_sql(contract)}, true)"
        con.execute(
            f"INSERT INTO {rejected} (_reasons, _content, {SOURCE}) "
            f"SELECT {reasons_sql(contract)}, to_json(struct_pack({columns}, _unparsed)), {SOURCE} "
            f"FROM (SELECT *, coalesce(json_keys(_unparsed), []) AS _keys FROM {lake} WHERE NOT ({good}))"
        )
        con.execute(
            f"CREATE TEMP TABLE good AS SELECT {columns}, {SOURCE} FROM {lake} "
            f"WHERE {good} AND _load_id NOT IN (SELECT load_id FROM gone)"
        )
        con.execute(
            f'CREATE TEMP TABLE tied AS SELECT "{contract.key}" AS key FROM good GROUP BY 1 HAVING count(*) > 1'
        )
        con.register("kept", _one_a_key(con, contract))
        features = "".join(f', {sql} AS "{name}"' for name, sql in features_sql(contract))
        names = "".join(f', "{name}"' for name, _ in features_sql(contract))
        con.execute(
            f"INSERT INTO {warehouse} ({columns}{names}, _event_date, _first_as_of, {SOURCE}) "
            f"SELECT {columns}{features}, CAST(_local AS DATE), TIMESTAMPTZ '{as_of}', {SOURCE} "
            f"FROM (SELECT *, {local_sql(contract)} AS _local, epoch_us({instant_sql(contract)}) AS _us "
            f'FROM (SELECT * FROM good WHERE "{contract.key}" NOT IN (SELECT key FROM tied) '
            "UNION ALL SELECT * FROM kept))"
        )
        con.execute("COMMIT")


def _one_a_key(con: duckdb.DuckDBPyConnection, contract: Contract) -> pa.Table:
    """Of each key that occurs more than once the row that stands for it."""
    rivals = con.sql(f'SELECT * FROM good WHERE "{contract.key}" IN (SELECT key FROM tied)').to_arrow_table()
    kinds = [column.type for column in contract.columns.values()]
    names = list(contract.columns)
    rows = zip(*(rivals[name].to_pylist() for name in names), strict=True)
    hashes = pa.array([content_hash(row, kinds) for row in rows], pa.uint64())
    ordered = [("_hash", "ascending"), ("_source_uri", "ascending"), ("_row", "ascending")]
    if contract.version is not None:
        ordered.insert(0, (contract.version, "descending"))
    ordered.insert(0, (contract.key, "ascending"))
    rivals = rivals.append_column("_hash", hashes).sort_by(ordered)
    keys = rivals[contract.key].to_pylist()
    first = [i for i, key in enumerate(keys) if i == 0 or keys[i - 1] != key]
    return rivals.take(pa.array(first, pa.int64())).drop_columns(["_hash"])


if __name__ == "__main__":
    run_engine(run)
