"""A local environment into which a test puts lake rows, runs the ETL step, and looks at what it left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caudal.contract import Contract
from caudal.environment import Environment, load_environment
from caudal.identity import format_instant, load_id, manifest_id, run_id
from caudal.ledger import LoadLedger
from caudal.step import Run, StepContext
from caudal.tables import contract_tables, lake_table, rejected_table, warehouse_table
from tests.etl_oracle.oracle import SOURCE, Expected, expected

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Landed:
    """One landed object.

    Attributes:
        rows: the contract's columns, and perhaps `_unparsed`.
    """

    name: str
    generation: str
    landed_at: datetime
    rows: pa.Table

    @property
    def load_id(self) -> str:
        return load_id("file", self.name, self.generation)

    @property
    def uri(self) -> str:
        return f"file:///landing/{self.name}"

    def record(self) -> dict[str, Any]:
        """As the ledger of loads records it."""
        return {
            "load_id": self.load_id,
            "uri": self.uri,
            "bucket": "file",
            "name": self.name,
            "generation": self.generation,
            "landed_at": format_instant(self.landed_at),
            "rows": self.rows.num_rows,
            "quarantined": 0,
        }

    def lake_rows(self, contract: Contract) -> pa.Table:
        """Its rows as the lake holds them."""
        schema = lake_table(contract).schema
        count = self.rows.num_rows
        lineage = {
            "_source_uri": self.uri,
            "_source_generation": self.generation,
            "_load_id": self.load_id,
            "_ingested_at": self.landed_at,
        }
        # A file may be older than a column of the contract.
        columns = {field.name: pa.nulls(count, field.type) for field in schema}
        columns |= {name: self.rows[name] for name in self.rows.column_names}
        columns["_row"] = pa.array(range(1, count + 1), pa.int64())
        for name, value in lineage.items():
            columns[name] = pa.repeat(pa.scalar(value, schema.field(name).type), count)
        return pa.table({name: columns[name] for name in schema.names}).cast(schema)


class Stream:
    """One contract in an environment of its own.

    Args:
        root: the folder of a local environment.
        environment: another one, whose tables are there.
        shards: the most that a shuffle has.
        rows_a_shard, rows_a_slice: the tables of a test are small, and still have to fill several shards, and to
            hold entities with so many rows that they are cut into slices of time.
    """

    def __init__(
        self,
        contract: Contract,
        root: Path,
        shards: int = 2,
        rows_a_shard: int = 1,
        rows_a_slice: int = 3,
        environment: Environment | None = None,
    ) -> None:
        self.contract = contract
        self._sizes = {"etl_beam.step.ROWS_A_SHARD": rows_a_shard, "etl_beam.slices.ROWS_A_SLICE": rows_a_slice}
        loaded = environment or load_environment(REPOSITORY / "environments" / "local.yaml", root)
        self.environment: Environment = loaded.model_copy(
            update={"etl": loaded.etl.model_copy(update={"shards": shards})}
        )
        context = self.context(datetime(2000, 1, 1, tzinfo=UTC))
        self.storage, self.warehouse = context.storage, context.warehouse
        self.warehouse.ensure_tables(contract_tables(contract))
        self._ledger = LoadLedger(self.storage, self.environment.ledger(contract.name, "loads"))

    def context(self, as_of: datetime) -> StepContext:
        """What the step is given for a run."""
        name = run_id(as_of)
        uri = self.environment.runs(self.contract.name, name)
        run = Run(name, self.contract.name, as_of, uri, self.environment.config("test"))
        return StepContext(self.contract, self.environment, run)

    def load(self, objects: Sequence[Landed]) -> None:
        """Puts objects into the lake under one manifest, as ingest does."""
        manifest = manifest_id(each.load_id for each in objects)
        uri = self.environment.staging(self.contract.name, f"{manifest}.parquet")
        table = pa.concat_tables([each.lake_rows(self.contract) for each in objects])
        with self.storage.writer(uri) as stream:
            pq.write_table(table, stream)
        intent = {"manifest": manifest, "loads": [each.record() for each in objects]}
        number = self._ledger.begin(intent, after=self._ledger.look().entered)
        self.warehouse.load(lake_table(self.contract), [uri], manifest)
        self._ledger.settle(number, {**intent, "rows": table.num_rows})

    def run(self, as_of: datetime) -> dict[str, Any]:
        """Runs the ETL step."""
        from etl_beam.step import etl

        with ExitStack() as patched:
            for name, size in self._sizes.items():
                patched.enter_context(mock.patch(name, size))
            return etl(self.context(as_of))

    def loads(self) -> list[Mapping[str, Any]]:
        """Every load that the ledger records as done."""
        return [load for record in self._ledger.done() for load in record["loads"]]

    def warehouse_rows(self) -> pa.Table:
        """The warehouse by key."""
        table = warehouse_table(self.contract)
        columns = ", ".join(f"`{name}`" for name in table.schema.names)
        return self.warehouse.query(f"SELECT {columns} FROM {table.sql_name} ORDER BY `{self.contract.key}`")

    def rejected_rows(self) -> pa.Table:
        """The rejected rows by source and row."""
        columns = ", ".join([*SOURCE, "_reasons", "_content"])
        return self.warehouse.query(
            f"SELECT {columns} FROM {rejected_table(self.contract).sql_name} "
            "ORDER BY _source_uri, _source_generation, _load_id, _row"
        )

    def expected(self) -> Expected:
        """What the oracle makes of the whole lake."""
        lake = self.warehouse.query(f"SELECT * FROM {lake_table(self.contract).sql_name}")
        with duckdb.connect() as connection:
            connection.register("lake", lake)
            return expected(self.contract, connection, "lake", self.loads())

    def differences(self) -> list[str]:
        """In what the warehouse differs from what the oracle makes of the lake; empty when in nothing."""
        said = self.expected()
        found = differences(self.warehouse_rows(), said.warehouse)
        return found + [f"rejected: {text}" for text in differences(self.rejected_rows(), said.rejected)]


def differences(actual: pa.Table, wanted: pa.Table) -> list[str]:
    """In which of the wanted columns two tables differ, and where first.

    Everything is compared exactly but floats: an exact sum may be divided in another order, so they may differ by
    four units in the last place.
    """
    if actual.num_rows != wanted.num_rows:
        return [f"{actual.num_rows} rows instead of {wanted.num_rows}"]
    found = []
    for name in wanted.column_names:
        ours, theirs = (table[name].combine_chunks() for table in (actual, wanted))
        if pa.types.is_floating(theirs.type) and pa.types.is_floating(ours.type):
            same = _close(ours, theirs)
        elif pa.types.is_list(theirs.type):
            same = np.array([a == b for a, b in zip(ours.to_pylist(), theirs.to_pylist(), strict=True)], bool)
        else:
            same = _equal(ours, theirs.cast(ours.type))
        if not same.all():
            row = int(np.flatnonzero(~same)[0])
            found.append(
                f"{name}: {int((~same).sum())} rows, first {ours[row].as_py()!r} instead of "
                f"{theirs[row].as_py()!r} in {actual.slice(row, 1).to_pylist()[0]}"
            )
    return found


def _close(ours: pa.Array, theirs: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    a, b = (column.to_numpy(zero_copy_only=False) for column in (ours, theirs))
    nulls = np.asarray(ours.is_null()), np.asarray(theirs.is_null())
    near = np.abs(a - b) <= 4 * np.spacing(np.maximum(np.abs(a), np.abs(b)))
    return np.where(nulls[0] | nulls[1], nulls[0] == nulls[1], near)


def _equal(ours: pa.Array, theirs: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    nulls = np.asarray(ours.is_null()), np.asarray(theirs.is_null())
    same = np.asarray(pc.fill_null(pc.equal(ours, theirs), False))
    return np.where(nulls[0] | nulls[1], nulls[0] == nulls[1], same)


def tables_from(rows: Iterable[Mapping[str, Any]], contract: Contract) -> pa.Table:
    """Records as the columns of the contract and `_unparsed`."""
    schema = contract.arrow_schema().append(pa.field("_unparsed", pa.string()))
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema)
