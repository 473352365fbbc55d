"""The training profile: fixed bins that count the same way ever after."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from caudal.profile import categorical_profile, count_by_edges, missing_share, numeric_profile, profile


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(2, 12))
def test_a_bin_holds_the_values_with_that_many_edges_at_or_below_them(values: list[float], bins: int) -> None:
    made = numeric_profile(np.array(values), 0, bins)
    wanted = [0] * (len(made["edges"]) + 1)
    for value in values:
        wanted[sum(edge <= value for edge in made["edges"])] += 1
    assert made["counts"] == wanted
    assert len(made["edges"]) < bins


def test_quantile_bins_of_distinct_values_are_even() -> None:
    made = numeric_profile(np.arange(1000.0), 0, 10)
    assert max(made["counts"]) - min(made["counts"]) <= 2


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


def test_a_score_at_an_edge_lies_above_it() -> None:
    assert count_by_edges(np.array([0.1, 0.2]), [0.1, 0.2]) == [0, 1, 1]
