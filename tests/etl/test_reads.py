"""What a run asks of the warehouse: every query names the partitions that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlglot
from sqlglot import expressions as exp

from caudal.entity_state import Publications
from caudal.errors import TooManyDays
from caudal.warehouse.duckdb import DuckDBWarehouse
from etl_beam import slices
from etl_beam.step import prepare

MONDAY = datetime(2020, 3, 2, 12, tzinfo=UTC)
WINDOWS = [
    {"entity": "customer", "lengths": ["1d"], "values": {"count": "*"}},
    {"entity": "channel", "lengths": ["7d"], "values": {"count": "*"}},
]


def payment(number: int, at: datetime = MONDAY) -> dict[str, Any]:
    return {"payment": number, "paid_at": at, "customer": f"c{number % 3}", "channel": "web"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every query that the warehouse is asked, with its parameters."""
    queries: list[tuple[str, dict[str, Any]]] = []
    read = DuckDBWarehouse.read

    def noted(self: DuckDBWarehouse, query: str, parameters: Any = None) -> Any:
        queries.append((query, dict(parameters or {})))
        return read(self, query, parameters)

    monkeypatch.setattr(DuckDBWarehouse, "read", noted)
    return queries


def scans(query: str, table: str) -> Iterator[set[str]]:
    """For each place where a query reads a table, the columns that its WHERE limits from both sides."""
    for found in sqlglot.parse_one(query, read="bigquery").find_all(exp.Table):
        if f"{found.db}.{found.name}" != table:
            continue
        select = found.find_ancestor(exp.Select)
        assert select is not None
        conditions = list(select.args["where"].this.flatten()) if select.args.get("where") else []

        def limited(kind: type[exp.Expr], alias: str, conditions: list[Any]) -> set[str]:
            sides = [(c.this, c.expression) for c in conditions if isinstance(c, kind)]
            return {
                column.name
                for column, value in sides
                if isinstance(column, exp.Column) and column.table == alias and isinstance(value, exp.Parameter)
            }

        alias = found.alias
        yield limited(exp.GTE, alias, conditions) & limited(exp.LTE, alias, conditions)


@pytest.mark.parametrize("windows", [WINDOWS, []], ids=["with windows", "without windows"])
def test_every_look_into_the_lake_names_its_partitions_and_one_into_the_warehouse_does_not(
    make_world: Any, small_contract: Any, asked: Any, monkeypatch: pytest.MonkeyPatch, windows: list[Any]
) -> None:
    monkeypatch.setattr(slices, "ROWS_A_SLICE", 2)
    # What servers look up is read after the commit, for some days of its own.
    monkeypatch.setattr(Publications, "publish", lambda *_: None)
    world = make_world(small_contract({"features.windows": windows}))
    world.land({"a.csv": [payment(n) for n in range(6)], "b.csv": [payment(2)]}, landed_at=MONDAY)
    world.run()
    # A newer generation of a file: what its keys had before is recalled.
    world.land({"a.csv": [payment(n) for n in range(1, 4)]}, landed_at=MONDAY + timedelta(days=9))
    asked.clear()

    world.run()

    lake = [limits for query, _ in asked for limits in scans(query, "lake.payments")]
    warehouse = [limits for query, _ in asked for limits in scans(query, "warehouse.payments")]
    # The gain, the touched keys, and the displaced ones at the least.
    assert len(lake) >= 4
    assert all("_ingested_at" in limits for limits in lake)
    assert len(warehouse) >= 3
    assert sum("_event_date" not in limits for limits in warehouse) == 1


def test_the_partitions_are_those_of_the_new_loads_and_of_the_days_that_they_reach(
    make_world: Any, small_contract: Any, asked: Any
) -> None:
    world = make_world(small_contract({"features.windows": WINDOWS}))
    world.land({"a.csv": [payment(n, MONDAY - timedelta(days=n)) for n in range(90)]}, landed_at=MONDAY)
    world.run()
    landed = MONDAY + timedelta(days=9)
    world.land({"b.csv": [payment(200), payment(5)]}, landed_at=landed)
    asked.clear()

    world.run()

    [standing] = [values for query, values in asked if "_first_as_of" in query and "read_from" in values]
    assert (standing["touching_first"], standing["touching_last"]) == (landed, landed)
    # Payment 5 stood five days before Monday, a window is seven days long, and a day either way is for time zones.
    assert standing["moving_from"] == (MONDAY - timedelta(days=6)).date()
    assert standing["moving_to"] == (MONDAY + timedelta(days=1)).date()
    assert standing["read_from"] == (MONDAY - timedelta(days=13)).date()
    assert standing["read_to"] == (MONDAY + timedelta(days=8)).date()


def test_days_that_no_table_can_hold_are_refused_before_anything_runs(
    make_world: Any, small_contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_beam.sources.MOST_PARTITIONS", 20)
    world = make_world(small_contract())
    world.land({"a.csv": [payment(n, MONDAY + timedelta(days=2 * n)) for n in range(20)] + [payment(99)]})
    prepare(world.context())

    world.land({"b.csv": [payment(100, MONDAY + timedelta(days=41))]})
    with pytest.raises(TooManyDays, match="21 days from 2020-03-02 to 2020-04-12") as caught:
        prepare(world.context(world.moment + timedelta(days=1)))
    assert "'paid_at'" in caught.value.where
    assert "event times" in caught.value.mend
