"""The sample that a replay lands: a data set's history, cut into the files that a source system would deliver."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from caudal.errors import NotFound, UsageError

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.storage import Storage

Period = Literal["month", "week", "day"]


@dataclass(frozen=True)
class Delivery:
    """What lands in one period.

    Attributes:
        label: the period's name, such as `2008-05`.
        since: when the period begins.
        as_of: when the period is over, and its run looks at the world.
        rows: the period's records as they came; none when nothing happened.
    """

    label: str
    since: datetime
    as_of: datetime
    rows: pa.Table


def find_sample(project: Path, contract: str, folder: Path | None = None) -> list[Path]:
    """The files of a contract's sample: those that ship in data/<contract>/, or those of a folder.

    Raises:
        NotFound: there is none.
    """
    from ingest_function.reading import format_of

    folder = folder or project / "data" / contract
    files = sorted(path for path in folder.glob("*") if path.is_file() and format_of(path.name))
    if not files:
        raise NotFound(
            "there is no sample to replay",
            where=str(folder),
            mend="put CSV, NDJSON or Parquet files there, name a folder with --data, "
            "or simulate with --rows what has a simulator (wallet)",
        )
    return files


def sample_digest(files: list[Path]) -> str:
    """SHA-256 over the files' contents."""
    checksum = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            checksum.update(hashlib.file_digest(stream, "sha256").digest())
    return checksum.hexdigest()


def deliveries(contract: Contract, files: list[Path], every: Period, *, as_landed: bool = False) -> list[Delivery]:
    """Cuts a sample by event time into one delivery a period, from the first to the last, empty ones included.

    Args:
        as_landed: a row comes when its file's time of change says, whatever its event time: late, or without one.

    Raises:
        UsageError: rows without an event time; a replay could not tell when they landed.
    """
    tables = [_read(contract, path) for path in files]
    rows = pa.concat_tables(tables, promote_options="permissive")
    days = _landing_days(files, tables) if as_landed else _event_days(contract, rows)
    if days.null_count:
        raise UsageError(
            f"{days.null_count} rows have no '{contract.event_time}' that can be read",
            mend=f"correct them, or the type in {contract.where('columns', contract.event_time)}",
        )
    day_numbers = days.cast(pa.int32()).to_numpy()
    order = np.argsort(day_numbers, kind="stable")
    rows, day_numbers = rows.take(pa.array(order)), day_numbers[order]
    found = []
    first, last = (date(1970, 1, 1) + timedelta(days=int(d)) for d in (day_numbers[0], day_numbers[-1]))
    for label, start, stop in _periods(first, last, every):
        low, high = np.searchsorted(day_numbers, [_day_number(start), _day_number(stop)])
        found.append(Delivery(label, _midnight(start), _midnight(stop), rows.slice(low, high - low)))
    return found


def land(delivery: Delivery, contract: Contract, storage: Storage, folder: str) -> str | None:
    """Lands a delivery as one file, dated at the period's end; returns its URI, None when there is nothing.

    Text columns are delivered as CSV in the contract's dialect, typed ones as Parquet.
    """
    from caudal.storage.files import file_path
    from caudal.storage.port import join

    if not delivery.rows.num_rows:
        return None
    as_text = all(pa.types.is_string(column.type) for column in delivery.rows.schema)
    uri = join(folder, f"{contract.name}-{delivery.label}.{'csv' if as_text else 'parquet'}")
    with storage.writer(uri) as stream:
        if as_text:
            options = pa.csv.WriteOptions(delimiter=contract.source.csv.delimiter, quoting_style="needed")
            pa.csv.write_csv(delivery.rows, stream, options)
        else:
            pq.write_table(delivery.rows, stream, compression="zstd")
    moment = delivery.as_of.timestamp()
    os.utime(file_path(uri), (moment, moment))
    return uri


def _read(contract: Contract, path: Path) -> pa.Table:
    from ingest_function.reading import read_batches

    with path.open("rb") as stream:
        batches = read_batches(stream, path.name, contract, lambda broken: None)
        return pa.Table.from_batches([raw.values for raw in batches])


def _event_days(contract: Contract, rows: pa.Table) -> pa.Array:
    from ingest_function.conversion import convert

    came = rows.column(contract.event_time).combine_chunks()
    times = convert(came, contract.columns[contract.event_time].type, contract.zone)
    if pa.types.is_timestamp(times.type):
        # The source system works in UTC days: a delivery holds whole ones.
        return times.cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
    return times


def _landing_days(files: list[Path], tables: list[pa.Table]) -> pa.Array:
    """The day of each row's file; one that landed at midnight is of the day that ended then."""
    last = timedelta(microseconds=1)
    landed = [datetime.fromtimestamp(path.stat().st_mtime, UTC) - last for path in files]
    days = np.repeat([_day_number(moment.date()) for moment in landed], [table.num_rows for table in tables])
    return pa.array(days, pa.int32()).cast(pa.date32())


def _periods(first: date, last: date, every: Period) -> Iterator[tuple[str, date, date]]:
    start = first.replace(day=1) if every == "month" else first
    while start <= last:
        if every == "month":
            stop = (start + timedelta(days=32)).replace(day=1)
            label = f"{start:%Y-%m}"
        else:
            stop = start + timedelta(days=7 if every == "week" else 1)
            label = f"{start:%Y-%m-%d}"
        yield label, start, stop
        start = stop


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _day_number(day: date) -> int:
    return (day - date(1970, 1, 1)).days
