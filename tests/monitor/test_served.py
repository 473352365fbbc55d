"""Served predictions become rows, each line once, whatever is repeated, killed or logged twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caudal.serving_environment import STDOUT
from caudal.storage.files import FileStorage
from caudal.tables import served_table
from caudal.warehouse.duckdb import DuckDBWarehouse
from monitor.served import Collected, collect
from tests.contract_suites.served import line
from tests.world import World, day

MARCH, APRIL, MAY = day("2026-03-01"), day("2026-04-01"), day("2026-05-01")
Write = Callable[..., None]


@pytest.fixture
def write(world: World) -> Write:
    """Appends lines to the environment's prediction log."""

    def append(lines: Sequence[dict[str, Any]], raw: bytes = b"") -> None:
        path = Path(world.environment.serving.prediction_log)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(b"".join(json.dumps(one).encode() + b"\n" for one in lines) + raw)

    return append


def held(world: World) -> list[tuple[int, Any]]:
    rows = world.rows(f"SELECT key, as_of FROM {served_table(world.contract).sql_name} ORDER BY key, id")
    return [(row["key"], row["as_of"]) for row in rows]


def test_a_line_becomes_a_row_in_the_contracts_types(world: World, write: Write) -> None:
    write([line(7, score=0.25, event_time="2026-02-03T04:05:06.000007+01:00")])
    assert collect(world.context(MARCH)).rows == 1
    (row,) = world.rows(f"SELECT * FROM {served_table(world.contract).sql_name}")
    assert row == {
        "id": f"{7:032x}",
        "key": 7,
        "event_time": day("2026-02-03").replace(hour=3, minute=5, second=6, microsecond=7),
        "at": day("2026-03-01").replace(hour=8, minute=7),
        "score": 0.25,
        "prediction": "yes",
        "model_version": "v1",
        "arm": "champion",
        "challenger": "v2",
        "share": 0.25,
        "as_of": MARCH,
    }


def test_each_run_takes_up_what_the_runs_before_did_not(world: World, write: Write) -> None:
    write([line(1), line(2)])
    collect(world.context(MARCH))
    write([line(3)])
    assert collect(world.context(APRIL)).rows == 1
    assert collect(world.context(MAY)).rows == 0
    assert held(world) == [(1, MARCH), (2, MARCH), (3, APRIL)]


def test_a_run_that_is_repeated_takes_up_the_same_and_leaves_what_came_since_to_the_next(
    world: World, write: Write
) -> None:
    write([line(1)], b"broken\n")
    first = collect(world.context(MARCH))
    write([line(2)])
    assert collect(world.context(MARCH)) == first
    assert held(world) == [(1, MARCH)]
    later = collect(world.context(APRIL))
    assert (later.rows, later.broken) == (1, 0)
    assert held(world) == [(1, MARCH), (2, APRIL)]


def test_a_line_that_is_logged_twice_or_read_again_counts_once(world: World, write: Write) -> None:
    write([line(1), line(2), line(1)])
    assert collect(world.context(MARCH)).rows == 2
    write([line(2), line(3), line(1)])
    assert collect(world.context(APRIL)).rows == 1
    # A log that was put together anew is read whole.
    path = Path(world.environment.serving.prediction_log)
    path.write_bytes(b"".join(sorted(path.read_bytes().splitlines(keepends=True), reverse=True)))
    write([line(4)])
    assert collect(world.context(MAY)).rows == 1
    assert held(world) == [(1, MARCH), (2, MARCH), (3, APRIL), (4, MAY)]


class Killed(BaseException):
    """As if the process had been killed."""


@pytest.mark.parametrize(
    ("owner", "act", "after"),
    [
        (pq, "write_table", False),
        (FileStorage, "write_json", False),
        (FileStorage, "write_json", True),
        (DuckDBWarehouse, "load", False),
        (DuckDBWarehouse, "load", True),
        (FileStorage, "delete", False),
    ],
    ids=["staging", "before the record", "after the record", "before the load", "after the load", "tidying up"],
)
@pytest.mark.parametrize("then", ["repeated", "followed by another run", "followed by another and repeated"])
def test_a_run_that_is_killed_loses_no_line_and_doubles_none(
    world: World, write: Write, monkeypatch: pytest.MonkeyPatch, owner: Any, act: str, after: bool, then: str
) -> None:
    write([line(1), line(2)])
    real = getattr(owner, act)

    def killed(*arguments: Any, **named: Any) -> None:
        if after:
            real(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, act, killed)
        with pytest.raises(Killed):
            collect(world.context(MARCH))
    write([line(3)])

    if then == "repeated":
        collect(world.context(MARCH))
    collect(world.context(APRIL))
    if then.endswith("and repeated"):
        collect(world.context(MARCH))

    assert [key for key, _ in held(world)] == [1, 2, 3]
    assert collect(world.context(MAY)).rows == 0


def test_what_was_staged_and_then_expired_is_staged_again(
    world: World, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write([line(1)])
    with monkeypatch.context() as patch:
        patch.setattr(DuckDBWarehouse, "load", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            collect(world.context(MARCH))
    for staged in list(world.storage.objects(world.environment.staging(world.contract.name, "served"))):
        world.storage.delete(staged.uri)
    assert collect(world.context(MARCH)).rows == 1
    assert held(world) == [(1, MARCH)]


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "seven"},
        {"key": str(2**63)},
        {"event_time": "yesterday"},
        {"at": None},
        {"score": None},
        {"score": float("nan")},
        {"arm": None},
        {"model_version": None},
    ],
    ids=str,
)
def test_a_line_that_does_not_hold_what_it_must_is_counted_and_left_out(
    world: World, write: Write, changes: dict[str, Any]
) -> None:
    write([line(1), line(2), line(7, **changes), line(3)])
    found = collect(world.context(MARCH))
    assert (found.rows, found.broken, found.without_key) == (3, 1, 0)
    assert [key for key, _ in held(world)] == [1, 2, 3]


def test_lines_without_a_key_are_counted_and_left_out(world: World, write: Write) -> None:
    write([line(1), line(2, key=None)])
    found = collect(world.context(MARCH))
    assert (found.rows, found.without_key, found.broken) == (1, 1, 0)


def test_with_a_personal_key_nothing_is_read_and_the_reason_is_said(
    small_contract: Any, local_environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(small_contract({"columns.payment.personal": True}), local_environment)
    monkeypatch.setattr("caudal.step.open_served_lines", lambda _: pytest.fail("the log was opened"))
    found = collect(world.context(MARCH))
    assert found.rows == 0
    assert "personal" in found.to_json()["reason"]


def test_lines_that_nobody_keeps_are_none(world: World) -> None:
    serving = world.environment.serving.model_copy(update={"prediction_log": STDOUT})
    world.environment = world.environment.model_copy(update={"serving": serving})
    assert collect(world.context(MARCH)) == Collected()


def test_a_text_key_stays_text(small_contract: Any, local_environment: Any) -> None:
    world = World(small_contract({"columns.payment.type": "text"}), local_environment)
    path = Path(world.environment.serving.prediction_log)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(line(1, key="007")) + "\n")
    assert collect(world.context(MARCH)).rows == 1
    assert held(world) == [("007", MARCH)]


def test_the_step_tells_and_measures_what_was_taken_up(world: World, write: Write) -> None:
    from monitor.step import outcomes

    write([line(1), line(2), line(3, key=None)], b"broken\n")
    found = outcomes(world.context(MARCH))
    assert found["served"] == {"rows": 2, "without_key": 1, "broken": 1, "reason": ""}
    assert {name: found["measures"][name] for name in ("served_rows", "served_without_key", "served_broken")} == {
        "served_rows": 2,
        "served_without_key": 1,
        "served_broken": 1,
    }
    assert outcomes(world.context(MARCH)) == found
