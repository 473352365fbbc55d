"""The same job in Polars: from the lake as Parquet, by Parquet aside, to the warehouse in one commit.

Polars has no tables: what it makes is committed to the same DuckDB file as the others' results. The engine
`polars_files` leaves that out, and ends with two Parquet files.

Rows are checked by one expression; only those that fail it are looked at reason by reason. Only keys that occur
twice are ordered. A window with a delay is the difference of two windows without.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "2")

import polars as pl

from benchmarks.etl.workspace import Workspace, open_context, run_engine, superseded_loads
from caudal.contract import Contract
from caudal.contract.features import Window
from caudal.storage.files import file_uri
from caudal.tables import LINEAGE, rejected_table, warehouse_table
from caudal.warehouse import Commit, Replacement
from tests.etl_oracle.oracle import content_hash

SOURCE = [field.name for field in LINEAGE]
AT, ONE, UNITS = "_at", "_one", 10**9
"""Sums are exact: an amount enters as an integer of 1e-9 units, as SQL's NUMERIC holds it."""


def run(workspace: Workspace, folder: Path) -> None:
    """Transforms the whole lake of a copy of the base."""
    run_to_files(workspace, folder)
    context = open_context(folder)
    contract = context.contract
    parts = [
        Replacement(table(contract), (file_uri(folder / f"{name}.parquet"),))
        for name, table in (("warehouse", warehouse_table), ("rejected", rejected_table))
    ]
    context.warehouse.commit(Commit("polars", contract.name, tuple(parts), (), context.run.as_of))
    for name in ("warehouse", "rejected"):
        (folder / f"{name}.parquet").unlink()


def run_to_files(workspace: Workspace, folder: Path) -> None:
    """Transforms the whole lake; leaves warehouse.parquet and rejected.parquet."""
    context = open_context(folder)
    contract = context.contract
    lake = pl.read_parquet(workspace.lake / "*.parquet")
    refusals = {name: _refusals(contract, name) for name in contract.columns}
    good = pl.col("_unparsed").is_null() & ~pl.any_horizontal(
        refused.fill_null(False) for found in refusals.values() for _, refused in found
    )
    _rejected(contract, lake.filter(~good), refusals).write_parquet(folder / "rejected.parquet")
    rows = lake.filter(good & ~pl.col("_load_id").is_in(sorted(superseded_loads(context)))).drop("_unparsed")
    rows = _one_a_key(contract, rows)
    local = pl.col(contract.event_time).dt.convert_time_zone(contract.time_zone)
    rows = rows.sort(contract.event_time).with_columns(
        local.dt.date().alias("_event_date"),
        pl.col(contract.event_time).dt.replace_time_zone(None).alias(AT),
        pl.lit(1, pl.Int64).alias(ONE),
        pl.lit(context.run.as_of).alias("_first_as_of"),
        *_calendar(contract, local),
        *_inputs(contract),
    )
    sums, features = _windows(contract)
    rows = rows.with_columns(sums).with_columns(features)
    kept = [
        *contract.columns,
        *(f.name for f in contract.features.derived()),
        "_event_date",
        "_first_as_of",
        *SOURCE,
    ]
    rows.select(kept).write_parquet(folder / "warehouse.parquet", compression="snappy")


def _refusals(contract: Contract, name: str) -> list[tuple[str, pl.Expr]]:
    column, here = contract.columns[name], pl.col(name)
    found = [("missing", here.is_null())] if column.required else []
    if column.range is not None:
        low, high = column.range
        found.append(("range", ~here.is_between(low, high)))
    if column.values is not None:
        found.append(("value", ~here.is_in(column.values)))
    return found


def _rejected(
    contract: Contract, bad: pl.DataFrame, refusals: dict[str, list[tuple[str, pl.Expr]]]
) -> pl.DataFrame:
    unread = [frozenset(json.loads(text)) if text else frozenset() for text in bad["_unparsed"].to_list()]
    reasons: list[list[str]] = [[] for _ in unread]
    for name, found in refusals.items():
        for row, names in enumerate(unread):
            if name in names:
                reasons[row].append(f"type:{name}")
        for code, refused in found:
            for row in bad.select(refused.fill_null(False).arg_true()).to_series().to_list():
                if code != "missing" or name not in unread[row]:
                    reasons[row].append(f"{code}:{name}")
    for row, names in enumerate(unread):
        reasons[row] += [f"unknown:{name}" for name in sorted(names - contract.columns.keys())]
    content = pl.struct(*contract.columns, "_unparsed").struct.json_encode()
    return bad.select(pl.Series("_reasons", reasons, pl.List(pl.String)), content.alias("_content"), *SOURCE)


def _one_a_key(contract: Contract, rows: pl.DataFrame) -> pl.DataFrame:
    tied = rows.group_by(contract.key).len().filter(pl.col("len") > 1).select(contract.key)
    rivals = rows.join(tied, on=contract.key, how="semi")
    kinds = [column.type for column in contract.columns.values()]
    hashes = [content_hash(row, kinds) for row in rivals.select(*contract.columns).iter_rows()]
    order = ["_hash", "_source_uri", "_row"]
    descending = [False] * 3
    if contract.version is not None:
        order, descending = [contract.version, *order], [True, *descending]
    winners = (
        rivals.with_columns(pl.Series("_hash", hashes, pl.UInt64))
        .sort(order, descending=descending, nulls_last=True)
        .unique(contract.key, keep="first", maintain_order=True)
    )
    return pl.concat([rows.join(tied, on=contract.key, how="anti"), winners.drop("_hash")])


def _calendar(contract: Contract, local: pl.Expr) -> list[pl.Expr]:
    first, last = contract.features.night_hours
    hour = local.dt.hour()
    night = hour.is_between(first, last) if first <= last else (hour >= first) | (hour <= last)
    made = {"weekend": local.dt.weekday() >= 6, "night": night}
    return [made[name].alias(name) for name in contract.features.calendar]


def _inputs(contract: Contract) -> list[pl.Expr]:
    """For each aggregated column its values as integers, missing ones as 0, and whether there is one."""
    made = {}
    for window in contract.features.windows:
        for columns in window.values.values():
            for name in columns:
                if name != "*":
                    kind = contract.columns[name].type
                    here = pl.col(name)
                    value = here if kind in ("boolean", "integer") else (here * UNITS).round()
                    made[name] = [
                        value.cast(pl.Int64).fill_null(0).alias(f"_value_{name}"),
                        here.is_not_null().cast(pl.Int64).alias(f"_there_{name}"),
                    ]
    return [expression for pair in made.values() for expression in pair]


def _windows(contract: Contract) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """Rolling sums from now back, and the features that follow from them."""
    sums: dict[str, pl.Expr] = {}
    features = []
    for number, window in enumerate(contract.features.windows):
        for length in window.lengths:
            for aggregate, columns in window.values.items():
                for column in columns:
                    total = _within(sums, number, window, f"_value_{column}", length)
                    counted = ONE if _always_there(contract, column) else f"_there_{column}"
                    count = _within(sums, number, window, counted, length)
                    name = window.feature_name(aggregate, column, length)
                    features.append(_feature(contract, aggregate, column, total, count).alias(name))
    return [expression.alias(name) for name, expression in sums.items()], features


def _always_there(contract: Contract, column: str) -> bool:
    return column == "*" or contract.columns[column].required


def _within(sums: dict[str, pl.Expr], number: int, window: Window, column: str, length: timedelta) -> pl.Expr:
    def rolling(back: timedelta) -> pl.Expr:
        name = f"_sum_{number}_{column}_{back}"
        if column != "_value_*":
            sums[name] = pl.col(column).rolling_sum_by(AT, back, closed="right").over(window.entity)
        return pl.col(name)

    if not window.delay:
        return rolling(length)
    return rolling(length + window.delay) - rolling(window.delay)


def _feature(contract: Contract, aggregate: str, column: str, total: pl.Expr, count: pl.Expr) -> pl.Expr:
    if aggregate == "count":
        return count.cast(pl.Float64)
    scale = 1 if contract.columns[column].type in ("boolean", "integer") else UNITS
    value = total.cast(pl.Float64) / scale
    return value if aggregate == "sum" else pl.when(count > 0).then(value / count)


if __name__ == "__main__":
    run_engine(run)
