"""Which shard a row goes to: by its key, then by each entity in turn.

A row without an entity has no windows over it and goes by its key, or one shard would get them all.

An entity with more rows than a shard should hold is cut into slices of time. The windows of a slice's rows reach
back into the slices before, so a row is copied into every later slice that can see it, with the few columns that
it needs there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl_beam.hashing import hash_column, mix
from etl_beam.rows import COPY, SLICE, STATE
from etl_beam.shuffle import partition
from etl_beam.windows import microseconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl_beam.hashing import Hashes
    from etl_beam.job import OpenJob
    from etl_beam.timeline import Integers
    from etl_beam.windows import EntityWindows


def by_key(job: OpenJob, rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Rows by the shard of their key."""
    return partition(rows, hash_column(rows[job.contract.key]), job.shards)


def by_entity(job: OpenJob, group: EntityWindows, rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Rows by the shard of an entity."""
    entities = rows[group.entity]
    hashes = hash_column(entities)
    if entities.null_count:
        alone = np.asarray(entities.is_null())
        hashes[alone] = hash_column(rows[job.contract.key].filter(pa.array(alone)))
    widths = _widths(job, group, hashes)
    if widths is None:
        yield from partition(rows, hashes, job.shards)
        return
    times = microseconds(job.contract, rows)
    sliced = widths > 0
    width = np.maximum(widths, 1)
    own = np.where(sliced, times // width, 0)
    later = np.where(sliced, (times + group.reach) // width - own, 0)

    yield from partition(_marked(rows, own, copy=False), _sliced(hashes, own, sliced), job.shards)

    copied = np.repeat(np.arange(rows.num_rows), later)
    steps = np.arange(len(copied)) - np.repeat(np.cumsum(later) - later, later) + 1
    slices = own[copied] + steps
    needed = [group.entity, job.contract.event_time, *_summed(group), STATE]
    copies = rows.select(list(dict.fromkeys(needed))).take(pa.array(copied))
    spread = _sliced(hashes[copied], slices, sliced[copied])
    yield from partition(_marked(copies, slices, copy=True), spread, job.shards)


def _summed(group: EntityWindows) -> list[str]:
    columns = [name for window in group.windows for used in window.values.values() for name in used]
    return [name for name in columns if name != "*"]


def _widths(job: OpenJob, group: EntityWindows, hashes: Hashes) -> Integers | None:
    """The width of each row's time slices in microseconds, 0 where its entity is not cut; None when none is."""
    cut = job.slices.get(group.entity)
    if not cut:
        return None
    known = np.array([entity for entity, _ in cut], np.uint64)
    widths = np.array([width for _, width in cut], np.int64)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], hashes), len(known) - 1)
    return np.where(known[order][place] == hashes, widths[order][place], 0)


def _sliced(hashes: Hashes, slices: Integers, sliced: NDArray[np.bool_]) -> Hashes:
    return np.where(sliced, mix(hashes + mix(slices.astype(np.uint64))), hashes)


def _marked(rows: pa.Table, slices: Integers, *, copy: bool) -> pa.Table:
    rows = rows.append_column(SLICE, pa.array(slices))
    return rows.append_column(COPY, pa.array(np.full(rows.num_rows, copy)))
