"""Whether two engines left the same content, column by column and row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.etl.workspace import DATABASE, Workspace, open_context
from caudal.contract import Contract
from caudal.tables import rejected_table, warehouse_table

REFERENCE = "duckdb"
TOLERANCE = 1e-12
"""Relative difference of floats: sums are exact, and a quotient may be rounded once more or once less."""

_PLACE = ("_source_uri", "_source_generation", "_load_id", "_row")


def compare(workspace: Workspace, engines: Sequence[str]) -> list[str]:
    """In what the engines' last results differ from those of DuckDB's SQL, or of the first engine without it."""
    contract = open_context(workspace.base).contract
    reference = REFERENCE if REFERENCE in engines else engines[0]
    return [
        f"{engine}: {text}"
        for engine in engines
        if engine != reference
        for text in differences(contract, workspace.engine(reference), workspace.engine(engine))
    ]


def differences(contract: Contract, one: Path, other: Path) -> list[str]:
    """In what the results of two runs differ; empty when in nothing.

    Args:
        contract: whose tables are compared; what a row holds is compared whole, but for the text of rejected rows.
        one, other: the folders of the runs.
    """
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        found = []
        warehouse, rejected = warehouse_table(contract), rejected_table(contract)
        for table, key, skipped in (
            (warehouse, (contract.key,), ()),
            (rejected, _PLACE, ("_content",)),
        ):
            views = []
            for i, folder in enumerate((one, other)):
                views.append(_attached(con, folder, table.sql_name, f"run{i}"))
            names = [f.name for f in table.schema if f.name not in (*key, *skipped)]
            differing = ", ".join(f"count(*) FILTER (WHERE {_differs(con, views[0], name)})" for name in names)
            on = " AND ".join(f'a."{name}" = b."{name}"' for name in key)
            row = con.sql(
                f'SELECT count(*) FILTER (WHERE a."{key[0]}" IS NULL OR b."{key[0]}" IS NULL), {differing} '
                f"FROM {views[0]} AS a FULL JOIN {views[1]} AS b ON {on}"
            ).fetchall()[0]
            found += [
                f"{table.sql_name}: {count:,} rows differ in {name}"
                for name, count in zip(("being there", *names), row, strict=True)
                if count
            ]
        return found


def _attached(con: duckdb.DuckDBPyConnection, folder: Path, table: str, alias: str) -> str:
    parquet = folder / f"{'rejected' if table.endswith('_rejected') else 'warehouse'}.parquet"
    if parquet.exists():
        return f"read_parquet('{parquet}')"
    con.execute(f"ATTACH IF NOT EXISTS '{folder / DATABASE}' AS {alias} (READ_ONLY)")
    return f"{alias}.{table}"


def _differs(con: duckdb.DuckDBPyConnection, view: str, name: str) -> str:
    a, b = f'a."{name}"', f'b."{name}"'
    [kind] = con.sql(f'SELECT typeof("{name}") FROM {view} LIMIT 1').fetchall() or [("",)]
    if kind[0] == "DOUBLE":
        near = f"abs({a} - {b}) <= {TOLERANCE} * greatest(abs({a}), abs({b}))"
        return f"({a} IS NULL) <> ({b} IS NULL) OR NOT coalesce({near}, true)"
    return f"{a} IS DISTINCT FROM {b}"
