"""The warehouse in the cloud: BigQuery.

What happens once is a job under an id that follows from what it does: BigQuery refuses a second job of one id,
and `get_job` settles any doubt about the first. A failed job keeps its id, so ids end in the number of the
attempt, and only a failed attempt is followed by another. BigQuery forgets jobs after about six months; the
ledger does not.

Results come through the Storage Read API as Arrow; nothing here turns rows into Python objects.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, partial
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions as google
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import types as storage_types
from sqlglot import expressions as exp

from caudal.errors import (
    NotFound,
    RowsRefused,
    TableMismatch,
    UsageError,
    WarehouseFailed,
    WarehouseUnavailable,
)
from caudal.identity import digest
from caudal.sql import parse, quoted
from caudal.storage import Storage, join
from caudal.tables import Table, bigquery_type, covered_table
from caudal.warehouse.port import (
    Commit,
    LoadOutcome,
    Parameters,
    ReadStream,
    Replacement,
    Scalar,
    Warehouse,
)

if TYPE_CHECKING:
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

    Job = bigquery.LoadJob | bigquery.QueryJob

MOST_PARTITIONS_A_STATEMENT = 4_000
"""A job modifies no more: https://cloud.google.com/bigquery/quotas#partitioned_tables. Each statement of a script
is a job of its own; a transaction as a whole may modify 100,000
(https://cloud.google.com/bigquery/docs/transactions#limitations)."""

STAGED_FOR = timedelta(days=1)
"""After this time BigQuery removes what a killed commit had staged."""
_ROW_GROUP = 262_144
_CONFLICT = "caudal: another commit was made since this one was planned"


@dataclass(frozen=True)
class Clients:
    """The two services that the adapter talks to."""

    bigquery: bigquery.Client
    reads: BigQueryReadClient


def google_clients(project: str) -> Clients:
    """Clients by Application Default Credentials."""
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

    return Clients(bigquery.Client(project=project), BigQueryReadClient())


class BigQueryWarehouse(Warehouse):
    """Tables in a BigQuery project; each port's data set is a data set there.

    Args:
        project: the project that holds the tables and pays for the jobs.
        storage: where exported Parquet goes, and staged Parquet comes from.
        clients: makes the clients; it travels to other processes with the adapter, the clients don't.
    """

    def __init__(
        self,
        project: str,
        storage: Storage,
        clients: Callable[[], Clients] | None = None,
    ) -> None:
        self._project = project
        self._storage = storage
        self._make_clients = clients or partial(google_clients, project)
        self._locations: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_clients"}

    def __enter__(self) -> BigQueryWarehouse:
        return self

    def __exit__(self, *exception: object) -> None:
        # Nothing is held: each call is a request of its own.
        return

    @cached_property
    def _clients(self) -> Clients:
        return self._make_clients()

    # Tables

    def ensure_tables(self, tables: Sequence[Table]) -> None:
        for table in tables:
            try:
                present = self._clients.bigquery.get_table(self._reference(table))
            except google.NotFound as error:
                raise TableMismatch(
                    "there is no such table",
                    where=table.sql_name,
                    mend="deploy the data stack for this contract: Terraform owns the tables",
                ) from error
            _compare(table, {field.name: field for field in present.schema})

    def _reference(self, table: Table) -> bigquery.TableReference:
        return bigquery.DatasetReference(self._project, table.dataset).table(table.name)

    def _sql_name(self, table: Table) -> str:
        return quoted(f"{self._project}.{table.dataset}.{table.name}")

    # Jobs that happen once

    def _once(self, name: str, location: str, start: Callable[[str], Job]) -> tuple[Job, bool]:
        """The job that did what a name stands for, and whether another call had it done.

        Args:
            name: the job's id without the attempt.
            location: where the job runs; a job is found only there.
            start: starts a job under an id.
        """
        for attempt in count(1):
            job_id = f"{name}-{attempt}"
            job = self._settled(job_id, location)
            if job is None:
                with typed_errors(name):
                    try:
                        job = start(job_id)
                    except google.Conflict:
                        job = self._settled(job_id, location)  # another caller was first
                    else:
                        job.result()
                        return job, False
            if job is not None and not job.error_result:
                return job, True
        raise AssertionError("attempts have no end")

    def _done(self, name: str, location: str) -> Job | None:
        """The job that did what a name stands for, when there is one."""
        for attempt in count(1):
            job = self._settled(f"{name}-{attempt}", location)
            if job is None or not job.error_result:
                return job
        raise AssertionError("attempts have no end")

    def _settled(self, job_id: str, location: str) -> Job | None:
        """The job of this id, waited for; None when there is none."""
        try:
            job = self._clients.bigquery.get_job(job_id, location=location)
        except google.NotFound:
            return None
        assert isinstance(job, (bigquery.LoadJob, bigquery.QueryJob))
        with typed_errors(job_id):
            failure = job.exception()  # type: ignore[no-untyped-call]
            if failure is not None and not job.error_result:
                raise failure  # it is not the job that failed, but the question about it
        return job

    def _location(self, dataset: str) -> str:
        """Where a data set lies, and so the jobs that write to it."""
        if dataset not in self._locations:
            with typed_errors(dataset):
                found = self._clients.bigquery.get_dataset(f"{self._project}.{dataset}")
            self._locations[dataset] = str(found.location)
        return self._locations[dataset]

    # Loads

    def load(self, table: Table, parquet: Sequence[str], load_id: str) -> LoadOutcome:
        try:
            job, repeated = self._once(
                _load_name(table, load_id),
                self._location(table.dataset),
                lambda job_id: self._start_load(table, parquet, job_id),
            )
        except WarehouseFailed as error:
            if isinstance(error.__cause__, google.GoogleAPICallError) and "invalid" in _reasons(error.__cause__):
                raise RowsRefused(error.what, where=error.where, mend=error.mend) from error.__cause__
            raise
        return LoadOutcome(_loaded_rows(job), repeated)

    def _start_load(self, table: Table, parquet: Sequence[str], job_id: str) -> Job:
        location = self._location(table.dataset)
        if not parquet:
            # A load job needs a file. What stands for it must be a job too, for its id to be taken.
            return self._clients.bigquery.query("SELECT 0 AS nothing", job_id=job_id, location=location)
        config = _load_config(table.schema, bigquery.WriteDisposition.WRITE_APPEND)
        return self._clients.bigquery.load_table_from_uri(
            list(parquet), self._reference(table), job_id=job_id, location=location, job_config=config
        )

    def loaded(self, table: Table, load_id: str) -> LoadOutcome | None:
        job = self._done(_load_name(table, load_id), self._location(table.dataset))
        return LoadOutcome(_loaded_rows(job), repeated=True) if job is not None else None

    # Reads

    @contextmanager
    def read(self, query: str, parameters: Parameters | None = None) -> Iterator[pa.RecordBatchReader]:
        # One stream keeps the query's order.
        schema, streams = self._open_session(query, parameters, 1)
        batches = chain.from_iterable(self._batches(name, schema) for name in streams)
        yield pa.RecordBatchReader.from_batches(_normal(schema), batches)

    def plan_read(self, query: str, parameters: Parameters | None = None, streams: int = 1) -> list[ReadStream]:
        schema, names = self._open_session(query, parameters, streams)
        serialized = base64.b64encode(schema.serialize()).decode()
        return [ReadStream(json.dumps({"stream": name, "schema": serialized}).encode()) for name in names]

    def read_stream(self, stream: ReadStream) -> Iterator[pa.RecordBatch]:
        said = json.loads(stream)
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(said["schema"])))
        return self._batches(said["stream"], schema)

    def _open_session(
        self, query: str, parameters: Parameters | None, streams: int
    ) -> tuple[pa.Schema, list[str]]:
        """Runs a query and opens its result for reading; streams can be read for six hours."""
        text, config = _prepared(query, parameters)
        with typed_errors(query):
            job = self._clients.bigquery.query(text, job_config=config)
            job.result()
            table = job.destination
            session = self._clients.reads.create_read_session(
                parent=f"projects/{self._project}",
                read_session=storage_types.ReadSession(
                    table=f"projects/{table.project}/datasets/{table.dataset_id}/tables/{table.table_id}",
                    data_format=storage_types.DataFormat.ARROW,
                    read_options=storage_types.ReadSession.TableReadOptions(
                        arrow_serialization_options=storage_types.ArrowSerializationOptions(
                            buffer_compression=storage_types.ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
                        )
                    ),
                ),
                max_stream_count=streams,
            )
        schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        return schema, [stream.name for stream in session.streams]

    def _batches(self, stream: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        normal = _normal(schema)
        with typed_errors(stream):
            for answer in self._clients.reads.read_rows(stream):
                serialized = answer.arrow_record_batch.serialized_record_batch
                batch = pa.ipc.read_record_batch(pa.py_buffer(serialized), schema)
                yield batch.cast(normal) if schema != normal else batch

    # Exports

    def export(self, query: str, prefix: str, parameters: Parameters | None = None) -> list[str]:
        for old in list(self._storage.objects(prefix)):
            self._storage.delete(old.uri)
        if parse(query).args.get("order"):
            # EXPORT DATA does not promise that several files follow the query's order; one stream does.
            return self._export_ordered(query, prefix, parameters)
        text, config = _prepared(query, parameters)
        uri = exp.Literal.string(join(prefix, "part-*.parquet")).sql(dialect="bigquery")
        with typed_errors(query):
            self._clients.bigquery.query(
                f"EXPORT DATA OPTIONS (uri = {uri}, format = 'PARQUET', compression = 'ZSTD') AS\n{text}",
                job_config=config,
            ).result()
        return [item.uri for item in self._storage.objects(prefix)]

    def _export_ordered(self, query: str, prefix: str, parameters: Parameters | None) -> list[str]:
        uri = join(prefix, "part-00000.parquet")
        with (
            self.read(query, parameters) as reader,
            self._storage.writer(uri) as stream,
            pq.ParquetWriter(stream, reader.schema, compression="zstd") as writer,
        ):
            waiting: list[pa.RecordBatch] = []
            for batch in reader:
                waiting.append(batch)
                if sum(one.num_rows for one in waiting) >= _ROW_GROUP:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))
        return [uri]

    # Commits

    def commit(self, commit: Commit) -> bool:
        name = _job_name("commit", commit.contract, commit.id)
        location = self._location(covered_table().dataset)
        if self._done(name, location) is not None:
            return False
        script = _Script()
        self._guard(script, commit)
        staged: list[bigquery.TableReference] = []

        def stage(table: Table, schema: pa.Schema, files: Sequence[str]) -> str:
            reference = bigquery.DatasetReference(self._project, table.dataset).table(
                f"_staged_{uuid.uuid4().hex}"
            )
            staged.append(reference)
            self._stage(reference, schema, files)
            return quoted(f"{reference.project}.{reference.dataset_id}.{reference.table_id}")

        try:
            with typed_errors(name):
                for replacement in commit.replacements:
                    self._replace(script, replacement, stage)
            if commit.covered:
                covered = self._sql_name(covered_table())
                contract, loads = script.value(commit.contract), script.values(commit.covered)
                made, as_of = script.value(commit.id), script.value(commit.as_of)
                digests = (
                    "CAST(NULL AS STRING)" if commit.rows_digests is None else script.value(commit.rows_digests)
                )
                # A load is covered once, and was taken once: a commit that works it out anew takes over the first.
                script.add(
                    f"UPDATE {covered} SET commit_id = {made}, rows_digests = {digests} "
                    f"WHERE contract = {contract} AND load_id IN UNNEST({loads})"
                )
                script.add(
                    f"INSERT INTO {covered} (contract, load_id, commit_id, as_of, rows_digests) "
                    f"SELECT {contract}, l, {made}, {as_of}, {digests} FROM UNNEST({loads}) AS l "
                    f"WHERE l NOT IN (SELECT load_id FROM {covered} WHERE contract = {contract})"
                )
            config = bigquery.QueryJobConfig(query_parameters=script.parameters)
            _, repeated = self._once(
                name,
                location,
                lambda job_id: self._clients.bigquery.query(
                    script.text(), job_id=job_id, location=location, job_config=config
                ),
            )
            return not repeated
        except WarehouseFailed as error:
            if _CONFLICT in error.what:
                raise commit.conflict() from error
            raise
        finally:
            for reference in staged:
                self._clients.bigquery.delete_table(reference, not_found_ok=True)

    def _guard(self, script: _Script, commit: Commit) -> None:
        """Fails the transaction when other commits cover loads of the contract than those that it was planned on.

        Of two transactions that only read and append BigQuery lets both pass. Rows that are updated, to what they
        are, make it cancel one: https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency
        """
        covered, contract = self._sql_name(covered_table()), script.value(commit.contract)
        known = f"commit_id IN UNNEST({script.values(commit.after)})"
        script.add(f"UPDATE {covered} SET commit_id = commit_id WHERE contract = {contract}")
        script.add(
            f"IF (SELECT COUNT(DISTINCT IF({known}, commit_id, NULL)) != {script.value(len(set(commit.after)))} "
            f"OR COUNTIF(NOT {known}) > 0 FROM {covered} WHERE contract = {contract}) "
            f"THEN RAISE USING MESSAGE = '{_CONFLICT}'; END IF"
        )

    def _replace(
        self, script: _Script, replacement: Replacement, stage: Callable[[Table, pa.Schema, Sequence[str]], str]
    ) -> None:
        table, name = replacement.table, self._sql_name(replacement.table)
        rows = stage(table, table.schema, replacement.rows) if replacement.rows else None
        parts = list(_parts(script, replacement))
        if replacement.whole:
            for within in parts:
                script.add(f"DELETE FROM {name} WHERE {within}")
        elif replacement.key is not None:
            key = quoted(replacement.key)
            gone = [f"SELECT {key} FROM {rows}"] if rows else []
            if replacement.removed:
                schema = pa.schema([pa.field("key", table.schema.field(replacement.key).type)])
                gone.append(f"SELECT key FROM {stage(table, schema, replacement.removed)}")
            for within in parts:
                for keys in gone:
                    script.add(f"DELETE FROM {name} WHERE {within} AND {key} IN ({keys})")
        if rows:
            columns = ", ".join(quoted(field.name) for field in table.schema)
            for within in parts if len(parts) > 1 else ["TRUE"]:
                script.add(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {rows} WHERE {within}")

    def _stage(self, reference: bigquery.TableReference, schema: pa.Schema, files: Sequence[str]) -> None:
        """Loads files into a table of their own, which goes away by itself should nobody be left to delete it."""
        client = self._clients.bigquery
        nullable = pa.schema([field.with_nullable(True) for field in schema])
        table = bigquery.Table(reference, schema=_bigquery_schema(nullable))
        table.expires = datetime.now(UTC) + STAGED_FOR
        client.create_table(table)
        config = _load_config(nullable, bigquery.WriteDisposition.WRITE_APPEND)
        location = self._location(reference.dataset_id)
        client.load_table_from_uri(list(files), reference, location=location, job_config=config).result()


class _Script:
    """Statements of one transaction, with their parameters."""

    def __init__(self) -> None:
        self._statements: list[str] = []
        self.parameters: list[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter] = []

    def add(self, statement: str) -> None:
        self._statements.append(f"{statement};")

    def value(self, value: Scalar) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters.append(bigquery.ScalarQueryParameter(name, _sql_type(value), value))
        return f"@{name}"

    def values(self, values: Sequence[Scalar], sql_type: str = "STRING") -> str:
        name = f"p{len(self.parameters)}"
        self.parameters.append(bigquery.ArrayQueryParameter(name, sql_type, list(values)))
        return f"@{name}"

    def text(self) -> str:
        return "\n".join(["BEGIN TRANSACTION;", *self._statements, "COMMIT TRANSACTION;"])


def _parts(script: _Script, replacement: Replacement) -> Iterator[str]:
    """Conditions that part a replacement's partitions into as many as one statement may modify."""
    table, days = replacement.table, sorted(replacement.partitions)
    if table.partition_by is None:
        yield "TRUE"
        return
    column = quoted(table.partition_by)
    day = column if pa.types.is_date(table.schema.field(table.partition_by).type) else f"DATE({column})"
    for first in range(0, len(days), MOST_PARTITIONS_A_STATEMENT):
        some = days[first : first + MOST_PARTITIONS_A_STATEMENT]
        # Named values, not a subquery: BigQuery then reads these partitions and no others.
        yield f"{day} IN UNNEST({script.values(some, 'DATE')})"


def _prepared(query: str, parameters: Parameters | None) -> tuple[str, bigquery.QueryJobConfig]:
    """A query that keeps to the subset, with typed parameters.

    An empty list has no type, and needs none: nothing is in it.
    """
    tree: exp.Expr = parse(query)
    empty = {name for name, value in (parameters or {}).items() if isinstance(value, (list, tuple)) and not value}
    text = query
    if empty:
        for node in list(tree.find_all(exp.Unnest)):
            (parameter,) = node.expressions
            if parameter.name in empty:
                if not isinstance(node.parent, exp.In):
                    raise UsageError(
                        f"the list '{parameter.name}' is empty, so BigQuery can't tell its type",
                        where=query,
                        mend="don't ask when there is nothing to ask for",
                    )
                node.parent.replace(exp.false())
        text = tree.sql(dialect="bigquery")
    typed: list[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter] = []
    for name, value in (parameters or {}).items():
        if isinstance(value, (str, int, float, bool, date, datetime)):
            typed.append(bigquery.ScalarQueryParameter(name, _sql_type(value), value))
        elif value:
            typed.append(bigquery.ArrayQueryParameter(name, _sql_type(value[0]), list(value)))
    return text, bigquery.QueryJobConfig(query_parameters=typed, use_legacy_sql=False)


def _sql_type(value: object) -> str:
    # A bool is an int and a datetime is a date, so the narrower types come first.
    for kind, name in (
        (bool, "BOOL"),
        (int, "INT64"),
        (float, "FLOAT64"),
        (str, "STRING"),
        (datetime, "TIMESTAMP"),
        (date, "DATE"),
    ):
        if isinstance(value, kind):
            return name
    raise UsageError(
        f"{value!r} can't be a query's parameter", mend="pass text, a number, a boolean, a date or an instant"
    )


def _load_name(table: Table, load_id: str) -> str:
    return _job_name("load", table.dataset, table.name, load_id)


def _job_name(*parts: str) -> str:
    """The parts as a job's id may be spelled; with other characters in them, their hash."""
    name = "-".join(parts)
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,900}", name) else f"{parts[0]}-{digest(*parts)[:32]}"


def _loaded_rows(job: Job) -> int:
    return int(job.output_rows or 0) if isinstance(job, bigquery.LoadJob) else 0


def _load_config(schema: pa.Schema, disposition: str) -> bigquery.LoadJobConfig:
    parquet = bigquery.ParquetOptions()
    parquet.enable_list_inference = True
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        schema=_bigquery_schema(schema),
        write_disposition=disposition,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
    )
    config.parquet_options = parquet
    return config


def _bigquery_schema(schema: pa.Schema) -> list[bigquery.SchemaField]:
    return [bigquery.SchemaField(field.name, *bigquery_type(field)) for field in schema]


_SPELLINGS = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "DECIMAL": "NUMERIC"}
"""What the API may answer, and what it calls the same type elsewhere."""


def _compare(table: Table, present: dict[str, bigquery.SchemaField]) -> None:
    for field in table.schema:
        wanted, mode = bigquery_type(field)
        found = present.pop(field.name, None)
        kind = _SPELLINGS.get(found.field_type, found.field_type) if found else "absent"
        what = None
        if found is None or kind != wanted:
            what = f"the column '{field.name}' is {kind}, and the contract asks for {wanted}"
        elif (found.mode == "REPEATED") != (mode == "REPEATED"):
            what = f"the column '{field.name}' is {found.mode}, and the contract asks for {mode}"
        elif found.mode == "REQUIRED" and mode == "NULLABLE":
            what = f"the column '{field.name}' is required, and the contract lets it be empty"
        if what:
            raise TableMismatch(
                what,
                where=table.sql_name,
                mend="deploy the data stack for this contract: Terraform owns the tables",
            )
    for name, found in present.items():
        if found.mode == "REQUIRED":
            raise TableMismatch(
                f"the contract has no column '{name}', and the table requires it",
                where=table.sql_name,
                mend="put the column back into the contract, or deploy the data stack with the column nullable",
            )


def _normal(schema: pa.Schema) -> pa.Schema:
    """BigQuery's Arrow types as the port spells them, without its annotations."""
    return pa.schema([pa.field(field.name, _normal_type(field.type)) for field in schema])


def _normal_type(data_type: pa.DataType) -> pa.DataType:
    if pa.types.is_list(data_type):
        return pa.list_(_normal_type(data_type.value_type))
    if pa.types.is_timestamp(data_type) and data_type.tz:
        return pa.timestamp("us", tz="UTC")
    return data_type


@contextmanager
def typed_errors(where: str) -> Iterator[None]:
    """BigQuery's complaints as Caudal's errors."""
    place = " ".join(where.split())[:120]
    try:
        yield
    except google.NotFound as error:
        raise NotFound(_message(error), where=place, mend="deploy the data stack, or correct the name") from error
    except google.RetryError as error:
        raise WarehouseUnavailable(str(error), where=place, mend=_LATER) from error
    except google.GoogleAPICallError as error:
        if _passes(error):
            raise WarehouseUnavailable(_message(error), where=place, mend=_LATER) from error
        if isinstance(error, google.Forbidden):
            raise WarehouseFailed(
                _message(error), where=place, mend="grant the unit's service account the role, or raise the quota"
            ) from error
        raise WarehouseFailed(_message(error), where=place, mend="see the job in BigQuery's history") from error


_LATER = "call again later; if it goes on, see the status of BigQuery and the quotas of the project"
_PASSING = (
    google.TooManyRequests,
    google.InternalServerError,
    google.BadGateway,
    google.ServiceUnavailable,
    google.GatewayTimeout,
    google.Conflict,  # and Aborted, its gRPC name
)
_PASSING_REASONS = frozenset(
    {"rateLimitExceeded", "jobRateLimitExceeded", "backendError", "jobBackendError", "internalError",
     "jobInternalError", "tableUnavailable"}
)  # fmt: skip
_CONCURRENT = "due to concurrent update"


def _passes(error: google.GoogleAPICallError) -> bool:
    """Whether the same call may succeed later.

    By status, and by the reasons of cloud.google.com/bigquery/docs/error-messages: a limit of the rate may also
    come as 403. A transaction that gave way to another is a 400 for a wrong query; only its words tell it apart.
    """
    return (
        isinstance(error, _PASSING)
        or bool(_PASSING_REASONS & _reasons(error))
        or _CONCURRENT in str(error.message)
    )


def _reasons(error: google.GoogleAPICallError) -> set[str]:
    return {str(one["reason"]) for one in error.errors if isinstance(one, Mapping) and "reason" in one}


def _message(error: google.GoogleAPICallError) -> str:
    return str(error.message).split("\n", 1)[0].rstrip(".")
