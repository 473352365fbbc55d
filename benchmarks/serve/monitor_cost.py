"""What the monitor's look at new rows costs, as the rows grow: the histograms are made inside the warehouse.

The rows are those of the sample data set's replay, repeated under new keys; all of them first arrived in one run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caudal.backends import open_storage, open_warehouse
from caudal.contract import Contract
from caudal.environment import load_environment
from caudal.promotions import Promotion, Promotions
from caudal.step import StepContext
from caudal.tables import contract_tables, warehouse_table
from monitor.step import inputs
from pipeline.runs import begin_run

SIZES = (10_000, 100_000, 1_000_000)


def monitor_cost(
    contract: Contract,
    environment_file: Path,
    replayed: Path,
    champion: Promotion,
    folder: Path,
    sizes: Sequence[int] = SIZES,
) -> list[dict[str, Any]]:
    """CPU and wall seconds of the step `inputs` for so many new rows: `{rows, cpu_s, wall_s, cpu_us_per_row}`.

    Args:
        replayed: the root of a replay, whose rows and champion are used.
        folder: where the rows are put; removed first.
    """  # fmt: skip
    with open_warehouse(load_environment(environment_file, replayed)) as source:
        sample = source.query(f"SELECT * FROM {warehouse_table(contract).sql_name}")
    found = []
    for rows in sizes:
        root = folder / str(rows)
        shutil.rmtree(root, ignore_errors=True)
        context = _context(contract, environment_file, root, champion, sample, rows)
        # The first call makes MLflow's database; the second measures the same and sends nothing twice.
        inputs(context)
        wall, cpu = time.perf_counter(), time.process_time()
        inputs(context)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        found.append({"rows": rows, "cpu_s": cpu, "wall_s": wall, "cpu_us_per_row": cpu / rows * 1e6})
    return found


def _context(
    contract: Contract, environment_file: Path, root: Path, champion: Promotion, sample: pa.Table, rows: int
) -> StepContext:
    environment = load_environment(environment_file, root)
    storage = open_storage(environment)
    as_of = champion.as_of + timedelta(days=1)
    Promotions(storage, environment.ledger(contract.name, "promotions")).promote(
        version=champion.version,
        model_type=champion.model_type,
        package=champion.package,
        as_of=champion.as_of,
        by="benchmark",
        reason="benchmark",
        snapshot=champion.snapshot,
    )
    warehouse = open_warehouse(environment)
    warehouse.ensure_tables(contract_tables(contract))
    table = warehouse_table(contract)
    taken = sample.take(pa.array(np.arange(rows) % sample.num_rows))
    for name, values in (
        (contract.key, pa.array(np.arange(1, rows + 1))),
        ("_first_as_of", pa.repeat(pa.scalar(as_of, table.schema.field("_first_as_of").type), rows)),
    ):
        taken = taken.set_column(taken.schema.get_field_index(name), name, values)
    uri = environment.staging(contract.name, "rows.parquet")
    with storage.writer(uri) as stream:
        pq.write_table(taken.select(table.schema.names).cast(table.schema), stream)
    warehouse.load(table, [uri], f"{rows} rows")
    run = begin_run(storage, contract, environment, as_of, reason="benchmark")
    counted = {"read": rows, "rejected": 0, "duplicates": 0, "removed": 0, "warehouse": rows}
    quiet = environment.model_copy(update={"alarms": tuple(d for d in environment.alarms if d.type == "file")})
    return replace(
        StepContext(contract, quiet, run), results={"ingest": {"quarantined": 0}, "etl": {"rows": counted}}
    )
