"""The step table: what a run does, in which order, under which conditions.

Everything that runs or deploys the pipeline reads this table: the local executor, the compiler to Cloud Workflows
and the derivation of access rights. A step names its unit (a folder in services/) and no backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["ingest_function", "etl_beam", "batch_scoring", "monitor", "trainer"]


@dataclass(frozen=True)
class Condition:
    """Holds when a field of an earlier step's result has the value."""

    step: str
    field: str
    equals: Any

    def holds(self, results: dict[str, dict[str, Any]]) -> bool:
        """Whether it holds for these results; a step that was skipped fulfils no condition."""
        return bool(results.get(self.step, {}).get(self.field) == self.equals)


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        after: steps that must be complete before this one starts.
        when: the condition without which this step, and all that depends on it, is skipped.
        repeat_until: the field of the result that is true when no further call is needed.
        attempts: how often the step is tried in all.
        timeout_minutes: after which an attempt has failed.
    """

    name: str
    unit: Unit
    does: str
    after: tuple[str, ...] = ()
    when: Condition | None = None
    repeat_until: str | None = None
    attempts: int = 3
    timeout_minutes: int = 60

    @property
    def entry(self) -> str:
        """Where the step's function is: `<unit>.step:<name>`."""
        return f"{self.unit}.step:{self.name}"


STEPS: tuple[Step, ...] = (
    Step("ingest", "ingest_function", "loads landed files into the lake, each once", repeat_until="done",
         timeout_minutes=30),
    Step("etl", "etl_beam", "checks, deduplicates and derives features into the warehouse", ("ingest",),
         timeout_minutes=180),
    Step("score", "batch_scoring", "scores each new row once, by the model that was live", ("etl",)),
    Step("inputs", "monitor", "watches volume, freshness, missing values, range and drift", ("etl",)),
    Step("outcomes", "monitor", "watches quality with the labels now due; decides on retraining",
         ("score", "inputs")),
    Step("snapshot", "trainer", "fixes the due, labelled rows", ("outcomes",),
         Condition("outcomes", "retrain", True)),
    Step("train", "trainer", "trains a candidate", ("snapshot",), timeout_minutes=360),
    Step("validate", "trainer", "judges candidate and champion on rows that neither has seen", ("train",)),
    Step("promote", "trainer", "refits the candidate on all due rows and makes it live", ("validate",),
         Condition("validate", "passed", True), timeout_minutes=360),
)  # fmt: skip

BY_NAME: dict[str, Step] = {step.name: step for step in STEPS}
