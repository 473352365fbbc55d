"""The local executor: runs the step table in this process, independent steps side by side.

A step starts when all that it depends on is complete. One whose condition does not hold is skipped, and so is
what depends on it. A failed attempt is repeated up to the step's number of attempts; when they are used up, no
further step starts. What is complete is recorded in the run's folder, so a run that was killed goes on from there.
"""

from __future__ import annotations

import importlib
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, cast

from caudal.errors import CaudalError, StepFailed
from caudal.step import Run, StepContext, StepFunction, StepResult
from caudal.storage.port import join
from caudal.tables import contract_tables
from caudal.unit import RecordedResults, open_context, run_step
from pipeline.runs import RECORD_FILE, RunRecord, StepRecord, read_record, run_lock, this_process
from pipeline.steps import STEPS, Step

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Is told what happens, for a person to watch; called from several threads."""

    def step_started(self, run: Run, step: str) -> None: ...

    def step_ended(self, run: Run, step: str, record: StepRecord, result: StepResult | None) -> None: ...


class Silence:
    """Nobody watches."""

    def step_started(self, run: Run, step: str) -> None:
        """Nothing to show."""

    def step_ended(self, run: Run, step: str, record: StepRecord, result: StepResult | None) -> None:
        """Nothing to show."""


def load_step(step: Step) -> StepFunction:
    """The function that a step's entry names."""
    module, name = step.entry.split(":")
    return cast("StepFunction", getattr(importlib.import_module(module), name))


@contextmanager
def _alone(context: StepContext) -> Iterator[None]:
    """Holds the contract's lock and the warehouse, with its tables there, while steps run."""
    lock = run_lock(context.storage, context.environment, context.run.contract)
    execution = this_process()
    lock.acquire(execution)
    try:
        with context.warehouse as warehouse:
            warehouse.ensure_tables(contract_tables(context.contract))
            yield
    finally:
        lock.release(execution)


class LocalExecutor:
    """Runs steps.

    Args:
        steps: the step table.
        listener: is told what happens.
        load: from a step to its function.
        pause: seconds before a second attempt; doubled before each further one.
    """

    def __init__(
        self,
        steps: Sequence[Step] = STEPS,
        listener: Listener | None = None,
        load: Callable[[Step], StepFunction] = load_step,
        pause: float = 1.0,
    ) -> None:
        self._steps = steps
        self._listener = listener or Silence()
        self._load = load
        self._pause = pause

    def execute(self, run: Run) -> RunRecord:
        """Runs every step that is not complete yet, and records what became of the run.

        Returns:
            The record. A run that succeeded before is not run again.

        Raises:
            StepFailed: a step failed in all its attempts; the record is written before.
            RunInProgress: another run of this contract is active.
        """
        context = open_context(run.config, run.uri)
        before = read_record(context.storage, run.uri)
        if before is not None and before.status == "succeeded":
            return before
        with _alone(context):
            record, failure = self._execute_steps(context)
            context.storage.write_json(join(run.uri, RECORD_FILE), record.to_json())
        if failure is not None:
            raise failure
        return record

    def execute_step(self, run: Run, name: str) -> StepResult:
        """Runs one step again, whatever is recorded of it; the steps before it must be complete.

        Raises:
            StepFailed: a step before it is not complete, or it failed.
        """
        context = open_context(run.config, run.uri)
        step = next(step for step in self._steps if step.name == name)
        for needed in step.after:
            if needed not in context.results:
                raise StepFailed(
                    f"'{name}' needs the result of '{needed}', which this run does not have",
                    where=run.id,
                    mend=f"call `caudal {needed} {run.contract} --as-of ...` first, with the same as-of",
                )
        with _alone(context):
            record, result = self._attempt(step, context)
        if result is None:
            raise StepFailed(f"the step '{name}' failed: {record.error}", where=run.id)
        return result

    def _execute_steps(self, context: StepContext) -> tuple[RunRecord, StepFailed | None]:
        records: dict[str, StepRecord] = {}
        results: dict[str, StepResult] = {}
        recorded = RecordedResults(context.storage, context.run)
        failure: StepFailed | None = None
        waiting = list(self._steps)
        running: dict[Future[tuple[StepRecord, StepResult | None]], Step] = {}
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="step") as pool:
            while waiting or running:
                for step in [s for s in waiting if failure is None and all(a in records for a in s.after)]:
                    waiting.remove(step)
                    skipped = any(records[a].status == "skipped" for a in step.after)
                    if skipped or (step.when is not None and not step.when.holds(results)):
                        records[step.name] = StepRecord("skipped")
                        self._listener.step_ended(context.run, step.name, records[step.name], None)
                    elif step.name in recorded:
                        results[step.name] = recorded[step.name]
                        records[step.name] = StepRecord("succeeded", attempts=0)
                        self._listener.step_ended(context.run, step.name, records[step.name], results[step.name])
                    else:
                        given = replace(context, results=dict(results))
                        running[pool.submit(self._attempt, step, given)] = step
                if failure is not None and not running:
                    break
                if not running:
                    continue
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    step = running.pop(future)
                    records[step.name], result = future.result()
                    if result is None:
                        failure = StepFailed(
                            f"the step '{step.name}' failed: {records[step.name].error}",
                            where=context.run.id,
                            mend="mend the cause and start the run again: it goes on from this step",
                        )
                    else:
                        results[step.name] = result
        return RunRecord(context.run, "failed" if failure else "succeeded", records, results), failure

    def _attempt(self, step: Step, context: StepContext) -> tuple[StepRecord, StepResult | None]:
        """Tries a step up to its number of attempts; no result when all failed."""
        self._listener.step_started(context.run, step.name)
        record = StepRecord("failed")
        for attempt in range(1, step.attempts + 1):
            started = time.perf_counter()
            try:
                result = self._until_done(step, context)
            except Exception as error:
                seconds = time.perf_counter() - started
                if isinstance(error, CaudalError):
                    record = StepRecord("failed", attempt, seconds, str(error))
                    if not error.transient:
                        # It says what a person must mend; the same call would fail again.
                        break
                else:
                    said = f"{type(error).__name__}: {error}"
                    record = StepRecord("failed", attempt, seconds, said, traceback.format_exc())
                log.warning("attempt %d of %d of step '%s' failed: %s", attempt, step.attempts, step.name, error)
                if attempt < step.attempts:
                    time.sleep(self._pause * 2 ** (attempt - 1))
            else:
                record = StepRecord("succeeded", attempt, time.perf_counter() - started)
                self._listener.step_ended(context.run, step.name, record, result)
                return record, result
        self._listener.step_ended(context.run, step.name, record, None)
        return record, None

    def _until_done(self, step: Step, context: StepContext) -> StepResult:
        function = self._load(step)
        if step.repeat_until is None:
            return run_step(step.name, function, context)
        while True:
            result = function(context)
            if result[step.repeat_until]:
                context.storage.write_json(context.run.step_uri(step.name), result)
                return result
