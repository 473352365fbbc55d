"""Landed files as batches of raw values: CSV, NDJSON and Parquet, each gzipped or not (Parquet never).

One parser (pyarrow) reads them on a laptop and in the cloud, as a stream. A record that is broken is set aside
with its number and text; a file that can't be read at all raises.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from caudal.contract import Contract
from caudal.errors import UnreadableObject
from caudal.line_blocks import blocks_of_lines

BLOCK_BYTES = 8 << 20
SUFFIXES = (".csv", ".ndjson", ".jsonl", ".parquet")


@dataclass(frozen=True)
class BrokenRecord:
    """A record that can't be read.

    Attributes:
        row: its number in the file, counted from 1, the header aside.
        text: what stands there.
        reason: why it can't be read.
    """

    row: int
    text: str
    reason: str


@dataclass(frozen=True)
class RawBatch:
    """Some records of a file.

    Attributes:
        values: one column a field of the file, as text or as the file types it.
        rows: the records' numbers in the file, counted from 1, the header aside (int64).
        broken: records that were set aside within this batch.
    """

    values: pa.RecordBatch
    rows: np.ndarray[tuple[int], np.dtype[np.int64]]
    broken: tuple[BrokenRecord, ...] = ()


def format_of(name: str) -> str | None:
    """`csv`, `ndjson` or `parquet` by the file's name, or None for another one."""
    plain = name.lower().removesuffix(".gz")
    suffix = next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)
    if suffix is None or (suffix == ".parquet" and name.lower().endswith(".gz")):
        return None
    return "ndjson" if suffix == ".jsonl" else suffix[1:]


def read_batches(stream: BinaryIO, name: str, contract: Contract) -> Iterator[RawBatch]:
    """Reads a file's records.

    Raises:
        UnreadableObject: the file as a whole can't be read; batches that came before it don't count.
    """
    kind = format_of(name)
    if kind is None:
        raise UnreadableObject(
            "the name tells no format",
            where=name,
            mend=f"name it *{', *'.join(SUFFIXES)}, with .gz when it is compressed (Parquet has its own)",
        )
    try:
        source = pa.CompressedInputStream(stream, "gzip") if name.lower().endswith(".gz") else stream
        if kind == "csv":
            yield from _csv(source, contract)
        elif kind == "ndjson":
            yield from _ndjson(source, contract)
        else:
            yield from _parquet(stream)
    except (pa.ArrowException, OSError, EOFError, UnicodeError, zlib.error) as error:
        raise UnreadableObject(
            f"the file can't be read: {error}", where=name, mend="land it again, whole"
        ) from error


def _csv(source: BinaryIO | pa.NativeFile, contract: Contract) -> Iterator[RawBatch]:
    dialect = contract.source.csv
    broken: list[BrokenRecord] = []

    def set_aside(record: pa.csv.InvalidRow) -> str:
        found = f"{record.actual_columns} values where the header names {record.expected_columns}"
        # The parser counts the header as row 1.
        broken.append(BrokenRecord(record.number - 1, record.text or "", found))
        return "skip"

    try:
        reader = pa.csv.open_csv(
            source,
            read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False, encoding=dialect.encoding),
            parse_options=pa.csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote,
                newlines_in_values=dialect.multiline,
                invalid_row_handler=set_aside,
            ),
            # Everything is read as bytes: what a value means is the contract's business, and one that is not
            # text must not stop the others.
            convert_options=pa.csv.ConvertOptions(
                default_column_type=pa.binary(),
                null_values=list(dialect.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return
        raise
    _refuse_repeated_names(reader.schema.names)
    last = 0
    for batch in reader:
        aside, broken[:] = tuple(broken), []
        total = batch.num_rows + len(aside)
        numbers = np.setdiff1d(
            np.arange(last + 1, last + total + 1), np.array([record.row for record in aside], np.int64)
        )
        last += total
        yield _as_text(batch, numbers, aside)
    if broken:
        empty = reader.schema.empty_table().to_batches() or [pa.RecordBatch.from_pylist([], reader.schema)]
        yield _as_text(empty[0], np.zeros(0, np.int64), tuple(broken))


def _as_text(
    batch: pa.RecordBatch, numbers: np.ndarray[tuple[int], np.dtype[np.int64]], aside: tuple[BrokenRecord, ...]
) -> RawBatch:
    """Bytes as text; records with bytes that are no UTF-8 are set aside."""
    try:
        columns = [column.cast(pa.string()) for column in batch.columns]
        return RawBatch(pa.RecordBatch.from_arrays(columns, batch.schema.names), numbers, aside)
    except pa.ArrowInvalid:
        valid = np.ones(batch.num_rows, bool)
        for column in batch.columns:
            for position, value in enumerate(column.to_pylist()):
                valid[position] &= value is None or _is_utf8(value)
        more = tuple(
            BrokenRecord(int(numbers[i]), repr(list(batch.slice(i, 1).to_pylist()[0].values())), "it is not UTF-8")
            for i in np.flatnonzero(~valid)
        )
        kept = batch.filter(pa.array(valid))
        columns = [column.cast(pa.string()) for column in kept.columns]
        return RawBatch(pa.RecordBatch.from_arrays(columns, batch.schema.names), numbers[valid], aside + more)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ndjson(source: BinaryIO | pa.NativeFile, contract: Contract) -> Iterator[RawBatch]:
    first = 1
    for block in blocks_of_lines(source, BLOCK_BYTES, unfinished=True):
        lines = [line for line in block.split(b"\n") if line.strip()]
        broken: list[BrokenRecord] = []
        for start, part in _parsed(lines, 0, contract, broken, first):
            numbers = np.arange(first + start, first + start + part.num_rows, dtype=np.int64)
            yield RawBatch(part, numbers)
        if broken:
            yield RawBatch(pa.RecordBatch.from_pylist([]), np.zeros(0, np.int64), tuple(broken))
        first += len(lines)


def _parsed(
    lines: list[bytes], start: int, contract: Contract, broken: list[BrokenRecord], first: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Parses lines together; what does not go together, or at all, is found by halving."""
    if not lines:
        return
    as_written = [
        pa.field(name, pa.string())
        for name, column in contract.columns.items()
        if column.type in ("text", "category", "date", "timestamp")
    ]
    try:
        table = pa.json.read_json(
            io.BytesIO(b"\n".join(lines)),
            read_options=pa.json.ReadOptions(
                use_threads=False, block_size=max(BLOCK_BYTES, 2 * sum(map(len, lines)))
            ),
            parse_options=pa.json.ParseOptions(explicit_schema=pa.schema(as_written)),
        )
        if table.num_rows == len(lines):
            yield from ((start, batch) for batch in table.combine_chunks().to_batches())
            return
        raise pa.ArrowInvalid("a line holds more than one record")
    except pa.ArrowInvalid:
        if len(lines) > 1:
            middle = len(lines) // 2
            yield from _parsed(lines[:middle], start, contract, broken, first)
            yield from _parsed(lines[middle:], start + middle, contract, broken, first)
            return
    try:
        record = json.loads(lines[0])
        if not isinstance(record, dict):
            raise ValueError("it is no JSON object")
        text = {k: v if isinstance(v, str) or v is None else json.dumps(v) for k, v in record.items()}
        yield start, pa.RecordBatch.from_pylist([text], pa.schema([(name, pa.string()) for name in text]))
    except ValueError as error:
        broken.append(BrokenRecord(first + start, lines[0].decode(errors="backslashreplace"), str(error)))


def _parquet(stream: BinaryIO) -> Iterator[RawBatch]:
    file = pq.ParquetFile(stream)
    _refuse_repeated_names(file.schema_arrow.names)
    first = 1
    for batch in file.iter_batches(batch_size=131_072, use_threads=False):
        yield RawBatch(batch, np.arange(first, first + batch.num_rows, dtype=np.int64))
        first += batch.num_rows


def _refuse_repeated_names(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnreadableObject(f"the header names {', '.join(twice)} twice", mend="name each column once")
