"""Histograms counted by SQL are those that the profile counts in memory."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal.contract.features import Feature
from caudal.profile import _counted, categorical_profile, count_by_edges, numeric_profile
from caudal.storage import Storage
from caudal.tables import Table
from caudal.warehouse import Warehouse
from monitor.histograms import HistogramQuery

numbers = st.lists(st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=60)
texts = st.lists(st.none() | st.sampled_from(["a", "b", "c", "d", ""]), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Counts a column of given rows by SQL, in the bins of a profile."""
    from caudal.storage.files import FileStorage
    from caudal.warehouse.duckdb import DuckDBWarehouse

    root = tmp_path_factory.mktemp("histograms")
    storage: Storage = FileStorage(root)
    warehouse: Warehouse = DuckDBWarehouse(root / "caudal.duckdb", storage)
    made = 0

    def count(values: list[Any], kind: pa.DataType, profile: dict[str, Any]) -> Any:
        nonlocal made
        made += 1
        table = Table("warehouse", f"t{made}", pa.schema([("value", kind)]))
        uri = (root / f"{made}.parquet").as_uri()
        with storage.writer(uri) as stream:
            pq.write_table(pa.table([pa.array(values, kind)], schema=table.schema), stream)
        warehouse.ensure_tables([table])
        warehouse.load(table, [uri], "once")
        query = HistogramQuery(table.sql_name, "TRUE", {})
        query.add("value", profile, kind)
        rows, histograms = query.run(warehouse)
        assert rows == len(values)
        return histograms["value"]

    with warehouse:
        yield count


@given(training=numbers, live=numbers)
def test_numbers_fall_into_the_bins_of_the_profile(counts: Any, training: list[Any], live: list[Any]) -> None:
    present = np.array([v for v in training if v is not None], dtype=np.float64)
    profile = numeric_profile(present, training.count(None))
    histogram = counts(live, pa.float64(), profile)
    known = np.array([v for v in live if v is not None], dtype=np.float64)
    assert list(histogram.counts) == count_by_edges(known, profile["edges"])
    assert histogram.missing == live.count(None)
    if len(present):
        assert histogram.unseen == np.sum((known < present.min()) | (known > present.max()))


@given(training=texts, live=texts)
def test_categories_are_counted_and_new_ones_are_unseen(counts: Any, training: list[Any], live: list[Any]) -> None:
    profile = categorical_profile(pa.array(training, pa.string()))
    histogram = counts(live, pa.string(), profile)
    assert list(histogram.counts[:-1]) == [live.count(value) for value in profile["values"]]
    new = [v for v in live if v is not None and v not in training]
    assert histogram.unseen == histogram.counts[-1] == len(new)
    assert histogram.missing == live.count(None)
    assert histogram.rows == len(live)


def test_booleans_and_whole_numbers_are_categories_too(counts: Any) -> None:
    flags = categorical_profile(pa.array([True, False, False, None]))
    assert counts([True, True, None, False], pa.bool_(), flags).counts == (1, 2, 0)
    codes = categorical_profile(pa.array([7, 7, 9]))
    assert counts([9, 8, 7, 9], pa.int64(), codes).counts == (1, 2, 1)


def test_a_category_beyond_the_profiles_longest_list_is_not_unseen(counts: Any) -> None:
    profile = categorical_profile(pa.array(["a"] * 5 + ["b"] * 3 + ["rare"]), most=2)
    histogram = counts(["rare", "new", "a"], pa.string(), profile)
    assert (histogram.counts, histogram.unseen) == ((1, 0, 2), 0)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=40), st.integers(0, 10**7))
def test_training_rows_fall_into_the_bins_that_were_counted_of_them_to_the_last_cent(
    counts: Any, cents: list[int], atom: int
) -> None:
    kind = pa.decimal128(38, 9)
    values = [Decimal(cent).scaleb(-2) for cent in [*cents, *[atom] * len(cents)]]
    made = _counted(Feature("value", "numeric", False), pa.array(values, kind), 10)
    histogram = counts(values, kind, made)
    assert (list(histogram.counts), histogram.unseen) == (made["counts"], 0)


def test_decimals_are_compared_as_numbers(counts: Any) -> None:
    values = [Decimal("0.1"), Decimal("2.5"), None, Decimal("1e6")]
    profile = {"kind": "numeric", "edges": [0.1, 2.5], "counts": [0, 0, 0], "missing": 0, "min": 0.1, "max": 3}
    histogram = counts(values, pa.decimal128(38, 9), profile)
    assert (histogram.counts, histogram.missing, histogram.unseen) == ((0, 1, 2), 1, 1)
