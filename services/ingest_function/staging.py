"""What is written of an object while it is read: its rows in row groups, and its broken records."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from caudal.storage import Storage
from ingest_function.records import BrokenRecord

GROUP_ROWS = 100_000
GROUP_BYTES = 64 << 20
"""A row group has so many rows, or so many bytes of them: quick to read, cheap to hold."""


class RowGroups:
    """Gathers batches of any size to row groups."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self.rows = 0

    def __enter__(self) -> RowGroups:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write()

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= GROUP_ROWS or self._waiting_bytes >= GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        if self._waiting_rows:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
        self.rows += self._waiting_rows
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


class BrokenRecords:
    """Writes broken records into quarantine as they come; while there is none, there is no such file."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self._storage = storage
        self._uri = uri
        self._stack = ExitStack()
        self._stream: BinaryIO | None = None
        self.count = 0

    def __enter__(self) -> BrokenRecords:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, record: BrokenRecord) -> None:
        if self._stream is None:
            self._stream = self._stack.enter_context(self._storage.writer(self._uri))
        self._stream.write(json.dumps(vars(record)).encode() + b"\n")
        self.count += 1
