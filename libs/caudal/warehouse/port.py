"""What every warehouse adapter does. SQL is BigQuery's dialect within the subset of `caudal.sql`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, NewType

from caudal.errors import CommitConflict

if TYPE_CHECKING:
    import pyarrow as pa

    from caudal.tables import Table

Scalar = str | int | float | bool | date | datetime
Parameters = Mapping[str, Scalar | Sequence[Scalar]]

ReadStream = NewType("ReadStream", bytes)
"""A part of a result that one worker reads; plain bytes, so it travels between processes."""


@dataclass(frozen=True)
class LoadOutcome:
    """What a load did.

    Attributes:
        rows: rows that the table holds under this load's id.
        repeated: the load had been done before, and nothing was changed.
    """

    rows: int
    repeated: bool


@dataclass(frozen=True)
class Replacement:
    """New rows for one table, as a part of a commit.

    Attributes:
        rows: URIs of Parquet files with the rows to come.
        key: the column by which rows are replaced: rows whose key is among the new ones, or among `removed`, go.
            Without a key, rows are only added.
        removed: URIs of Parquet files with one column `key`: keys that go without a successor.
        partitions: every value of the partition column under which an old or a new row of these keys lies;
            nothing outside them is touched.
        whole: every row in the partitions goes, whatever its key.
    """

    table: Table
    rows: tuple[str, ...]
    key: str | None = None
    removed: tuple[str, ...] = ()
    partitions: tuple[date, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Commit:
    """Changes that are seen together or not at all, with the loads that they cover.

    Attributes:
        id: the identity of the commit; a commit that was made before changes nothing.
        contract: whose loads are covered.
        covered: ids of the loads whose rows the tables reflect from now on.
        as_of: of the run that takes these loads.
        after: ids of the commits that covered the contract's loads when this one was planned, all of them. It was
            worked out from what they left, and is refused when that is no longer what lies there.
        rows_digests: what the rows were made by (`caudal.tables.covered_table`).
    """

    id: str
    contract: str
    replacements: tuple[Replacement, ...]
    covered: tuple[str, ...]
    as_of: datetime
    after: tuple[str, ...] = ()
    rows_digests: str | None = None

    def conflict(self) -> CommitConflict:
        """What an adapter raises when the contract's loads are not covered by exactly `after`."""
        return CommitConflict(
            f"the commit {self.id} was planned on a warehouse that another run has changed since; "
            "nothing was changed",
            where=self.contract,
            mend="run the step again: it plans anew, with what is there now",
        )


class Warehouse(ABC):
    """Tables behind one interface.

    There is no plain append: rows come by `load`, once under an id, or by `commit`.
    """

    @abstractmethod
    def ensure_tables(self, tables: Sequence[Table]) -> None:
        """Makes sure that the tables are there with their columns.

        A local warehouse creates them and adds nullable columns; in the cloud Terraform owns them and this only
        looks.

        Raises:
            TableMismatch: a table is missing or has other columns.
        """

    @abstractmethod
    def load(self, table: Table, parquet: Sequence[str], load_id: str) -> LoadOutcome:
        """Loads staged Parquet files into a table, once under the id.

        The files have the table's own schema, required columns included: BigQuery lets no file append to a
        required column that says it may be null.
        """

    @abstractmethod
    def loaded(self, table: Table, load_id: str) -> LoadOutcome | None:
        """What the load under this id did, or None when it was never done."""

    @abstractmethod
    def read(
        self, query: str, parameters: Parameters | None = None
    ) -> AbstractContextManager[pa.RecordBatchReader]:
        """A query's result as a stream of Arrow batches, in the query's order."""

    @abstractmethod
    def plan_read(self, query: str, parameters: Parameters | None = None, streams: int = 1) -> list[ReadStream]:
        """Splits a query's result into at most so many streams, for workers to read side by side."""

    @abstractmethod
    def read_stream(self, stream: ReadStream) -> Iterator[pa.RecordBatch]:
        """The batches of one stream; the order of rows is not defined."""

    @abstractmethod
    def export(self, query: str, prefix: str, parameters: Parameters | None = None) -> list[str]:
        """Writes a query's result as Parquet files below a URI, in place of whatever lies there.

        The sorted names, which are returned, follow the query's order.
        """

    @abstractmethod
    def commit(self, commit: Commit) -> bool:
        """Makes a commit; False when it had been made before.

        Raises:
            CommitConflict: other commits than those of `after` cover loads of the contract. Nothing was changed.
        """

    def query(self, query: str, parameters: Parameters | None = None) -> pa.Table:
        """A query's result as one Arrow table; for results that fit into memory easily."""
        with self.read(query, parameters) as reader:
            return reader.read_all()

    @abstractmethod
    def __enter__(self) -> Warehouse:
        """Holds the connection open until the block ends; single calls open and close their own."""

    @abstractmethod
    def __exit__(self, *exception: object) -> None: ...
