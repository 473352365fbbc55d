"""Served lines in the cloud: the table to which the log sink takes the server's standard output.

Cloud Logging makes the table with the first line and adds a column with the first line that has the field, so
neither may be there yet. It partitions by the entry's `timestamp`. A mark is the latest timestamp that was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from google.api_core import exceptions as google
from google.cloud import bigquery

from caudal.identity import format_instant, parse_instant
from caudal.served.port import LINE, Part, ServedLines
from caudal.sql import quoted
from caudal.tables import PREDICTIONS
from caudal.warehouse.bigquery import Clients, google_clients, typed_errors

TABLE = "run_googleapis_com_stdout"
"""What the sink makes of the log `run.googleapis.com/stdout`."""

LATE = timedelta(days=1)
"""Entries come within minutes and not in their order: a reading goes back so far behind its mark."""

_TYPES = {pa.string(): "STRING", pa.float64(): "FLOAT64"}


class SinkLines(ServedLines):
    """The lines in a project's data set of predictions.

    Args:
        project: the project that holds the table and pays for the query.
        clients: makes the clients.
    """

    def __init__(self, project: str, clients: Callable[[], Clients] | None = None) -> None:
        self._table = f"{project}.{PREDICTIONS}.{TABLE}"
        self._make_clients = clients or partial(google_clients, project)

    @cached_property
    def _clients(self) -> Clients:
        return self._make_clients()

    def parts(self, contract: str, after: str = "") -> Iterator[Part]:
        fields = self._fields()
        if not {"id", "contract"} <= fields:
            return
        since = _instant(after)
        query, parameters = self._query(fields, contract, since)
        config = bigquery.QueryJobConfig(query_parameters=parameters, use_legacy_sql=False)
        mark = after if since is not None else ""
        with typed_errors(query):
            rows = self._clients.bigquery.query(query, job_config=config).result()
            for batch in rows.to_arrow_iterable(bqstorage_client=self._clients.reads):
                mark = max(mark, _latest(batch))
                columns = [batch.column(field.name).cast(field.type) for field in LINE]
                yield Part(pa.RecordBatch.from_arrays(columns, schema=LINE), 0, mark)

    def _fields(self) -> frozenset[str]:
        """The fields that some line has had; none before the first line."""
        with typed_errors(self._table):
            try:
                table = self._clients.bigquery.get_table(self._table)
            except google.NotFound:
                return frozenset()
        payload = next((field for field in table.schema if field.name == "jsonPayload"), None)
        return frozenset(field.name for field in payload.fields) if payload is not None else frozenset()

    def _query(self, fields: frozenset[str], contract: str, since: datetime | None) -> tuple[str, list[Any]]:
        columns = [
            f"CAST({f'jsonPayload.{quoted(field.name)}' if field.name in fields else 'NULL'} "
            f"AS {_TYPES[field.type]}) AS {quoted(field.name)}"
            for field in LINE
        ]
        conditions = ["jsonPayload.`contract` = @contract"]
        parameters = [bigquery.ScalarQueryParameter("contract", "STRING", contract)]
        if since is not None:
            # A bound on the partitioning column: BigQuery reads the days from it on and no others.
            conditions.append("`timestamp` >= @since")
            parameters.append(bigquery.ScalarQueryParameter("since", "TIMESTAMP", since - LATE))
        query = (
            f"SELECT `timestamp` AS logged, {', '.join(columns)} FROM {quoted(self._table)} "
            f"WHERE {' AND '.join(conditions)}"
        )
        return query, parameters


def _instant(mark: str) -> datetime | None:
    """A mark as an instant; None for one that another reader has set."""
    try:
        return parse_instant(mark)
    except ValueError:
        return None


def _latest(batch: pa.RecordBatch) -> str:
    latest: datetime | None = pc.max(batch.column("logged")).as_py()
    return format_instant(latest) if latest is not None else ""
