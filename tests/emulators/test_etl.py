"""The ETL from end to end on both emulators: BigQuery ends as DuckDB does, and as SQL says.

Lake rows go in; the step runs with Beam's local runner, its files in Cloud Storage, its commits in BigQuery.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from caudal.environment import Environment, load_environment, parse_environment
from caudal.storage import Storage
from caudal.tables import contract_tables
from tests.emulators.conftest import PROJECT, EmulatorClients, tables_made
from tests.etl_oracle.stream import REPOSITORY, Landed, Stream, tables_from
from tests.etl_oracle.test_etl_against_sql import timed

START = datetime(2024, 3, 28, 21, tzinfo=UTC)
AS_OF = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture
def cloud(
    addresses: tuple[str, str], storage: Storage, folder: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Environment]:
    """An environment in the emulators, with the contract's tables."""
    monkeypatch.setattr(
        "caudal.warehouse.bigquery.google_clients", lambda project: EmulatorClients(*addresses, project)()
    )
    local = load_environment(REPOSITORY / "environments" / "local.yaml")
    made = parse_environment(
        f"""
environment: 1
name: emulated
places: {{landing: "{folder}/landing", artifacts: "{folder}/artifacts", models: "{folder}/models"}}
warehouse: bigquery:{PROJECT}
tracking: https://mlflow.example
alarms: [{{type: log}}]
""",
        "emulated.yaml",
    )
    with tables_made(EmulatorClients(*addresses, PROJECT)().bigquery, contract_tables(timed)):
        yield made.model_copy(update={"etl": local.etl})


def payment(number: int, edition: int | None = 1) -> dict[str, Any]:
    """A row that follows from its number; among any twelve are ties, edges of windows, and rows to be rejected."""
    row: dict[str, Any] = {
        "id": number % 40,
        "at": START + timedelta(hours=12 * (number % 9), microseconds=number % 3 - 1),
        "edition": edition,
        "payer": ["ana", "b\u00e9", None, ""][number % 4],
        "shop": number % 3,
        "money": Decimal(number * 7919 % 20_000_000 - 10_000_000) / 10_000,
        "speed": None if number % 5 == 0 else number / 7,
        "kind": ["a", "b", "it's"][number % 3],
        "abroad": [True, False, None][number % 3],
        "fraud": ["yes", "no", None, "no"][number % 4],
    }
    faults = {3: {"money": None}, 7: {"kind": "c", "shop": 51}, 11: {"at": datetime(1950, 1, 1, tzinfo=UTC)}}
    row |= faults.get(number % 24, {})
    if number % 24 == 19:
        row |= {"shop": None, "_unparsed": '{"shop": "zw\u00f6lf", "extra": "7"}'}
    return row


def landed(name: str, generation: str, day: int, rows: list[dict[str, Any]]) -> Landed:
    return Landed(name, generation, AS_OF - timedelta(days=10 - day), tables_from(rows, timed))


RUNS = [
    [
        landed("one.csv", "g1", 0, [payment(n) for n in range(30)]),
        landed("two.csv", "g1", 1, [payment(n, edition=2) for n in range(20, 50)]),
    ],
    # Another generation of an object, without some of its rows, and a late one with newer editions of others.
    [
        landed("one.csv", "g2", 2, [payment(n, edition=3) for n in range(0, 30, 2)]),
        landed("three.csv", "g1", 0, [payment(n, edition=None) for n in range(45, 80)]),
    ],
    [],
]


def test_the_etl_leaves_in_bigquery_what_it_leaves_in_duckdb_and_what_sql_says(
    cloud: Environment, tmp_path: Path
) -> None:
    here, there = Stream(timed, tmp_path), Stream(timed, tmp_path, environment=cloud)
    for number, objects in enumerate(RUNS):
        as_of = AS_OF + timedelta(days=number)
        results = []
        for stream in (here, there):
            if objects:
                stream.load(objects)
            results.append(stream.run(as_of))
        # The batches in which rows come decide how they are sliced for a shuffle, and so how large the slices are.
        local, emulated = ({**result, "bytes_shuffled": 0} for result in results)
        assert emulated == local
        assert there.warehouse_rows().equals(here.warehouse_rows())
        assert there.rejected_rows().equals(here.rejected_rows())
        assert there.differences() == []
    assert 0 < there.rejected_rows().num_rows < there.warehouse_rows().num_rows
    assert sum(there.warehouse_rows()["_first_as_of"].to_numpy() > AS_OF.replace(tzinfo=None)) > 0


def test_a_step_that_is_repeated_on_bigquery_says_the_same_and_leaves_the_same(
    cloud: Environment, tmp_path: Path
) -> None:
    there = Stream(timed, tmp_path, environment=cloud)
    there.load(RUNS[0])
    first, rows = there.run(AS_OF), there.warehouse_rows()
    assert there.run(AS_OF) == first
    assert there.warehouse_rows().equals(rows)
    assert there.rejected_rows().num_rows == first["rows"]["rejected"]
    staging = cloud.staging(timed.name)
    assert [found.uri for found in there.storage.objects(staging) if "/etl" in found.uri] == []
