"""The BigQuery adapter passes the suite that DuckDB passes, and what is particular to jobs."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery

from caudal.errors import CaudalError, TableMismatch, UsageError
from caudal.storage import Storage, join
from caudal.tables import Table
from caudal.warehouse import Commit, Replacement
from caudal.warehouse.bigquery import BigQueryWarehouse
from tests.contract_suites.warehouse import AS_OF, MAY, PAYMENTS, WarehouseSuite
from tests.emulators.conftest import PROJECT, EmulatorClients


class TestBigQueryWarehouse(WarehouseSuite):
    pass


@pytest.fixture
def client(addresses: tuple[str, str]) -> bigquery.Client:
    return EmulatorClients(*addresses, PROJECT)().bigquery


@pytest.fixture
def payments(storage: Storage, folder: str) -> Callable[[int], str]:
    """Stages so many payments."""

    def stage(count: int) -> str:
        uri = join(folder, f"payments-{count}.parquet")
        rows = {"key": list(range(count)), "day": [MAY] * count, "note": ["x"] * count}
        with storage.writer(uri) as stream:
            pq.write_table(pa.table(rows, schema=PAYMENTS.schema), stream)
        return uri

    return stage


def test_a_load_is_a_job_and_only_a_failed_one_gets_another_attempt(
    warehouse: BigQueryWarehouse, client: bigquery.Client, payments: Callable[[int], str], folder: str
) -> None:
    for _ in range(2):
        with pytest.raises(CaudalError):
            warehouse.load(PAYMENTS, [join(folder, "not-there.parquet")], "m1")
    warehouse.load(PAYMENTS, [payments(3)], "m1")
    assert warehouse.load(PAYMENTS, [payments(3)], "m1").repeated

    jobs = {job.job_id: bool(job.error_result) for job in client.list_jobs() if job.job_id.startswith("load-")}
    assert jobs == {
        "load-warehouse-payments-m1-1": True,
        "load-warehouse-payments-m1-2": True,
        "load-warehouse-payments-m1-3": False,
    }


def test_a_commit_is_one_job(
    warehouse: BigQueryWarehouse, client: bigquery.Client, payments: Callable[[int], str]
) -> None:
    replacement = Replacement(PAYMENTS, (payments(2),), "key", (), (MAY,))
    for _ in range(2):
        warehouse.commit(Commit("c1", "payments", (replacement,), ("m1",), AS_OF))

    commits = [job.job_id for job in client.list_jobs() if job.job_id.startswith("commit-")]
    assert commits == ["commit-payments-c1-1"]


def test_more_days_than_a_statement_may_modify_go_in_several_within_one_transaction(
    warehouse: BigQueryWarehouse,
    client: bigquery.Client,
    storage: Storage,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caudal.warehouse.bigquery.MOST_PARTITIONS_A_STATEMENT", 2)

    def commit(name: str, days: list[date], after: tuple[str, ...]) -> None:
        uri = join(folder, f"{name}.parquet")
        rows = {"key": list(range(len(days))), "day": days, "note": [name] * len(days)}
        with storage.writer(uri) as stream:
            pq.write_table(pa.table(rows, schema=PAYMENTS.schema), stream)
        replacement = Replacement(PAYMENTS, (uri,), "key", (), tuple(all_days))
        warehouse.commit(Commit(name, "payments", (replacement,), (name,), AS_OF, after))

    all_days = [date(2008, 5, day) for day in range(1, 6)]
    commit("first", all_days, ())
    # Each key moves to another day, across the statements' bounds.
    commit("second", all_days[::-1], ("first",))

    found = warehouse.query(f"SELECT key, day, note FROM {PAYMENTS.sql_name} ORDER BY key").to_pylist()
    assert found == [{"key": k, "day": day, "note": "second"} for k, day in enumerate(all_days[::-1])]
    script = client.get_job("commit-payments-second-1")
    statements = script.query.split(";")
    table = f"`{PROJECT}.{PAYMENTS.sql_name}`"
    assert [sum(f"{verb} {table}" in text for text in statements) for verb in ("DELETE FROM", "INSERT INTO")] == [
        3,
        3,
    ]
    days = [
        parameter.values for parameter in script.query_parameters if getattr(parameter, "array_type", "") == "DATE"
    ]
    assert sorted(map(len, days)) == [1, 2, 2]


def test_a_table_that_is_missing_is_terraforms_to_make(warehouse: BigQueryWarehouse) -> None:
    with pytest.raises(TableMismatch, match="no such table") as caught:
        warehouse.ensure_tables([Table("warehouse", "nowhere", PAYMENTS.schema)])

    assert caught.value.where == "warehouse.nowhere"
    assert "Terraform" in caught.value.mend


def test_columns_that_the_contract_lacks_may_stay_when_they_may_be_empty(warehouse: BigQueryWarehouse) -> None:
    narrower = Table(PAYMENTS.dataset, PAYMENTS.name, pa.schema([PAYMENTS.schema.field(i) for i in (0, 1)]))
    warehouse.ensure_tables([narrower])

    without_key = Table(PAYMENTS.dataset, PAYMENTS.name, pa.schema([PAYMENTS.schema.field(i) for i in (1, 2)]))
    with pytest.raises(TableMismatch, match="'key'"):
        warehouse.ensure_tables([without_key])


def test_a_result_without_order_is_exported_by_bigquery_itself(
    warehouse: BigQueryWarehouse, storage: Storage, payments: Callable[[int], str], folder: str
) -> None:
    warehouse.load(PAYMENTS, [payments(500)], "m1")

    uris = warehouse.export(
        f"SELECT key FROM {PAYMENTS.sql_name} WHERE key < @most", join(folder, "it's exported"), {"most": 300}
    )

    keys: list[int] = []
    for uri in uris:
        with storage.open(uri) as stream:
            keys += pq.read_table(stream).column("key").to_pylist()
    assert sorted(keys) == list(range(300))


def test_a_stream_is_read_by_another_process(warehouse: BigQueryWarehouse, payments: Callable[[int], str]) -> None:
    warehouse.load(PAYMENTS, [payments(10)], "m1")
    streams = warehouse.plan_read(f"SELECT key FROM {PAYMENTS.sql_name}", streams=2)

    elsewhere = pickle.loads(pickle.dumps(warehouse))

    assert sum(batch.num_rows for stream in streams for batch in elsewhere.read_stream(stream)) == 10


def test_an_empty_list_that_needs_a_type_is_refused(warehouse: BigQueryWarehouse) -> None:
    with pytest.raises(UsageError, match="'ids' is empty"):
        warehouse.query("SELECT v FROM UNNEST(@ids) AS v", {"ids": []})
