"""What crosses a shuffle: a shard's number, and Arrow IPC bytes.

Bytes have a coder of their own in every runner; a table would be pickled, and an Arrow slice with the whole table
that it was cut from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from etl_beam.hashing import Hashes

Shard = tuple[int, bytes]
"""One part of a table, and the shard that it goes to."""

GroupedShard = tuple[int, Iterable[bytes]]
"""All parts of one shard."""


def encode(table: pa.Table, compression: Literal["zstd"] | None = None) -> pa.Buffer:
    """A table as one self-contained IPC stream."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def decode(parts: Iterable[bytes | pa.Buffer]) -> pa.Table:
    """The parts of a shard as one table in contiguous memory; columns that some parts lack are null there."""
    tables = [pa.ipc.open_stream(part).read_all() for part in parts]
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def partition(table: pa.Table, hashes: Hashes, shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Splits a table by hash into the shards that get rows: one stable sort and one gather."""
    if not table.num_rows:
        return
    if shards == 1:
        yield 0, table
        return
    shard = (hashes % np.uint64(shards)).astype(np.uint16)
    ordered = table.take(pa.array(np.argsort(shard, kind="stable")))
    counts = np.bincount(shard, minlength=shards)
    ends = np.cumsum(counts)
    for number in np.flatnonzero(counts):
        yield int(number), ordered.slice(ends[number] - counts[number], counts[number])
