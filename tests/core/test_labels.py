"""A label of any type is read alike: by training, by a window's rate, and by the monitor's SQL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caudal.backends import open_storage, open_warehouse
from caudal.contract.types import arrow_type
from caudal.labels import encode_labels, has_label, label_value
from caudal.tables import Table

KINDS: list[tuple[Any, str, list[Any], list[int]]] = [
    ("boolean", "true", [True, False], [1, 0]),
    ("boolean", "false", [True, False], [0, 1]),
    ("integer", "1", [0, 1, -1, 11], [0, 1, 0, 0]),
    ("number", "1", [0.0, 1.0, 1.0000001], [0, 1, 0]),
    ("number", "0.1", [0.1, 0.0], [1, 0]),
    ("decimal", "1", [Decimal(1), Decimal("1.000000001"), Decimal(0)], [1, 0, 0]),
    ("decimal", "0.1", [Decimal("0.1"), Decimal("0.100000001")], [1, 0]),
    ("category", "yes", ["yes", "no", "Yes"], [1, 0, 0]),
    ("text", "1", ["1", "1.0"], [1, 0]),
]


@pytest.mark.parametrize(("kind", "positive", "values", "expected"), KINDS)
def test_training_windows_and_the_monitor_agree_on_which_labels_are_positive(
    small_contract: Any,
    local_environment: Any,
    kind: Any,
    positive: str,
    values: list[Any],
    expected: list[int],
) -> None:
    contract = small_contract({"columns.disputed": {"type": kind}, "label.positive": positive})
    labels = pa.array(values, arrow_type(kind))

    assert encode_labels(contract, pa.table({"disputed": labels})).tolist() == expected

    with_null = pa.concat_arrays([labels, pa.nulls(1, labels.type)])
    assert has_label(contract, with_null, positive).cast(pa.int8()).to_pylist() == [*expected, None]

    table = Table("warehouse", "labels", pa.schema([pa.field("disputed", labels.type)]))
    storage, warehouse = open_storage(local_environment), open_warehouse(local_environment)
    staged = local_environment.staging("payments", "labels.parquet")
    with storage.writer(staged) as stream:
        pq.write_table(pa.table({"disputed": labels}), stream)
    warehouse.ensure_tables([table])
    warehouse.load(table, [staged], "labels")
    found = warehouse.query(
        "SELECT disputed FROM warehouse.labels WHERE disputed = @positive",
        {"positive": label_value(contract, positive)},
    )
    assert found["disputed"].to_pylist() == [v for v, hit in zip(values, expected, strict=True) if hit]
