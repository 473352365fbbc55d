"""Rows in flight: the contract's columns, and what the pipeline must remember of each row.

| column | type | meaning |
|---|---|---|
| `_load` | int32 | the row's load, as an index into the plan's loads; the other lineage follows from it |
| `_row` | int64 | the row's place in its object |
| `_first_as_of` | timestamp | when the key of a standing row first arrived; else null, or no such column |
| `_event_date` | date32 | the partition in which a standing row lies; else null, or no such column |
| `_state` | int8 | once a key is settled: what is to happen to the row (`State`) |
| `_slice`, `_copy` | int64, boolean | only where an entity is cut into slices of time: the row's slice, and |
| | | whether it is a copy that is only there to be counted in the windows of a later slice |

Rows that stand in the warehouse also carry the window features that are stored with them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from caudal.event_time import INSTANT, event_dates
from caudal.tables import LINEAGE, Table, warehouse_table
from etl_beam.calendar_features import calendar_features
from etl_beam.plan import unknown_to_the_ledger

if TYPE_CHECKING:
    from caudal.contract import Contract
    from etl_beam.job import OpenJob

LOAD = "_load"
ROW = "_row"
DAY = "_event_date"
FIRST = "_first_as_of"
STATE = "_state"
SLICE = "_slice"
COPY = "_copy"


class State(IntEnum):
    """What is to happen to a row of a settled key."""

    NEW = 0
    """It is to be written, with every feature."""

    STANDING = 1
    """It stands in the warehouse as it is, and is written again only when a feature of it changes."""

    GONE = 2
    """It stood in the warehouse, and another row of its key, or none, takes its place."""

    REFRESHED = 3
    """It stands in the warehouse, and is written again, since a feature of it has changed."""


def window_features(contract: Contract) -> list[str]:
    """The names of the features that need other rows, in the warehouse's order."""
    return [name for window in contract.features.windows for name in window.feature_names()]


def with_load_index(job: OpenJob, table: pa.Table) -> pa.Table:
    """Replaces `_load_id` by the index of the load.

    Raises:
        NotFound: a row names a load that the ledger doesn't have.
    """
    index = pc.index_in(table["_load_id"], job.load_ids)
    if index.null_count:
        unknown = pc.unique(table["_load_id"].filter(pc.is_null(index))).to_pylist()
        raise unknown_to_the_ledger(job.contract.name, unknown)
    return table.drop_columns(["_load_id"]).append_column(LOAD, index.cast(pa.int32()))


def lineage(job: OpenJob, table: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The lineage of rows, by column. Texts are dictionaries of the plan's loads: nothing is copied a row."""
    load = table[LOAD].combine_chunks()
    columns = {ROW: table[ROW]}
    for field in LINEAGE:
        if field.name != ROW:
            shared = job.lineage[field.name].combine_chunks()
            text = pa.types.is_string(field.type)
            columns[field.name] = pa.DictionaryArray.from_arrays(load, shared) if text else shared.take(load)
    return columns


def as_warehouse_rows(job: OpenJob, table: pa.Table) -> pa.Table:
    """Rows as the warehouse's table holds them, but for dictionaries, which a file of Parquet does not show."""
    target: Table = warehouse_table(job.contract)
    moments = table[job.contract.event_time]
    columns = {name: table[name] for name in job.contract.columns}
    columns |= calendar_features(job.contract, moments)
    columns |= {name: table[name] for name in window_features(job.contract)}
    columns[DAY] = event_dates(job.contract, moments)
    columns[FIRST] = table[FIRST].cast(INSTANT)
    columns |= lineage(job, table)
    return pa.table({name: columns[name] for name in target.schema.names})
