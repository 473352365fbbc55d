"""An edit of the contract is taken up by the next run: the tables become those of a fresh environment."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

LATE = datetime(2024, 1, 1, 23, 30, tzinfo=UTC)


def payment(number: int, days: int = 0, customer: str = "Ann", amount: str = "10", **more: Any) -> dict[str, Any]:
    moment = LATE + timedelta(days=days)
    return {"payment": number, "paid_at": moment, "customer": customer, "amount": Decimal(amount), **more}


def counting(*lengths: str, delay: str | None = None) -> dict[str, Any]:
    window = {"entity": "customer", "lengths": list(lengths), "values": {"count": "*"}}
    return {"features.windows": [{**window, "delay": delay} if delay else window]}


FILES = [
    {
        "a.csv": [payment(1), payment(2, 2), payment(3, 2, "Bob", disputed="yes", items=1)],
        "b.csv": [payment(4, 1, amount="-1"), payment(5, 30, "Eve", refunded=5.0)],
    },
    {"c.csv": [payment(1, amount="99", items=2), payment(6, 3)], "b.csv": [payment(7, 4, "Bob"), payment(7, 5)]},
]
OWN = {"_first_as_of", "_source_uri", "_ingested_at"}


def content(world: Any) -> tuple[Any, Any]:
    rows = [{name: value for name, value in row.items() if name not in OWN} for row in world.rows()]
    rejected = world.query("SELECT _reasons, _content, _load_id, _row FROM warehouse.payments_rejected")
    return rows, sorted(rejected, key=lambda row: (row["_load_id"], row["_row"]))


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        ({"time_zone": "UTC"}, {"time_zone": "Europe/Madrid"}, "time_zone"),
        (counting("1d"), counting("1d", "7d"), "features.windows"),
        (counting("7d", delay="1d"), counting("7d", delay="2d"), "features.windows"),
        ({}, {"features.calendar": ["night"], "features.night_hours": [22, 5]}, "features.calendar"),
        ({}, {"version": "items"}, "version"),
        ({}, {"columns.amount": {"type": "decimal", "range": [-5, 50]}}, "columns"),
        ({}, {"columns.later": {"type": "text"}}, "columns"),
        # Rows stand that have no such key.
        (
            {"features.numeric": ["amount"]},
            {
                "features.numeric": ["amount"],
                "key": "items",
                "columns.items": {"type": "integer", "required": True},
            },
            "key",
        ),
    ],
    ids=["time zone", "length", "delay", "calendar", "version", "range", "new column", "key"],
)
@pytest.mark.parametrize("news", [True, False], ids=["with news", "without news"])
def test_an_edit_leaves_what_a_fresh_environment_has(
    make_world: Any, small_contract: Any, before: Any, after: Any, part: str, news: bool
) -> None:
    edited, fresh = make_world(small_contract(before)), make_world(small_contract(after))
    edited.land(FILES[0], landed_at=LATE)
    edited.run()
    firsts = {row[edited.contract.key]: row["_first_as_of"] for row in edited.rows()}
    edited.contract = small_contract(after)
    if news:
        edited.land(FILES[1], landed_at=LATE + timedelta(days=1))
    result = edited.run()
    for number, files in enumerate(FILES[: 1 + news]):
        fresh.land(files, landed_at=LATE + timedelta(days=number))
    assert part in result["rebuilt"]
    assert fresh.run()["rows"] == result["rows"]
    assert content(edited) == content(fresh)
    if part != "key":
        assert all(
            row["_first_as_of"] == firsts.get(row["payment"], edited.moment - timedelta(days=1))
            for row in edited.rows()
        )
    again = edited.run()
    assert again["commit"] is None
    assert again["rebuilt"] == []


def test_an_edit_that_is_taken_back_rebuilds_again(make_world: Any, small_contract: Any) -> None:
    world = make_world(small_contract(counting("1d")))
    world.land(FILES[0])
    first = world.run()
    before = content(world)
    world.contract = small_contract(counting("2d"))
    world.run()
    world.contract = small_contract(counting("1d"))
    last = world.run()
    assert last["rebuilt"] == ["features.windows"]
    assert last["commit"] != first["commit"]
    assert content(world) == before


def test_what_decides_nothing_about_rows_rebuilds_nothing(make_world: Any, small_contract: Any) -> None:
    world = make_world(small_contract(counting("1d", "2d")))
    world.land(FILES[0])
    world.run()
    world.contract = small_contract(
        {**counting("2d", "1d"), "columns.amount.unit": "USD", "label.due_after": "3d", "features.numeric": []}
    )
    assert world.run()["commit"] is None


def test_rows_of_which_nobody_knows_by_what_they_were_made_are_made_anew(
    make_world: Any, small_contract: Any
) -> None:
    """As an earlier release left them."""
    world = make_world(small_contract())
    world.land(FILES[0])
    world.run()
    change(world, "UPDATE warehouse._covered SET rows_digests = NULL")
    assert "key" in world.run()["rebuilt"]
    [digests] = {row["rows_digests"] for row in world.query("SELECT rows_digests FROM warehouse._covered")}
    assert json.loads(digests) == world.contract.rows_digests()


def test_a_rebuild_that_was_killed_is_followed_by_the_next_attempt(
    make_world: Any, small_contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(small_contract())
    world.land(FILES[0])
    world.run()
    world.contract = small_contract(counting("1d"))
    with monkeypatch.context() as broken:
        broken.setattr("etl_beam.transforms.finish", lambda job, facts: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            world.run()
    assert {row["customer_count_1d"] for row in world.rows()} == {None}
    assert world.run()["rebuilt"] == ["features.windows"]
    assert None not in {row["customer_count_1d"] for row in world.rows()}


def test_a_row_goes_from_the_day_on_which_it_stands(make_world: Any, small_contract: Any) -> None:
    """The rules of a time zone change too, and no contract says so."""
    world = make_world(small_contract())
    world.land({"a.csv": [payment(1), payment(2)]})
    world.run()
    change(world, "UPDATE warehouse.payments SET _event_date = DATE '2024-01-02'")
    world.land({"b.csv": [payment(1, amount="99")], "a.csv": [payment(1)]})
    world.run()
    assert [row["payment"] for row in world.rows()] == [1]


def change(world: Any, sql: str) -> None:
    with duckdb.connect(world.environment.warehouse.removeprefix("duckdb:")) as connection:
        connection.execute(sql)
