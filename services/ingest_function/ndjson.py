"""Landed files of JSON objects, one a line.

Arrow parses a block of lines at once, and that is how nearly all are read. It types a column by all of its values
in a block, so it is believed only where each comes out as it would alone. Lines that it can't take, or of which
that is not certain, are parsed one by one: what becomes of a record never depends on its neighbours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from caudal.contract import Contract
from caudal.errors import UnreadableObject
from caudal.json_lines import UNPARSABLE, in_runs, parse_objects
from caudal.line_blocks import blocks_of_lines
from ingest_function.conversion import EXACT_BELOW, plain_number, written
from ingest_function.records import BrokenRecord, RawBatch, SetAside

ONE_BY_ONE = 256
"""Runs of so many lines that Arrow can't take are not halved further."""

EXACT_DIGITS = 15
"""A decimal number of so many significant digits is told apart by its double (C's DBL_DIG)."""

# What of a double's text is no significant digit.
_NO_DIGIT = r"e.*$|^-?0?\.?0*|\."

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


def read_ndjson(
    source: BinaryIO | pa.NativeFile, contract: Contract, set_aside: SetAside, block_bytes: int
) -> Iterator[RawBatch]:
    """The records of a file; a field that a record does not have is null.

    Raises:
        UnreadableObject: there is no line, or no record has the key, or none the event time.
    """
    blocks = _Blocks(contract)
    needed = (contract.key, contract.event_time)
    lacking = set(needed)
    first, records = 1, 0
    for block in blocks_of_lines(source, block_bytes, unfinished=True):
        lines = [line for line in block.split(b"\n") if line.strip()]
        for start, stop, parsed in in_runs(lines, blocks.parse, ONE_BY_ONE):
            numbers = np.arange(first + start, first + stop, dtype=np.int64)
            if parsed is None:
                parsed, numbers = _one_by_one(lines[start:stop], numbers, needed, set_aside)
            records += parsed.num_rows
            lacking -= {name for name in lacking if _has_values(parsed, name)}
            yield RawBatch(_with_columns(parsed, needed), numbers)
        first += len(lines)
    if first == 1:
        raise UnreadableObject("it is empty", mend="land it again, whole")
    if records and lacking:
        name = min(lacking)
        raise UnreadableObject(
            f"no record has a value of '{name}'",
            mend=f"check the records' names against {contract.where('columns', name)}",
        )


class _Blocks:
    """Parses blocks of one file's lines, and remembers which columns must be taken as text."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._text = {
            name
            for name, column in contract.columns.items()
            if column.type in ("text", "category", "date", "timestamp")
        }

    def parse(self, block: bytes) -> pa.RecordBatch:
        """A block's records.

        Raises:
            UNPARSABLE: a line is broken, or values don't come out as they would alone.
        """
        try:
            table = _parse_with(block, self._text)
        except UNPARSABLE:
            # Numbers where the contract has text. Which columns have them shows without any types given.
            table = _parse_with(block, frozenset())
            self._text -= {field.name for field in table.schema if not _is_text(field.type)}
        # Arrow takes text that looks like an instant for one, and then the text is lost.
        instants = {field.name for field in table.schema if pa.types.is_timestamp(field.type)}
        if instants:
            self._text |= instants
            table = _parse_with(block, self._text)
        for name, column in zip(table.schema.names, table.columns, strict=True):
            if not self._certain(name, column):
                raise pa.ArrowInvalid(f"'{name}' has values that are exact only alone")
        if not table.num_columns:
            raise pa.ArrowInvalid("records without a field")
        columns = [column.combine_chunks() for column in table.columns]
        return pa.RecordBatch.from_arrays(columns, table.schema.names)

    def _certain(self, name: str, values: pa.ChunkedArray) -> bool:
        """Whether values are what they would be if Arrow had typed each alone."""
        if pa.types.is_nested(values.type):
            return False  # the fields of one record become fields of all
        if not pa.types.is_floating(values.type):
            return True
        known = self._contract.columns.get(name)
        if known is not None and known.type == "number":
            return bool(pc.all(pc.is_finite(values)).as_py())
        if not pc.all(pc.less(pc.abs(values), EXACT_BELOW)).as_py():
            return False
        digits = pc.replace_substring_regex(values.cast(pa.string()), _NO_DIGIT, "")
        return bool(pc.max(pc.utf8_length(digits)).as_py() <= EXACT_DIGITS)


def _parse_with(block: bytes, text: Collection[str]) -> pa.Table:
    schema = pa.schema([pa.field(name, pa.string()) for name in sorted(text)])
    # One block for Arrow too: it then types each column once.
    reading = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    return parse_objects(block, pj.ParseOptions(explicit_schema=schema), reading)


def _one_by_one(
    lines: Sequence[bytes], numbers: Numbers, names: Sequence[str], set_aside: SetAside
) -> tuple[pa.RecordBatch, Numbers]:
    """The records of lines that don't go together, as text, with at least the named columns."""
    records: list[dict[str, str | None]] = []
    good = np.zeros(len(lines), bool)
    for position, line in enumerate(lines):
        try:
            records.append(_record(line))
            good[position] = True
        except (ValueError, RecursionError) as error:
            reason = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
            text = line.decode(errors="backslashreplace")
            set_aside(BrokenRecord(int(numbers[position]), text, reason))
    found = dict.fromkeys(names) | dict.fromkeys(name for record in records for name in record)
    columns = [pa.array([record.get(name) for record in records], pa.string()) for name in found]
    return pa.RecordBatch.from_arrays(columns, list(found)), numbers[good]


def _record(line: bytes) -> dict[str, str | None]:
    """A record's values as text.

    Raises:
        ValueError: it is no JSON object, or no text.
        RecursionError: it is nested too deeply.
    """
    record = json.loads(line.decode("utf-8-sig"), parse_constant=str)
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    texts: dict[str, str | None] = {}
    for name, value in record.items():
        if value is None or isinstance(value, str):
            texts[name] = value
        elif isinstance(value, float):
            texts[name] = _exact(value) or json.loads(line.decode("utf-8-sig"), parse_float=str)[name]
        else:
            texts[name] = written(value)
    if b"\\u" in line:
        "".join([*texts, *filter(None, texts.values())]).encode()  # half of a surrogate pair is no text
    return texts


def _exact(value: float) -> str | None:
    """A number's text, if its double tells it apart."""
    if not abs(value) < EXACT_BELOW:
        return None
    if value.is_integer():
        return str(int(value))
    text = repr(value)
    return plain_number(text) if len(re.sub(_NO_DIGIT, "", text)) <= EXACT_DIGITS else None


def _with_columns(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """The same records with null columns for names that none of them has."""
    for name in names:
        if name not in batch.schema.names:
            batch = batch.append_column(name, pa.nulls(batch.num_rows, pa.string()))
    return batch


def _has_values(batch: pa.RecordBatch, name: str) -> bool:
    return name in batch.schema.names and batch.column(name).null_count < batch.num_rows


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_timestamp(kind) or pa.types.is_null(kind))
