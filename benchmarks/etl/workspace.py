"""The input of the benchmark: a lake of simulated transactions with dirt, made once and copied for every run.

<root>/<rows>-<shape>/base/      landing, ledger and caudal.duckdb, after ingest
<root>/<rows>-<shape>/lake/      the same lake as Parquet, for an engine that reads no DuckDB file
<root>/<rows>-<shape>/<engine>/  one run's own copy, and what it leaves
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from caudal.contract import Contract, load_contract
from caudal.environment import Environment, load_environment
from caudal.identity import digest, run_id
from caudal.ledger import LoadLedger
from caudal.step import Run, StepContext
from caudal.tables import contract_tables, lake_table

REPOSITORY = Path(__file__).resolve().parents[2]
CONTRACT = "wallet"
DATABASE = "caudal.duckdb"
READY = "READY"

SHAPES: Mapping[str, str] = {
    "even": "{entity}",
    "hot": "CASE WHEN hash({key}) % 2 = 0 THEN 0 ELSE {entity} END",
    "few": "{entity} % 5",
    "many": "hash({key}, {number}) % 100000",
}
"""How rows are spread over entities, as an entity's column in DuckDB's SQL: as simulated; half of them with one
entity of each kind; over five of each; over 100,000 of each."""


@dataclass(frozen=True)
class Workspace:
    """One size and shape of the benchmark."""

    root: Path
    rows: int
    shape: str = "even"

    @property
    def folder(self) -> Path:
        return self.root / f"{self.rows}-{self.shape}"

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def engine(self, name: str) -> Path:
        return self.folder / name

    def prepare(self, seed: int = 1) -> None:
        """Simulates, lands, and loads into the lake; nothing when the same was done before."""
        made = f"{seed} {_sources()}"
        ready = self.base / READY
        if ready.exists() and ready.read_text() == made:
            return
        shutil.rmtree(self.base, ignore_errors=True)
        fill(self.base, self.rows, seed)
        context = open_context(self.base)
        if self.shape != "even":
            with duckdb.connect(str(self.base / DATABASE)) as con:
                con.execute(
                    f"UPDATE {lake_table(context.contract).sql_name} SET {self._entities(context.contract)}"
                )
        self.lake.mkdir(parents=True, exist_ok=True)
        for old in self.lake.iterdir():
            old.unlink()
        with context.warehouse as warehouse:
            import pyarrow.parquet as pq

            query = f"SELECT * FROM {lake_table(context.contract).sql_name}"
            with (
                warehouse.read(query) as reader,
                pq.ParquetWriter(self.lake / "lake.parquet", reader.schema) as writer,
            ):
                for batch in reader:
                    writer.write_batch(batch, row_group_size=131_072)
        ready.write_text(made)

    def fresh(self, name: str) -> Path:
        """A copy of the base for one run of an engine."""
        folder = self.engine(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copyfile(self.base / DATABASE, folder / DATABASE)
        ledger = Path("artifacts") / "ledger"
        shutil.copytree(self.base / ledger, folder / ledger)
        return folder

    def _entities(self, contract: Contract) -> str:
        entities = dict.fromkeys(window.entity for window in contract.features.windows)
        return ", ".join(
            f"{entity} = {SHAPES[self.shape].format(entity=entity, key=contract.key, number=number)}"
            for number, entity in enumerate(entities)
        )


def run_engine(run: Callable[[Workspace, Path], None]) -> None:
    """Runs an engine as a process of its own: root, rows, shape, and the folder of this run."""
    root, rows, shape, folder = sys.argv[1:]
    run(Workspace(Path(root), int(rows), shape), Path(folder))


def _sources() -> str:
    """A digest of all that the lake follows from."""
    folders = [REPOSITORY / "data" / CONTRACT, REPOSITORY / "services" / "ingest_function"]
    files = [REPOSITORY / "contracts" / f"{CONTRACT}.yaml", Path(__file__)]
    files += [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return digest("lake", *(path.read_text() for path in files))


def fill(root: Path, rows: int, seed: int, dirt: str = "all") -> None:
    """Simulates transactions with dirt into an environment's landing folder, and takes them into its lake."""
    from data.wallet.dirt import Dirt
    from data.wallet.files import write_files
    from data.wallet.simulator import Simulation
    from ingest_function.step import ingest

    context = open_context(root)
    landing = root / "landing" / context.contract.name
    for _ in write_files(Simulation(rows, seed), landing, dirt=Dirt.parse(dirt)):
        pass
    with context.warehouse as warehouse:
        warehouse.ensure_tables(contract_tables(context.contract))
        while not ingest(context)["done"]:
            pass


def open_context(root: Path) -> StepContext:
    """What a step is given in an environment whose root is a folder."""
    contract: Contract = load_contract(REPOSITORY / "contracts" / f"{CONTRACT}.yaml")
    environment: Environment = load_environment(REPOSITORY / "environments" / "local.yaml", root)
    as_of = datetime(2019, 1, 1, tzinfo=UTC)
    name = run_id(as_of)
    run = Run(name, contract.name, as_of, environment.runs(contract.name, name), environment.config("benchmark"))
    return StepContext(contract, environment, run)


def superseded_loads(context: StepContext) -> set[str]:
    """Loads of which the ledger has a newer generation."""
    newest: dict[tuple[str, str], tuple[datetime, str, str]] = {}
    ledger = LoadLedger(context.storage, context.environment.ledger(context.contract.name, "loads"))
    loads = [load for record in ledger.done() for load in record["loads"]]
    for load in loads:
        name = (load["bucket"], load["name"])
        age = (datetime.fromisoformat(load["landed_at"]), load["generation"], load["load_id"])
        newest[name] = max(newest.get(name, age), age)
    return {load["load_id"] for load in loads} - {age[2] for age in newest.values()}
