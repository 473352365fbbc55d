"""Served predictions become data: each line of the servers' log is a row of `predictions.<contract>_served`, once.

A run takes up the lines that no run before it has taken up. It stages them, writes down what it found and how far
it read, and loads them under an id of the run. A run that is killed in between and repeated loads what it had
staged, and not what was logged meanwhile: that is for the next run, which also loads what a killed one left. Lines
are told apart by their own id, so one that is read again, or was logged twice, counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caudal.identity import digest
from caudal.storage import join
from caudal.tables import served_table
from monitor.measurements import Measurement

if TYPE_CHECKING:
    from caudal.step import StepContext

PERSONAL = "the key is personal, so the log does not say which row a line is about"


@dataclass(frozen=True)
class Collected:
    """What one run took up.

    Attributes:
        rows: new rows of the table.
        without_key: lines that name no row: they were logged while the key was personal.
        broken: lines that can't be read, or don't hold what a line must.
        mark: how far the log was read.
        reason: why nothing was read; empty when it was.
    """

    rows: int = 0
    without_key: int = 0
    broken: int = 0
    mark: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a step's result says it."""
        return {key: value for key, value in asdict(self).items() if key != "mark"}

    def measurements(self) -> list[Measurement]:
        """Its figures; none where nothing was logged."""
        if not self.rows + self.without_key + self.broken:
            return []
        return [
            Measurement("served_rows", self.rows, self.rows),
            Measurement("served_without_key", self.without_key, self.rows),
            Measurement("served_broken", self.broken, self.rows),
        ]


def collect(context: StepContext) -> Collected:
    """Takes up what was logged since the runs before; a repeated run takes up the same."""
    if context.contract.columns[context.contract.key].personal:
        return Collected(reason=PERSONAL)
    return _Collection(context).collect()


class _Collection:
    """The collecting of one run."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._table = served_table(context.contract)
        self._records = context.environment.ledger(context.contract.name, "served")

    def collect(self) -> Collected:
        own = self._context.run.id
        known = self._record(own) if f"{own}.json" in self._context.storage.names(self._records) else None
        if known is None or not self._finish(own, known):
            known = self._stage()
            self._context.storage.write_json(join(self._records, f"{own}.json"), asdict(known))
            self._finish(own, known)
        return known

    def _record(self, run: str) -> Collected:
        return Collected(**self._context.storage.read_json(join(self._records, f"{run}.json")))

    def _finish(self, run: str, found: Collected) -> bool:
        """Sees to it that what a run staged is in the table; False when it is neither there nor staged."""
        if not found.rows:
            return True
        load_id = digest("served", self._context.contract.name, run)[:16]
        staged = self._staged(run)
        if self._context.warehouse.loaded(self._table, load_id) is None:
            if not self._context.storage.exists(staged):
                return False
            self._context.warehouse.load(self._table, [staged], load_id)
        self._context.storage.delete(staged)
        return True

    def _staged(self, run: str) -> str:
        return self._context.environment.staging(self._context.contract.name, "served", f"{run}.parquet")

    def _mark(self) -> str:
        """How far the other runs have read; what the last of them left staged is loaded for it first."""
        for name in reversed(self._context.storage.names(self._records)):
            run = name.removesuffix(".json")
            if run != self._context.run.id:
                found = self._record(run)
                if self._finish(run, found):
                    return found.mark
        return ""

    def _stage(self) -> Collected:
        """Stages the new lines as the table's rows."""
        mark = self._mark()
        broken = without_key = 0
        tables = [self._table.schema.empty_table()]
        for part in self._context.served_lines.parts(self._context.contract.name, mark):
            mark = part.mark
            named = part.lines.filter(part.lines.column("key").is_valid())
            rows = pa.concat_tables([tables[0], *self._rows(named)])
            without_key += part.lines.num_rows - named.num_rows
            broken += part.broken + named.num_rows - rows.num_rows
            tables.append(rows)
        rows = self._new(_once(pa.concat_tables(tables)))
        if rows.num_rows:
            with self._context.storage.writer(self._staged(self._context.run.id)) as stream:
                pq.write_table(rows, stream, compression="zstd")
        return Collected(rows.num_rows, without_key, broken, mark)

    def _rows(self, lines: pa.RecordBatch) -> Iterator[pa.Table]:
        """Lines as rows; halved where a value does not have its type, until that line stands alone."""
        try:
            yield _typed(lines, self._table.schema, self._context.run.as_of)
        except pa.ArrowInvalid:
            if lines.num_rows > 1:
                middle = lines.num_rows // 2
                yield from self._rows(lines.slice(0, middle))
                yield from self._rows(lines.slice(middle))

    def _new(self, rows: pa.Table) -> pa.Table:
        """The rows that the table does not hold yet; what is read of it lies within the same time."""
        if not rows.num_rows:
            return rows
        known = self._context.warehouse.query(
            f"SELECT id FROM {self._table.sql_name} WHERE `at` >= @first AND `at` <= @last",
            {"first": pc.min(rows.column("at")).as_py(), "last": pc.max(rows.column("at")).as_py()},
        )
        return rows.filter(pc.invert(pc.is_in(rows.column("id"), value_set=known.column("id").combine_chunks())))


def _typed(lines: pa.RecordBatch, schema: pa.Schema, as_of: datetime) -> pa.Table:
    """Lines in the table's types, without those that lack something.

    Raises:
        pa.ArrowInvalid: some value does not have its type.
    """
    given = {field.name: field for field in schema if field.name != "as_of"}
    columns = {name: pc.cast(lines.column(name), field.type) for name, field in given.items()}
    columns["as_of"] = pa.repeat(pa.scalar(as_of, schema.field("as_of").type), lines.num_rows)
    rows = pa.table([columns[name] for name in schema.names], schema=schema)
    whole = pc.is_finite(rows.column("score"))
    for name, field in given.items():
        if not field.nullable:
            whole = pc.and_(whole, rows.column(name).is_valid())
    return rows.filter(pc.fill_null(whole, False))


def _once(rows: pa.Table) -> pa.Table:
    """The first row of each id, in the order of the log."""
    numbered = rows.select(["id"]).append_column("row", pa.array(np.arange(rows.num_rows)))
    first = numbered.group_by("id", use_threads=False).aggregate([("row", "min")]).column("row_min")
    return rows.take(first.take(pc.sort_indices(first)))
