"""The SQL subset on the BigQuery adapter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.cloud import bigquery

from caudal.storage.gcs import GcsStorage
from caudal.warehouse import Warehouse
from caudal.warehouse.bigquery import BigQueryWarehouse
from tests.contract_suites.sql import FIGURES, SqlSuite
from tests.emulators.conftest import BUCKET, EmulatorClients


@pytest.fixture(scope="module")
def warehouse(addresses: tuple[str, str]) -> Iterator[Warehouse]:
    clients = EmulatorClients(*addresses, "sql-subset")
    client = clients().bigquery
    client.create_dataset(FIGURES.dataset)
    schema = [bigquery.SchemaField.from_api_repr(column) for column in FIGURES.bigquery_schema()]
    client.create_table(bigquery.Table(f"{client.project}.{FIGURES.sql_name}", schema=schema))
    storage = GcsStorage()
    warehouse = BigQueryWarehouse("sql-subset", storage, clients=clients)
    SqlSuite.fill(warehouse, storage, f"gs://{BUCKET}/sql")
    yield warehouse
    client.close()


class TestSqlOnBigQuery(SqlSuite):
    pass
