"""The encoder: what a model sees of a row."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal.contract import Contract, parse_contract
from caudal.errors import InvalidContract, TableMismatch
from caudal.package import Encoder
from caudal.package.encoder import hashed_counts

Make = Any


@pytest.fixture(scope="module")
def contract(small_contract: Make) -> Contract:
    made: Contract = small_contract({"features.text": {"customer": {"hashed": 64, "ngrams": 2}}})
    return made


def table(**columns: Any) -> pa.Table:
    rows = len(next(iter(columns.values())))
    types = {
        "amount": pa.decimal128(38, 9),
        "items": pa.int64(),
        "rate": pa.float64(),
        "channel": pa.string(),
        "abroad": pa.bool_(),
        "customer": pa.string(),
    }
    return pa.table({name: pa.array(columns.get(name, [None] * rows), kind) for name, kind in types.items()})


@cache
def _contract() -> Contract:
    """For the property test: hypothesis draws within one test, and fixtures are made around it."""
    text = (
        "{contract: 1, name: c, question: q, key: k, event_time: t, columns: {k: {type: integer, required: true}, "
        "t: {type: date, required: true}, channel: {type: category}, y: {type: boolean}}, "
        "label: {column: y, positive: 'true', due_after: 1d}, task: binary, features: {categorical: [channel]}, "
        "gate: {metric: auc, against_champion: {at_least: 0}}}"
    )
    return parse_contract(text)


def position(encoder: Encoder, name: str) -> int:
    return next(feature.first for feature in encoder.features if feature.name == name)


def test_numbers_booleans_and_categories_become_numbers(contract: Contract) -> None:
    rows = table(amount=[Decimal("1.5"), None], items=[3, None], channel=["web", "app"], abroad=[True, False])
    encoder = Encoder.fit(contract, [rows])
    matrix = encoder.encode(rows)
    assert matrix.dtype == np.float32
    assert matrix[:, position(encoder, "amount")].tolist()[0] == 1.5
    assert np.isnan(matrix[1, position(encoder, "amount")])
    assert matrix[0, position(encoder, "items")] == 3
    assert matrix[:, position(encoder, "channel")].tolist() == [1.0, 0.0]
    assert matrix[:, position(encoder, "abroad")].tolist() == [1.0, 0.0]


def test_a_category_that_training_did_not_see_is_missing(contract: Contract) -> None:
    encoder = Encoder.fit(contract, [table(channel=["web", "app"])])
    matrix = encoder.encode(table(channel=["desk", None, "web"]))
    column = matrix[:, position(encoder, "channel")]
    assert np.isnan(column[:2]).all()
    assert column[2] == 1


@given(st.permutations(["web", "app", "desk", "web", None, "app"]), st.integers(1, 5))
def test_the_order_and_the_batches_of_training_rows_do_not_matter(values: list[str | None], cut: int) -> None:
    contract = _contract()

    rows = table(channel=values)
    one = Encoder.fit(contract, [rows])
    two = Encoder.fit(contract, [rows.slice(0, cut), rows.slice(cut)])
    assert (
        one.to_json() == two.to_json() == Encoder.fit(contract, [table(channel=["app", "desk", "web"])]).to_json()
    )


def test_an_encoder_survives_its_package(contract: Contract) -> None:
    rows = table(channel=["web", "app"], customer=["Ana Sousa", "Rui"], rate=[0.1, None])
    encoder = Encoder.fit(contract, [rows])
    again = Encoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert np.array_equal(again.encode(rows), encoder.encode(rows), equal_nan=True)


def test_a_single_row_is_encoded_like_a_table(contract: Contract) -> None:
    rows = table(
        amount=[Decimal("12.345678901"), None],
        items=[16_777_217, 2],
        rate=[0.1, None],
        channel=["web", "desk"],
        abroad=[None, True],
        customer=["Ana Sousa, Ana Lopes", None],
    )
    encoder = Encoder.fit(contract, [rows.slice(0, 1)])
    matrix = encoder.encode(rows)
    for i, row in enumerate(rows.to_pylist()):
        assert np.array_equal(encoder.encode_row(row)[0], matrix[i], equal_nan=True)


def test_a_sparse_matrix_holds_what_the_dense_one_holds(contract: Contract) -> None:
    rows = table(channel=["web", None], customer=["a b a", "b"], items=[0, None], abroad=[False, None])
    encoder = Encoder.fit(contract, [rows])
    assert encoder.is_sparse
    sparse = encoder.encode_sparse(rows).tocoo()
    dense = np.full((2, encoder.width), np.nan, dtype=np.float32)
    dense[sparse.row, sparse.col] = sparse.data
    assert np.array_equal(dense, encoder.encode(rows), equal_nan=True)


def test_text_counts_words_and_pairs_of_words() -> None:
    rows, _, counts = hashed_counts(pa.array(["one Two, one!", None, "", "two"]), 1 << 40, 2)
    # one (2), two, "one two", "two one"; then the single word of the last row
    assert sorted(counts[rows == 0].tolist()) == [1, 1, 1, 2]
    assert rows.tolist() == [0, 0, 0, 0, 3]
    assert hashed_counts(pa.array(["TWO"]), 1 << 40, 1)[1][0] in hashed_counts(pa.array(["x two"]), 1 << 40, 1)[1]


def test_a_pair_of_words_never_spans_two_rows() -> None:
    together = hashed_counts(pa.array(["a b"]), 1 << 40, 2)[1]
    apart = hashed_counts(pa.array(["a", "b"]), 1 << 40, 2)[1]
    assert set(apart) < set(together)
    assert len(together) == 3


def test_a_word_has_the_same_bucket_in_every_process() -> None:
    code = (
        "import pyarrow as pa; from caudal.package.encoder import hashed_counts as h;"
        "print(h(pa.array(['conta corrente']), 16384, 2)[1].tolist())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "libs"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_a_missing_feature_column_is_named(contract: Contract) -> None:
    encoder = Encoder.fit(contract, [table(channel=["web"])])
    with pytest.raises(TableMismatch, match="rate"):
        encoder.encode(table(channel=["web"]).drop_columns(["rate"]))


def test_a_ratio_is_one_number_by_another_and_missing_without_both(small_contract: Make) -> None:
    made = small_contract(
        {"features.ratios": {"each": ["amount", "items"]}, "features.text": {"customer": {"hashed": 8}}}
    )
    rows = table(
        amount=[Decimal(6), Decimal(6), None, Decimal(0), Decimal(1)],
        items=[4, None, 4, 4, 0],
        customer=["a"] * 5,
        channel=["web"] * 5,
    )
    encoder = Encoder.from_json(json.loads(json.dumps(Encoder.fit(made, [rows]).to_json())))
    assert "each" not in encoder.names
    assert encoder.column_names()[-1] == "each"
    matrix = encoder.encode(rows)
    assert matrix[[0, 3], -1].tolist() == [1.5, 0.0]
    assert np.isnan(matrix[[1, 2, 4], -1]).all()
    for i, row in enumerate(rows.to_pylist()):
        assert np.array_equal(encoder.encode_row(row)[0], matrix[i], equal_nan=True)
    sparse = encoder.encode_sparse(rows).tocoo()
    dense = np.full(matrix.shape, np.nan, dtype=np.float32)
    dense[sparse.row, sparse.col] = sparse.data
    assert np.array_equal(dense, matrix, equal_nan=True)


def test_a_ratio_of_what_is_no_number_is_refused(small_contract: Make) -> None:
    with pytest.raises(InvalidContract, match="'channel' is no numeric feature"):
        small_contract({"features.ratios": {"odd": ["amount", "channel"]}})


def test_integers_and_booleans_can_be_categories(small_contract: Make) -> None:
    made = small_contract(features={"categorical": ["items", "abroad"]})
    encoder = Encoder.fit(made, [table(items=[10, 9], abroad=[True, None])])
    assert [feature.categories for feature in encoder.features] == [("10", "9"), ("true",)]
    assert encoder.encode_row({"items": 9, "abroad": True}).tolist() == [[1.0, 0.0]]
