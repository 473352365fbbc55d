"""The training profile: fixed bins that count the same way ever after."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import assume, given
from hypothesis import strategies as st

from caudal.labels import encode_labels
from caudal.profile import (
    _numbers,
    categorical_profile,
    count_by_edges,
    missing_share,
    numeric_profile,
    profile,
)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(2, 12))
def test_a_bin_holds_the_values_with_that_many_edges_at_or_below_them(values: list[float], bins: int) -> None:
    made = numeric_profile(np.array(values), 0, bins)
    wanted = [0] * (len(made["edges"]) + 1)
    for value in values:
        wanted[sum(edge <= value for edge in made["edges"])] += 1
    assert made["counts"] == wanted
    assert len(made["edges"]) < 2 * bins


def test_quantile_bins_of_distinct_values_are_even() -> None:
    made = numeric_profile(np.arange(1000.0), 0, 10)
    assert max(made["counts"]) - min(made["counts"]) <= 2


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.sampled_from([0.0, -1.0, 0.1, 7.5]),
    st.integers(2, 12),
    st.data(),
)
def test_what_leaves_a_value_that_fills_a_bin_changes_the_counts(
    others: list[float], atom: float, bins: int, data: st.DataObject
) -> None:
    rows = max(2, len(others) // (bins - 1) + 1)
    sample = np.array([*others, *[atom] * rows])
    moved = data.draw(st.integers(1, rows))
    to = data.draw(st.sampled_from(others) | st.floats(-1e9, 1e9))
    if all(value.is_integer() for value in [*others, atom]):
        to = float(round(to))
    assume(to != atom)
    edges = numeric_profile(sample, 0, bins)["edges"]
    after = np.array([*others, *[atom] * (rows - moved), *[to] * moved])
    assert count_by_edges(after, edges) != count_by_edges(sample, edges)


def test_a_rate_that_is_nearly_always_zero_is_counted_apart_from_its_zeros() -> None:
    rate = np.r_[np.zeros(920), np.linspace(1e-9, 1, 80)]
    made = numeric_profile(rate, 0)
    assert made["counts"] == [0, 920, 80]
    assert count_by_edges(np.r_[np.zeros(400), np.full(600, 1e-12)], made["edges"]) == [0, 400, 600]


def test_beside_the_only_value_of_training_there_is_a_bin_on_either_side() -> None:
    for value in (0.0, 3.0, 0.25, -1e300):
        made = numeric_profile(np.full(50, value), 0)
        assert made["counts"] == [0, 50, 0]
        live = np.array([value - abs(value) - 1, value, value, value + abs(value) + 1])
        assert count_by_edges(live, made["edges"]) == [1, 2, 1]


def test_whole_numbers_that_follow_one_another_leave_no_bin_empty_between_them() -> None:
    made = numeric_profile(np.repeat([1.0, 2.0, 3.0, 4.0, 9.0], [40, 25, 20, 12, 3]), 0)
    assert (made["edges"], made["counts"]) == ([1.0, 2.0, 3.0, 4.0, 5.0], [0, 40, 25, 20, 12, 3])


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60))
def test_decimals_are_the_nearest_numbers_as_sql_has_them(cents: list[int]) -> None:
    values = [Decimal(cent).scaleb(-2) for cent in cents]
    column = pa.array(values, pa.decimal128(38, 9))
    assert _numbers(column).tolist() == [float(value) for value in values]


def test_missing_values_and_no_values_are_counted() -> None:
    assert numeric_profile(np.empty(0), 5)["counts"] == [0]
    assert missing_share(numeric_profile(np.array([1.0, 2.0, 3.0]), 1)) == 0.25


def test_rare_values_are_counted_together() -> None:
    made = categorical_profile(pa.array(["b"] * 5 + ["a"] * 3 + ["c", None]), most=2)
    assert made == {"kind": "categorical", "values": ["a", "b"], "counts": [3, 5, 1], "missing": 1}


def test_a_profile_is_json_and_leaves_out_text(small_contract: Any) -> None:
    contract = small_contract({"features.text": {"customer": {"hashed": 8}}})
    table = pa.table(
        {
            "amount": [1.0, 2.0, float("nan")],
            "items": [1, None, 3],
            "rate": [None, None, None],
            "channel": ["web", "web", None],
            "abroad": [True, False, None],
            "customer": ["a person", "b", "c"],
        },
        schema=pa.schema(
            [
                ("amount", pa.float64()),
                ("items", pa.int64()),
                ("rate", pa.float64()),
                ("channel", pa.string()),
                ("abroad", pa.bool_()),
                ("customer", pa.string()),
            ]
        ),
    )
    made = profile(contract, table, np.array([0.04, 0.05, 0.99]))
    assert "a person" not in json.dumps(made)
    assert set(made["features"]) == {"amount", "items", "rate", "channel", "abroad"}
    assert made["features"]["amount"]["missing"] == 1
    assert made["features"]["abroad"]["values"] == ["false", "true"]
    assert made["scores"]["counts"][:2] == [1, 1]
    assert sum(made["scores"]["counts"]) == 3


def classified(small_contract: Any, **label: Any) -> tuple[Any, pa.Table]:
    """A contract and a thousand rows whose label follows the amount."""
    amount = np.random.default_rng(1).uniform(0, 100, 1000)
    classes = np.where(amount > 90, "yes", "no")
    contract = small_contract(
        {"features": {"numeric": ["amount"], "categorical": ["channel"]}, "never": {}, **label}
    )
    return contract, pa.table(
        {"amount": amount, "channel": np.where(amount > 95, "web", "app"), "disputed": classes, "refunded": amount}
    )


def test_the_positive_class_is_counted_in_bins_of_its_own(small_contract: Any) -> None:
    contract, table = classified(small_contract)
    made = profile(contract, table, labels=encode_labels(contract, table))
    positive = np.sort(table.column("amount").to_numpy()[table.column("disputed").to_numpy() == "yes"])
    assert list(made["classes"]) == ["yes"]
    assert made["classes"]["yes"]["rows"] == len(positive)
    counted = made["classes"]["yes"]["features"]
    assert min(counted["amount"]["edges"]) > 90 > made["features"]["amount"]["edges"][-2]
    assert max(counted["amount"]["counts"]) - min(counted["amount"]["counts"]) <= 2
    assert sum(counted["channel"]["counts"]) == len(positive)
    # Of all rows nothing changes by it.
    assert {**made, "classes": None} == {**profile(contract, table), "classes": None}


def test_each_of_several_classes_is_counted(small_contract: Any) -> None:
    contract, table = classified(
        small_contract, task="multiclass", label={"column": "disputed", "due_after": "7d"}
    )
    made = profile(contract, table, labels=encode_labels(contract, table))
    assert {name: of["rows"] for name, of in made["classes"].items()} == dict(
        Counter(table.column("disputed").to_pylist())
    )


def test_a_regression_is_not_counted_by_class(small_contract: Any) -> None:
    changes = {"task": "regression", "label": {"column": "refunded", "due_after": "7d"}, "gate.metric": "rmse"}
    contract, table = classified(small_contract, **changes)
    assert "classes" not in profile(contract, table, labels=encode_labels(contract, table))


def test_a_score_at_an_edge_lies_above_it() -> None:
    assert count_by_edges(np.array([0.1, 0.2]), [0.1, 0.2]) == [0, 1, 1]


def test_a_value_that_fills_a_bin_of_a_class_has_it_for_itself_there(small_contract: Any) -> None:
    contract, table = classified(small_contract)
    positive = np.array(table.column("disputed").to_pylist()) == "yes"
    # Half of the positive rows, and one in twenty of all.
    amount = np.where(np.cumsum(positive) % 2 == 0, table.column("amount").to_numpy(), np.where(positive, 91.5, 3))
    table = table.set_column(0, "amount", pa.array(amount))
    counted = profile(contract, table, labels=encode_labels(contract, table))["classes"]["yes"]["features"][
        "amount"
    ]
    at = counted["edges"].index(91.5)
    assert counted["edges"][at + 1] == np.nextafter(91.5, 92)
    assert counted["counts"][at + 1] == np.sum(amount[positive] == 91.5)
