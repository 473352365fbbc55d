"""Windows, against a reading of the contract's words row by row; and entities that are cut into slices of time."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_beam import slices
from etl_beam.exact_sums import RunningSums
from etl_beam.timeline import Timeline

START = datetime(2020, 3, 1, tzinfo=UTC)
WINDOWS = [
    {
        "entity": "customer",
        "lengths": ["1d", "3d"],
        "values": {"count": ["*", "items"], "sum": "rate", "mean": "amount"},
    },
    {
        "entity": "channel",
        "lengths": ["2d"],
        "delay": "7d",
        "values": {"count": "*", "rate": ["disputed", "abroad"]},
    },
    {"entity": "customer", "lengths": ["2d"], "delay": "1d", "values": {"sum": "items"}},
]


@pytest.fixture
def windowed(small_contract: Any) -> Any:
    return small_contract({"features.windows": WINDOWS})


def payments(count: int, seed: int, days: float = 20) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    seconds = random.integers(0, int(days * 24), count) * 3600  # whole hours: many ties

    def some(value: Any) -> Any:
        return None if random.random() < 0.1 else value

    return [
        {
            "payment": number,
            "paid_at": START + timedelta(seconds=int(seconds[number])),
            "amount": some(Decimal(int(random.integers(0, 10_000))) / 100),
            "items": some(int(random.integers(1, 99))),
            "rate": some(float(random.normal())),
            "channel": some(str(random.choice(["web", "app"]))),
            "abroad": some(bool(random.random() < 0.3)),
            "customer": some(f"c{random.integers(0, 4)}"),
            "disputed": some(str(random.choice(["yes", "no"]))),
        }
        for number in range(count)
    ]


def by_the_words(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every feature as the contract's words say it, one row and one window at a time."""
    day = timedelta(days=1)

    def held(row: dict[str, Any], entity: str, length: timedelta, delay: timedelta) -> list[dict[str, Any]]:
        end = row["paid_at"] - delay
        return [r for r in rows if r[entity] == row[entity] and end - length < r["paid_at"] <= end]

    def total(values: list[Any]) -> float:
        return float(sum(Fraction(round(Fraction(value) * 10**9), 10**9) for value in values))

    features = []
    for row in sorted(rows, key=lambda row: row["payment"]):
        found: dict[str, Any] = {}
        for length in (1, 3):
            inside = held(row, "customer", length * day, 0 * day) if row["customer"] else None
            amounts = [r["amount"] for r in inside or [] if r["amount"] is not None]
            found |= {
                f"customer_count_{length}d": None if inside is None else len(inside),
                f"customer_count_items_{length}d": None
                if inside is None
                else sum(r["items"] is not None for r in inside),
                f"customer_sum_rate_{length}d": None
                if inside is None
                else total([r["rate"] for r in inside if r["rate"] is not None]),
                f"customer_mean_amount_{length}d": total(amounts) / len(amounts) if amounts else None,
            }
        late = held(row, "channel", 2 * day, 7 * day) if row["channel"] else None
        for column, hit in (("disputed", "yes"), ("abroad", True)):
            values = [r[column] == hit for r in late or [] if r[column] is not None]
            found[f"channel_rate_{column}_2d"] = sum(values) / len(values) if values else None
        found["channel_count_2d"] = None if late is None else len(late)
        before = held(row, "customer", 2 * day, 1 * day) if row["customer"] else None
        found["customer_sum_items_2d"] = (
            None if before is None else sum(r["items"] for r in before if r["items"] is not None)
        )
        features.append(found)
    return features


def assert_features(world: Any, rows: list[dict[str, Any]]) -> None:
    expected = by_the_words(rows)
    found = world.rows(*expected[0])
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            assert (one[name] is None) == (value is None), name
            assert value is None or math.isclose(one[name], value, rel_tol=1e-12), name


def test_every_feature_is_what_the_contracts_words_say(make_world: Any, windowed: Any) -> None:
    rows = payments(120, seed=1)
    world = make_world(windowed, shards=3)
    world.land({"a.csv": rows})
    world.run()
    assert_features(world, rows)


def test_late_rows_correct_the_features_of_rows_that_stand(make_world: Any, windowed: Any) -> None:
    rows = payments(90, seed=2)
    world = make_world(windowed)
    order = np.random.default_rng(3).permutation(len(rows))
    for number, part in enumerate(np.array_split(order, 4)):
        world.land({f"{number}.csv": [rows[i] for i in part]})
        world.run()
    assert_features(world, rows)


def test_a_row_that_leaves_is_no_longer_counted(make_world: Any, windowed: Any) -> None:
    rows = payments(60, seed=4)
    world = make_world(windowed)
    world.land({"stays.csv": rows[:40], "leaves.csv": rows[40:]})
    world.run()
    world.land({"leaves.csv": rows[50:]})
    world.run()
    assert_features(world, rows[:40] + rows[50:])


def test_an_entity_cut_into_slices_of_time_has_the_same_features(
    make_world: Any, windowed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "ROWS_A_SLICE", 5)
    rows = payments(150, seed=5, days=60)
    world = make_world(windowed, shards=3)
    monkeypatch.setattr("etl_beam.step.ROWS_A_SHARD", 50)
    world.land({"a.csv": rows[::2]})
    world.run()
    world.land({"b.csv": rows[1::2]})
    world.run()
    assert_features(world, rows)


def test_entities_are_cut_where_they_have_too_many_rows(
    make_world: Any, windowed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl_beam.step import prepare

    monkeypatch.setattr(slices, "ROWS_A_SLICE", 40)
    rows = payments(150, seed=6, days=100)
    world = make_world(windowed)
    world.land({"a.csv": rows})
    cut = dict(prepare(world.context()).job.slices)
    counts = {channel: sum(r["channel"] == channel for r in rows) for channel in ("web", "app")}
    assert len(cut["channel"]) == sum(count > 40 for count in counts.values()) == 2
    assert all(width >= timedelta(days=9) / timedelta(microseconds=4) for _, width in cut["channel"])


@pytest.mark.parametrize("name", ["t", "w", "l", "entity", "first", "n"])
def test_an_entity_may_have_any_name(
    make_world: Any, small_contract: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(slices, "ROWS_A_SLICE", 1)
    windows = [{"entity": name, "lengths": ["30d"], "values": {"count": "*"}}]
    world = make_world(small_contract({f"columns.{name}": {"type": "text"}, "features.windows": windows}))
    for number in (1, 2):
        world.land({f"{number}.csv": [{"payment": number, "paid_at": START, name: "x"}]})
        world.run()
    assert [row[f"{name}_count_30d"] for row in world.rows()] == [2, 2]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(-20, 20)), min_size=1, max_size=30),
    st.sampled_from([1, 1 << 40, 1 << 57]),
)
def test_a_timeline_counts_the_rows_of_an_entity_up_to_a_moment(
    rows: list[tuple[int, int]], questions: list[tuple[int, int]], scale: int
) -> None:
    entities, times = np.array(rows, np.int64).reshape(-1, 2).T
    line = Timeline(entities, times * scale, 4)
    asked, moments = np.array(questions, np.int64).T
    moments = np.clip(moments, -(2**62) // scale, 2**62 // scale) * scale
    counted = line.until(asked, moments) - line.until(asked, np.full(len(asked), -(1 << 62)))
    expected = [
        sum(e == entity and t * scale <= moment for e, t in rows)
        for entity, moment in zip(asked.tolist(), moments.tolist(), strict=True)
    ]
    assert counted.tolist() == expected


LARGE = st.integers(-(10**37), 10**37)


@given(
    st.lists(st.one_of(st.none(), LARGE, st.integers(-(10**12), 10**12)), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_sums_of_decimals_are_exact_and_no_order_changes_them(values: list[int | None], random: Any) -> None:
    column = pa.array(
        [None if value is None else Decimal(f"{value}e-9") for value in values], pa.decimal128(38, 9)
    )
    order = list(range(len(values)))
    random.shuffle(order)
    sums = RunningSums(column, np.array(order))
    low, high = np.array([0, len(values) // 2]), np.array([len(values), len(values)])
    expected = [float(sum(values[i] or 0 for i in order[start:])) / 1e9 for start in (0, len(values) // 2)]
    assert sums.between(low, high).tolist() == pytest.approx(expected, rel=1e-15, abs=0)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_sums_of_integers_never_overflow(values: list[int]) -> None:
    sums = RunningSums(pa.array(values, pa.int64()), np.arange(len(values)))
    [total] = sums.between(np.array([0]), np.array([len(values)]))
    assert total == pytest.approx(float(sum(values)), rel=1e-15)


@given(st.lists(st.floats(-1e20, 1e20), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_sums_of_numbers_are_those_of_billionths(values: list[float], random: Any) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    totals = [
        RunningSums(pa.array(order, pa.float64()), np.arange(len(order))).between(
            np.array([0]), np.array([len(order)])
        )[0]
        for order in (values, shuffled)
    ]
    assert totals[0] == totals[1]
    exact = sum(round(Fraction(value * 1e9)) for value in values)
    assert totals[0] == pytest.approx(float(Fraction(exact, 10**9)), rel=1e-15, abs=1e-300)
