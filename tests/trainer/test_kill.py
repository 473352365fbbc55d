"""A trainer that is killed at any moment leaves nothing half, and the next one finishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from caudal.contract import parse_contract
from caudal.environment import load_environment
from caudal.folders import is_committed
from caudal.package import open_package
from caudal.promotions import Promotions
from tests.trainer.conftest import SETTINGS, arrive
from tests.world import World, day

AS_OF = day("2026-02-15")
CHILD = """
import sys
from pathlib import Path
from caudal.contract import load_contract
from caudal.environment import load_environment
from caudal.step import Run, StepContext
from caudal.tracking import Tracking
from caudal.identity import parse_instant
Tracking.record = lambda *a, **k: "x"
Tracking.follow = lambda *a, **k: None
from trainer.step import snapshot, train, validate, promote
root = Path(sys.argv[1])
contract = load_contract(root / "payments.yaml")
environment = load_environment(Path("environments/local.yaml"), root)
as_of = parse_instant("2026-02-15")
run = Run("r", contract.name, as_of, environment.runs(contract.name, "r"), environment.config("t"))
context = StepContext(contract, environment, run, {})
print("begun", flush=True)
for name, step in (("snapshot", snapshot), ("train", train), ("validate", validate), ("promote", promote)):
    context.results[name] = step(context)
    print(name, flush=True)
print(context.results["promote"]["version"], flush=True)
"""


def child(root: Path, repository: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root)],
        cwd=repository,
        env={"PYTHONPATH": "libs:services:.", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_trainer_leaves_only_whole_packages(
    small_contract_text: Any, tmp_path: Path, repository: Path
) -> None:
    text = small_contract_text(SETTINGS)
    assert yaml.safe_load(text)["name"] == "payments"
    root = tmp_path / "root"
    root.mkdir()
    (root / "payments.yaml").write_text(text)
    world = World(parse_contract(text), load_environment(repository / "environments" / "local.yaml", root))
    arrive(world, 1600, "2026-01-05", AS_OF)
    killed = 0
    for attempt in range(5):
        process = child(root, repository)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "begun\n", process.stderr.read() if process.stderr else line
        # The whole run takes under a second from here: the kills spread over it.
        time.sleep(0.05 + 0.2 * attempt)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        whole(world)
    assert killed
    final = child(root, repository)
    out, errors = final.communicate(timeout=120)
    assert final.returncode == 0, errors
    version = out.split()[-1]
    whole(world)
    assert [entry.version for entry in ledger(world).history()] == [version]


def ledger(world: World) -> Promotions:
    return Promotions(world.storage, world.environment.ledger("payments", "promotions"))


def whole(world: World) -> None:
    """Every package that can be seen opens, and the ledger names no other."""
    place = world.environment.packages("payments", "xgboost")
    for version in world.storage.names(place):
        uri = world.environment.packages("payments", "xgboost", version)
        if is_committed(world.storage, uri):
            open_package(world.storage, uri)
    for entry in ledger(world).history():
        assert open_package(world.storage, entry.package).version == entry.version
