"""However the same rows arrive, the warehouse holds the same."""

from __future__ import annotations

import gzip
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from caudal.backends import open_storage, open_warehouse
from caudal.environment import load_environment
from caudal.storage.files import file_path
from pipeline.local_executor import LocalExecutor
from pipeline.runs import begin_run
from pipeline.steps import BY_NAME

STEPS = (BY_NAME["ingest"], BY_NAME["etl"])
ROWS = 6000


@pytest.fixture(scope="module")
def sample(repository) -> tuple[str, list[str]]:
    """The header and a part of the shipped rows."""
    with gzip.open(repository / "data" / "bank_marketing" / "bank_marketing.csv.gz", "rt") as stream:
        header, *lines = stream.read().splitlines()
    return header, random.Random(1).sample(lines, ROWS)


def arrive(repository: Path, root: Path, contract, deliveries: list[list[tuple[str, list[str]]]], header: str):
    """Lands each delivery's files and runs ingest and ETL after it; returns the warehouse's rows."""
    environment = load_environment(repository / "environments" / "local.yaml", root)
    storage = open_storage(environment)
    as_of = datetime(2024, 1, 1, tzinfo=UTC)
    for delivery in deliveries:
        as_of += timedelta(days=1)
        for name, lines in delivery:
            path = file_path(environment.landing(contract.name)) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join([header, *lines]) + "\n")
            os.utime(path, (as_of.timestamp(), as_of.timestamp()))
        LocalExecutor(STEPS).execute(begin_run(storage, contract, environment, as_of))
    columns = ", ".join(f"`{name}`" for name in contract.columns)
    rows = open_warehouse(environment).query(
        f"SELECT {columns}, _event_date FROM warehouse.{contract.name} ORDER BY {contract.key}"
    )
    rejected = open_warehouse(environment).query(
        f"SELECT _reasons, _content FROM warehouse.{contract.name}_rejected ORDER BY _content"
    )
    return rows, rejected


def test_files_in_another_order_split_otherwise_or_twice_end_in_the_same_warehouse(
    repository, tmp_path, bank_contract, sample
):
    header, lines = sample
    # Some keys come twice with other content, and some rows are rejected.
    doubled = [line.replace(",married,", ",single,") for line in lines[:500]]
    spoiled = [line.rsplit(",", 1)[0] + ",perhaps" for line in lines[500:550]]
    everything = lines[:500] + lines[550:] + doubled + spoiled
    half = len(everything) // 2
    first, second = everything[:half], everything[half:]

    once = arrive(repository, tmp_path / "a", bank_contract, [[("all.csv", everything)]], header)
    shuffled = everything.copy()
    random.Random(2).shuffle(shuffled)
    thirds = [shuffled[i::3] for i in range(3)]
    split = arrive(
        repository, tmp_path / "b", bank_contract,
        [[(f"{i}.csv", part)] for i, part in enumerate(thirds)], header,
    )  # fmt: skip
    reversed_and_twice = arrive(
        repository, tmp_path / "c", bank_contract,
        [[("late.csv", second)], [("early.csv", first), ("again.csv", second)]], header,
    )  # fmt: skip

    assert once[0].num_rows == ROWS - 50
    assert once[1].num_rows == 50
    assert split[0].equals(once[0])
    assert reversed_and_twice[0].equals(once[0])
    assert split[1].equals(once[1])


def test_a_corrected_file_supersedes_what_it_said_before(repository, tmp_path, bank_contract, sample):
    header, lines = sample
    before, after = lines[:20], [line.replace(",single,", ",divorced,") for line in lines[5:20]]
    corrected = arrive(
        repository, tmp_path / "a", bank_contract, [[("file.csv", before)], [("file.csv", after)]], header
    )
    directly = arrive(repository, tmp_path / "b", bank_contract, [[("file.csv", after)]], header)
    assert corrected[0].equals(directly[0])
