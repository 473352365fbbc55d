"""One row a key.

The rule is total, so the order of arrival can't matter. Among the rows of a key that the contract accepts:

1. rows of a superseded load (a newer generation of their object is done) don't count at all;
2. the highest value of the contract's version column wins, if it has one; none is lower than any;
3. then the row whose content hashes lowest, then the one whose object's URI and row come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caudal.event_time import INSTANT
from etl_beam.hashing import hash_rows
from etl_beam.rows import FIRST, LOAD, ROW, STATE, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl_beam.job import OpenJob


@dataclass(frozen=True)
class Settled:
    """What becomes of the keys of one shard.

    Attributes:
        rows: rows in flight with their `_state`; a key has at most one that is new or standing, and one that is
            gone.
        removed: keys that leave the warehouse without a successor.
        added: how many keys the warehouse gains; in a rebuild, all that it holds.
    """

    rows: pa.Table
    removed: pa.Array
    added: int


def settle(job: OpenJob, table: pa.Table) -> Settled:
    """Finds the row of each key.

    Args:
        job: the plan, which knows the superseded loads.
        table: every row of its keys that can count: good lake rows, and the rows that stand in the warehouse; in a
            rebuild, of the latter only key and `_first_as_of`.
    """
    if job.plan.rebuilt:
        return _settle_anew(job, table)
    if FIRST not in table.column_names:
        table = table.append_column(FIRST, pa.nulls(table.num_rows, INSTANT))
    standing = np.asarray(table[FIRST].is_valid())
    dead = job.superseded[table[LOAD].to_numpy()]
    groups, count = _groups(table[job.contract.key])
    winner = _winners(job, table, groups, count, standing, dead)
    current = np.full(count, -1, np.int64)
    current[groups[standing]] = np.flatnonzero(standing)

    kept = winner >= 0
    stood = current >= 0
    unchanged = kept & (winner == current)
    new = winner[kept & ~unchanged]
    gone = current[stood & ~unchanged]
    left = current[stood & ~kept]

    first = table[FIRST].take(pa.array(current[groups[new]], mask=current[groups[new]] < 0))
    first = pc.fill_null(first, pa.scalar(job.context.run.as_of, INSTANT))
    place = table.column_names.index(FIRST)
    rows = pa.concat_tables(
        [
            _with_state(table.take(pa.array(new)).set_column(place, FIRST, first), State.NEW),
            _with_state(table.take(pa.array(winner[unchanged])), State.STANDING),
            _with_state(table.take(pa.array(gone)), State.GONE),
        ]
    )
    removed = table[job.contract.key].take(pa.array(left)).combine_chunks()
    return Settled(rows, removed, int(np.count_nonzero(kept & ~stood)))


def _settle_anew(job: OpenJob, table: pa.Table) -> Settled:
    """The same where no standing row stays: every key's row is new, and only when it first arrived is known."""
    key = job.contract.key
    if FIRST not in table.column_names:
        table = table.append_column(FIRST, pa.nulls(table.num_rows, INSTANT))
    nothing = pa.array([], table.schema.field(key).type)
    if LOAD not in table.column_names:
        # No good row of the lake has one of these keys any more.
        return Settled(_with_state(table.slice(0, 0), State.NEW), nothing, 0)
    came = table.filter(pc.is_null(table[FIRST]))
    dead = job.superseded[came[LOAD].to_numpy()]
    groups, count = _groups(came[key])
    winner = _winners(job, came, groups, count, np.zeros(came.num_rows, bool), dead)
    rows = came.take(pa.array(winner[winner >= 0]))
    known = table.filter(pc.is_valid(table[FIRST])).group_by(key).aggregate([(FIRST, "min")])
    first = known[f"{FIRST}_min"].take(pc.index_in(rows[key], known[key]))
    first = pc.fill_null(first, pa.scalar(job.context.run.as_of, INSTANT))
    rows = rows.set_column(rows.column_names.index(FIRST), FIRST, first)
    return Settled(_with_state(rows, State.NEW), nothing, rows.num_rows)


def _groups(keys: pa.ChunkedArray) -> tuple[NDArray[np.int64], int]:
    """A number for each distinct key, and how many there are."""
    encoded = pc.dictionary_encode(keys.combine_chunks())
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)


def _winners(
    job: OpenJob,
    table: pa.Table,
    groups: NDArray[np.int64],
    count: int,
    standing: NDArray[np.bool_],
    dead: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """The row that wins each group, or -1. Only rows that share their key are compared and hashed."""
    alive = np.flatnonzero(~dead)
    winner = np.full(count, -1, np.int64)
    winner[groups[alive]] = alive
    rivals = alive[np.bincount(groups[alive], minlength=count)[groups[alive]] > 1]
    if not len(rivals):
        return winner
    among = table.take(pa.array(rivals))
    order = np.lexsort(
        (
            ~standing[rivals],
            among[ROW].to_numpy(),
            among[LOAD].to_numpy(),
            hash_rows(among.select(list(job.contract.columns))),
            _version_rank(job, among),
            groups[rivals],
        )
    )
    ordered = groups[rivals][order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    winner[ordered[first]] = rivals[order[first]]
    return winner


def _version_rank(job: OpenJob, rows: pa.Table) -> NDArray[np.uint64]:
    """Lowest for the highest version; equal versions share a rank."""
    if job.contract.version is None:
        return np.zeros(rows.num_rows, np.uint64)
    ranks = pc.rank(
        rows[job.contract.version], sort_keys="descending", null_placement="at_end", tiebreaker="dense"
    )
    return np.asarray(ranks.to_numpy())


def _with_state(rows: pa.Table, state: State) -> pa.Table:
    return rows.append_column(STATE, pa.array(np.full(rows.num_rows, state, np.int8)))
