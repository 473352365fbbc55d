"""Windows that are not full yet are no yardstick for drift."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from caudal.environment import Environment
from monitor.inputs import arrivals
from monitor.step import inputs
from monitor.warm_up import reaches
from tests.world import World, day, payments

WINDOWS = [
    {"entity": "channel", "lengths": ["10d"], "values": {"count": "*"}},
    {"entity": "channel", "lengths": ["1d"], "delay": "7d", "values": {"rate": "disputed"}},
]
COUNT, RATE = "channel_count_10d", "channel_rate_disputed_1d"
FEBRUARY, MARCH = day("2026-02-01"), day("2026-03-01")


@pytest.fixture
def world(small_contract: Any, local_environment: Environment) -> World:
    contract = small_contract(
        {
            "features.windows": WINDOWS,
            "columns.disputed": {"type": "boolean"},
            "label.positive": "true",
            "monitor.drift.minimum_rows": 100,
        }
    )
    return World(contract, local_environment)


def rows(start: str, count: int, since: str, full: float, **named: Any) -> dict[str, Any]:
    """Payments whose count over ten days grows from 0 to `full` during the ten days after `since`."""
    columns = payments(count, start, disputed=[i % 4 == 0 for i in range(count)], **named)
    days = np.array([(t - day(since)).total_seconds() / 86400 for t in columns["paid_at"].to_pylist()])
    noise = np.random.default_rng(count).normal(0, 0.05 * full, count)
    return {**columns, COUNT: np.minimum(days / 10, 1) * full + noise, RATE: [0.25] * count}


def drifted(result: dict[str, Any]) -> list[str]:
    return [alarm["feature"] for alarm in result["alarms"]]


def test_a_window_reaches_back_over_its_delay_and_its_length(world: World) -> None:
    assert reaches(world.contract) == {COUNT: timedelta(days=10), RATE: timedelta(days=8)}


def test_a_count_that_grew_in_training_and_is_full_now_is_no_drift(world: World) -> None:
    training = world.arrive(rows("2026-01-01", 1000, "2026-01-01", 100), FEBRUARY)
    world.promote(training, FEBRUARY)
    world.arrive(rows("2026-02-01", 800, "2026-01-01", 100, first_key=5000), MARCH)
    assert drifted(inputs(world.context(MARCH))) == []
    measured = world.rows(
        "SELECT value FROM monitoring.measurements WHERE measure = 'psi' AND feature = @f", f=COUNT
    )
    assert measured[0]["value"] < 0.1


def test_a_change_of_full_windows_is_found_though_training_held_windows_that_were_not(world: World) -> None:
    training = world.arrive(rows("2026-01-01", 1000, "2026-01-01", 100), FEBRUARY)
    world.promote(training, FEBRUARY)
    world.arrive(rows("2026-02-01", 800, "2026-01-01", 150, first_key=5000), MARCH)
    assert drifted(inputs(world.context(MARCH))) == [COUNT]


def test_a_window_that_was_never_full_in_training_is_not_judged(world: World) -> None:
    training = world.arrive(rows("2026-01-01", 300, "2026-01-01", 100, days=9), day("2026-01-10"))
    world.promote(training, day("2026-01-10"))
    world.arrive(rows("2026-01-20", 800, "2026-01-01", 300, first_key=5000, days=9), day("2026-02-01"))
    assert COUNT not in drifted(inputs(world.context(day("2026-02-01"))))


def test_a_few_rows_of_long_ago_do_not_make_windows_full(world: World) -> None:
    world.arrive(payments(1, "1970-01-01", first_key=90_000, disputed=[False]), FEBRUARY)
    training = world.arrive(rows("2026-01-01", 1000, "2026-01-01", 100), FEBRUARY)
    assert arrivals(world.context(FEBRUARY)).first == day("2026-01-01")
    world.promote(training, FEBRUARY)
    world.arrive(rows("2026-02-01", 800, "2026-01-01", 100, first_key=5000), MARCH)
    assert drifted(inputs(world.context(MARCH))) == []


@pytest.mark.parametrize(
    ("strays", "count", "first"),
    [
        (0, 1, "2026-01-01"),
        (1, 10, "2026-01-01"),
        (2, 1900, "1980-06-01"),
        (2, 2100, "2026-01-01"),
        (30, 2100, "1980-06-01"),
    ],
)
def test_events_begin_on_the_day_by_which_a_thousandth_of_all_and_more_than_one_had_happened(
    world: World, strays: int, count: int, first: str
) -> None:
    if strays:
        world.arrive(payments(strays, "1980-06-01", first_key=90_000, days=1, disputed=[False] * strays), FEBRUARY)
    world.arrive(payments(count, "2026-01-01", disputed=[False] * count), FEBRUARY)
    assert arrivals(world.context(FEBRUARY)).first == day(first)
