"""The tables that follow from a contract."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from caudal.contract import Contract
from caudal.tables import contract_tables, lake_table, predictions_table, rejected_table, warehouse_table
from caudal.warehouse import Warehouse

Make = Callable[..., Contract]
LINEAGE = [
    {"name": "_source_uri", "type": "STRING", "mode": "REQUIRED"},
    {"name": "_source_generation", "type": "STRING", "mode": "REQUIRED"},
    {"name": "_row", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "_load_id", "type": "STRING", "mode": "REQUIRED"},
    {"name": "_ingested_at", "type": "TIMESTAMP", "mode": "REQUIRED"},
]


def test_the_lake_holds_every_column_nullable_with_what_did_not_parse_and_the_lineage(
    small_contract: Make,
) -> None:
    assert lake_table(small_contract()).bigquery_schema() == [
        {"name": "payment", "type": "INTEGER", "mode": "NULLABLE"},
        {"name": "paid_at", "type": "TIMESTAMP", "mode": "NULLABLE"},
        {"name": "amount", "type": "NUMERIC", "mode": "NULLABLE"},
        {"name": "items", "type": "INTEGER", "mode": "NULLABLE"},
        {"name": "rate", "type": "FLOAT", "mode": "NULLABLE"},
        {"name": "channel", "type": "STRING", "mode": "NULLABLE"},
        {"name": "abroad", "type": "BOOLEAN", "mode": "NULLABLE"},
        {"name": "customer", "type": "STRING", "mode": "NULLABLE"},
        {"name": "refunded", "type": "FLOAT", "mode": "NULLABLE"},
        {"name": "disputed", "type": "STRING", "mode": "NULLABLE"},
        {"name": "_unparsed", "type": "STRING", "mode": "NULLABLE"},
        *LINEAGE,
    ]


def test_the_warehouse_adds_derived_features_and_requires_what_the_contract_requires(small_contract: Make) -> None:
    window = {
        "entity": "customer",
        "lengths": ["1d", "36h"],
        "values": {"count": "*", "mean": ["amount", "items"]},
    }
    contract = small_contract({"features.windows": [window], "features.calendar": ["night"]})

    columns = {column["name"]: column for column in warehouse_table(contract).bigquery_schema()}

    assert columns["payment"]["mode"] == columns["paid_at"]["mode"] == "REQUIRED"
    assert columns["amount"]["mode"] == "NULLABLE"
    assert columns["night"]["type"] == "BOOLEAN"
    assert [name for name in columns if name.startswith("customer_")] == [
        "customer_count_1d",
        "customer_mean_amount_1d",
        "customer_mean_items_1d",
        "customer_count_36h",
        "customer_mean_amount_36h",
        "customer_mean_items_36h",
    ]
    assert columns["_event_date"] == {"name": "_event_date", "type": "DATE", "mode": "REQUIRED"}
    assert "_unparsed" not in columns


def test_a_rejected_row_has_its_reasons_as_a_repeated_column(small_contract: Make) -> None:
    assert rejected_table(small_contract()).bigquery_schema()[:2] == [
        {"name": "_reasons", "type": "STRING", "mode": "REPEATED"},
        {"name": "_content", "type": "STRING", "mode": "REQUIRED"},
    ]


@pytest.mark.parametrize(("kind", "wanted"), [("integer", "INTEGER"), ("text", "STRING"), ("decimal", "NUMERIC")])
def test_a_prediction_has_the_keys_own_type(small_contract: Make, kind: str, wanted: str) -> None:
    table = predictions_table(small_contract({"columns.payment.type": kind}))

    assert table.bigquery_schema()[0] == {"name": "key", "type": wanted, "mode": "REQUIRED"}


def test_every_table_is_partitioned_and_clustered_by_its_own_columns(small_contract: Make) -> None:
    tables = contract_tables(small_contract())

    assert len({table.sql_name for table in tables}) == len(tables)
    for table in tables:
        assert set(table.cluster_by) <= set(table.schema.names)
        assert len(table.cluster_by) <= 4  # BigQuery's limit
        if table.partition_by is not None:
            kind = table.schema.field(table.partition_by).type
            assert pa.types.is_date(kind) or pa.types.is_timestamp(kind)


def test_a_laptop_makes_the_tables_with_the_types_that_they_say(
    small_contract: Make, local_warehouse: Warehouse
) -> None:
    tables = contract_tables(small_contract())
    local_warehouse.ensure_tables(tables)

    for table in tables:
        found = local_warehouse.query(f"SELECT * FROM {table.sql_name}")
        assert found.schema.names == table.schema.names
        for field in table.schema:
            if not pa.types.is_list(field.type):
                assert found.schema.field(field.name).type == field.type
