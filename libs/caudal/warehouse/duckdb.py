"""The warehouse on a laptop: one DuckDB file.

A DuckDB file belongs to one process at a time, so the adapter opens it late and closes it early, and waits its
turn when another process has it. Within a process every adapter on the same file shares one instance; each call
works on a cursor of its own.
"""

from __future__ import annotations

import logging
import pickle
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from caudal.errors import NotFound, RowsRefused, TableMismatch, UnsupportedSql, UsageError, WarehouseBusy
from caudal.sql import to_duckdb
from caudal.storage import Storage, join
from caudal.storage.files import file_path
from caudal.tables import DATASETS, Table, covered_table
from caudal.warehouse.port import Commit, LoadOutcome, Parameters, ReadStream, Replacement, Warehouse

log = logging.getLogger(__name__)

BATCH_ROWS = 65_536
# By itself DuckDB takes up to four fifths of the machine, beside a pipeline or a training in the same process.
# With less it spills to disk: loading 1.75 million rows takes the same CPU and some 250 MB less.
MEMORY_LIMIT = "400MB"
_TYPES = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.decimal128(38, 9): "DECIMAL(38, 9)",
    pa.bool_(): "BOOLEAN",
    pa.string(): "VARCHAR",
    pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}


class _Instance:
    """One open DuckDB file, shared within the process and closed by its last user.

    Attributes:
        writing: held by whoever writes. DuckDB lets threads write at once and then fails one of two that touch the
            same row or catalog entry; taking turns costs nothing here and can't fail.
    """

    _open: ClassVar[dict[Path, _Instance]] = {}
    _guard = threading.Lock()
    _opening: ClassVar[dict[Path, threading.Lock]] = {}

    def __init__(self, path: Path, patience: float) -> None:
        self.path = path
        self.users = 0
        self.writing = threading.RLock()
        self.connection = _connect(path, patience)
        try:
            self.connection.execute(
                "SET TimeZone = 'UTC';"
                f"SET memory_limit = '{MEMORY_LIMIT}';"
                "SET enable_progress_bar = false;"
                "CREATE SCHEMA IF NOT EXISTS _caudal;"
                "CREATE TABLE IF NOT EXISTS _caudal.loads "
                "(table_name VARCHAR, load_id VARCHAR, row_count BIGINT, PRIMARY KEY (table_name, load_id));"
                "CREATE TABLE IF NOT EXISTS _caudal.commits "
                "(contract VARCHAR, commit_id VARCHAR, PRIMARY KEY (contract, commit_id))"
            )
        except BaseException:
            self.connection.close()
            raise

    @classmethod
    def acquire(cls, path: Path, patience: float) -> _Instance:
        with cls._guard:
            opening = cls._opening.setdefault(path, threading.Lock())
        # Opening may wait for another process: only threads that want the same file wait along.
        with opening:
            with cls._guard:
                instance = cls._open.get(path)
                if instance is not None:
                    instance.users += 1
                    return instance
            instance = cls(path, patience)
            with cls._guard:
                instance.users += 1
                cls._open[path] = instance
            return instance

    def release(self) -> None:
        with self._guard:
            self.users -= 1
            if self.users == 0:
                del self._open[self.path]
                self.connection.close()


def _connect(path: Path, patience: float) -> duckdb.DuckDBPyConnection:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    told = False
    while True:
        try:
            return duckdb.connect(str(path))
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise
            holder = re.search(r"PID (\d+)", str(error))
            who = f"process {holder[1]}" if holder else "another process"
            if time.monotonic() > deadline:
                raise WarehouseBusy(
                    f"{who} has had the warehouse open for {patience:.0f} s",
                    where=str(path),
                    mend="wait until that command ends, or stop it",
                ) from error
            if not told:
                log.warning("%s is in use by %s; waiting for it", path, who)
                told = True
            time.sleep(0.1)


class DuckDBWarehouse(Warehouse):
    """Tables in a DuckDB file.

    Args:
        path: the file; created when it is missing.
        storage: where exported Parquet goes.
        patience: seconds to wait for another process that has the file open.
    """

    def __init__(self, path: Path, storage: Storage, patience: float = 120.0) -> None:
        self._path = path.resolve()
        if path.stem in DATASETS:
            # DuckDB names the database after the file, and could not tell it from the data set.
            raise UsageError(
                f"the file is named like the data set '{path.stem}'",
                where=str(path),
                mend="name it caudal.duckdb in the environment",
            )
        self._storage = storage
        self._patience = patience
        self._held: list[_Instance] = []

    def __enter__(self) -> DuckDBWarehouse:
        self._held.append(_Instance.acquire(self._path, self._patience))
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.pop().release()

    @contextmanager
    def _instance(self) -> Iterator[_Instance]:
        instance = _Instance.acquire(self._path, self._patience)
        try:
            yield instance
        finally:
            instance.release()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._instance() as instance, closing(instance.connection.cursor()) as cursor, _typed_errors():
            cursor.execute("SET TimeZone = 'UTC'")
            yield cursor

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._instance() as instance, instance.writing, self._cursor() as cursor:
            cursor.execute("BEGIN TRANSACTION")
            try:
                yield cursor
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    @contextmanager
    def _in_any_order(self) -> Iterator[None]:
        """Rows may go in in any order; none is asked for within a table.

        In the order of their files, many files of about a row group each leave remainders that closing the
        database merges: at 17.5 million rows that took 10 CPU seconds.
        """
        with self._instance() as instance, instance.writing:
            instance.connection.execute("SET preserve_insertion_order = false")
            try:
                yield
            finally:
                instance.connection.execute("RESET preserve_insertion_order")

    def ensure_tables(self, tables: Sequence[Table]) -> None:
        with self._transaction() as cursor:
            for table in tables:
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(table.dataset)}")
                columns = ", ".join(_column(field) for field in table.schema)
                cursor.execute(f"CREATE TABLE IF NOT EXISTS {_name(table)} ({columns})")
                _widen(cursor, table)

    def load(self, table: Table, parquet: Sequence[str], load_id: str) -> LoadOutcome:
        with self._transaction() as cursor:
            done = _loaded(cursor, table, load_id)
            if done is not None:
                return done
            rows = _insert(cursor, table, parquet)
            cursor.execute(
                "INSERT INTO _caudal.loads VALUES ($name, $id, $rows)",
                {"name": table.sql_name, "id": load_id, "rows": rows},
            )
        return LoadOutcome(rows, repeated=False)

    def loaded(self, table: Table, load_id: str) -> LoadOutcome | None:
        with self._cursor() as cursor:
            return _loaded(cursor, table, load_id)

    @contextmanager
    def read(self, query: str, parameters: Parameters | None = None) -> Iterator[pa.RecordBatchReader]:
        with self._cursor() as cursor:
            yield _reader(cursor, to_duckdb(query), parameters)

    def plan_read(self, query: str, parameters: Parameters | None = None, streams: int = 1) -> list[ReadStream]:
        # One process reads a local file, and DuckDB itself scans it with every core: one stream is best.
        return [ReadStream(pickle.dumps((query, dict(parameters or {}))))]

    def read_stream(self, stream: ReadStream) -> Iterator[pa.RecordBatch]:
        query, parameters = pickle.loads(stream)
        with self.read(query, parameters) as reader:
            yield from reader

    def export(self, query: str, prefix: str, parameters: Parameters | None = None) -> list[str]:
        for old in list(self._storage.objects(prefix)):
            self._storage.delete(old.uri)
        uri = join(prefix, "part-00000.parquet")
        with (
            self.read(query, parameters) as reader,
            self._storage.writer(uri) as stream,
            pq.ParquetWriter(stream, reader.schema, compression="zstd") as writer,
        ):
            for batch in reader:
                writer.write_batch(batch)
        return [uri]

    def commit(self, commit: Commit) -> bool:
        with self._in_any_order(), self._transaction() as cursor:
            identity = {"contract": commit.contract, "id": commit.id}
            made = cursor.execute(
                "SELECT 1 FROM _caudal.commits WHERE contract = $contract AND commit_id = $id", identity
            ).fetchone()
            if made:
                return False
            found = cursor.execute(
                f"SELECT DISTINCT commit_id FROM {_name(covered_table())} WHERE contract = $contract",
                {"contract": commit.contract},
            ).fetchall()
            if {name for (name,) in found} != set(commit.after):
                raise commit.conflict()
            for replacement in commit.replacements:
                _replace(cursor, replacement)
            # A load is covered once, and was taken once: a commit that works it out anew takes over the first.
            loads = {**identity, "loads": list(commit.covered), "digests": commit.rows_digests}
            cursor.execute(
                f"UPDATE {_name(covered_table())} SET commit_id = $id, rows_digests = $digests "
                "WHERE contract = $contract AND load_id IN (SELECT unnest($loads::VARCHAR[]))",
                loads,
            )
            cursor.execute(
                f"INSERT INTO {_name(covered_table())} (contract, load_id, commit_id, as_of, rows_digests) "
                "SELECT $contract, l, $id, $as_of, $digests FROM (SELECT unnest($loads::VARCHAR[]) AS l) "
                f"WHERE l NOT IN (SELECT load_id FROM {_name(covered_table())} WHERE contract = $contract)",
                {**loads, "as_of": commit.as_of},
            )
            cursor.execute("INSERT INTO _caudal.commits VALUES ($contract, $id)", identity)
        return True


@contextmanager
def _typed_errors() -> Iterator[None]:
    """DuckDB's complaints as Caudal's errors; what is no user's business stays as it is."""
    try:
        yield
    except duckdb.CatalogException as error:
        raise NotFound(_first_line(error), mend="make the tables first, or correct the name") from error
    except duckdb.BinderException as error:
        raise TableMismatch(_first_line(error), mend="name columns of the table, with types that fit") from error
    except duckdb.InvalidInputException as error:
        raise UnsupportedSql(_first_line(error), mend="see docs/sql-subset.md") from error
    except duckdb.IOException as error:
        if "No files found" not in str(error):
            raise
        raise NotFound(_first_line(error), mend="stage the Parquet files again") from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def _widen(cursor: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Brings an older table up to the contract where that only adds: new columns, and values that may be null."""
    rows = cursor.execute(
        "SELECT column_name, data_type, is_nullable = 'YES' FROM information_schema.columns "
        "WHERE table_schema = $dataset AND table_name = $name",
        {"dataset": table.dataset, "name": table.name},
    ).fetchall()
    present = {name: data_type for name, data_type, _ in rows}
    for field in table.schema:
        wanted = _duckdb_type(field.type)
        if field.name not in present and field.nullable:
            cursor.execute(f"ALTER TABLE {_name(table)} ADD COLUMN {_column(field)}")
        elif _normal(present.get(field.name, "absent")) != _normal(wanted):
            raise TableMismatch(
                f"the column '{field.name}' is {present.get(field.name, 'absent')}, "
                f"and the contract asks for {wanted}",
                where=table.sql_name,
                mend="changes of a table are additive: give the column a new name, or start over "
                "with a new root (`--fresh` in a replay)",
            )
    may_be_null = {field.name for field in table.schema if field.nullable}
    kept = set(table.schema.names)
    for name, _, nullable in rows:
        if not nullable and (name in may_be_null or name not in kept):
            cursor.execute(f"ALTER TABLE {_name(table)} ALTER COLUMN {_quoted(name)} DROP NOT NULL")


def _loaded(cursor: duckdb.DuckDBPyConnection, table: Table, load_id: str) -> LoadOutcome | None:
    found = cursor.execute(
        "SELECT row_count FROM _caudal.loads WHERE table_name = $name AND load_id = $id",
        {"name": table.sql_name, "id": load_id},
    ).fetchone()
    return LoadOutcome(found[0], repeated=True) if found else None


def _replace(cursor: duckdb.DuckDBPyConnection, replacement: Replacement) -> None:
    table = replacement.table
    within = "TRUE"
    parameters: dict[str, Any] = {}
    if table.partition_by is not None:
        within = f"CAST({_quoted(table.partition_by)} AS DATE) IN (SELECT unnest($partitions::DATE[]))"
        parameters = {"partitions": list(replacement.partitions)}
    if replacement.whole:
        cursor.execute(f"DELETE FROM {_name(table)} WHERE {within}", parameters)
    elif replacement.key is not None:
        for files, column in ((replacement.rows, replacement.key), (replacement.removed, "key")):
            if files:
                cursor.execute(
                    f"DELETE FROM {_name(table)} WHERE {within} AND {_quoted(replacement.key)} IN "
                    f"(SELECT {_quoted(column)} FROM {_parquet(files)})",
                    parameters,
                )
    _insert(cursor, table, replacement.rows)


def _insert(cursor: duckdb.DuckDBPyConnection, table: Table, parquet: Sequence[str]) -> int:
    if not parquet:
        return 0
    columns = ", ".join(_quoted(field.name) for field in table.schema)
    try:
        inserted = cursor.execute(
            f"INSERT INTO {_name(table)} ({columns}) SELECT {columns} FROM {_parquet(parquet)}"
        ).fetchone()
    except (duckdb.ConstraintException, duckdb.DataError, duckdb.InvalidInputException) as error:
        # Nobody's SQL is at fault here: a file is no Parquet, or a value is not one of its column.
        raise RowsRefused(
            _first_line(error), where=table.sql_name, mend="correct the rows, or what wrote them"
        ) from error
    return int(inserted[0]) if inserted else 0


def _reader(cursor: duckdb.DuckDBPyConnection, query: str, parameters: Parameters | None) -> pa.RecordBatchReader:
    values = {name: list(v) if isinstance(v, (list, tuple)) else v for name, v in (parameters or {}).items()}
    relation = cursor.sql(query, params=values) if values else cursor.sql(query)
    columns = list(zip(relation.columns, map(str, relation.types), strict=True))
    if any(_result_type(kind) != kind for _, kind in columns):
        relation = relation.project(
            ", ".join(
                f"CAST({_quoted(name)} AS {_result_type(kind)}) AS {_quoted(name)}" for name, kind in columns
            )
        )
    reader = relation.to_arrow_reader(BATCH_ROWS)
    # DuckDB says Etc/UTC for UTC; only the name differs.
    schema = pa.schema([_utc(field) for field in reader.schema])
    return reader if schema == reader.schema else reader.cast(schema)


def _result_type(kind: str) -> str:
    """BigQuery's type for what DuckDB computed: it has one integer and one decimal."""
    if kind in ("TINYINT", "SMALLINT", "INTEGER", "HUGEINT"):
        return "BIGINT"
    return "DECIMAL(38,9)" if kind.startswith("DECIMAL") and not kind.endswith("[]") else kind


def _utc(field: pa.Field) -> pa.Field:
    if pa.types.is_timestamp(field.type) and field.type.tz:
        return field.with_type(pa.timestamp("us", tz="UTC"))
    return field


def _parquet(uris: Sequence[str]) -> str:
    # DuckDB reads a path as a pattern: a character that would mean more stands in brackets.
    patterns = (re.sub(r"[*?\[]", r"[\g<0>]", str(file_path(uri))) for uri in uris)
    paths = ", ".join("'" + pattern.replace("'", "''") + "'" for pattern in patterns)
    return f"read_parquet([{paths}])"


def _name(table: Table) -> str:
    return f"{_quoted(table.dataset)}.{_quoted(table.name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column(field: pa.Field) -> str:
    return f"{_quoted(field.name)} {_duckdb_type(field.type)}{'' if field.nullable else ' NOT NULL'}"


def _duckdb_type(data_type: pa.DataType) -> str:
    if pa.types.is_list(data_type):
        return f"{_duckdb_type(data_type.value_type)}[]"
    return _TYPES[data_type]


def _normal(sql_type: str) -> str:
    return sql_type.replace(" ", "").upper()
