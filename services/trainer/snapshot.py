"""Snapshots: the due, labelled rows of one as-of, fixed as Parquet under the hash of their content.

The rows lie in the order (event time, key), which is the order in which they are learned: a permuted order would
give another model. The id is a hash of the rows in that order, so files that landed in another order, or a
snapshot that is taken again, give the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caudal.event_time import event_times, happened_by
from caudal.folders import CommittedFolder, FolderWriter, is_committed, open_folder
from caudal.identity import SHORT, digest, format_instant
from caudal.labels import encode_labels
from caudal.package.reader import raw_scores
from caudal.sql import quoted
from caudal.tables import warehouse_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xgboost as xgb
    from numpy.typing import NDArray

    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.package import Encoder
    from caudal.storage import Storage
    from caudal.warehouse import Warehouse

BATCH_ROWS = 65_536
_COPY_BYTES = 1 << 22
_KEPT_IN_MEMORY = 200_000


def columns(contract: Contract) -> list[str]:
    """Key, event time, features, label and slices; nothing in the contract's `never` unless it is a slice."""
    features = [feature.name for feature in contract.model_features()]
    names = [contract.key, contract.event_time, *features, contract.label.column, *contract.gate.slices]
    return list(dict.fromkeys(names))


def take_snapshot(
    contract: Contract,
    environment: Environment,
    storage: Storage,
    warehouse: Warehouse,
    *,
    as_of: datetime,
    attempt: str,
    unseen_after: datetime | None,
) -> Snapshot:
    """Fixes the rows whose label is due at the as-of.

    With `train_on.latest` the snapshot holds the rows that no champion has learned and as many before them as a
    training uses; without it, all.

    Args:
        attempt: the run's id; where the export waits until its hash is known.
        unseen_after: the event time up to which the champion has learned.
    """
    condition, parameters = _due(contract, as_of)
    table = warehouse_table(contract).sql_name
    selected = ", ".join(quoted(name) for name in columns(contract))
    order = f"{quoted(contract.event_time)}, {quoted(contract.key)}"
    query = f"SELECT {selected} FROM {table} WHERE {condition} ORDER BY {order}"
    latest = contract.model.train_on.latest
    with warehouse:
        if latest is not None and unseen_after is not None:
            limit = latest + _count_unseen(contract, warehouse, condition, parameters, unseen_after)
            down = f"{quoted(contract.event_time)} DESC, {quoted(contract.key)} DESC"
            newest = f"SELECT {selected} FROM {table} WHERE {condition} ORDER BY {down} LIMIT {limit}"
            query = f"SELECT * FROM ({newest}) AS newest ORDER BY {order}"
        aside = environment.staging(contract.name, "snapshots", attempt)
        exported = warehouse.export(query, aside, parameters)
    made = _commit(contract, environment, storage, exported, as_of)
    for uri in exported:
        storage.delete(uri)
    return made


def _due(contract: Contract, as_of: datetime) -> tuple[str, dict[str, Any]]:
    due, parameters = happened_by(contract, as_of - contract.label.due_after, "due")
    known = f"{quoted(contract.label.column)} IS NOT NULL"
    return f"{due} AND {known} AND _first_as_of <= @as_of", {**parameters, "as_of": as_of}


def _count_unseen(
    contract: Contract, warehouse: Warehouse, condition: str, parameters: dict[str, Any], after: datetime
) -> int:
    seen, more = happened_by(contract, after, "seen")
    table = warehouse_table(contract).sql_name
    found = warehouse.query(
        f"SELECT COUNT(*) AS n FROM {table} WHERE {condition} AND NOT ({seen})", {**parameters, **more}
    )
    return int(found.column("n")[0].as_py())


def _commit(
    contract: Contract, environment: Environment, storage: Storage, exported: Sequence[str], as_of: datetime
) -> Snapshot:
    exported_rows = _Files(storage, exported)
    snapshot_id = rows_digest(exported_rows.schema, exported_rows.batches())
    uri = environment.snapshots(contract.name, snapshot_id)
    if not is_committed(storage, uri):
        writer = FolderWriter(storage, uri)
        for number, source in enumerate(exported):
            name = f"part-{number:05d}.parquet"
            with storage.open(source) as read, storage.writer(writer.reserve(name)) as write:
                while block := read.read(_COPY_BYTES):
                    write.write(block)
            writer.added(name)
        writer.commit({"snapshot": snapshot_id, "rows": exported_rows.rows, "as_of": format_instant(as_of)})
    return open_snapshot(contract, storage, uri)


def rows_digest(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """A hash of names, types and values, row by row in order; how rows are cut into batches does not matter."""
    hashes = [{part: hashlib.sha256() for part in ("present", "lengths", "values")} for _ in schema]
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for column, parts in zip(batch.columns, hashes, strict=True):
            parts["present"].update(np.asarray(pc.is_valid(column).cast(pa.uint8())).tobytes())
            if pa.types.is_string(column.type):
                text = pc.fill_null(column, "")
                parts["lengths"].update(np.asarray(pc.binary_length(text), dtype=np.int64).tobytes())
                parts["values"].update(_characters(text))
            else:
                parts["values"].update(_fixed_width(column))
    names = [(field.name, str(field.type)) for field in schema]
    found = [{part: value.hexdigest() for part, value in parts.items()} for parts in hashes]
    return digest("snapshot", rows, names, found)[:SHORT]


def _characters(column: pa.Array) -> memoryview:
    """The bytes of all values, one after the other."""
    offsets = np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    characters = column.buffers()[2]
    return memoryview(characters)[offsets[0] : offsets[-1]] if characters and len(offsets) else memoryview(b"")


def _fixed_width(column: pa.Array) -> bytes:
    """The bytes of all values, with zeros for a null, whatever lies under it in memory."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    width = column.type.bit_width // 8
    start = column.offset * width
    cells = np.frombuffer(column.buffers()[1], dtype=np.uint8)[start : start + len(column) * width]
    if not column.null_count:
        return cells.tobytes()
    cells = cells.reshape(len(column), width).copy()
    cells[np.asarray(pc.is_null(column))] = 0
    return cells.tobytes()


class _Files:
    """Parquet files read one after the other."""

    def __init__(self, storage: Storage, uris: Sequence[str]) -> None:
        self._storage = storage
        self._uris = uris

    @cached_property
    def _heads(self) -> list[tuple[int, pa.Schema]]:
        heads = []
        for uri in self._uris:
            with self._storage.open(uri) as stream, pq.ParquetFile(stream) as file:
                heads.append((file.metadata.num_rows, file.schema_arrow))
        return heads

    @property
    def rows(self) -> int:
        return sum(count for count, _ in self._heads)

    @property
    def schema(self) -> pa.Schema:
        return self._heads[0][1].remove_metadata()

    def batches(
        self, names: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Batches of the rows from `start` to `stop`, as the files hold them."""
        stop = self.rows if stop is None else stop
        first = 0
        for uri, (count, _) in zip(self._uris, self._heads, strict=True):
            if first < stop and first + count > start:
                with self._storage.open(uri) as stream, pq.ParquetFile(stream) as file:
                    position = first
                    # One column after the other: decoding them side by side would need all buffers at once.
                    for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                        low, high = max(start - position, 0), min(stop - position, batch.num_rows)
                        if low < high:
                            yield batch.slice(low, high - low)
                        position += batch.num_rows
            first += count


class Snapshot:
    """A committed snapshot.

    Attributes:
        id: the hash of its rows in order.
        rows: how many there are.
    """

    def __init__(self, contract: Contract, uri: str, snapshot_id: str, files: _Files) -> None:
        self._contract = contract
        self._files = files
        self.uri = uri
        self.id = snapshot_id
        self.rows = files.rows

    @staticmethod
    def of_folder(contract: Contract, storage: Storage, folder: CommittedFolder) -> Snapshot:
        """The snapshot that a committed folder holds."""
        files = _Files(storage, [folder.file_uri(name) for name in sorted(folder.entries)])
        return Snapshot(contract, folder.uri, folder.facts["snapshot"], files)

    @staticmethod
    def of_files(contract: Contract, storage: Storage, uris: Sequence[str], name: str) -> Snapshot:
        """Parquet files with a snapshot's columns, in its order, taken for one; nothing checks them."""
        return Snapshot(contract, name, name, _Files(storage, uris))

    @property
    def schema(self) -> pa.Schema:
        return self._files.schema

    @cached_property
    def event_times(self) -> NDArray[Any]:
        """The instants of the rows' events, datetime64[us] in UTC, in order."""
        name = self._contract.event_time
        parts = [event_times(self._contract, batch.column(name)) for batch in self._files.batches([name])]
        joined = pa.concat_arrays(parts) if parts else pa.array([], pa.timestamp("us"))
        return np.asarray(joined.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False))

    @cached_property
    def _whole(self) -> pa.Table:
        return pa.Table.from_batches(self._files.batches(), self.schema)

    def part(self, start: int, stop: int) -> Rows:
        """The rows from position `start` up to `stop`."""
        return Rows(self, self._contract, start, stop)

    def read(
        self, names: Sequence[str] | None, start: int, stop: int, rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Batches of exactly `rows` rows (the last may be shorter), cut alike however the files are cut."""
        if self.rows <= _KEPT_IN_MEMORY:
            table = self._whole.slice(start, stop - start)
            yield from _cut([table if names is None else table.select(names)], rows)
        else:
            yield from _cut(self._files.batches(names, start, stop), rows)


class Rows:
    """A run of rows of a snapshot, read as often as needed."""

    def __init__(self, snapshot: Snapshot, contract: Contract, start: int, stop: int) -> None:
        self.snapshot = snapshot
        self.contract = contract
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> Rows:
        """Some of these rows, counted from their own start."""
        return Rows(self.snapshot, self.contract, self.start + start, self.start + stop)

    @property
    def num_rows(self) -> int:
        return len(self)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column; no other is read."""
        parts = self.snapshot.read([name], self.start, self.stop)
        return pa.chunked_array([part.column(0) for part in parts], self.snapshot.schema.field(name).type)

    def batches(self, rows: int = BATCH_ROWS, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in order, with all columns or with some."""
        return self.snapshot.read(columns, self.start, self.stop, rows)

    def table(self) -> pa.Table:
        """All rows at once; for parts that fit into memory."""
        return pa.Table.from_batches(self.batches(), self.snapshot.schema)

    @cached_property
    def labels(self) -> NDArray[Any]:
        """The labels as numbers (`caudal.labels`)."""
        name = self.contract.label.column
        parts = [
            encode_labels(self.contract, batch) for batch in self.snapshot.read([name], self.start, self.stop)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int8)

    def scores(self, booster: xgb.Booster, encoder: Encoder) -> NDArray[Any]:
        """A booster's raw scores of all rows, batch by batch."""
        parts = [raw_scores(booster, encoder, batch) for batch in self.batches(columns=encoder.names)]
        return np.concatenate(parts) if parts else np.empty(0)

    def period(self) -> dict[str, str | None]:
        """The first and the last event time."""
        if not len(self):
            return {"from": None, "until": None}
        times = self.snapshot.event_times
        first, last = (times[i].astype("datetime64[us]").item() for i in (self.start, self.stop - 1))
        return {"from": _instant(first), "until": _instant(last)}


def _instant(moment: datetime) -> str:
    return format_instant(moment.replace(tzinfo=UTC))


def _cut(parts: Iterable[pa.RecordBatch | pa.Table], rows: int) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    count = 0
    for part in parts:
        for batch in part.to_batches() if isinstance(part, pa.Table) else [part]:
            waiting.append(batch)
            count += batch.num_rows
            while count >= rows:
                joined = pa.Table.from_batches(waiting).combine_chunks()
                yield _one(joined.slice(0, rows))
                rest = joined.slice(rows)
                waiting, count = rest.to_batches(), rest.num_rows
    if count:
        yield _one(pa.Table.from_batches(waiting).combine_chunks())


def _one(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


def open_snapshot(contract: Contract, storage: Storage, uri: str) -> Snapshot:
    """Opens a committed snapshot.

    Raises:
        NotFound: there is none.
        PackageError: its manifest can't be read.
    """
    return Snapshot.of_folder(contract, storage, open_folder(storage, uri))
