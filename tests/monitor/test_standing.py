"""An alarm that stands is told when it begins, again after a time, and when it ends."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caudal.environment import Environment
from caudal.promotions import Promotion, Promotions
from monitor.standing import Stood
from monitor.step import inputs, outcomes
from tests.world import World, day, payments

FEBRUARY, MARCH = day("2026-02-01"), day("2026-03-01")
USUAL, DRIFTED, NONE = "usual", "drifted", "none"


@pytest.fixture
def world(small_contract: Any, local_environment: Environment) -> World:
    """A champion since February, and a reminder every three days."""
    world = World(
        small_contract(
            {
                "monitor.drift.minimum_rows": 100,
                "monitor.remind_every": "3d",
                "model.train_on.minimum": 200,
                "retrain.new_rows": 10_000,
            }
        ),
        local_environment,
    )
    world.promote(world.arrive(payments(2000, "2026-01-01"), FEBRUARY), FEBRUARY)
    return world


def arrive(world: World, number: int, kind: str) -> datetime:
    """The rows of one day, whose amounts have moved or not; the as-of at its end."""
    as_of = MARCH + timedelta(days=number)
    if kind != NONE:
        changes = {"amount": np.full(400, 260.0)} if kind == DRIFTED else {}
        world.arrive(
            payments(400, "2026-02-20", first_key=10_000 * (number + 1), seed=number, days=8, **changes), as_of
        )
    return as_of


def delivered(world: World) -> list[dict[str, Any]]:
    """What reached the file."""
    (path,) = [Path(d.path or "") for d in world.environment.alarms if d.type == "file"]
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def told(world: World) -> list[tuple[str, str]]:
    """What reached the file, as (day, state)."""
    return [(entry["as_of"][5:10], entry["state"]) for entry in delivered(world)]


def states(world: World, kinds: list[str]) -> list[str]:
    """The state of the alarm at each day's run; empty without one."""
    found = []
    for number, kind in enumerate(kinds):
        result = inputs(world.context(arrive(world, number, kind)))
        found.append("".join(alarm["state"] for alarm in result["alarms"] + result["ended"]))
    return found


def test_an_alarm_that_stands_is_told_when_it_begins_again_after_a_time_and_when_it_ends(world: World) -> None:
    days = [USUAL, DRIFTED, DRIFTED, DRIFTED, DRIFTED, DRIFTED, USUAL, USUAL]
    assert states(world, days) == ["", "new", "standing", "standing", "reminder", "standing", "ended", ""]
    assert told(world) == [("03-02", "new"), ("03-05", "reminder"), ("03-07", "ended")]


def test_an_alarm_that_comes_back_is_new(world: World) -> None:
    assert states(world, [DRIFTED, USUAL, DRIFTED]) == ["new", "ended", "new"]


def test_a_run_that_can_not_judge_neither_ends_nor_begins_an_alarm(world: World) -> None:
    assert states(world, [DRIFTED, NONE, DRIFTED, NONE, USUAL]) == ["new", "", "standing", "", "ended"]


def test_after_a_gap_longer_than_the_time_the_next_run_reminds_once(world: World) -> None:
    assert states(world, [DRIFTED, NONE, NONE, NONE, NONE, NONE, NONE, DRIFTED, DRIFTED]) == [
        "new", "", "", "", "", "", "", "reminder", "standing"]  # fmt: skip


def test_a_standing_alarm_says_since_when(world: World) -> None:
    states(world, [DRIFTED])
    (alarm,) = inputs(world.context(arrive(world, 1, DRIFTED)))["alarms"]
    assert (alarm["since"], alarm["as_of"]) == ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")


def test_a_repeated_step_says_nothing_more_whatever_ran_after_it(world: World) -> None:
    states(world, [DRIFTED, DRIFTED, USUAL])
    before = told(world)
    repeated = [inputs(world.context(MARCH + timedelta(days=number))) for number in range(3)]
    assert [[a["state"] for a in r["alarms"] + r["ended"]] for r in repeated] == [["new"], ["standing"], ["ended"]]
    assert told(world) == before


def test_a_further_run_of_the_same_as_of_does_not_say_it_again(world: World) -> None:
    as_of = arrive(world, 0, DRIFTED)
    for destination in ("first", "second"):
        inputs(world.context(as_of, destination))
    assert world.storage.names(world.environment.ledger("payments", "alarms")) == ["20260301T000000Z-inputs.json"]
    assert len(told(world)) == 1


def test_a_step_killed_before_its_figures_are_loaded_loses_no_alarm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = arrive(world, 0, DRIFTED)
    with monkeypatch.context() as broken:
        broken.setattr(type(world.warehouse), "load", _killed)
        with pytest.raises(KeyboardInterrupt):
            inputs(world.context(as_of))
    assert inputs(world.context(as_of))["alarms"][0]["state"] == "new"
    assert told(world) == [("03-01", "new")]


def test_a_standing_alarm_still_asks_for_a_training(world: World) -> None:
    states(world, [DRIFTED])
    as_of = arrive(world, 1, DRIFTED)
    found = inputs(world.context(as_of))
    assert [alarm["state"] for alarm in found["alarms"]] == ["standing"]
    assert "drift" in outcomes(world.context(as_of, inputs=found))["reasons"]


def test_every_kind_of_input_alarm_ends_as_what_it_began(
    small_contract: Any, local_environment: Environment
) -> None:
    limits = {"monitor.volume": {"at_most": 2}, "monitor.fresh_within": "30d", "monitor.drift.minimum_rows": 100}
    world = World(small_contract(limits), local_environment)
    world.promote(world.arrive(payments(2000, "2026-01-01"), FEBRUARY), FEBRUARY)
    for number in range(3):
        inputs(world.context(arrive(world, number, USUAL)))
    bad = {"rows": {"read": 990, "rejected": 100}}
    rates: list[float | None] = [None if i % 5 == 0 else 0.0 for i in range(2000)]
    rows = payments(2000, "2026-02-10", first_key=500_000, days=1, rate=rates, items=np.full(2000, 50))
    as_of = day("2026-03-04")
    world.arrive(rows, as_of)
    began = inputs(world.context(as_of, etl=bad))["alarms"]
    ended = inputs(world.context(arrive(world, 10, USUAL), etl={"rows": {"read": 990}}))["ended"]
    kinds = {(alarm["kind"], alarm["measure"], alarm["feature"]) for alarm in began}
    assert {kind for kind, _, _ in kinds} == {"drift", "missing", "unseen", "rejected", "volume"}
    assert {(alarm["kind"], alarm["measure"], alarm["feature"]) for alarm in ended} == kinds


def test_data_that_was_stale_and_came_is_said_once(small_contract: Any, local_environment: Environment) -> None:
    world = World(small_contract({"monitor.fresh_within": "20d"}), local_environment)
    arrive(world, 0, USUAL)
    assert [a["kind"] for a in inputs(world.context(day("2026-04-20")))["alarms"]] == ["freshness"]
    world.arrive(payments(100, "2026-04-20", first_key=900_000, days=1), day("2026-04-21"))
    assert [a["kind"] for a in inputs(world.context(day("2026-04-21")))["ended"]] == ["freshness"]


def succeed(world: World, as_of: datetime) -> Promotion:
    """Another champion, trained on a January like the first one's."""
    rows = payments(1000 + as_of.day, "2026-01-01", first_key=800_000 + 10_000 * as_of.day, seed=50 + as_of.day)
    return world.promote(world.arrive(rows, FEBRUARY), as_of)


def test_what_the_next_champion_does_wrong_is_new_and_the_alarm_of_the_old_one_ends_once(world: World) -> None:
    old = inputs(world.context(arrive(world, 0, DRIFTED)))["model_version"]
    new = succeed(world, MARCH).version
    second = inputs(world.context(arrive(world, 1, DRIFTED)))
    assert [(a["state"], a["since"][:10]) for a in second["alarms"]] == [("new", "2026-03-02")]
    assert [(a["state"], a["since"][:10], a["feature"]) for a in second["ended"]] == [
        ("ended", "2026-03-01", "amount")
    ]
    third = inputs(world.context(arrive(world, 2, DRIFTED)))
    assert ([a["state"] for a in third["alarms"]], third["ended"]) == (["standing"], [])
    assert told(world) == [("03-01", "new"), ("03-02", "new"), ("03-02", "ended")]
    began, begins, ended = (entry["evidence"] for entry in delivered(world))
    assert (began["model_version"], begins["model_version"], ended["model_version"]) == (old, new, old)
    assert ended["reason"] == f"model {new} is live in place of {old}"
    assert delivered(world)[2]["value"] == delivered(world)[0]["value"]


def test_the_alarm_of_the_old_champion_ends_though_nothing_can_be_judged_of_the_new_one(world: World) -> None:
    assert states(world, [DRIFTED]) == ["new"]
    succeed(world, MARCH)
    results = [inputs(world.context(arrive(world, number, NONE))) for number in (1, 2)]
    assert [[a["state"] for a in result["ended"]] for result in results] == [["ended"], []]


def test_a_champion_that_comes_back_begins_anew(world: World) -> None:
    first = inputs(world.context(arrive(world, 0, DRIFTED)))["model_version"]
    succeed(world, MARCH)
    assert [a["state"] for a in inputs(world.context(arrive(world, 1, NONE)))["ended"]] == ["ended"]
    ledger = Promotions(world.storage, world.environment.ledger("payments", "promotions"))
    ledger.roll_back(as_of=MARCH + timedelta(days=1), by="test", reason="test")
    back = inputs(world.context(arrive(world, 2, DRIFTED)))
    assert back["model_version"] == first
    assert [(a["state"], a["since"][:10]) for a in back["alarms"]] == [("new", "2026-03-03")]
    assert back["ended"] == []


def test_a_step_that_is_repeated_after_later_promotions_says_the_same(world: World) -> None:
    results = []
    for number in range(3):
        results.append(inputs(world.context(arrive(world, number, DRIFTED))))
        succeed(world, MARCH + timedelta(days=number))
    before = told(world)
    assert [inputs(world.context(MARCH + timedelta(days=number))) for number in range(3)] == results
    assert told(world) == before


def test_what_is_about_no_model_stands_through_a_promotion(
    small_contract: Any, local_environment: Environment
) -> None:
    world = World(small_contract({"monitor.fresh_within": "20d"}), local_environment)
    arrive(world, 0, USUAL)
    first, second, third = day("2026-04-20"), day("2026-04-21"), day("2026-04-22")
    inputs(world.context(first))
    succeed(world, first)
    found = inputs(world.context(second))
    assert ([(a["kind"], a["state"]) for a in found["alarms"]], found["ended"]) == (
        [("freshness", "standing")],
        [],
    )
    succeed(world, second)
    assert [a["since"][:10] for a in inputs(world.context(third))["alarms"]] == ["2026-04-20"]


def test_an_end_by_promotion_names_the_class_that_the_alarm_was_about(
    small_contract: Any, local_environment: Environment
) -> None:
    drift = {"measure": "psi", "threshold": 0.25, "minimum_rows": 50, "window": "7d"}
    world = World(small_contract({"monitor.class_drift": drift, "model.train_on.minimum": 200}), local_environment)
    world.promote(world.arrive(payments(2000, "2026-01-01"), FEBRUARY), FEBRUARY)
    world.arrive(payments(400, "2026-02-16", first_key=10_000, days=5, amount=np.full(400, 260.0)), MARCH)
    began = [a for a in outcomes(world.context(MARCH))["alarms"] if a["kind"] == "class_drift"]
    assert {(a["among"], a["state"]) for a in began} == {("yes", "new")}
    succeed(world, MARCH)
    later = outcomes(world.context(MARCH + timedelta(days=20)))
    assert later["ended"] != []
    keys = ("kind", "measure", "feature", "among")
    assert [[a[key] for key in keys] for a in later["ended"]] == [[a[key] for key in keys] for a in began]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([1, 2, 3, 4], ["standing", "standing", "reminder", "standing"]),
        ([2, 4, 6, 8], ["standing", "reminder", "reminder", "standing"]),
        ([10, 11, 12], ["reminder", "standing", "reminder"]),
    ],
)
def test_a_reminder_comes_with_the_first_run_after_each_multiple_of_the_time(
    runs: list[int], expected: list[str]
) -> None:
    latest, found = MARCH, []
    for number in runs:
        as_of = MARCH + timedelta(days=number)
        found.append(Stood(MARCH, latest, 0.4, 0.25).state(as_of, timedelta(days=3)))
        latest = as_of
    assert found == expected


def _killed(*arguments: Any, **named: Any) -> None:
    raise KeyboardInterrupt
