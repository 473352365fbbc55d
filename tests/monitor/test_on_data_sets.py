"""The monitor on the shipped data: silent where nothing changes, and telling where something does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest

from caudal.contract import Contract, load_contract, parse_contract
from caudal.environment import Environment
from data.wallet.simulator import Injection, Simulation
from etl_beam.calendar_features import calendar_features
from etl_beam.rows import STATE, State
from etl_beam.windows import add_features, windows_by_entity
from monitor.step import inputs, outcomes
from tests.world import World, day

WEEKS_BEFORE, WEEKS = 5, 26
START = day("2018-04-01")


@pytest.fixture(scope="module")
def wallet(repository: Path) -> Contract:
    """The wallet's contract for a smaller stream: a week of it is enough to judge."""
    text = (repository / "contracts" / "wallet.yaml").read_text()
    return parse_contract(text.replace("minimum_rows: 1000", "minimum_rows: 500"), "wallet.yaml")


def with_features(contract: Contract, table: pa.Table) -> pa.Table:
    """What the ETL derives, by its own code."""
    table = table.combine_chunks()
    for name, values in calendar_features(contract, table.column(contract.event_time)).items():
        table = table.append_column(name, values)
    new = pa.array(np.full(table.num_rows, int(State.NEW), np.int8))
    for group in windows_by_entity(contract):
        in_flight = table.append_column(STATE, new)
        for feature in group.features:
            in_flight = in_flight.append_column(feature, pa.nulls(table.num_rows, pa.float64()))
        table = add_features(contract, group, in_flight).drop_columns([STATE])
    return table


def watch(world: World, simulation: Simulation) -> dict[int, set[tuple[str, str]]]:
    """The alarms of each week; the champion has learned from the first weeks, when windows were not yet full."""
    table = with_features(world.contract, pa.concat_tables(simulation.tables()))
    week_of = pc.divide(pc.cast(pc.subtract(table.column("occurred_at"), START), pa.int64()), 7 * 86_400_000_000)
    found = {}
    learned = []
    for week in range(WEEKS_BEFORE + WEEKS):
        rows = table.filter(pc.equal(week_of, week))
        as_of = START + timedelta(weeks=week + 1)
        arrived = world.arrive({name: rows.column(name) for name in rows.column_names}, as_of)
        if week < WEEKS_BEFORE:
            learned.append(arrived)
        if week == WEEKS_BEFORE - 1:
            world.promote(pa.concat_tables(learned), as_of)
        if week >= WEEKS_BEFORE:
            alarms = inputs(world.context(as_of))["alarms"]
            found[week] = {
                (a["kind"], a["feature"]) for a in alarms if a["kind"] in ("drift", "unseen", "missing")
            }
    return found


def simulated(seed: int, *injections: str) -> Simulation:
    return Simulation(
        40_000, seed, days=7 * (WEEKS_BEFORE + WEEKS), injections=tuple(Injection.parse(i) for i in injections)
    )


def test_twenty_six_stationary_weeks_raise_no_alarm(wallet: Contract, local_environment: Environment) -> None:
    found = watch(World(wallet, local_environment), simulated(0))
    assert len(found) == WEEKS
    assert {week: alarms for week, alarms in found.items() if alarms} == {}


@pytest.mark.parametrize(
    ("injection", "named"),
    [("amounts@105", "amount"), ("merchants@105", "terminal_id_count_1d")],
)
def test_a_change_is_found_within_two_weeks_and_named(
    wallet: Contract, local_environment: Environment, injection: str, named: str
) -> None:
    found = watch(World(wallet, local_environment), simulated(0, injection))
    first = 105 // 7
    assert all(not alarms for week, alarms in found.items() if week < first)
    assert ("drift", named) in found[first] | found[first + 1]


def watch_frauds(world: World, simulation: Simulation, learns_until: int) -> dict[int, set[str]]:
    """By day, the features that are named among the frauds; looked at every other day."""
    table = with_features(world.contract, pa.concat_tables(simulation.tables()))
    since = pc.cast(pc.subtract(table.column("occurred_at"), START), pa.int64())
    day_of = pc.divide(since, 86_400_000_000)
    found = {}
    for number in range(learns_until - 1, simulation.days):
        as_of = START + timedelta(days=number + 1)
        first = number == learns_until - 1
        rows = table.filter(pc.less_equal(day_of, number) if first else pc.equal(day_of, number))
        arrived = world.arrive({name: rows.column(name) for name in rows.column_names}, as_of)
        if first:
            due = pc.less_equal(rows.column("occurred_at"), as_of - world.contract.label.due_after)
            world.promote(arrived.filter(due), as_of)
        elif number % 2:
            alarms = outcomes(world.context(as_of))["alarms"]
            found[number + 1] = {a["feature"] for a in alarms if a["kind"] == "class_drift"}
    return found


@pytest.mark.parametrize("injections", [(), ("fraud@50",)])
def test_a_new_kind_of_fraud_is_named_within_two_weeks_and_only_then(
    repository: Path, local_environment: Environment, injections: tuple[str, ...]
) -> None:
    contract = load_contract(repository / "contracts" / "wallet.yaml")
    # As many rows a day as in the laboratory: a week brings some 140 frauds, and customers are taken over daily.
    simulation = Simulation(
        147_000, 1, days=64, injections=tuple(Injection.parse(injection) for injection in injections)
    )
    found = watch_frauds(World(contract, local_environment), simulation, learns_until=47)
    assert all(not named for at, named in found.items() if at <= 50)
    if injections:
        assert {"amount", "night"} <= found[64]
    else:
        assert not any(found.values())


def test_on_the_bank_data_the_telephone_calls_of_october_2008_are_drift(
    repository: Path, local_environment: Environment
) -> None:
    contract = load_contract(repository / "contracts" / "bank_marketing.yaml")
    world = World(contract, local_environment)
    table = pyarrow.csv.read_csv(repository / "data" / "bank_marketing" / "bank_marketing.csv.gz")
    date = table.column("contact_date").cast(pa.date32())

    def month(first: str, until: str) -> dict[str, Any]:
        low, high = (pa.scalar(day(text).date(), pa.date32()) for text in (first, until))
        rows = table.filter(pc.and_(pc.greater_equal(date, low), pc.less(date, high)))
        return {name: rows.column(name) for name in rows.column_names}

    world.promote(world.arrive(month("2008-07-01", "2008-09-01"), day("2008-09-01")), day("2008-10-01"))
    world.arrive(month("2008-10-01", "2008-11-01"), day("2008-11-01"))
    alarms = inputs(world.context(day("2008-11-01")))["alarms"]
    worst = max((a for a in alarms if a["kind"] == "drift"), key=lambda alarm: alarm["value"])
    assert worst["feature"] == "contact"
    assert {a["kind"] for a in alarms} <= {"drift", "unseen"}
