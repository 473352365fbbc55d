"""Runs that get in each other's way: a commit is made on what its plan saw, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from caudal.errors import CommitConflict, NotFound
from caudal.ledger import LoadLedger
from caudal.step import StepContext
from caudal.storage import join
from caudal.storage.files import file_path
from etl_beam.facts import Facts
from etl_beam.plan import make_plan
from etl_beam.sink import finish
from etl_beam.step import etl

MONDAY = datetime(2020, 3, 2, 12, tzinfo=UTC)
COUNTED = [{"entity": "customer", "lengths": ["1d"], "values": {"count": "*"}}]


def payment(number: int, **more: Any) -> dict[str, Any]:
    return {"payment": number, "paid_at": MONDAY, "customer": "Ann", "items": 1, **more}


@pytest.fixture
def world(make_world: Any, small_contract: Any) -> Any:
    return make_world(small_contract({"features.windows": COUNTED, "version": "items"}))


def held_before_its_commit(context: StepContext) -> tuple[Any, Facts]:
    """Runs the step up to its commit, and returns what that would be made of."""
    held: list[tuple[Any, Facts]] = []

    def hold(job: Any, facts: Facts) -> None:
        held.append((job, facts))
        raise RuntimeError("killed")

    with mock.patch("etl_beam.transforms.finish", hold), pytest.raises(RuntimeError, match="killed"):
        etl(context)
    return held[0]


def contents(world: Any) -> tuple[Any, ...]:
    return (
        world.rows(),
        world.query("SELECT _content FROM warehouse.payments_rejected ORDER BY _content"),
        world.query("SELECT load_id, commit_id FROM warehouse._covered ORDER BY load_id"),
    )


def test_a_job_that_outlived_its_run_can_not_overwrite_what_a_newer_run_has_committed(world: Any) -> None:
    world.land({"a.csv": [payment(1), payment(2, items=-5)]})
    job, facts = held_before_its_commit(world.context())
    world.moment += timedelta(days=1)
    world.land({"b.csv": [payment(1, items=2), payment(3, paid_at=MONDAY - timedelta(hours=1))]})
    world.run()
    after = contents(world)
    assert [row["items"] for row in after[0]] == [2, 1]

    with pytest.raises(CommitConflict):
        finish(job, facts)

    assert contents(world) == after


def test_a_run_that_another_has_overtaken_is_resumed_with_nothing_to_do(world: Any) -> None:
    first = world.moment
    world.land({"a.csv": [payment(1)]})
    held_before_its_commit(world.context(first))
    world.moment += timedelta(days=1)
    assert world.run()["rows"]["warehouse"] == 1
    after = contents(world)

    result = etl(world.context(first))

    assert result["commit"] is None
    assert result["loads"] == 0
    assert result["rows"] == {"read": 0, "rejected": 0, "duplicates": 0, "removed": 0, "warehouse": 0}
    assert contents(world) == after


def test_a_run_that_another_has_overtaken_takes_what_the_other_left(world: Any) -> None:
    first = world.moment
    world.land({"a.csv": [payment(1)]})
    held_before_its_commit(world.context(first))
    world.moment += timedelta(days=1)
    world.run()
    world.land({"b.csv": [payment(2)]})

    assert etl(world.context(first))["rows"]["warehouse"] == 1
    assert [row["payment"] for row in world.rows()] == [1, 2]


def test_a_commit_that_another_run_made_under_the_same_id_is_not_taken_for_ones_own(world: Any) -> None:
    # As it was until 2026-11-26: a commit's id followed from its loads alone.
    world.land({"a.csv": [payment(1)]})
    ours, theirs = world.context(world.moment - timedelta(days=1)), world.context()
    commit = world.run()["commit"]
    plan = theirs.storage.read_json(join(theirs.run.uri, "etl", commit, "plan.json"))
    ours.storage.write_json(join(ours.run.uri, "etl", commit, "plan.json"), plan)

    assert etl(ours)["commit"] is None


def test_two_runs_never_share_a_commit(world: Any) -> None:
    world.land({"a.csv": [payment(1)]})
    contexts = [world.context(), world.context(world.moment + timedelta(days=1))]
    done = list(LoadLedger(contexts[0].storage, world.environment.ledger("payments", "loads")).done())
    one, other = (make_plan(done, {}, (), context) for context in contexts)
    assert one.new == other.new
    assert one.commit != other.commit


def test_a_ledger_that_has_lost_its_records_is_told_of(world: Any) -> None:
    world.land({"a.csv": [payment(1)]})
    world.run()
    ledger: Path = file_path(world.environment.ledger("payments", "loads"))
    for record in list(ledger.rglob("*.json")):
        record.unlink()
    world.land({"b.csv": [payment(1, items=2)]})

    with pytest.raises(Exception, match="restore the ledger"):
        world.run()

    context = world.context()
    recorded = context.storage.read_json(context.run.error_uri("etl"))
    assert "restore the ledger" in recorded["error"]
    assert recorded["final"]
    assert [row["items"] for row in world.rows()] == [1]


def test_an_error_that_another_attempt_may_not_meet_is_recorded_as_such_and_goes_with_success(world: Any) -> None:
    world.land({"a.csv": [payment(1)]})
    context = world.context()
    conflict = CommitConflict("it moved", where="payments", mend="run again")
    with mock.patch("etl_beam.transforms.finish", side_effect=conflict), pytest.raises(Exception, match="moved"):
        etl(context)
    assert context.storage.read_json(context.run.error_uri("etl")) == {"error": str(conflict), "final": False}

    etl(world.context())

    assert not context.storage.exists(context.run.error_uri("etl"))


def test_what_can_not_be_recorded_does_not_hide_the_error(world: Any) -> None:
    world.land({"a.csv": [payment(1)]})
    lost = NotFound("no such stream", where="payments", mend="look for it")
    with (
        mock.patch("etl_beam.transforms.read_rows", side_effect=lost),
        mock.patch("etl_beam.transforms.record_error", side_effect=OSError("the disk is full")),
        pytest.raises(Exception, match="no such stream"),
    ):
        etl(world.context())
