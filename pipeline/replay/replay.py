"""The replay itself: land, run, watch, period by period, and go on after an interruption."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caudal.backends import open_storage, open_warehouse
from caudal.identity import digest
from pipeline.local_executor import Listener, LocalExecutor
from pipeline.replay.sample import Delivery, Period, deliveries, land, sample_digest
from pipeline.runs import begin_run, read_record

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment
    from pipeline.runs import RunRecord

STATE_FILE = "replay.json"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"
EXECUTED = ("libs", "services", "pipeline")


@dataclass(frozen=True)
class Month:
    """One period of a replay that is over."""

    delivery: Delivery
    record: RunRecord


class Replay:
    """A contract's history under one folder.

    Args:
        contract: what is replayed.
        environment: a local environment whose root is the replay's folder.
        files: the sample.
        every: how often a file lands and a run starts.
        as_landed: the sample's files tell by their time of change when their rows land.
    """

    def __init__(
        self,
        contract: Contract,
        environment: Environment,
        files: list[Path],
        every: Period,
        *,
        as_landed: bool = False,
    ) -> None:
        self.contract = contract
        self.environment = environment
        self.files = files
        self.every = every
        self.as_landed = as_landed
        self.folder = environment.root_path
        self.fingerprint = digest(
            contract.text, environment.to_yaml(), sample_digest(files), every, as_landed, code_digest()
        )

    def finished(self) -> bool:
        """Whether this very replay is complete: same contract, environment, sample and code."""
        return self._state().get("fingerprint") == self.fingerprint and (self.folder / REPORT_FILE).exists()

    def prepare(self, *, fresh: bool) -> bool:
        """Makes the folder ready; returns whether an interrupted replay goes on.

        What another contract, sample or code left there is removed first.
        """
        goes_on = self._state().get("fingerprint") == self.fingerprint
        if fresh or not goes_on:
            with suppress(FileNotFoundError):
                (self.folder / STATE_FILE).unlink()
            if self.folder.exists():
                shutil.rmtree(self.folder)
        goes_on = goes_on and not fresh
        if not goes_on:
            open_storage(self.environment).write_json(
                (self.folder / STATE_FILE).as_uri(), {"fingerprint": self.fingerprint}
            )
        return goes_on

    def run(self, listener: Listener, period_over: Callable[[Month], None]) -> list[Month]:
        """Replays every period that is not over yet.

        Raises:
            StepFailed: a step of a run failed; calling again goes on from there.
        """
        storage = open_storage(self.environment)
        executor = LocalExecutor(listener=listener)
        months = []
        # One process works here throughout, so the warehouse stays open between the runs.
        with open_warehouse(self.environment):
            for delivery in deliveries(self.contract, self.files, self.every, as_landed=self.as_landed):
                run = begin_run(storage, self.contract, self.environment, delivery.as_of, reason="replay")
                record = read_record(storage, run.uri)
                if record is None or record.status != "succeeded":
                    land(delivery, self.contract, storage, self.environment.landing(self.contract.name))
                    record = executor.execute(run)
                months.append(Month(delivery, record))
                period_over(months[-1])
        return months

    def _state(self) -> dict[str, Any]:
        import json

        try:
            state: dict[str, Any] = json.loads((self.folder / STATE_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state


def code_digest(folders: Sequence[str] = EXECUTED) -> str:
    """The hash of the sources in some of the project's folders; by default of all that a replay executes."""
    import hashlib

    project = Path(__file__).resolve().parents[2]
    sources = sorted(
        path
        for folder in folders
        for path in (project / folder).rglob("*")
        if path.suffix in (".py", ".j2") and "tests" not in path.parts
    )
    return digest(
        [(path.relative_to(project).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()) for path in sources]
    )
