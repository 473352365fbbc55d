"""A small world for the ETL: rows that lie in the lake, as ingest leaves them, without ingest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caudal.contract import Contract
from caudal.environment import Environment, load_environment
from caudal.identity import format_instant, load_id, manifest_id, run_id
from caudal.ledger import LoadLedger
from caudal.step import Run, StepContext, StepResult
from caudal.storage import join
from caudal.tables import contract_tables, lake_table, warehouse_table
from etl_beam.step import etl

REPOSITORY = Path(__file__).resolve().parents[2]
Rows = Sequence[Mapping[str, Any]]


@dataclass
class World:
    """A warehouse with a lake, in which files land and runs follow one another."""

    contract: Contract
    environment: Environment
    moment: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    landed: int = 0
    results: list[StepResult] = field(default_factory=list)

    def context(self, as_of: datetime | None = None) -> StepContext:
        as_of = as_of or self.moment
        name = run_id(as_of)
        run = Run(name, self.contract.name, as_of, self.environment.runs(self.contract.name, name), "")
        return StepContext(self.contract, self.environment, run)

    def land(self, files: Mapping[str, Rows], landed_at: datetime | None = None, **entry: Any) -> None:
        """Puts files into the lake under one manifest. A file landed again under its name is a new generation."""
        context = self.context()
        context.warehouse.ensure_tables(contract_tables(self.contract))
        loads, tables = [], []
        for name, rows in files.items():
            self.landed += 1
            content = hashlib.sha256(f"{self.landed}{rows}".encode()).hexdigest()[:32]
            landing = landed_at or self.moment
            load = {
                "load_id": load_id("file", name, content),
                "uri": join(self.environment.landing(self.contract.name), name),
                "bucket": "file",
                "name": name,
                "generation": content,
                "landed_at": format_instant(landing),
                "rows": len(rows),
                "quarantined": 0,
                **entry,
            }
            loads.append(load)
            tables.append(self._lake_rows(rows, load, landing))
        identity = manifest_id(load["load_id"] for load in loads)
        staged = context.environment.staging(self.contract.name, "lake", f"{identity}.parquet")
        intent = {"manifest": identity, "loads": loads}
        with context.storage.writer(staged) as stream:
            pq.write_table(pa.concat_tables(tables), stream)
        ledger = LoadLedger(context.storage, self.environment.ledger(self.contract.name, "loads"))
        number = ledger.begin(intent, after=ledger.look().entered)
        context.warehouse.load(lake_table(self.contract), [staged], identity)
        ledger.settle(number, {**intent, "rows": sum(load["rows"] for load in loads)})

    def _lake_rows(self, rows: Rows, load: Mapping[str, Any], landed_at: datetime) -> pa.Table:
        schema = lake_table(self.contract).schema
        full = [
            {
                **dict.fromkeys(schema.names),
                **{name: value for name, value in row.items() if name != "_unparsed"},
                "_unparsed": json.dumps(row["_unparsed"]) if "_unparsed" in row else None,
                "_source_uri": load["uri"],
                "_source_generation": load["generation"],
                "_row": number,
                "_load_id": load["load_id"],
                "_ingested_at": landed_at,
            }
            for number, row in enumerate(rows)
        ]
        return pa.Table.from_pylist(full, schema=schema)

    def run(self) -> StepResult:
        """One run of the step; the next one is a day later."""
        result = etl(self.context())
        self.results.append(result)
        self.moment += timedelta(days=1)
        return result

    def rows(self, *columns: str) -> list[dict[str, Any]]:
        """The warehouse's rows in the order of their keys, with all columns or those asked for."""
        names = columns or tuple(warehouse_table(self.contract).schema.names)
        chosen = ", ".join(f"`{name}`" for name in names)
        table = warehouse_table(self.contract).sql_name
        found = self.context().warehouse.query(f"SELECT {chosen} FROM {table} ORDER BY `{self.contract.key}`")
        return found.to_pylist()

    def query(self, sql: str) -> list[dict[str, Any]]:
        return self.context().warehouse.query(sql).to_pylist()

    def total(self, fate: str) -> int:
        """A figure of all results so far."""
        return sum(result["rows"][fate] for result in self.results)


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> MakeWorld:
    """Worlds with warehouses of their own."""
    made: list[World] = []

    def make(contract: Contract, **etl_options: Any) -> World:
        root = tmp_path / f"world{len(made)}"
        environment = load_environment(REPOSITORY / "environments" / "local.yaml", root=root)
        if etl_options:
            environment = environment.model_copy(update={"etl": environment.etl.model_copy(update=etl_options)})
        made.append(World(contract, environment))
        return made[-1]

    return make
