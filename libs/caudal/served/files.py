"""Served lines on a laptop: the file that `serving.prediction_log` names, one JSON object a line.

A mark is the file's name for itself (the hash of its first line, which holds an id) and a byte offset at which a
line begins. So only what was appended since is read, and a file that was put in the place of another is read
whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from caudal.json_lines import UNPARSABLE, in_runs, parse_objects
from caudal.line_blocks import blocks_of_lines
from caudal.served.port import LINE, MESSAGE, Part, ServedLines

BLOCK_BYTES = 16_000_000

_RAW = pa.schema([pa.field("message", pa.string()), pa.field("contract", pa.string()), *LINE])
_OPTIONS = pj.ParseOptions(explicit_schema=_RAW, unexpected_field_behavior="ignore")


class FileLines(ServedLines):
    """The lines of one file; there are none while there is no file.

    Args:
        block_bytes: so much is read at a time.
    """

    def __init__(self, path: Path, block_bytes: int = BLOCK_BYTES) -> None:
        self._path = path
        self._block_bytes = block_bytes

    def parts(self, contract: str, after: str = "") -> Iterator[Part]:
        try:
            stream = self._path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            name = _name(stream)
            offset = _offset(after, name, stream)
            stream.seek(offset)
            # A last line that is still being written is left for the next reading.
            for block in blocks_of_lines(stream, self._block_bytes, unfinished=False):
                offset += len(block)
                rows, broken = _read(block)
                yield Part(_of_contract(rows, contract), broken, f"{name}:{offset}")


def _name(stream: BinaryIO) -> str:
    return hashlib.sha256(stream.readline()).hexdigest()[:32]


def _offset(after: str, name: str, stream: BinaryIO) -> int:
    """Where to begin; 0 when the mark is of another file, or of one that was longer."""
    known, _, offset = after.partition(":")
    if known != name:
        return 0
    return int(offset) if int(offset) <= stream.seek(0, 2) else 0


def _read(block: bytes) -> tuple[pa.Table, int]:
    """The rows of a block of lines, and how many lines are broken."""
    try:
        return _parsed(block), 0
    except UNPARSABLE:
        lines = [line for line in block.split(b"\n") if line.strip()]
    runs = list(in_runs(lines, _parsed))
    found = [table for _, _, table in runs if table is not None]
    return pa.concat_tables(found) if found else _RAW.empty_table(), len(runs) - len(found)


def _parsed(lines: bytes) -> pa.Table:
    if not lines.strip():
        return _RAW.empty_table()
    return parse_objects(lines, _OPTIONS).select(_RAW.names)


def _of_contract(rows: pa.Table, contract: str) -> pa.RecordBatch:
    wanted = pc.and_(pc.equal(rows.column("message"), MESSAGE), pc.equal(rows.column("contract"), contract))
    chosen = rows.filter(wanted).select(LINE.names).combine_chunks()
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in chosen.columns], schema=LINE)
