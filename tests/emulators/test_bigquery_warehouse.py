"""The BigQuery adapter passes the suites that DuckDB passes."""

from __future__ import annotations

from tests.contract_suites.warehouse import WarehouseSuite


class TestBigQueryWarehouse(WarehouseSuite):
    pass
