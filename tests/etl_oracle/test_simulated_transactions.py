"""The ETL equals the SQL oracle on every simulated transaction with dirt, however entities share the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.etl.workspace import fill, open_context
from caudal.contract import Contract, load_contract
from data.wallet.simulator import Simulation
from tests.etl_oracle.stream import REPOSITORY, Landed, Stream

START = datetime(2019, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(REPOSITORY / "contracts" / "wallet.yaml")


@pytest.mark.parametrize("rows", [60_000, pytest.param(1_750_000, marks=pytest.mark.slow)])
def test_every_row_of_dirty_simulated_transactions_is_as_sql_says(
    contract: Contract, tmp_path: Path, rows: int
) -> None:
    from etl_beam.step import etl

    fill(tmp_path, rows, seed=1)
    result = etl(open_context(tmp_path))
    stream = Stream(contract, tmp_path)
    assert stream.differences() == []
    said = stream.expected()
    assert said.warehouse.num_rows > 0.95 * rows
    assert result["rows"]["rejected"] == said.rejected.num_rows > 0
    assert result["rows"]["duplicates"] == said.duplicates > 0
    assert result["rows"]["warehouse"] == said.warehouse.num_rows
    reasons = {reason.split(":")[0] for reason in result["rejected"]}
    assert reasons == {"type", "missing", "range", "unknown"}


def simulated(rows: int, contract: Contract) -> pa.Table:
    return pa.concat_tables(Simulation(rows, seed=2).tables()).cast(contract.arrow_schema())


def shared_among(table: pa.Table, entity: str, owners: np.ndarray) -> pa.Table:
    return table.set_column(table.column_names.index(entity), entity, pa.array(owners, pa.int64()))


def owners(kind: str, rows: int) -> np.ndarray:
    random = np.random.default_rng(5)
    if kind == "one owns half of all":
        return np.where(random.random(rows) < 0.5, 7, random.integers(0, 2_000, rows))
    return random.integers(0, 5 if kind == "five" else 100_000, rows)


@pytest.mark.parametrize("kind", ["one owns half of all", "five", "a hundred thousand"])
@pytest.mark.parametrize("shards", [1, 4])
def test_any_number_of_entities_and_a_hot_one_end_as_sql_says(
    contract: Contract, tmp_path: Path, kind: str, shards: int
) -> None:
    rows = simulated(50_000, contract)
    for entity in ("customer_id", "terminal_id"):
        rows = shared_among(rows, entity, owners(kind, rows.num_rows))
    # The second run has late rows: the hot entity's standing rows must be found and corrected.
    late = np.random.default_rng(6).random(rows.num_rows) < 0.05
    stream = Stream(contract, tmp_path, shards, rows_a_shard=5_000, rows_a_slice=4_000)
    for number, part in enumerate((rows.filter(pa.array(~late)), rows.filter(pa.array(late)))):
        stream.load([Landed(f"{number}.parquet", "g1", START + timedelta(days=number), part)])
        stream.run(START + timedelta(days=number))
    assert stream.warehouse_rows().num_rows == rows.num_rows
    assert stream.differences() == []
