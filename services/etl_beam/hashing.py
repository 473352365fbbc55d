"""Hashes of columns, vectorised: they spread rows over shards, and order rows that nothing else orders.

A hash depends on the value and its type alone: not on the process, the chunking, or which file a row came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_NULL = np.uint64(0xA0761D6478BD642F)
_BYTES = np.random.Generator(np.random.PCG64(20260401)).integers(
    0, 1 << 64, size=256, dtype=np.uint64, endpoint=False
)


def mix(values: Hashes) -> Hashes:
    """Spreads every bit over all others: the finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def hash_column(column: pa.Array | pa.ChunkedArray) -> Hashes:
    """One hash a value; nulls share one."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(values, pa.ChunkedArray):  # what combine_chunks makes of several or of none
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    hashes = mix(_bits(values) + _ODD)
    if values.null_count:
        hashes[np.asarray(values.is_null())] = _NULL
    return hashes


def hash_rows(table: pa.Table) -> Hashes:
    """One hash a row, over all columns in their order."""
    hashes: Hashes = np.zeros(table.num_rows, np.uint64)
    with np.errstate(over="ignore"):
        for column in table.columns:
            hashes = mix(hashes * _ODD + hash_column(column))
    return hashes


def _bits(values: pa.Array) -> Hashes:
    kind = values.type
    if pa.types.is_string(kind):
        return _text_bits(values)
    if pa.types.is_decimal(kind):
        words = np.frombuffer(values.buffers()[1], np.uint64).reshape(-1, 2)
        words = words[values.offset : values.offset + len(values)]
        with np.errstate(over="ignore"):
            return np.asarray(mix(words[:, 0]) + words[:, 1])
    if pa.types.is_floating(kind):
        # Minus zero equals zero.
        floats = pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False) + 0.0
        return np.asarray(floats.view(np.uint64))
    if pa.types.is_date(kind):
        values = values.cast(pa.int32())
    integers = pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return np.asarray(integers.view(np.uint64))


def _text_bits(values: pa.Array) -> Hashes:
    """The sum over a text's bytes of (a random word for the byte) x (an odd number to the power of its place)."""
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(offsets)
    hashes = lengths.astype(np.uint64)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        return hashes
    start, end = int(offsets[0]), int(offsets[-1])
    data = np.frombuffer(values.buffers()[2], np.uint8)[start:end]
    place = np.arange(end - start, dtype=np.int64) - np.repeat(offsets[:-1].astype(np.int64) - start, lengths)
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(int(lengths.max()), _ODD, np.uint64))
        words = _BYTES[data] * powers[place]
        hashes[filled] += np.add.reduceat(words, (offsets[:-1] - start)[filled])
    return hashes
