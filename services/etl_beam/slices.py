"""Entities with more rows than a shard should hold, and how wide their slices of time are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from caudal.tables import warehouse_table
from etl_beam.hashing import hash_column
from etl_beam.sources import gained_moments, moving_rows, within_reach

if TYPE_CHECKING:
    from etl_beam.job import OpenJob
    from etl_beam.windows import EntityWindows

Slices = tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
"""By entity column: hashes of entities, and the width of their slices in microseconds."""

ROWS_A_SLICE = 2_000_000


def find_slices(job: OpenJob) -> Slices:
    """Looks for entities to cut, where the run reads enough for there to be one."""
    if not job.plan.new or job.plan.all_rows <= ROWS_A_SLICE:
        return ()
    found = ((group.entity, _of_entity(job, group)) for group in job.windows)
    return tuple((entity, slices) for entity, slices in found if slices)


def _of_entity(job: OpenJob, group: EntityWindows) -> tuple[tuple[int, int], ...]:
    rows, parameters = gained_moments(job, group.entity)
    if not job.plan.first_run:
        _, moving = moving_rows(job, [])
        join, near = within_reach(job, group, "_b")
        rows += (
            f" UNION ALL SELECT _w.`{group.entity}` AS entity, "
            f"CAST(_w.`{job.contract.event_time}` AS TIMESTAMP) AS _at "
            f"FROM {warehouse_table(job.contract).sql_name} AS _w {join} WHERE {near}"
        )
        parameters = {**parameters, **moving}
    found = job.warehouse.query(
        f"SELECT _h.entity, COUNT(*) AS n, MIN(_h._at) AS first, MAX(_h._at) AS last FROM ({rows}) AS _h "
        "WHERE _h.entity IS NOT NULL GROUP BY _h.entity HAVING COUNT(*) > @most",
        {**parameters, "most": ROWS_A_SLICE},
    )
    moments = [
        found[name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist() for name in ("first", "last")
    ]
    counted = zip(hash_column(found["entity"]).tolist(), found["n"].to_pylist(), *moments, strict=True)
    return tuple(sorted((entity, _width(group, n, last - first)) for entity, n, first, last in counted))


def _width(group: EntityWindows, rows: int, span: int) -> int:
    """So wide that a slice holds what it should; but a row is copied into at most four later slices, or five."""
    return max(span * ROWS_A_SLICE // rows, group.reach // 4, 1)
