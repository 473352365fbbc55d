"""The shipped data set through both executors, with the real units: the same steps, the same results.

The local executor runs one folder. The workflow runs in the emulator; what its stand-ins start are the same units
on a second folder. Landed files have the same times, so everything but addresses and durations must be equal.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caudal.backends import open_storage
from caudal.contract import Contract
from caudal.environment import Environment, load_environment
from caudal.identity import parse_instant
from caudal.step import StepContext
from caudal.tables import contract_tables
from caudal.unit import RecordedResults, open_context, run_step
from pipeline.local_executor import LocalExecutor, load_step
from pipeline.runs import begin_run, read_record
from pipeline.steps import BY_NAME

from .test_executors import Scenario, World

AS_OF = "2008-09-01T00:00:00Z"


def landed(repository: Path, root: Path) -> Environment:
    """A local environment with the first months of the data set landed in it."""
    environment = load_environment(repository / "environments" / "local.yaml", root=root)
    folder = root / "landing" / "bank_marketing"
    folder.mkdir(parents=True)
    source = repository / "data" / "bank_marketing" / "bank_marketing.csv.gz"
    with gzip.open(source, "rt", newline="") as text, (folder / "months.csv").open("w", newline="") as target:
        rows = csv.DictReader(text)
        writer = csv.DictWriter(target, rows.fieldnames or ())
        writer.writeheader()
        writer.writerows(row for row in rows if row["contact_date"] < AS_OF)
    moment = datetime(2008, 9, 1, tzinfo=UTC).timestamp()
    os.utime(folder / "months.csv", (moment, moment))
    return environment


@pytest.fixture
def units(repository: Path, tmp_path: Path, bank_contract: Contract) -> Iterator[Any]:
    """Runs a step of the real units on a folder of its own."""
    environment = landed(repository, tmp_path / "there")
    run = begin_run(open_storage(environment), bank_contract, environment, parse_instant(AS_OF), reason="schedule")
    context = open_context(run.config, run.uri)
    with context.warehouse as warehouse:
        warehouse.ensure_tables(contract_tables(context.contract))

        def unit(name: str) -> Any:
            def step(_: StepContext) -> Any:
                given = replace(context, results=RecordedResults(context.storage, context.run))
                # One warehouse for steps side by side, as the local executor has it.
                vars(given)["warehouse"] = warehouse
                return run_step(name, load_step(BY_NAME[name]), given)

            return step

        yield unit


def comparable(value: Any, root: Path) -> Any:
    """A result without its folder and without durations."""
    if isinstance(value, dict):
        return {key: comparable(inner, root) for key, inner in value.items() if "seconds" not in key}
    if isinstance(value, list):
        return [comparable(inner, root) for inner in value]
    return value.replace(str(root), "") if isinstance(value, str) else value


@pytest.mark.slow
def test_the_shipped_data_set_goes_through_both_executors_alike(
    repository: Path, tmp_path: Path, bank_contract: Contract, execute: Any, units: Any
) -> None:
    environment = landed(repository, tmp_path / "here")
    storage = open_storage(environment)
    run = begin_run(storage, bank_contract, environment, parse_instant(AS_OF), reason="schedule")
    LocalExecutor(pause=0).execute(run)
    local = read_record(storage, run.uri)
    assert local is not None

    world = World(execute, bank_contract, Scenario())
    world.cloud.behave = units
    answer = world.start({"as_of": AS_OF})
    assert answer["result"]["status"] == "succeeded"
    there = read_record(world.cloud.buckets, "gs://bank-artifacts/runs/bank_marketing/20080901T000000Z")
    assert there is not None

    def outcome(record: Any) -> dict[str, Any]:
        return {name: (step.status, step.attempts, step.error) for name, step in record.steps.items()}

    assert outcome(there) == outcome(local)
    assert outcome(local)["train"][0] == "succeeded"
    assert comparable(dict(there.results), tmp_path / "there") == comparable(
        dict(local.results), tmp_path / "here"
    )
