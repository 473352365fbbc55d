"""Simulated transactions as files that land: one a day or a week, Parquet or CSV.

A file is named by the first day of its period and bears the time at which it would have landed, the midnight (UTC)
after its last day or later. It appears whole or not at all, and writing it again writes the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from data.wallet.dirt import Delivery, Dirt, soil
from data.wallet.simulator import Simulation

Format = Literal["parquet", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
ROW_GROUP_ROWS = 131_072


@dataclass(frozen=True)
class LandedFile:
    """One file that was written.

    Attributes:
        days: the days whose transactions it holds, from and to, both included.
        frauds: transactions marked as fraud.
    """

    path: Path
    days: tuple[int, int]
    landed_at: datetime
    rows: int
    frauds: int
    size: int


def write_files(
    simulation: Simulation,
    folder: Path,
    format: Format = "parquet",
    days_a_file: int = 1,
    dirt: Sequence[Dirt] = (),
) -> Iterator[LandedFile]:
    """Writes the simulation below a folder, file by file; memory is that of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, simulation.days, days_a_file):
        last = min(first + days_a_file, simulation.days) - 1
        punctual: list[pa.Table] = []
        late: list[Delivery] = []
        for day in range(first, last + 1):
            delivery, *later = soil(simulation.table(day), dirt, simulation.seed, day)
            punctual.append(delivery.rows)
            late += later
        yield _written(simulation, folder, format, first, last, "", punctual, 0)
        if late:
            delay = max(delivery.delay for delivery in late)
            yield _written(simulation, folder, format, first, last, "-late", [d.rows for d in late], delay)


def _written(
    simulation: Simulation,
    folder: Path,
    format: Format,
    first: int,
    last: int,
    suffix: str,
    tables: list[pa.Table],
    delay: int,
) -> LandedFile:
    table = pa.concat_tables(tables, promote_options="default")
    path = folder / f"{simulation.start + timedelta(days=first)}{suffix}.{format}"
    midnight = datetime.combine(simulation.start, datetime.min.time(), UTC)
    landed_at = midnight + timedelta(days=last + 1 + delay)
    aside = path.with_name(f".{path.name}.part")
    try:
        if format == "parquet":
            pq.write_table(table, aside, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        else:
            pacsv.write_csv(_with_iso_times(table), aside)
        os.utime(aside, (landed_at.timestamp(), landed_at.timestamp()))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    frauds = pc.sum(table["is_fraud"]).as_py() or 0
    return LandedFile(path, (first, last), landed_at, table.num_rows, frauds, path.stat().st_size)


def _with_iso_times(table: pa.Table) -> pa.Table:
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            seconds = table[field.name].cast(pa.timestamp("s", tz="UTC"))
            table = table.set_column(i, field.name, pc.strftime(seconds, format="%Y-%m-%dT%H:%M:%SZ"))
    return table
