"""One row a key, whatever the order of arrival; and the rows add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from caudal.step import StepContext
from etl_beam.step import etl

MONDAY = datetime(2020, 3, 2, 12, tzinfo=UTC)


def payment(number: int, amount: str = "10", at: datetime = MONDAY, **more: Any) -> dict[str, Any]:
    from decimal import Decimal

    return {"payment": number, "paid_at": at, "amount": Decimal(amount), **more}


@pytest.fixture
def world(make_world: Any, small_contract: Any) -> Any:
    return make_world(small_contract())


def amounts(world: Any) -> dict[int, int]:
    return {row["payment"]: int(row["amount"]) for row in world.rows("payment", "amount")}


def test_each_key_reaches_the_warehouse_once(world: Any) -> None:
    world.land({"a.csv": [payment(1), payment(2), payment(2)]})
    result = world.run()
    assert amounts(world) == {1: 10, 2: 10}
    assert result["rows"] == {"read": 3, "rejected": 0, "duplicates": 1, "removed": 0, "warehouse": 2}
    assert result["loads"] == 1


def test_a_run_without_anything_new_commits_nothing(world: Any) -> None:
    world.land({"a.csv": [payment(1)]})
    world.run()
    result = world.run()
    assert result["commit"] is None
    assert result["rows"] == {"read": 0, "rejected": 0, "duplicates": 0, "removed": 0, "warehouse": 0}
    assert len(world.query("SELECT DISTINCT commit_id FROM warehouse._covered")) == 1


def test_a_load_without_rows_is_covered_too(world: Any) -> None:
    world.land({"empty.csv": []})
    result = world.run()
    assert result["loads"] == 1
    assert world.run()["commit"] is None


def test_a_newer_generation_of_a_file_replaces_the_older(world: Any) -> None:
    world.land({"a.csv": [payment(1), payment(2)]})
    world.run()
    world.moment += timedelta(days=1)
    world.land({"a.csv": [payment(2, "20"), payment(3, "30")]})
    result = world.run()
    assert amounts(world) == {2: 20, 3: 30}
    assert result["rows"] == {"read": 2, "rejected": 0, "duplicates": 1, "removed": 1, "warehouse": 0}


def test_keys_that_leave_without_a_row_that_comes_are_no_duplicates(world: Any) -> None:
    world.land({"a.csv": [payment(1), payment(2), payment(3)]})
    world.run()
    world.land({"a.csv": []})
    result = world.run()
    assert world.rows() == []
    assert result["rows"] == {"read": 0, "rejected": 0, "duplicates": 0, "removed": 3, "warehouse": -3}


def test_a_key_that_loses_its_row_falls_back_to_an_older_file_that_still_counts(
    make_world: Any, small_contract: Any
) -> None:
    world = make_world(small_contract(version="items"))
    world.land({"a.csv": [payment(1, "10", items=1)], "b.csv": [payment(1, "20", items=2)]})
    world.run()
    assert amounts(world) == {1: 20}
    world.land({"b.csv": [payment(7, "70")]})
    world.run()
    assert amounts(world) == {1: 10, 7: 70}


def test_an_older_generation_that_arrives_late_changes_nothing(world: Any) -> None:
    world.land({"a.csv": [payment(1, "20")]}, landed_at=MONDAY)
    world.run()
    world.land({"a.csv": [payment(1, "10"), payment(2, "10")]}, landed_at=MONDAY - timedelta(days=1))
    result = world.run()
    assert amounts(world) == {1: 20}
    assert result["rows"] == {"read": 2, "rejected": 0, "duplicates": 2, "removed": 0, "warehouse": 0}


def test_a_file_that_could_not_be_read_supersedes_nothing(world: Any) -> None:
    world.land({"a.csv": [payment(1)]}, landed_at=MONDAY)
    world.run()
    world.land({"a.csv": []}, landed_at=MONDAY + timedelta(days=1), unreadable="no such dialect")
    world.run()
    assert amounts(world) == {1: 10}


def test_the_version_column_decides_and_no_version_is_lowest(make_world: Any, small_contract: Any) -> None:
    world = make_world(small_contract(version="items"))
    world.land({"a.csv": [payment(1, "10", items=3), payment(2, "10")], "b.csv": [payment(1, "20", items=2)]})
    world.run()
    world.land({"c.csv": [payment(1, "30"), payment(2, "40", items=1)]})
    world.run()
    assert amounts(world) == {1: 10, 2: 40}


def test_the_first_as_of_of_a_key_outlives_its_rows(world: Any) -> None:
    first = world.moment
    world.land({"a.csv": [payment(1)]})
    world.run()
    world.land({"a.csv": [payment(1, "99"), payment(2)]})
    world.run()
    assert amounts(world)[1] == 99
    assert [row["_first_as_of"] for row in world.rows()] == [first, first + timedelta(days=1)]


def test_a_row_that_moves_to_another_day_leaves_the_old_one(world: Any) -> None:
    world.land({"a.csv": [payment(1)]})
    world.run()
    world.land({"a.csv": [payment(1, at=MONDAY + timedelta(days=40))]})
    world.run()
    assert [str(row["_event_date"]) for row in world.rows()] == ["2020-04-11"]


def test_a_step_that_is_repeated_after_its_commit_returns_the_same(world: Any) -> None:
    world.land({"a.csv": [payment(1), payment(1)]})
    context: StepContext = world.context()
    first = etl(context)
    context.storage.delete(context.run.step_uri("etl"))
    assert etl(world.context()) == first
    assert first["rows"]["warehouse"] == 1
    assert context.storage.read_json(context.run.step_uri("etl")) == first


def test_every_lake_row_is_a_duplicate_rejected_removed_or_in_the_warehouse(world: Any) -> None:
    for number in range(4):
        world.land(
            {
                f"{number}.csv": [payment(i, str(number)) for i in range(number, number + 10)]
                + [payment(1, "-5"), payment(2, amount="7", channel="pigeon")],
                "again.csv": [payment(100 + number), payment(3)],
            }
        )
        world.run()
    # A file that comes again without some of its keys.
    world.land({"again.csv": [payment(200)]})
    world.run()
    lake = world.query("SELECT COUNT(*) AS n FROM lake.payments")[0]["n"]
    rejected = world.query("SELECT COUNT(*) AS n FROM warehouse.payments_rejected")[0]["n"]
    assert lake == world.total("read") == 57
    assert rejected == world.total("rejected") == 8
    assert len(world.rows()) == world.total("warehouse") == 14
    assert world.total("removed") == 4
    assert lake == world.total("duplicates") + rejected + world.total("removed") + len(world.rows())
