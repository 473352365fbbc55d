"""What crosses a shuffle: numbers and bytes with coders of their own, never a pickled table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam import Pipeline
from apache_beam.portability import common_urns
from hypothesis import given
from hypothesis import strategies as st

from etl_beam.hashing import hash_column, hash_rows
from etl_beam.job import Job
from etl_beam.pipeline import build_pipeline
from etl_beam.shuffle import decode, encode, partition
from etl_beam.sources import Source
from etl_beam.windows import windows_by_entity

CODERS = {
    common_urns.coders.KV.urn,
    common_urns.coders.ITERABLE.urn,
    common_urns.coders.VARINT.urn,
    common_urns.coders.BYTES.urn,
    common_urns.coders.STRING_UTF8.urn,
    common_urns.coders.GLOBAL_WINDOW.urn,
}


def test_no_table_is_pickled_anywhere_in_the_graph(small_contract: Any) -> None:
    contract = small_contract(
        {
            "features.windows": [
                {"entity": "customer", "lengths": ["1d"], "values": {"count": "*"}},
                {"entity": "channel", "lengths": ["1d"], "values": {"count": "*"}},
            ]
        }
    )
    pipeline = Pipeline()
    build_pipeline(pipeline, Job(contract.text, "", "{}", "c"), list(Source), windows_by_entity(contract))
    components = pipeline.to_runner_api().components
    grouped = [t for t in components.transforms.values() if t.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn]
    assert {t.unique_name for t in grouped} >= {"By key", "By customer", "By channel", "Refused rows", "One key"}

    def urns(coder: str) -> set[str]:
        found = components.coders[coder]
        return {found.spec.urn}.union(*(urns(inner) for inner in found.component_coder_ids))

    for transform in grouped:
        for side in (transform.inputs, transform.outputs):
            [collection] = side.values()
            assert urns(components.pcollections[collection].coder_id) <= CODERS, transform.unique_name


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            st.one_of(st.none(), st.text(max_size=5)),
            st.one_of(st.none(), st.floats(allow_nan=False)),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 5),
)
def test_every_row_arrives_once_and_equal_values_meet(rows: list[tuple[Any, ...]], shards: int) -> None:
    table = pa.table(
        {
            "a": pa.array([row[0] for row in rows], pa.int64()),
            "b": pa.array([row[1] for row in rows], pa.string()),
            "c": pa.array([row[2] for row in rows], pa.float64()),
        }
    )
    parts = [
        (shard, decode([encode(part, "zstd")]))
        for shard, part in partition(table, hash_column(table["b"]), shards)
    ]
    arrived = [tuple(row.values()) for _, part in parts for row in part.to_pylist()]
    assert sorted(map(repr, arrived)) == sorted(map(repr, rows))
    homes: dict[Any, int] = {}
    for shard, part in parts:
        for value in part["b"].to_pylist():
            assert homes.setdefault(value, shard) == shard


@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), min_size=2, max_size=30), st.data())
def test_a_hash_depends_on_the_value_alone(values: list[str | None], data: Any) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    whole = hash_column(pa.array(values, pa.string()))
    chunks = pa.chunked_array([pa.array(values[:cut], pa.string()), pa.array(values[cut:], pa.string())])
    assert hash_column(chunks).tolist() == whole.tolist()
    assert hash_column(pa.array(values, pa.string()).slice(cut)).tolist() == whole[cut:].tolist()
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            assert (whole[i] == whole[j]) == (one == other)


def test_hashes_spread_small_numbers_evenly() -> None:
    shards = hash_column(pa.array(np.arange(100_000))) % np.uint64(16)
    counts = np.bincount(shards.astype(np.int64), minlength=16)
    assert counts.min() > 0.95 * 100_000 / 16


def test_a_rows_hash_knows_which_column_holds_what() -> None:
    rows = pa.table({"a": [1, 2, None], "b": [2, 1, None]})
    assert len(set(hash_rows(rows).tolist())) == 3


def test_minus_zero_is_zero() -> None:
    assert hash_column(pa.array([0.0]))[0] == hash_column(pa.array([-0.0]))[0]
