"""Runs: how one begins, what is kept of it, and how it is found again.

A run's folder holds `run.json` (created exclusively, so two starts of one as-of are one run), the result of every
step that is complete, and `record.json`, what became of the run, written last.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from caudal.errors import AlreadyExists, NotFound
from caudal.identity import SHORT, digest, run_id, unit_digest
from caudal.ledger import RunLock
from caudal.step import Run
from caudal.storage.port import join, to_json
from caudal.unit import CONTRACT_FILE, ENVIRONMENT_FILE, RUN_FILE

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.storage import Storage

RECORD_FILE = "record.json"
Status = Literal["succeeded", "failed", "skipped"]


@dataclass(frozen=True)
class StepRecord:
    """What became of a step: `seconds` of the last attempt, `trace` where an unexpected error came from."""

    status: Status
    attempts: int = 0
    seconds: float = 0.0
    error: str = ""
    trace: str = ""


@dataclass(frozen=True)
class RunRecord:
    """What became of a run."""

    run: Run
    status: Literal["succeeded", "failed"]
    steps: Mapping[str, StepRecord]
    results: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run.to_json(),
            "status": self.status,
            "steps": {name: vars(step) for name, step in self.steps.items()},
            "results": dict(self.results),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> RunRecord:
        steps = {name: StepRecord(**step) for name, step in value["steps"].items()}
        return RunRecord(Run.from_json(value["run"]), value["status"], steps, value["results"])


def config_uri(contract: Contract, environment: Environment) -> str:
    """Where services find this version of contract and environment; the content names the folder."""
    return environment.config(digest(contract.text, environment.to_yaml())[:SHORT], contract.name)


def publish_config(storage: Storage, contract: Contract, environment: Environment) -> str:
    """Writes contract and environment where services read them; returns the folder's URI.

    The folder is named by the content, so a run keeps one version however often the files change.
    """
    uri = config_uri(contract, environment)
    if not storage.exists(join(uri, ENVIRONMENT_FILE)):
        storage.write(join(uri, CONTRACT_FILE), contract.text.encode())
        storage.write(join(uri, ENVIRONMENT_FILE), environment.to_yaml().encode())
    return uri


def begin_run(
    storage: Storage,
    contract: Contract,
    environment: Environment,
    as_of: datetime,
    *,
    request: str | None = None,
    reason: str = "manual",
    trainer: str | None = None,
) -> Run:
    """Begins a run, or finds the one that was begun for this as-of and request.

    Args:
        trainer: the digest of the trainer unit that trains for it; by default that of the sources here.
    """
    name = run_id(as_of, request)
    uri = environment.runs(contract.name, name)
    config = publish_config(storage, contract, environment)
    trainer = unit_digest("trainer") if trainer is None else trainer
    run = Run(name, contract.name, as_of, uri, config, reason, git_commit(), trainer)
    try:
        storage.create(join(uri, RUN_FILE), to_json(run.to_json()))
    except AlreadyExists:
        return Run.from_json(storage.read_json(join(uri, RUN_FILE)))
    return run


def read_record(storage: Storage, run_uri: str) -> RunRecord | None:
    """What became of a run, or None while it is not over."""
    return _records(storage, [run_uri])[0]


def _records(storage: Storage, uris: Sequence[str]) -> list[RunRecord | None]:
    """The records of several runs, and the results that some of them leave elsewhere, each kind read at once."""
    values = [_json(data) for data in storage.read_all([join(uri, RECORD_FILE) for uri in uris])]
    # A workflow leaves the results where the steps wrote them: they might not fit into its memory.
    left = [
        (value, name, join(uri, f"{name}.json"))
        for uri, value in zip(uris, values, strict=True)
        if value is not None and "results" not in value
        for name, step in value["steps"].items()
        if step["status"] == "succeeded"
    ]
    found = storage.read_all([uri for _, _, uri in left])
    for (value, name, uri), data in zip(left, found, strict=True):
        if data is None:
            raise NotFound("a step succeeded, and its result is not there", where=uri, mend="run it again")
        value.setdefault("results", {})[name] = json.loads(data)
    return [RunRecord.from_json({"results": {}, **value}) if value is not None else None for value in values]


def _json(data: bytes | None) -> Any:
    return None if data is None else json.loads(data)


def list_runs(storage: Storage, environment: Environment, contract: str) -> list[tuple[Run, RunRecord | None]]:
    """Every run of a contract, oldest first, with its record once it is over."""
    uris = [environment.runs(contract, name) for name in storage.names(environment.runs(contract))]
    began = storage.read_all([join(uri, RUN_FILE) for uri in uris])
    runs = {
        uri: Run.from_json(json.loads(data)) for uri, data in zip(uris, began, strict=True) if data is not None
    }
    return list(zip(runs.values(), _records(storage, list(runs)), strict=True))


def run_lock(storage: Storage, environment: Environment, contract: str) -> RunLock:
    """The lock that lets one run of a contract be active; executions are processes of this machine."""
    return RunLock(storage, environment.ledger(contract, "lock"), process_is_active)


def this_process() -> str:
    """A name for this process that no later one has: its number and when it started."""
    return f"process:{os.getpid()}:{_started(os.getpid())}"


def process_is_active(execution: str) -> bool:
    """Whether the process of that name is still there."""
    kind, pid, started = execution.split(":", 2)
    return kind == "process" and bool(started) and _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process started, in the system's own words; empty when it is not there."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            return status.read_text().rsplit(")", 1)[1].split()[19]
        except FileNotFoundError:
            return ""
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip().replace(" ", "_")


def git_commit() -> str:
    """The commit of the working tree, or what the image was built from; for people, in no identity."""
    baked = os.environ.get("CAUDAL_COMMIT")
    if baked is not None:
        return baked
    head = Path(__file__).resolve().parents[1] / ".git" / "HEAD"
    try:
        text = head.read_text().strip()
        return (head.parent / text[5:]).read_text().strip()[:12] if text.startswith("ref: ") else text[:12]
    except OSError:
        return ""
