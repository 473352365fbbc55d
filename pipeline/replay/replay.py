"""The replay itself: land, run, watch, period by period, and go on after an interruption."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caudal.backends import open_storage, open_warehouse
from caudal.errors import NotFound, UsageError
from caudal.identity import digest
from caudal.storage.files import ASIDE
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
class Replayed:
    """One period of a replay that is over: what landed, and the run that followed."""

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

        What a replay of another contract, sample or code left there is removed first. The state file is there
        before anything else and is never removed, so a replay that is killed at any moment can be started again.

        Raises:
            UsageError: the folder holds something that no replay put there; nothing is removed.
        """
        known = self._state().get("fingerprint")
        if known is None and any(not name.startswith(ASIDE) for name in self._names()):
            raise UsageError(
                "the folder is not empty, and what it holds is no replay's",
                where=str(self.folder),
                mend="name an empty folder with --root, or remove this one yourself",
            )
        if known == self.fingerprint and not fresh:
            return True
        if known is not None:
            self._write_state("")
            self._empty()
        self._write_state(self.fingerprint)
        return False

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []

    def _empty(self) -> None:
        """Removes everything but the state file."""
        for path in (self.folder / name for name in self._names() if name != STATE_FILE):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _write_state(self, fingerprint: str) -> None:
        """Says that the folder is a replay's, and of what; of nothing while it is being emptied."""
        uri = (self.folder / STATE_FILE).as_uri()
        open_storage(self.environment).write_json(uri, {"fingerprint": fingerprint})

    def run(self, listener: Listener, period_over: Callable[[Replayed], None]) -> list[Replayed]:
        """Replays every period that is not over yet.

        Raises:
            StepFailed: a step of a run failed; calling again goes on from there.
        """
        storage = open_storage(self.environment)
        executor = LocalExecutor(listener=listener)
        periods = []
        # One process works here throughout, so the warehouse stays open between the runs.
        with open_warehouse(self.environment):
            for delivery in deliveries(self.contract, self.files, self.every, as_landed=self.as_landed):
                run = begin_run(storage, self.contract, self.environment, delivery.as_of, reason="replay")
                record = read_record(storage, run.uri)
                if record is None or record.status != "succeeded":
                    land(delivery, self.contract, storage, self.environment.landing(self.contract.name))
                    record = executor.execute(run)
                periods.append(Replayed(delivery, record))
                period_over(periods[-1])
        return periods

    def _state(self) -> dict[str, Any]:
        try:
            state = open_storage(self.environment).read_json((self.folder / STATE_FILE).as_uri())
        except (NotFound, ValueError):
            return {}
        return state if isinstance(state, dict) else {}


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
