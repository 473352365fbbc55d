"""The local executor orders, branches, repeats, skips, and goes on where a run was cut off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from caudal.errors import CaudalError, RunInProgress, StepFailed, WarehouseUnavailable
from caudal.identity import unit_digest
from caudal.step import StepContext
from pipeline.local_executor import LocalExecutor, load_step
from pipeline.runs import begin_run, list_runs, read_record, run_lock, this_process
from pipeline.steps import BY_NAME, STEPS, Condition, Step
from tests.workflow.cloud import Buckets

AS_OF = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def run(small_contract, local_environment, local_storage):
    return begin_run(local_storage, small_contract(), local_environment, AS_OF)


class Steps:
    """Stands for the services: remembers what was called, and does what the test asks."""

    def __init__(self, **behaviour: Callable[[StepContext], dict[str, Any]]) -> None:
        self.called: list[str] = []
        self._behaviour = behaviour
        self._guard = threading.Lock()

    def load(self, step: Step) -> Callable[[StepContext], dict[str, Any]]:
        def function(context: StepContext) -> dict[str, Any]:
            with self._guard:
                self.called.append(step.name)
            return self._behaviour.get(step.name, lambda _: {"done": True})(context)

        return function

    def executor(self, steps: tuple[Step, ...] = STEPS) -> LocalExecutor:
        return LocalExecutor(steps, load=self.load, pause=0)


def test_every_entry_of_the_step_table_names_a_function():
    for step in STEPS:
        assert callable(load_step(step)), step.entry


def test_the_step_table_is_in_an_order_in_which_it_can_run():
    seen: set[str] = set()
    for step in STEPS:
        assert set(step.after) <= seen
        assert step.when is None or step.when.step in seen
        seen.add(step.name)
    assert len(BY_NAME) == len(STEPS)


def test_a_step_starts_when_all_that_it_depends_on_is_complete(run):
    steps = Steps(outcomes=lambda _: {"retrain": True}, validate=lambda _: {"passed": True})
    record = steps.executor().execute(run)

    assert record.status == "succeeded"
    position = {name: index for index, name in enumerate(steps.called)}
    for step in STEPS:
        for before in step.after:
            assert position[before] < position[step.name]


def test_results_of_the_steps_before_are_at_hand(run):
    seen = {}

    def score(context: StepContext) -> dict[str, Any]:
        seen.update(context.results)
        return {"rows": 1}

    Steps(score=score, etl=lambda _: {"rows": {"read": 3}}).executor().execute(run)
    assert seen["etl"] == {"rows": {"read": 3}}


def test_without_a_reason_to_retrain_training_is_skipped_with_all_that_depends_on_it(run):
    steps = Steps(outcomes=lambda _: {"retrain": False})
    record = steps.executor().execute(run)

    assert {name for name, step in record.steps.items() if step.status == "skipped"} == {
        "snapshot", "train", "validate", "promote"}  # fmt: skip
    assert "snapshot" not in steps.called


def test_a_candidate_that_did_not_pass_is_not_promoted(run):
    steps = Steps(outcomes=lambda _: {"retrain": True}, validate=lambda _: {"passed": False})
    record = steps.executor().execute(run)
    assert record.steps["promote"].status == "skipped"
    assert record.status == "succeeded"


def test_independent_steps_run_side_by_side(run):
    both = threading.Barrier(2, timeout=10)

    def meet(_: StepContext) -> dict[str, Any]:
        both.wait()
        return {}

    assert Steps(score=meet, inputs=meet).executor().execute(run).status == "succeeded"


def test_a_step_is_called_again_until_it_says_that_it_is_done(run):
    answers = iter([{"done": False}, {"done": False}, {"done": True}])
    steps = Steps(ingest=lambda _: next(answers))
    record = steps.executor().execute(run)
    assert steps.called.count("ingest") == 3
    assert record.results["ingest"] == {"done": True}


@pytest.mark.parametrize(
    "failures",
    [[ValueError("a hiccup")], [WarehouseUnavailable("503"), WarehouseUnavailable("429")]],
    ids=["any exception", "a warehouse that is unavailable for a moment"],
)
def test_a_failed_attempt_costs_an_attempt_and_not_the_run(run, failures):
    left = iter(failures)

    def etl(_: StepContext) -> dict[str, Any]:
        for failure in left:
            raise failure
        return {"rows": {}}

    record = Steps(etl=etl).executor().execute(run)
    assert record.status == "succeeded"
    assert record.steps["etl"].attempts == len(failures) + 1


def test_when_all_attempts_fail_nothing_further_starts_and_the_record_says_why(run, local_storage):
    def etl(_: StepContext) -> dict[str, Any]:
        raise ValueError("the disk is full")

    steps = Steps(etl=etl)
    with pytest.raises(StepFailed, match="the disk is full"):
        steps.executor().execute(run)
    record = read_record(local_storage, run.uri)
    assert record is not None
    assert record.status == "failed"
    assert record.steps["etl"].attempts == 3
    assert "score" not in record.steps
    assert "score" not in steps.called


def test_a_typed_error_is_not_tried_again(run):
    def etl(_: StepContext) -> dict[str, Any]:
        raise CaudalError("the contract does not fit", mend="correct it")

    steps = Steps(etl=etl)
    with pytest.raises(StepFailed, match="does not fit"):
        steps.executor().execute(run)
    assert steps.called.count("etl") == 1


def test_a_warehouse_that_stays_unavailable_fails_the_step_after_its_attempts_and_says_so(run, local_storage):
    def etl(_: StepContext) -> dict[str, Any]:
        raise WarehouseUnavailable("too many requests", mend="call again later")

    with pytest.raises(StepFailed, match="too many requests"):
        Steps(etl=etl).executor().execute(run)
    record = read_record(local_storage, run.uri)
    assert record is not None
    assert record.steps["etl"].attempts == 3
    assert "call again later" in record.steps["etl"].error
    assert record.steps["etl"].trace == ""


def test_a_run_that_failed_goes_on_from_the_step_that_failed(run):
    broken = [True]

    def etl(_: StepContext) -> dict[str, Any]:
        if broken:
            raise CaudalError("not yet")
        return {"rows": {}}

    steps = Steps(etl=etl)
    with pytest.raises(StepFailed):
        steps.executor().execute(run)
    broken.clear()
    assert steps.executor().execute(run).status == "succeeded"
    assert steps.called.count("ingest") == 1


def test_a_run_that_succeeded_is_not_run_again(run):
    steps = Steps()
    first = steps.executor().execute(run)
    called = list(steps.called)
    assert steps.executor().execute(run).to_json() == first.to_json()
    assert steps.called == called


def test_a_second_run_of_the_contract_is_refused_while_one_is_active(
    run, small_contract, local_environment, local_storage
):
    other = begin_run(local_storage, small_contract(), local_environment, datetime(2024, 2, 1, tzinfo=UTC))
    inside, leave = threading.Event(), threading.Event()

    def slow(_: StepContext) -> dict[str, Any]:
        inside.set()
        assert leave.wait(10)
        return {"done": True}

    first = threading.Thread(target=lambda: Steps(ingest=slow).executor().execute(run))
    first.start()
    assert inside.wait(10)
    lock = run_lock(local_storage, local_environment, run.contract)
    try:
        with pytest.raises(RunInProgress):
            # Another process asks: this one, under another name.
            lock.acquire("process:1:another")
    finally:
        leave.set()
        first.join()
    assert Steps().executor().execute(other).status == "succeeded"


def test_the_lock_of_a_dead_process_is_taken_over(run, local_environment, local_storage):
    run_lock(local_storage, local_environment, run.contract).acquire("process:999999999:1")
    assert Steps().executor().execute(run).status == "succeeded"


def test_this_process_is_active_and_an_earlier_one_of_its_number_is_not():
    from pipeline.runs import process_is_active

    assert process_is_active(this_process())
    kind, pid, _ = this_process().split(":", 2)
    assert not process_is_active(f"{kind}:{pid}:0")


def test_a_run_is_named_by_its_as_of_and_keeps_its_contract(run, small_contract, local_environment, local_storage):
    changed = small_contract({"question": "Another question?"})
    again = begin_run(local_storage, changed, local_environment, AS_OF)
    assert again == run
    assert [found.id for found, _ in list_runs(local_storage, local_environment, run.contract)] == [run.id]


def test_runs_are_listed_with_a_number_of_requests_that_does_not_grow_with_them(small_contract, local_environment):
    storage, contract = Buckets(), small_contract()
    for day in range(1, 21):
        run = begin_run(storage, contract, local_environment, datetime(2024, 1, day, tzinfo=UTC))
        if day == 20:
            continue  # it is not over
        record = {"run": run.to_json(), "status": "failed", "steps": {"ingest": {"status": "failed"}}}
        if day % 2:
            # As a workflow leaves it: results where the steps wrote them.
            storage.write_json(f"{run.uri}/ingest.json", {"rows": day})
            record["steps"] = {"ingest": {"status": "succeeded"}, "etl": {"status": "skipped"}}
        else:
            record["results"] = {"ingest": {"rows": day}}
        storage.write_json(f"{run.uri}/record.json", record)
    storage.write_json(f"{local_environment.runs(contract.name)}/no-run/x.json", {})
    asked = []

    class Counting(Buckets):
        def __getattribute__(self, name):
            if name in ("names", "read_all", "exists", "open", "objects"):
                asked.append(name)
            return getattr(storage, name)

    listed = list_runs(Counting(), local_environment, contract.name)

    assert [run.as_of.day for run, _ in listed] == list(range(1, 21))
    assert [record and record.results["ingest"]["rows"] for _, record in listed] == [*range(1, 20), None]
    assert asked == ["names", "read_all", "read_all", "read_all"]


def test_a_run_keeps_the_trainer_that_it_began_with(run, small_contract, local_environment, local_storage):
    assert run.trainer == unit_digest("trainer")
    other = begin_run(local_storage, small_contract(), local_environment, AS_OF, trainer="of a later release")
    assert other.trainer == run.trainer
    request = "deployed"
    told = begin_run(local_storage, small_contract(), local_environment, AS_OF, request=request, trainer="told")
    assert told.trainer == "told"


def test_a_further_run_of_the_same_as_of_needs_a_request(run, small_contract, local_environment, local_storage):
    further = begin_run(local_storage, small_contract(), local_environment, AS_OF, request="again")
    assert further.id != run.id
    assert further.id.startswith(run.id)


def test_a_single_step_needs_the_results_before_it(run):
    with pytest.raises(StepFailed, match="needs the result of 'ingest'"):
        Steps().executor().execute_step(run, "etl")


def test_a_single_step_is_run_again_when_asked(run):
    steps = Steps()
    steps.executor().execute_step(run, "ingest")
    steps.executor().execute_step(run, "ingest")
    steps.executor().execute_step(run, "etl")
    assert steps.called == ["ingest", "ingest", "etl"]


def test_a_slow_step_does_not_hold_up_the_others(run):
    table = (
        Step("slow", "monitor", "is slow"),
        Step("quick", "monitor", "is quick"),
        Step("after", "monitor", "follows the quick one", ("quick",)),
        Step("never", "monitor", "is not wanted", ("quick",), Condition("quick", "go", True)),
    )
    times = {}

    def at(name: str, pause: float) -> Callable[[StepContext], dict[str, Any]]:
        def function(_: StepContext) -> dict[str, Any]:
            time.sleep(pause)
            times[name] = time.monotonic()
            return {}

        return function

    record = Steps(slow=at("slow", 0.5), quick=at("quick", 0), after=at("after", 0)).executor(table).execute(run)
    assert times["after"] < times["slow"]
    assert record.steps["never"].status == "skipped"
