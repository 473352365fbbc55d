"""What a run took stays told apart from what came before and after it, whenever the files landed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from caudal.tables import contract_tables, warehouse_table
from monitor.earlier_runs import BEGINNING, taken_after

MONDAY = datetime(2020, 3, 2, 12, tzinfo=UTC)


def payment(number: int, at: datetime = MONDAY, **more: Any) -> dict[str, Any]:
    return {"payment": number, "paid_at": at, "amount": Decimal(10), "customer": "c", **more}


@pytest.fixture
def world(make_world: Any, small_contract: Any) -> Any:
    windows = [{"entity": "customer", "lengths": ["3d"], "values": {"count": "*"}}]
    return make_world(small_contract({"features.windows": windows}, version="items"))


def taken(world: Any, moment: datetime) -> list[int]:
    """The keys of the rows that runs after a moment took."""
    condition, parameters = taken_after(world.contract, moment, "w")
    table = warehouse_table(world.contract).sql_name
    query = f"SELECT w.payment FROM {table} AS w WHERE {condition} ORDER BY w.payment"
    return list(world.context().warehouse.query(query, parameters).column("payment").to_pylist())


@pytest.mark.parametrize("landed", [timedelta(), timedelta(hours=5), timedelta(days=-6)])
def test_a_row_is_of_the_run_that_took_it_whenever_its_file_landed(world: Any, landed: timedelta) -> None:
    first = world.moment
    world.land({"a.csv": [payment(1)]}, landed_at=first + landed)
    world.run()
    second = world.moment
    world.land({"b.csv": [payment(2)]}, landed_at=second + landed)
    world.run()
    assert taken(world, BEGINNING) == [1, 2]
    assert taken(world, first) == [2]
    assert taken(world, second) == []


def test_a_label_that_comes_later_is_of_the_run_that_brought_it(world: Any) -> None:
    world.land({"a.csv": [payment(1, items=1), payment(2, items=1)]})
    world.run()
    late = world.moment
    world.land({"b.csv": [payment(1, items=2, disputed="yes")]}, landed_at=late - timedelta(days=3))
    world.run()
    assert taken(world, late - timedelta(days=1)) == [1]
    assert taken(world, late) == []


def test_a_row_that_is_written_again_because_of_its_neighbour_is_no_newer(world: Any) -> None:
    first = world.moment
    world.land({"a.csv": [payment(1)]})
    world.run()
    world.land({"b.csv": [payment(2, MONDAY - timedelta(days=1))]})
    world.run()
    (feature,) = world.contract.features.windows[0].feature_names()
    assert [row[feature] for row in world.rows(feature)] == [2, 1]
    assert taken(world, first) == [2]


def test_rows_of_before_this_was_recorded_go_by_their_landing(world: Any) -> None:
    landed = world.moment
    warehouse = world.context().warehouse
    world.land({"a.csv": [payment(1)]}, landed_at=landed)
    world.run()
    with warehouse._transaction() as cursor:
        cursor.execute("ALTER TABLE warehouse._covered DROP COLUMN as_of")
    warehouse.ensure_tables(contract_tables(world.contract))
    assert taken(world, landed - timedelta(hours=1)) == [1]
    assert taken(world, landed) == []
    second = world.moment
    world.land({"b.csv": [payment(2)]}, landed_at=second + timedelta(hours=2))
    world.run()
    assert taken(world, landed) == [2]
    assert taken(world, second) == []
