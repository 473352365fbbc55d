"""SIGKILL at random moments, then one more run: the warehouse equals that of clean runs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from caudal.contract import load_contract
from data.wallet.dirt import Dirt, soil
from data.wallet.simulator import Simulation
from tests.etl_oracle.stream import REPOSITORY, Landed, Stream

CONTRACT = REPOSITORY / "contracts" / "wallet.yaml"
KILLS = 50
START = datetime(2018, 4, 2, tzinfo=UTC)
SIMULATION = Simulation(6_000, seed=11)
DIRT = tuple(d for kind in ("nulls=0.01", "range=0.01", "duplicates=0.02", "late=0.05") for d in Dirt.parse(kind))


class Runs:
    """The process that forks a run for each line it is told."""

    def __init__(self) -> None:
        path = os.pathsep.join(str(REPOSITORY / part) for part in ("libs", "services", "."))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.etl_oracle.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": path},
        )

    def run(self, root: Path, as_of: datetime, kill_after: float | None = None) -> tuple[int, float]:
        """One run, killed after so many seconds; its exit status and how long it ran."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = {"contract": str(CONTRACT), "root": str(root), "as_of": as_of.isoformat(), "kill_after": kill_after}
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        status, seconds = self._process.stdout.readline().split()
        return int(status), float(seconds)

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def runs() -> Iterator[Runs]:
    started = Runs()
    yield started
    started.close()


def batches() -> list[list[Landed]]:
    """The simulation in six batches of days, late rows a batch later."""
    contract = load_contract(CONTRACT)
    found: list[list[Landed]] = [[] for _ in range(6)]
    for day in range(SIMULATION.days):
        for i, delivery in enumerate(soil(SIMULATION.table(day), DIRT, SIMULATION.seed, day)):
            batch = min(day * 5 // SIMULATION.days + i, 5)
            landed = Landed(
                f"{day:03}-{i}.parquet",
                "g1",
                START + timedelta(days=day + delivery.delay),
                pa.table({name: delivery.rows[name] for name in contract.columns}, schema=None).cast(
                    contract.arrow_schema()
                ),
            )
            found[batch].append(landed)
    return found


@pytest.mark.slow
def test_fifty_kills_and_one_more_run_leave_what_clean_runs_leave(tmp_path: Path, runs: Runs) -> None:
    contract = load_contract(CONTRACT)
    clean, killed = Stream(contract, tmp_path / "clean"), Stream(contract, tmp_path / "killed")
    chance = random.Random(20261123)
    deaths = 0
    for number, batch in enumerate(batches()):
        as_of = START + timedelta(days=300 + number)
        before = clean.warehouse_rows().num_rows
        clean.load(batch)
        status, took = runs.run(tmp_path / "clean", as_of)
        assert status == 0
        after = clean.warehouse_rows().num_rows
        killed.load(batch)
        # Every batch has its share of the deaths; a run that was fast enough has done its work already.
        share = (number + 1) * KILLS // 6
        for _ in range(60):
            if deaths == share:
                break
            status, _ = runs.run(tmp_path / "killed", as_of, kill_after=chance.uniform(0, took))
            assert status in (0, -signal.SIGKILL)
            deaths += status == -signal.SIGKILL
            # Nobody ever sees a part of a commit.
            assert killed.warehouse_rows().num_rows in (before, after)
        assert runs.run(tmp_path / "killed", as_of)[0] == 0
        assert killed.warehouse_rows().equals(clean.warehouse_rows())
        assert killed.rejected_rows().equals(clean.rejected_rows())
    assert deaths == KILLS
    assert killed.differences() == []
    assert staged_files(killed) == []


def staged_files(stream: Stream) -> list[str]:
    """What runs have left in the ETL's staging folder."""
    folder = stream.environment.staging(stream.contract.name, "etl")
    return [found.name for found in stream.storage.objects(folder)]
