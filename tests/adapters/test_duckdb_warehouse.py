"""The warehouse on a laptop passes the suite, and what is particular to a DuckDB file."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caudal.errors import RowsRefused, TableMismatch, UsageError, WarehouseBusy
from caudal.storage import Storage
from caudal.storage.files import FileStorage, file_uri
from caudal.tables import Table
from caudal.warehouse import Warehouse
from caudal.warehouse.duckdb import DuckDBWarehouse
from tests.contract_suites.warehouse import MAY, PAYMENTS, TABLES, WarehouseSuite


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return FileStorage(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    # Characters that DuckDB would read as a pattern.
    return file_uri(tmp_path / "st[a]ged * it's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "caudal.duckdb"


@pytest.fixture
def warehouse(path: Path, storage: Storage) -> Iterator[Warehouse]:
    warehouse = DuckDBWarehouse(path, storage)
    with warehouse:  # opening a file costs more than most of these tests
        warehouse.ensure_tables(TABLES)
        yield warehouse


class TestDuckDBWarehouse(WarehouseSuite):
    pass


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs code with Caudal importable."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


HOLD = """
    import sys
    from pathlib import Path
    from caudal.storage.files import FileStorage
    from caudal.warehouse.duckdb import DuckDBWarehouse
    path = Path(sys.argv[1])
    with DuckDBWarehouse(path, FileStorage(path.parent)):
        print("open")
        sys.stdin.readline()
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(HOLD), str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "open\n"
    yield process
    process.stdin.close()
    process.wait(timeout=30)
    process.stdout.close()


def test_another_process_waits_its_turn_and_says_for_whom(
    path: Path, storage: Storage, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert holder.stdin is not None
    threading.Timer(0.5, holder.stdin.close).start()

    with caplog.at_level(logging.WARNING):
        DuckDBWarehouse(path, storage, patience=30).ensure_tables(TABLES)

    (message,) = [record.getMessage() for record in caplog.records]
    assert f"process {holder.pid}" in message
    assert str(path) in message


def test_one_that_waited_too_long_gives_up_with_a_mend(
    path: Path, storage: Storage, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(WarehouseBusy, match=f"process {holder.pid}") as caught:
        DuckDBWarehouse(path, storage, patience=0.2).ensure_tables(TABLES)

    assert caught.value.where == str(path)
    assert "stop it" in caught.value.mend


def test_the_file_is_closed_between_calls(path: Path, storage: Storage) -> None:
    warehouse = DuckDBWarehouse(path, storage)
    warehouse.ensure_tables(TABLES)

    other = start(HOLD, path)

    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    other.wait(timeout=30)
    other.stdout.close()
    assert warehouse.query(f"SELECT key FROM {PAYMENTS.sql_name}").num_rows == 0


def test_adapters_on_one_file_share_it_within_a_process(path: Path, storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    first = DuckDBWarehouse(path, storage)
    second = DuckDBWarehouse(tmp_path / "link" / path.name, storage)

    with first, second:
        first.ensure_tables(TABLES)
        assert second.query(f"SELECT key FROM {PAYMENTS.sql_name}").num_rows == 0


def test_steps_side_by_side_may_make_their_tables_at_once(path: Path, storage: Storage) -> None:
    failures: list[BaseException] = []
    together = threading.Barrier(4)

    def ensure() -> None:
        together.wait()
        try:
            DuckDBWarehouse(path, storage).ensure_tables(TABLES)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_a_file_named_like_a_data_set_is_refused(tmp_path: Path, storage: Storage) -> None:
    with pytest.raises(UsageError, match="'lake'"):
        DuckDBWarehouse(tmp_path / "lake.duckdb", storage)


def test_an_older_table_gets_the_columns_that_it_lacks(warehouse: Warehouse, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": [1], "day": [MAY], "note": ["x"]}), tmp_path / "old.parquet")
    warehouse.load(PAYMENTS, [file_uri(tmp_path / "old.parquet")], "old")
    wider = Table(PAYMENTS.dataset, PAYMENTS.name, PAYMENTS.schema.append(pa.field("fee", pa.float64())), "day")

    warehouse.ensure_tables([wider])

    found = warehouse.query(f"SELECT key, fee FROM {PAYMENTS.sql_name}")
    assert found.to_pylist() == [{"key": 1, "fee": None}]


def test_an_older_table_may_not_lack_a_required_column(warehouse: Warehouse) -> None:
    wider = Table(
        PAYMENTS.dataset, PAYMENTS.name, PAYMENTS.schema.append(pa.field("fee", pa.float64(), nullable=False))
    )

    with pytest.raises(TableMismatch, match="'fee' is absent"):
        warehouse.ensure_tables([wider])


def test_a_column_that_is_required_no_longer_may_be_null(warehouse: Warehouse, tmp_path: Path) -> None:
    schema = pa.schema([pa.field("key", pa.int64()), pa.field("note", pa.string())])  # `day` is gone too
    looser = Table(PAYMENTS.dataset, PAYMENTS.name, schema)
    pq.write_table(pa.table({"key": [None], "note": ["x"]}, schema=schema), tmp_path / "new.parquet")

    warehouse.ensure_tables([looser])

    assert warehouse.load(looser, [file_uri(tmp_path / "new.parquet")], "new").rows == 1


def test_a_missing_value_in_a_required_column_is_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": [1], "day": [None], "note": ["x"]}), tmp_path / "bad.parquet")

    with pytest.raises(RowsRefused, match="day"):
        warehouse.load(PAYMENTS, [file_uri(tmp_path / "bad.parquet")], "bad")


def test_a_file_with_bytes_that_are_no_text_is_refused_and_no_sql_is_blamed(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    bad = pa.StringArray.from_buffers(1, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe"))
    columns = [pa.array([1], pa.int64()), pa.array([MAY], pa.date32()), bad]
    pq.write_table(pa.table(columns, schema=PAYMENTS.schema), tmp_path / "bad.parquet")

    with pytest.raises(RowsRefused) as caught:
        warehouse.load(PAYMENTS, [file_uri(tmp_path / "bad.parquet")], "bad")

    assert caught.value.where == PAYMENTS.sql_name
    assert "sql-subset" not in str(caught.value)
    assert warehouse.loaded(PAYMENTS, "bad") is None


COMMIT_UNTIL_KILLED = """
    import sys
    from pathlib import Path
    import pyarrow as pa, pyarrow.parquet as pq
    from caudal.storage.files import FileStorage, file_uri
    from caudal.warehouse import Commit, Replacement
    from caudal.warehouse.duckdb import DuckDBWarehouse
    from tests.contract_suites.warehouse import AS_OF, MAY, PAYMENTS
    path, start = Path(sys.argv[1]), int(sys.argv[2])
    warehouse = DuckDBWarehouse(path, FileStorage(path.parent))
    staged = path.parent / "staged.parquet"
    for number in range(start, start + 10_000):
        keys = pa.array(range(200), pa.int64())
        rows = {"key": keys, "day": [MAY] * 200, "note": [str(number)] * 200}
        pq.write_table(pa.table(rows, schema=PAYMENTS.schema), staged)
        replacement = Replacement(PAYMENTS, (file_uri(staged),), "key", (), (MAY,))
        after = warehouse.query("SELECT commit_id FROM warehouse._covered").column("commit_id").to_pylist()
        warehouse.commit(Commit(str(number), "payments", (replacement,), (str(number),), AS_OF, tuple(after)))
        print(number)
"""


def test_a_process_killed_in_the_middle_of_commits_leaves_nothing_torn_or_lost(
    path: Path, storage: Storage
) -> None:
    DuckDBWarehouse(path, storage).ensure_tables(TABLES)
    chance = random.Random(0)
    acknowledged = 0

    for round_ in range(3):
        process = start(COMMIT_UNTIL_KILLED, path, 10_000 * (round_ + 1))
        assert process.stdout is not None
        process.stdout.readline()  # it is at work
        time.sleep(chance.uniform(0.01, 0.2))
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().split()
        process.wait(timeout=30)
        process.stdout.close()
        acknowledged = max([acknowledged, 10_000 * (round_ + 1), *map(int, told)])

        warehouse = DuckDBWarehouse(path, storage)
        found = warehouse.query(
            f"SELECT note, COUNT(*) AS n FROM {PAYMENTS.sql_name} GROUP BY note ORDER BY note"
        ).to_pylist()
        covered = warehouse.query("SELECT commit_id FROM warehouse._covered").column("commit_id").to_pylist()
        assert len(found) == 1, "rows of two commits"
        assert found[0]["n"] == 200
        assert int(found[0]["note"]) == max(map(int, covered)) >= acknowledged
