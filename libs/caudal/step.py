"""What every step of a run is given, and how its result is kept.

A step is a function from a `StepContext` to a small JSON document. The local executor calls it in its own
process; in the cloud the unit's `main` builds the same context from its arguments and calls the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from caudal.backends import open_served_lines, open_storage, open_warehouse
from caudal.identity import format_instant, parse_instant
from caudal.storage.port import join

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.served import ServedLines
    from caudal.storage import Storage
    from caudal.warehouse import Warehouse

StepResult = dict[str, Any]
StepFunction = Callable[["StepContext"], StepResult]


@dataclass(frozen=True)
class Run:
    """One run of a contract's pipeline.

    Attributes:
        id: see `caudal.identity.run_id`.
        as_of: the instant at which the run looks at the world; no code reads the clock to decide about data.
        uri: the run's folder.
        config: the folder with the contract and the environment that the run keeps throughout.
        reason: why it was started: `schedule`, `manual`, `replay`, `code`, ...
        commit: the code's git commit, for people; it enters no identity.
        trainer: the digest of the trainer unit (`caudal.identity.unit_digest`) by which the run would train; empty
            where nobody said it.
    """

    id: str
    contract: str
    as_of: datetime
    uri: str
    config: str
    reason: str = "manual"
    commit: str = ""
    trainer: str = ""

    def step_uri(self, step: str) -> str:
        """Where a step's result is kept."""
        return join(self.uri, f"{step}.json")

    def error_uri(self, step: str) -> str:
        """Where a step says what a person must mend, for whoever can't catch its error."""
        return join(self.uri, f"{step}.error")

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "contract": self.contract,
            "as_of": format_instant(self.as_of),
            "uri": self.uri,
            "config": self.config,
            "reason": self.reason,
            "commit": self.commit,
            "trainer": self.trainer,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Run:
        return Run(**{**value, "as_of": parse_instant(value["as_of"])})


@dataclass(frozen=True)
class StepContext:
    """The contract, the environment, the run and the results of the steps before."""

    contract: Contract
    environment: Environment
    run: Run
    results: Mapping[str, StepResult] = field(default_factory=dict)

    @cached_property
    def storage(self) -> Storage:
        return open_storage(self.environment)

    @cached_property
    def warehouse(self) -> Warehouse:
        return open_warehouse(self.environment)

    @cached_property
    def served_lines(self) -> ServedLines:
        return open_served_lines(self.environment)
