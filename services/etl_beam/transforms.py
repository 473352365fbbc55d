"""The pipeline's transforms. Each opens the job once, turns bytes into tables, and tables into bytes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import TaggedOutput

from caudal.errors import CaudalError
from caudal.event_time import event_dates
from caudal.unit import record_error
from caudal.warehouse import ReadStream
from etl_beam.checks import check, count_reasons
from etl_beam.deduplication import settle
from etl_beam.facts import Facts
from etl_beam.hashing import hash_column
from etl_beam.memory import give_back
from etl_beam.rows import DAY, STATE, State, as_warehouse_rows
from etl_beam.shuffle import GroupedShard, Shard
from etl_beam.sink import as_rejected_rows, finish, stage
from etl_beam.sources import Source, plan_streams, read_rows
from etl_beam.spread import by_entity, by_key
from etl_beam.windows import add_features

if TYPE_CHECKING:
    from etl_beam.job import Job, OpenJob

log = logging.getLogger(__name__)

ROWS = "rows"
REJECTED = "rejected"
FACTS = "facts"
NAMESPACE = "etl"

STREAMS = "streams"

Stream = tuple[tuple[str, int], bytes]
"""A source, the number of one of its streams, and the stream."""

GroupedStream = tuple[tuple[str, int], Iterable[bytes]]
Reported = TaggedOutput[str, Shard]

_ONE_KEY = 0
_WRITTEN = pa.array([State.NEW, State.REFRESHED], pa.int8())


def _told(process: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Iterator[Any]]:
    """Records the typed error of which a transform fails: from a runner comes only that the job has failed."""

    @wraps(process)
    def telling(self: _JobDoFn, element: Any) -> Iterator[Any]:
        try:
            yield from process(self, element) or ()
        except CaudalError as error:
            self._tell(error)
            raise

    return telling


class _JobDoFn(beam.DoFn):
    """A transform that works on a job."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._open: OpenJob = self._job.open()
        self._parts = self._open.parts()

    def finish_bundle(self) -> None:
        self._parts.close()
        give_back()

    def _tell(self, error: CaudalError) -> None:
        """Each attempt at a bundle writes over what the last one wrote. Nothing may hide the error itself."""
        try:
            record_error("etl", self._open.context, error)
        except Exception:
            log.exception("the error could not be recorded")

    def _report(self, facts: Facts) -> Reported:
        """Reports facts to the commit, and shows them as Beam's counters."""
        counted = {
            "rows_read": facts.read,
            "rows_accepted": facts.good,
            "rows_added": facts.added,
            "rows_removed": facts.left,
            "bytes_shuffled": facts.bytes_shuffled,
            **{f"rejected_{reason}": count for reason, count in facts.rejected.items()},
        }
        for name, count in counted.items():
            if count:
                Metrics.counter(NAMESPACE, name).inc(count)
        return TaggedOutput(FACTS, (_ONE_KEY, facts.encode()))

    def _send(self, tables: Iterable[tuple[int, pa.Table]], facts: Facts) -> Iterator[Shard]:
        for shard, table in tables:
            part, size = self._parts.send(table)
            facts.bytes_shuffled += size
            yield shard, part

    def _forward(self, step: int, rows: pa.Table, facts: Facts) -> Iterator[Shard]:
        """Sends settled rows on to the next entity; after the last, those that are to be written are staged."""
        job = self._open
        if not rows.num_rows:
            # A shard of nothing but copies has not even the columns of rows.
            return
        if step < len(job.windows):
            yield from self._send(by_entity(job, job.windows[step], rows), facts)
            return
        written = pc.is_in(rows[STATE], _WRITTEN)
        changed = rows if pc.all(written).as_py() else rows.filter(written)
        if changed.num_rows:
            facts.rows.append(stage(job, as_warehouse_rows(job, changed), "rows"))
            _note_days(facts, event_dates(job.contract, changed[job.contract.event_time]))
            if DAY in changed.column_names:
                # Where the row stood, whatever day the zone's rules say now.
                _note_days(facts, changed[DAY])


class PlanStreams(_JobDoFn):
    """The run -> its sources' streams, one element each; grouped by their numbers, they spread over workers."""

    def __init__(self, job: Job, sources: tuple[Source, ...]) -> None:
        super().__init__(job)
        self._sources = sources

    @_told
    def process(self, _: str) -> Iterator[Stream | Reported]:
        for source in self._sources:
            for number, stream in enumerate(plan_streams(self._open, source)):
                yield (str(source), number), bytes(stream)
        # A run without a row still has something to commit: that its loads are covered.
        yield self._report(Facts())


class ReadRows(_JobDoFn):
    """A stream -> checked rows by their key's shard, refused rows, facts."""

    @_told
    def process(self, element: GroupedStream) -> Iterator[Shard | Reported]:
        job = self._open
        (name, _), streams = element
        source = Source(name)
        facts = Facts()
        tables = (table for stream in streams for table in read_rows(job, source, ReadStream(stream)))
        for table in tables:
            good = table
            if source is Source.KNOWN:
                _note_days(facts, table[DAY])
                # Another column may have been the key.
                good = table.drop_columns([DAY]).filter(pc.is_valid(table[job.contract.key]))
            elif source is not Source.STANDING:
                good, rejected = check(job.contract, table)
                if source is Source.GAIN:
                    facts.read += table.num_rows
                    facts.good += good.num_rows
                    if rejected is not None:
                        facts.rejected += Counter(count_reasons(rejected))
                        for shard, part in self._send(_together(job, rejected), facts):
                            yield TaggedOutput(REJECTED, (shard, part))
            yield from self._send(by_key(job, good), facts)
        yield self._report(facts)


class SettleKeys(_JobDoFn):
    """All rows of a shard's keys -> one row a key."""

    @_told
    def process(self, element: GroupedShard) -> Iterator[Shard | Reported]:
        job = self._open
        settled = settle(job, self._parts.take(element[1]))
        facts = Facts(added=settled.added, left=len(settled.removed))
        if len(settled.removed):
            facts.removed.append(stage(job, pa.table({"key": settled.removed}), "removed"))
        if DAY in settled.rows.column_names:
            gone = pc.equal(settled.rows[STATE], int(State.GONE))
            _note_days(facts, settled.rows[DAY].filter(gone))
        yield from self._forward(0, settled.rows, facts)
        yield self._report(facts)


class AddWindows(_JobDoFn):
    """All rows of a shard's entities -> the same with the entity's features."""

    def __init__(self, job: Job, step: int) -> None:
        super().__init__(job)
        self._step = step

    @_told
    def process(self, element: GroupedShard) -> Iterator[Shard | Reported]:
        job = self._open
        facts = Facts()
        rows = add_features(job.contract, job.windows[self._step], self._parts.take(element[1]))
        yield from self._forward(self._step + 1, rows, facts)
        yield self._report(facts)


class StageRejected(_JobDoFn):
    """All refused rows of a shard -> a staged file."""

    @_told
    def process(self, element: GroupedShard) -> Iterator[Shard]:
        rejected = as_rejected_rows(self._open, self._parts.take(element[1]))
        facts = Facts(rejects=[stage(self._open, rejected, "rejected")])
        yield _ONE_KEY, facts.encode()


class MakeCommit(_JobDoFn):
    """All facts of the run, under one key -> the commit and the step's result."""

    @_told
    def process(self, element: tuple[int, Iterable[bytes]]) -> None:
        result = finish(self._open, Facts.total(element[1]))
        Metrics.counter(NAMESPACE, "rows_duplicate").inc(result["rows"]["duplicates"])


def _note_days(facts: Facts, days: pa.Array | pa.ChunkedArray) -> None:
    facts.partitions.update(day.isoformat() for day in pc.unique(days.drop_null()).to_pylist())


def _together(job: OpenJob, rejected: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Refused rows need no key: those of one table stay together, in whichever shard."""
    yield int(hash_column(rejected["_row"].slice(0, 1))[0] % np.uint64(job.shards)), rejected
