"""The log sink's table passes the suite: its client is played by DuckDB, with the table as Cloud Logging makes it.

The adapter's query goes to DuckDB by sqlglot's own translation. Cloud Logging adds a column with the first entry
that has the field, leaves out what is null, and keeps numbers as FLOAT64.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from google.api_core import exceptions as google
from google.cloud import bigquery

from caudal.errors import WarehouseFailed
from caudal.identity import format_instant
from caudal.served import ServedLines
from caudal.served.bigquery import LATE, SinkLines
from caudal.warehouse.bigquery import Clients
from tests.contract_suites.served import MORNING, ServedSuite, keys, line

NAME = "project.predictions.run_googleapis_com_stdout"


class Sink:
    """A project with a log sink; also its BigQuery client."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.fields: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, tuple[str, Any]]]] = []

    # What the sink does

    def append(self, lines: Sequence[dict[str, Any]], late: timedelta = timedelta(seconds=1)) -> None:
        for one in lines:
            payload = {name: value for name, value in one.items() if value is not None and name != "severity"}
            for name, value in payload.items():
                self.fields.setdefault(name, "FLOAT" if isinstance(value, float) else "STRING")
            logged = datetime.fromisoformat(one["at"]) - late
            self.entries.append({"timestamp": logged, "jsonPayload": payload})

    def reader(self) -> ServedLines:
        return SinkLines("project", lambda: Clients(self, "reads"))  # type: ignore[arg-type]

    # What the client does

    def get_table(self, name: str) -> bigquery.Table:
        assert name == NAME
        if not self.entries:
            raise google.NotFound("Not found: Table")
        fields = [
            bigquery.SchemaField(field, kind, mode="REPEATED" if field == "flags" else "NULLABLE")
            for field, kind in self.fields.items()
        ]
        return bigquery.Table(
            name,
            [
                bigquery.SchemaField("timestamp", "TIMESTAMP"),
                bigquery.SchemaField("jsonPayload", "RECORD", fields=fields),
            ],
        )

    def query(self, query: str, job_config: bigquery.QueryJobConfig) -> _Job:
        parameters = {one.name: (one.type_, one.value) for one in job_config.query_parameters}
        self.asked.append((query, parameters))
        assert f"`{NAME}`" in query
        translated = sqlglot.transpile(query.replace(f"`{NAME}`", "sink"), read="bigquery", write="duckdb")[0]
        kinds = {"STRING": pa.string(), "FLOAT": pa.float64()}
        payload = pa.struct(
            [
                pa.field(name, pa.list_(pa.string()) if name == "flags" else kinds[kind])
                for name, kind in self.fields.items()
            ]
        )
        schema = pa.schema([("timestamp", pa.timestamp("us", tz="UTC")), ("jsonPayload", payload)])
        sink = pa.Table.from_pylist(self.entries, schema)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("sink", sink)
            values = {name: value for name, (_, value) in parameters.items()}
            return _Job(connection.sql(translated, params=values).to_arrow_table())


class _Job:
    """A query's job and its rows."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def result(self) -> _Job:
        return self

    def to_arrow_iterable(self, bqstorage_client: Any) -> Iterator[pa.RecordBatch]:
        assert bqstorage_client == "reads"
        yield from self._table.to_batches(max_chunksize=2)


@pytest.fixture
def log() -> Sink:
    return Sink()


class TestSinkLines(ServedSuite):
    @staticmethod
    def own(mark: str) -> bool:
        return re.fullmatch(r"2026-03-01T\S+Z", mark) is not None


def test_the_first_reading_is_of_everything_and_later_ones_of_the_last_days_alone(log: Sink) -> None:
    log.append([line(1), line(2)])
    *_, part = log.reader().parts("payments")
    latest = MORNING + timedelta(minutes=2) - timedelta(seconds=1)
    assert part.mark == format_instant(latest)

    list(log.reader().parts("payments", part.mark))

    (first, without), (again, bound) = log.asked
    assert "`timestamp` >=" not in first
    assert set(without) == {"contract"}
    # A condition on the column itself, against a parameter of its type, is what partitions are pruned by.
    assert "WHERE jsonPayload.`contract` = @contract AND `timestamp` >= @since" in again
    assert bound["since"] == ("TIMESTAMP", latest - LATE)


def test_an_entry_that_comes_late_is_not_lost(log: Sink) -> None:
    log.append([line(30)])
    *_, part = log.reader().parts("payments")
    log.append([line(10)])
    assert keys(log.reader().parts("payments", part.mark)) == ["10", "30"]


def test_a_refusal_says_whom_to_grant_what(log: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise google.Forbidden("Access Denied")

    monkeypatch.setattr(log, "get_table", refuse)
    with pytest.raises(WarehouseFailed, match="Access Denied") as caught:
        list(log.reader().parts("payments"))
    assert NAME in caught.value.where
    assert "grant" in caught.value.mend
