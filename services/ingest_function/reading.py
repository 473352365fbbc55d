"""Landed files as batches of raw values: CSV, NDJSON and Parquet, each gzipped or not (Parquet never).

One parser (pyarrow) reads them on a laptop and in the cloud, as a stream. A record that is broken is set aside
with its number and text; a file that can't be read at all raises.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from caudal.contract import Contract
from caudal.errors import UnreadableObject
from ingest_function.conversion import decoded
from ingest_function.ndjson import read_ndjson
from ingest_function.records import BrokenRecord, RawBatch, SetAside

BLOCK_BYTES = 8 << 20
SUFFIXES = (".csv", ".ndjson", ".jsonl", ".parquet")


def format_of(name: str) -> str | None:
    """`csv`, `ndjson` or `parquet` by the file's name, or None for another one."""
    plain = name.lower().removesuffix(".gz")
    suffix = next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)
    if suffix is None or (suffix == ".parquet" and name.lower().endswith(".gz")):
        return None
    return "ndjson" if suffix == ".jsonl" else suffix[1:]


def read_batches(stream: BinaryIO, name: str, contract: Contract, set_aside: SetAside) -> Iterator[RawBatch]:
    """Reads a file's records; those that can't be read are set aside.

    Raises:
        UnreadableObject: the file as a whole can't be read, is empty, or holds nothing but broken records; what
            came of it before doesn't count.
    """
    kind = format_of(name)
    if kind is None:
        raise UnreadableObject(
            "the name tells no format",
            where=name,
            mend=f"name it *{', *'.join(SUFFIXES)}, with .gz when it is compressed (Parquet has its own)",
        )
    records = broken = 0
    first_reason = ""

    def count_and_set_aside(record: BrokenRecord) -> None:
        nonlocal broken, first_reason
        broken += 1
        first_reason = first_reason or record.reason
        set_aside(record)

    try:
        source = pa.CompressedInputStream(stream, "gzip") if name.lower().endswith(".gz") else stream
        if kind == "csv":
            batches = _csv(source, contract, count_and_set_aside)
        elif kind == "ndjson":
            batches = read_ndjson(source, contract, count_and_set_aside, BLOCK_BYTES)
        else:
            batches = _parquet(stream)
        for batch in batches:
            records += batch.values.num_rows
            yield batch
    except (pa.ArrowMemoryError, ConnectionError, TimeoutError):
        raise  # says nothing about the file: another attempt may read it
    except (pa.ArrowException, OSError, EOFError, UnicodeError, zlib.error) as error:
        raise UnreadableObject(
            f"the file can't be read: {error}", where=name, mend="land it again, whole"
        ) from error
    if not records and broken:
        # It would supersede an earlier generation whose records are good.
        raise UnreadableObject(
            f"no record can be read, and {broken:,} are broken; of the first: {first_reason}",
            where=name,
            mend="hold its header and its delimiter against its records, and land it again",
        )


def _csv(source: BinaryIO | pa.NativeFile, contract: Contract, set_aside: SetAside) -> Iterator[RawBatch]:
    dialect = contract.source.csv
    # The parser is ahead of the batches that it gives: numbers of broken records wait until theirs is reached.
    pending = array("q")

    def skip(record: pa.csv.InvalidRow) -> str:
        # The parser counts the header as row 1.
        row = record.number - 1
        pending.append(row)
        found = f"{record.actual_columns} values where the header names {record.expected_columns}"
        set_aside(BrokenRecord(row, record.text or "", found))
        return "skip"

    try:
        reader = pa.csv.open_csv(
            source,
            read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False, encoding=dialect.encoding),
            parse_options=pa.csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote,
                newlines_in_values=dialect.multiline,
                invalid_row_handler=skip,
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
            raise UnreadableObject(
                "it is empty: there is not even a header", mend="land it again, whole"
            ) from error
        raise
    _refuse_repeated_names(reader.schema.names)
    last = 0
    for batch in reader:
        if batch.num_rows:
            numbers, passed = _numbers(batch.num_rows, last, np.array(pending, np.int64))
            del pending[:passed]
            last = int(numbers[-1])
            yield _as_text(batch, numbers, set_aside)
    if not last:
        yield _no_records(reader.schema)


def _numbers(
    count: int, last: int, broken: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """The numbers of the next good records.

    Args:
        count: how many there are; at least one.
        last: the number of the good record before them.
        broken: the numbers of broken records after that one, ascending; some may lie beyond this batch.

    Returns:
        The numbers, and how many of `broken` lie before the last of them.
    """
    free = np.ones(count + len(broken), bool)
    ahead = broken - last - 1
    free[ahead[ahead < len(free)]] = False
    numbers = np.flatnonzero(free)[:count] + (last + 1)
    return numbers, int(np.searchsorted(broken, numbers[-1]))


def _as_text(
    batch: pa.RecordBatch, numbers: np.ndarray[tuple[int], np.dtype[np.int64]], set_aside: SetAside
) -> RawBatch:
    """Bytes as text; records with bytes that are no UTF-8 are set aside."""
    columns = [decoded(column) for column in batch.columns]
    broken = np.zeros(batch.num_rows, bool)
    for column, text in zip(batch.columns, columns, strict=True):
        if text.null_count > column.null_count:
            broken |= np.asarray(pc.and_(pc.is_null(text), pc.is_valid(column)))
    values = pa.RecordBatch.from_arrays(columns, batch.schema.names)
    if not broken.any():
        return RawBatch(values, numbers)
    for number, record in zip(numbers[broken], batch.filter(pa.array(broken)).to_pylist(), strict=True):
        set_aside(BrokenRecord(int(number), repr(list(record.values())), "it is not UTF-8"))
    return RawBatch(values.filter(pa.array(~broken)), numbers[~broken])


def _parquet(stream: BinaryIO) -> Iterator[RawBatch]:
    file = pq.ParquetFile(stream)
    _refuse_repeated_names(file.schema_arrow.names)
    first = 1
    for batch in file.iter_batches(batch_size=131_072, use_threads=False):
        columns = [_true_text(column) for column in batch.columns]
        values = pa.RecordBatch.from_arrays(columns, batch.schema.names)
        yield RawBatch(values, np.arange(first, first + batch.num_rows, dtype=np.int64))
        first += batch.num_rows
    if first == 1:
        yield _no_records(file.schema_arrow)


def _no_records(schema: pa.Schema) -> RawBatch:
    """A header alone: it must be the contract's too, or else any line of text would be a file without rows."""
    return RawBatch(pa.RecordBatch.from_pylist([], schema), np.zeros(0, np.int64))


def _true_text(column: pa.Array) -> pa.Array:
    """Text that is no UTF-8 as bytes: Parquet's reader doesn't look, and a warehouse would refuse the load."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            return column.cast(pa.large_binary())
    return column


def _refuse_repeated_names(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnreadableObject(f"the header names {', '.join(twice)} twice", mend="name each column once")
