"""Rows of one entity are few observations of that entity's windows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from caudal.environment import Environment
from monitor.independence import DesignEffect, design_effects
from monitor.step import outcomes
from tests.world import World, day, payments

FEBRUARY, MARCH = day("2026-02-01"), day("2026-03-01")
WINDOW = {"entity": "customer", "lengths": ["1d"], "values": {"count": "*"}}
COUNT = "customer_count_1d"


@pytest.fixture
def world(small_contract: Any, local_environment: Environment) -> World:
    section = {"measure": "kolmogorov_smirnov", "threshold": 0.25, "minimum_rows": 50, "window": "28d"}
    contract = small_contract({"features.windows": [WINDOW], "monitor.class_drift": section})
    return World(contract, local_environment)


def rows(count: int, customers: int, start: str, seed: int, **named: Any) -> dict[str, Any]:
    """Payments of so many customers; each customer's count is one number, the same in all of its rows."""
    generator = np.random.default_rng(seed)
    whose = generator.integers(0, customers, count)
    of_customer = generator.integers(1, 100, customers).astype(float)
    return payments(
        count,
        start,
        seed=seed,
        disputed=["yes", "no"] * (count // 2),
        **{"customer": [f"c{seed}-{who}" for who in whose], COUNT: of_customer[whose], **named},
    )


def condition(begin: str, until: str) -> tuple[str, dict[str, Any]]:
    name = begin.replace("-", "")
    return f"(`paid_at` >= @a{name} AND `paid_at` < @b{name})", {f"a{name}": day(begin), f"b{name}": day(until)}


def test_the_design_effect_is_that_of_the_entities_rows(world: World) -> None:
    generator = np.random.default_rng(5)
    whose = {begin: generator.geometric(0.05, 600) for begin in ("2026-01-01", "2026-02-01")}
    for number, (begin, names) in enumerate(whose.items()):
        people = [f"c{name}" if name % 7 else None for name in names]
        world.arrive(
            payments(600, begin, first_key=10_000 * number, customer=people, disputed=["yes", "no"] * 300), MARCH
        )
    found = design_effects(
        world.warehouse, world.contract, "customer", condition("2026-01-01", "2026-02-01"),
        condition("2026-02-01", "2026-03-01"),
        {name: (f"`disputed` = @c{name}", {f"c{name}": name}) for name in ("yes", "no")},
    )  # fmt: skip

    def by_hand(names: np.ndarray) -> float:
        sizes = np.unique(names[names % 7 > 0], return_counts=True)[1]
        return float(np.average(sizes, weights=sizes))

    january, february = whose.values()
    assert found == {
        "yes": DesignEffect(pytest.approx(by_hand(january[::2])), pytest.approx(by_hand(february[::2]))),
        "no": DesignEffect(pytest.approx(by_hand(january[1::2])), pytest.approx(by_hand(february[1::2]))),
    }


def test_no_rows_have_no_effect(world: World) -> None:
    span = condition("2026-01-01", "2026-02-01")
    classes = {"yes": ("`disputed` = @c", {"c": "yes"})}
    assert design_effects(world.warehouse, world.contract, "customer", span, span, classes) == {
        "yes": DesignEffect()
    }


def alarms(world: World, customers: int, seed: int, **changes: Any) -> list[str]:
    """The features that are named when a month's payments come from so many customers."""
    as_of = MARCH + timedelta(days=7)
    world.arrive(rows(2000, customers, "2026-02-01", seed, first_key=50_000, **changes), as_of)
    return [one["feature"] for one in outcomes(world.context(as_of))["alarms"] if one["kind"] == "class_drift"]


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_few_customers_with_many_rows_are_no_drift_of_their_windows(world: World, seed: int) -> None:
    world.promote(world.arrive(rows(4000, 2000, "2026-01-01", 1), FEBRUARY), FEBRUARY)
    # Seven counts drawn anew, each in some 140 positive rows: the counts are far apart, and nothing has changed.
    assert alarms(world, 7, seed) == []
    far = world.rows(
        "SELECT value FROM monitoring.measurements WHERE measure = @measure AND feature = @feature",
        measure="among_yes_kolmogorov_smirnov",
        feature=COUNT,
    )
    assert far[0]["value"] > 0.2


def test_many_customers_whose_windows_changed_are(world: World) -> None:
    world.promote(world.arrive(rows(4000, 2000, "2026-01-01", 1), FEBRUARY), FEBRUARY)
    counts = np.random.default_rng(3).integers(60, 160, 2000).astype(float)
    assert alarms(world, 1000, 11, **{COUNT: counts}) == [COUNT]
