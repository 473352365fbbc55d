"""The simulator of wallet transactions: what the handbook documents, at any size, alike each time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from caudal.contract import load_contract
from data.wallet.simulator import (
    DAYS,
    LARGE_AMOUNT_CENTS,
    RADIUS,
    SCHEMA,
    SIDE,
    Injection,
    Scenario,
    Simulation,
    Transactions,
    _within_radius,
)

CONTRACT = Path(__file__).resolve().parents[2] / "contracts" / "wallet.yaml"


def joined(simulation: Simulation, days: range) -> Transactions:
    parts = [simulation.transactions(day) for day in days]
    return Transactions(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Transactions.__dataclass_fields__)
    )


@pytest.fixture(scope="module")
def documented() -> Simulation:
    """The documented setting: about 5,000 customers and 183 days."""
    return Simulation(1_750_000, seed=1)


@pytest.fixture(scope="module")
def documented_rows(documented: Simulation) -> Transactions:
    return joined(documented, range(documented.days))


def test_the_documented_setting_comes_out_at_its_size(
    documented: Simulation, documented_rows: Transactions
) -> None:
    assert documented.days == DAYS
    assert 4_800 < documented.population.customers < 5_200
    assert documented.population.terminals == documented.population.customers * 2
    # The number of rows is a sum of Poisson counts: one standard deviation is 1,323.
    assert abs(len(documented_rows.id) - 1_750_000) < 6_000


def test_about_eight_in_a_thousand_transactions_are_fraud_by_the_three_documented_ways(
    documented_rows: Transactions,
) -> None:
    counts = np.bincount(documented_rows.scenario, minlength=5) / len(documented_rows.id)
    # The handbook's own sample has .837 % in all: .056 % large amounts, .519 % terminals, .262 % customers.
    assert 0.0075 < 1 - counts[Scenario.NONE] < 0.0095
    assert 0.0003 < counts[Scenario.LARGE_AMOUNT] < 0.0009
    assert 0.0045 < counts[Scenario.TERMINAL] < 0.0060
    assert 0.0022 < counts[Scenario.CUSTOMER] < 0.0033
    assert counts[Scenario.CARD_TESTING] == 0


def test_each_day_has_its_share_of_the_rows(documented_rows: Transactions) -> None:
    a_day = np.bincount(documented_rows.id // 1_000_000_000)
    assert len(a_day) == DAYS
    mean = 1_750_000 / DAYS
    assert np.all(np.abs(a_day - mean) < 6 * np.sqrt(mean))


def test_amounts_follow_each_customers_mean_and_half_of_it_as_deviation(
    documented: Simulation, documented_rows: Transactions
) -> None:
    ordinary = documented_rows.scenario == Scenario.NONE
    customer = documented_rows.customer[ordinary]
    amount = documented_rows.cents[ordinary] / 100
    counts = np.bincount(customer, minlength=documented.population.customers)
    often = counts > 300
    sums = np.bincount(customer, amount, minlength=len(counts))
    squares = np.bincount(customer, amount**2, minlength=len(counts))
    mean = sums[often] / counts[often]
    deviation = np.sqrt(squares[often] / counts[often] - mean**2)
    ratio = mean / documented.population.mean_amount[often]
    # The redrawn negative amounts lift the mean by 3 % and narrow the deviation; large amounts are fraud.
    assert 0.95 < np.median(ratio) < 1.06
    assert 0.42 < np.median(deviation / mean) < 0.5
    assert amount.min() >= 0


def test_times_of_day_lie_around_noon_and_inside_the_day(documented_rows: Transactions) -> None:
    second = documented_rows.second
    assert second.min() > 0
    assert second.max() < 86_400
    assert abs(second.mean() - 43_200) < 60
    assert 18_000 < second.std() < 19_500


def test_every_large_amount_is_fraud(documented_rows: Transactions) -> None:
    large = documented_rows.cents > LARGE_AMOUNT_CENTS
    assert large.sum() > 500
    assert np.all(documented_rows.scenario[large] != Scenario.NONE)


def test_a_compromised_terminal_has_nothing_but_fraud_for_28_days(documented_rows: Transactions) -> None:
    day = documented_rows.id // 1_000_000_000
    bad = documented_rows.scenario == Scenario.TERMINAL
    stretches = []
    for terminal in np.unique(documented_rows.terminal[bad])[:100]:
        here = documented_rows.terminal == terminal
        days = np.unique(day[here & bad])
        stretches.append(days[-1] - days[0] + 1)
        within = here & (day >= days[0]) & (day <= days[-1])
        if stretches[-1] <= 28:
            assert np.all(documented_rows.scenario[within] != Scenario.NONE)
    assert np.median(stretches) in range(24, 29)


def test_customers_use_only_terminals_within_their_radius() -> None:
    random = np.random.default_rng(3)
    customers, terminals = random.random((300, 2)) * SIDE, random.random((2_000, 2)) * SIDE
    first, reach = _within_radius(customers, terminals, SIDE)
    for i in range(len(customers)):
        near = np.flatnonzero(((terminals - customers[i]) ** 2).sum(axis=1) < RADIUS**2)
        assert sorted(reach[first[i] : first[i + 1]]) == near.tolist()


@pytest.mark.parametrize("rows", [1, 7, 2_000, 40_000, 300_000])
def test_any_number_of_rows_can_be_had(rows: int) -> None:
    simulation = Simulation(rows, seed=5)
    made = sum(len(simulation.transactions(day).id) for day in range(simulation.days))
    assert abs(made - rows) <= 10 + 5 * np.sqrt(rows)


def test_a_population_of_another_size_has_the_same_density_and_share_of_fraud() -> None:
    small, large = Simulation(150_000, seed=2), Simulation(700_000, seed=2)
    for simulation in (small, large):
        rows = joined(simulation, range(simulation.days))
        assert simulation.days == DAYS
        assert 0.006 < (rows.scenario > 0).mean() < 0.011
        reach = len(simulation.population.reach) / simulation.population.customers
        assert 55 < reach < 79


def test_a_day_made_alone_equals_that_day_within_the_whole() -> None:
    whole = list(Simulation(60_000, seed=9).tables())
    for day in (0, 41, 97):
        assert Simulation(60_000, seed=9).table(day).equals(whole[day])


def test_another_seed_gives_other_rows() -> None:
    first, second = Simulation(5_000, seed=1).table(3), Simulation(5_000, seed=2).table(3)
    assert not first["amount"].combine_chunks().equals(second["amount"].combine_chunks())


def test_rows_are_what_the_contract_describes() -> None:
    contract = load_contract(CONTRACT)
    table = Simulation(40_000, seed=4).table(10)
    assert table.schema == SCHEMA
    assert list(contract.columns) == table.column_names
    assert table.cast(contract.arrow_schema()).num_rows == table.num_rows > 200
    assert len(pc.unique(table["transaction_id"])) == table.num_rows
    first, last = pc.min_max(table["occurred_at"]).as_py().values()
    assert first >= datetime(2018, 4, 11, tzinfo=UTC)
    assert last < datetime(2018, 4, 12, tzinfo=UTC)
    low, high = contract.columns["amount"].range or (0.0, 0.0)
    assert Decimal(low) <= pc.min(table["amount"]).as_py() <= pc.max(table["amount"]).as_py() <= Decimal(high)


def test_the_simulation_starts_on_the_wanted_day() -> None:
    table = Simulation(3_000, seed=4, start=date(2024, 2, 29)).table(1)
    assert pc.min(table["occurred_at"]).as_py().date() == date(2024, 2, 29) + timedelta(days=1)


class TestInjections:
    """Lasting changes from a day on."""

    ROWS, SEED = 200_000, 6

    def both(self, text: str, day: int) -> tuple[Transactions, Transactions]:
        changed = Simulation(self.ROWS, self.SEED, injections=(Injection.parse(text),))
        return Simulation(self.ROWS, self.SEED).transactions(day), changed.transactions(day)

    @pytest.mark.parametrize("text", ["amounts@60", "fraud@60", "merchants@60"])
    def test_the_days_before_stay_as_they_are(self, text: str) -> None:
        plain, changed = self.both(text, 59)
        for name in Transactions.__dataclass_fields__:
            assert np.array_equal(getattr(plain, name), getattr(changed, name))

    def test_amounts_grow_and_the_share_of_fraud_stays(self) -> None:
        plain, changed = self.both("amounts@60:1.5", 60)
        assert np.array_equal(changed.cents, np.rint(plain.cents * 1.5))
        assert np.array_equal(changed.scenario, plain.scenario)

    def test_a_new_kind_of_fraud_is_small_at_night_and_anywhere(self) -> None:
        plain, changed = self.both("fraud@60", 80)
        new = changed.scenario == Scenario.CARD_TESTING
        assert new.sum() == len(changed.id) - len(plain.id) > 0
        assert changed.cents[new].max() <= 500
        assert changed.second[new].max() < 6 * 3600
        assert (plain.scenario == Scenario.CARD_TESTING).sum() == 0

    def test_merchants_mix_moves_to_few_terminals(self) -> None:
        plain, changed = self.both("merchants@60:0.5", 61)
        terminals = Simulation(self.ROWS, self.SEED).population.terminals

        def busiest(rows: Transactions) -> float:
            counts = np.sort(np.bincount(rows.terminal, minlength=terminals))[::-1]
            return float(counts[: terminals // 50].sum() / counts.sum())

        assert busiest(plain) < 0.2
        assert 0.48 < busiest(changed) < 0.6

    def test_several_changes_work_together(self) -> None:
        both = (Injection.parse("amounts@10"), Injection.parse("merchants@20"))
        simulation = Simulation(30_000, 1, injections=both)
        assert pc.mean(simulation.table(25)["amount"]).as_py() > 70

    @pytest.mark.parametrize(
        "text",
        [
            *("amounts", "amounts@", "amounts@x", "prices@3", "merchants@3:2", "amounts@3:0", "amounts@3:x"),
            *("amounts@3:nan", "amounts@3:inf", "amounts@3:1e30", "fraud@3:nan", "merchants@3:nan"),
        ],
    )
    def test_nonsense_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"kind of|out of range|could not convert"):
            Injection.parse(text)


def test_a_simulation_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Simulation(0)


def test_amounts_are_exact_decimals() -> None:
    simulation = Simulation(4_000, seed=8)
    rows, table = simulation.transactions(2), simulation.table(2)
    assert [Decimal(int(c)) / 100 for c in rows.cents] == table["amount"].to_pylist()
    assert pa.types.is_decimal(table.schema.field("amount").type)
