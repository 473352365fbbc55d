"""Both executors do the same: order, branches, retries, skips and the run's record.

A scenario says what each step's attempts do. The local executor runs it with functions; the compiled workflow
runs it in an emulator of Cloud Workflows, against stand-ins of the APIs. Neither is the other's oracle for order:
what must hold is also written here.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import unquote

import pytest

from caudal.contract import Contract
from caudal.environment import Environment, parse_environment
from caudal.errors import CaudalError, StepFailed, WarehouseUnavailable
from caudal.identity import parse_instant
from caudal.step import Run, StepContext
from caudal.storage import Storage
from caudal.unit import record_error
from pipeline.local_executor import LocalExecutor
from pipeline.runs import RunRecord, begin_run, read_record
from pipeline.steps import STEPS, Step
from pipeline.workflow import Dataflow, Targets, Training, compile_workflow

from .cloud import ENVIRONMENT, NUMBER, PROJECT, REGION, WORKFLOW, Cloud, execution_name, serve

AS_OF = "2026-11-23T00:00:00Z"
RUN = "gs://bank-artifacts/runs/payments/20261123T000000Z"
LOCK = "gs://bank-artifacts/ledger/payments/lock.json"
FUNCTION = f"https://{REGION}-{PROJECT}.cloudfunctions.net/ingest"
TARGETS = Targets(
    PROJECT,
    REGION,
    FUNCTION,
    {"batch_scoring": "batch-scoring", "monitor": "monitor", "trainer": "trainer"},
    Dataflow("worker@x", f"regions/{REGION}/subnetworks/s", "gs://bank-temp/temp", "gs://bank-temp/staging"),
    Training("trainer@x"),
)
RESULTS: dict[str, dict[str, Any]] = {
    "ingest": {"done": True, "remaining": 0, "rows": 3},
    "etl": {"commit": "c"},
    "score": {"rows": 3, "model_version": "v"},
    "inputs": {"alarms": []},
    "outcomes": {"alarms": [], "retrain": True, "reasons": ["schedule"]},
    "snapshot": {"snapshot": "s", "rows": 3},
    "train": {"version": "v2"},
    "validate": {"passed": True, "verdict": "better"},
    "promote": {"version": "v2"},
}
NAMES = [step.name for step in STEPS]
CRASH = RuntimeError("out of memory")


class Mend(CaudalError):
    """An error that only a person can mend."""


MEND = Mend("the key is missing", where="contract", mend="name it")
LATER = WarehouseUnavailable("too many requests", where="lake", mend="call again later")


@dataclass
class Scenario:
    """What the attempts of each step do: results, or errors to raise; the last is repeated.

    Steps of `together` wait for each other in their first attempt, so they pass only side by side.
    """

    attempts: dict[str, list[Any]] = field(default_factory=dict)
    together: tuple[str, ...] = ()
    events: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._barrier = threading.Barrier(len(self.together)) if self.together else None
        self._tried: dict[str, int] = {}
        self._lock = threading.Lock()

    def step(self, name: str, _: StepContext) -> dict[str, Any]:
        with self._lock:
            tried = self._tried.get(name, 0)
            self._tried[name] = tried + 1
            self.events.append(("start", name))
        if self._barrier is not None and name in self.together and tried == 0:
            self._barrier.wait(5)
        outcomes = self.attempts.get(name, [RESULTS[name]])
        outcome = outcomes[min(tried, len(outcomes) - 1)]
        with self._lock:
            self.events.append(("end", name))
        if isinstance(outcome, Exception):
            raise outcome
        return dict(outcome)

    def order(self) -> set[tuple[str, str]]:
        """Which steps had ended before which began."""
        first = {name: i for i, (kind, name) in reversed(list(enumerate(self.events))) if kind == "start"}
        last = {name: i for i, (kind, name) in enumerate(self.events) if kind == "end"}
        return {(a, b) for a in last for b in first if last[a] < first[b]}

    def calls(self) -> dict[str, int]:
        return dict(self._tried)


def shown(record: RunRecord) -> dict[str, Any]:
    """What must be alike in two records: all but addresses, durations and the wording of crashes."""
    return {
        "run": {"id": record.run.id, "contract": record.run.contract, "as_of": record.run.as_of},
        "status": record.status,
        "steps": {
            name: (step.status, step.attempts, step.error if "mend:" in step.error else bool(step.error))
            for name, step in record.steps.items()
        },
        "results": dict(record.results),
    }


class World:
    """The project in which the compiled workflow runs."""

    def __init__(
        self, execute: Any, contract: Contract, scenario: Scenario, steps: tuple[Step, ...] = STEPS
    ) -> None:
        self.environment = parse_environment(ENVIRONMENT)
        self.cloud = Cloud(contract, self.environment, lambda name: lambda context: scenario.step(name, context))
        self.source = compiled(contract.name, steps)
        self.scenario = scenario
        self._execute = execute
        units = {
            "etl_beam": {
                "image": "registry/etl@sha256:1",
                "template": "gs://bank-artifacts/templates/etl_beam/1.json",
            },
            "trainer": {"image": "registry/trainer@sha256:1", "digest": "0123456789abcdef"},
        }
        deployed = {"config": "gs://bank-artifacts/config/1/payments", "commit": "abc", "units": units}
        self.cloud.buckets.write_json(f"gs://bank-artifacts/config/deployed/{contract.name}.json", deployed)

    def start(self, args: Any = None, execution: str = "11111111-aaaa") -> dict[str, Any]:
        variables = {
            "GOOGLE_CLOUD_PROJECT_NUMBER": NUMBER,
            "GOOGLE_CLOUD_LOCATION": REGION,
            "GOOGLE_CLOUD_WORKFLOW_ID": WORKFLOW,
            "GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID": execution,
        }
        with serve(self.cloud) as address:
            answer: dict[str, Any] = self._execute(self.source, args or {"as_of": AS_OF}, variables, address)
        return answer

    def record(self) -> RunRecord:
        record = read_record(self.cloud.buckets, RUN)
        assert record is not None
        return record


def run_locally(storage: Storage, contract: Contract, environment: Environment, scenario: Scenario) -> RunRecord:
    run = begin_run(storage, contract, environment, parse_instant(AS_OF))
    executor = LocalExecutor(load=lambda step: lambda context: scenario.step(step.name, context), pause=0)
    with suppress(StepFailed):
        executor.execute(run)
    record = read_record(storage, run.uri)
    assert record is not None
    return record


SCENARIOS: dict[str, dict[str, list[Any]]] = {
    "all succeed": {},
    "nothing to retrain": {"outcomes": [{**RESULTS["outcomes"], "retrain": False}]},
    "the gate refuses": {"validate": [{**RESULTS["validate"], "passed": False}]},
    "ingest takes three calls": {
        "ingest": [{"done": False, "remaining": n} for n in (2, 1)] + [RESULTS["ingest"]]
    },
    "ingest crashes between calls": {"ingest": [{"done": False, "remaining": 1}, CRASH, RESULTS["ingest"]]},
    "both parallel steps fail": {"score": [CRASH], "inputs": [CRASH]},
    **{f"{name} crashes once": {name: [CRASH, RESULTS[name]]} for name in NAMES},
    **{f"{name} crashes always": {name: [CRASH]} for name in NAMES},
    **{f"{name} needs a person": {name: [MEND]} for name in NAMES},
    **{f"{name} finds the warehouse busy once": {name: [LATER, RESULTS[name]]} for name in NAMES},
    **{f"{name} finds the warehouse busy always": {name: [LATER]} for name in NAMES},
    "a busy warehouse, then a crash": {"score": [LATER, CRASH, CRASH]},
    "a busy warehouse, then an error for a person": {"etl": [LATER, MEND]},
}


@cache
def compiled(contract: str, steps: tuple[Step, ...]) -> str:
    return compile_workflow(contract, parse_environment(ENVIRONMENT), TARGETS, steps).text


@pytest.mark.parametrize("attempts", SCENARIOS.values(), ids=SCENARIOS)
def test_the_workflow_and_the_local_executor_do_the_same(
    attempts: dict[str, list[Any]],
    execute: Any,
    small_contract: Any,
    local_storage: Storage,
    local_environment: Environment,
) -> None:
    contract = small_contract()
    stops_before = any(isinstance(attempts.get(name, [None])[-1], Exception) for name in ("ingest", "etl"))
    together = () if stops_before else ("score", "inputs")
    here, there = Scenario(attempts, together), Scenario(attempts, together)
    local = run_locally(local_storage, contract, local_environment, here)
    world = World(execute, contract, there)
    answer = world.start()
    assert not world.cloud.buckets.exists(LOCK)
    assert shown(world.record()) == shown(local)
    assert there.order() == here.order()
    assert there.calls() == here.calls()
    assert ("error" in answer) == (local.status == "failed")


@pytest.fixture
def world(execute: Any, small_contract: Any) -> Any:
    """A project whose steps all succeed, unless told otherwise."""
    contract = small_contract()
    return lambda attempts=None, steps=STEPS: World(execute, contract, Scenario(attempts or {}), steps)


def test_a_recorded_error_that_may_pass_is_tried_again_and_told_at_the_end(world: Any) -> None:
    done = world({"etl": [CRASH]})
    behave = done.cloud.behave

    def recording(name: str) -> Any:
        def run(context: StepContext) -> Any:
            if name == "etl":
                record_error(name, context, LATER)
            return behave(name)(context)

        return run

    done.cloud.behave = recording
    done.start()
    etl = done.record().steps["etl"]
    assert etl.attempts == next(step.attempts for step in STEPS if step.name == "etl") > 1
    assert etl.error == str(LATER)


def test_steps_run_in_the_order_of_the_table(world: Any) -> None:
    done = world()
    done.start()
    assert {
        ("ingest", "etl"),
        ("etl", "score"),
        ("etl", "inputs"),
        ("score", "outcomes"),
        ("inputs", "outcomes"),
        ("outcomes", "snapshot"),
        ("snapshot", "train"),
        ("train", "validate"),
        ("validate", "promote"),
    } <= done.scenario.order()


def test_each_step_runs_on_its_own_service(world: Any) -> None:
    done = world()
    done.start()
    asked = [url for verb, url, _ in done.cloud.requests if verb == "POST" and "/upload/" not in url]
    run = f"run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/jobs"
    assert sorted(asked) == sorted(
        [
            FUNCTION.removeprefix("https://"),
            f"dataflow.googleapis.com/v1b3/projects/{PROJECT}/locations/{REGION}/flexTemplates:launch",
            f"{REGION}-aiplatform.googleapis.com/v1/projects/{PROJECT}/locations/{REGION}/customJobs",
            *(
                f"{run}/{job}:run"
                for job in ("batch-scoring", "monitor", "monitor", "trainer", "trainer", "trainer")
            ),
        ]
    )


def test_a_start_without_as_of_takes_the_start_of_the_schedules_period(world: Any) -> None:
    done = world()
    before = datetime.now(UTC)
    answer = done.start({"reason": "schedule"})
    stamps = {moment.strftime("%Y%m%dT000000Z") for moment in (before, datetime.now(UTC))}
    assert answer["result"]["run"] in stamps


def test_the_run_names_its_reason_its_commit_and_the_configuration_that_was_deployed(world: Any) -> None:
    done = world()
    done.start({"as_of": AS_OF, "id": "20261123T000000Z-abcdef", "reason": "code"})
    run = done.cloud.buckets.read_json(f"{RUN}-abcdef/run.json")
    assert run == {
        "id": "20261123T000000Z-abcdef",
        "contract": "payments",
        "as_of": AS_OF,
        "uri": f"{RUN}-abcdef",
        "config": "gs://bank-artifacts/config/1/payments",
        "reason": "code",
        "commit": "abc",
        "trainer": "0123456789abcdef",
    }
    assert Run.from_json(run).trainer == "0123456789abcdef"


def test_a_release_that_was_published_without_its_digests_still_runs(world: Any) -> None:
    done = world()
    name = "gs://bank-artifacts/config/deployed/payments.json"
    deployed = done.cloud.buckets.read_json(name)
    del deployed["units"]["trainer"]["digest"]
    done.cloud.buckets.write_json(name, deployed)
    assert done.start()["result"]["status"] == "succeeded"
    assert done.cloud.buckets.read_json(f"{RUN}/run.json")["trainer"] == ""


def test_a_second_start_of_the_same_run_does_nothing(world: Any) -> None:
    done = world()
    held = {"execution": execution_name("22222222"), "run": "20261123T000000Z"}
    done.cloud.buckets.write_json(LOCK, held)
    done.cloud.executions[execution_name("22222222")] = "ACTIVE"
    answer = done.start()
    assert answer["result"] == {"run": held["run"], "status": "active", "by": held["execution"]}
    assert done.scenario.calls() == {}
    assert done.cloud.buckets.read_json(LOCK) == held


@pytest.mark.parametrize("state", ["ACTIVE", "QUEUED"])
def test_a_run_beside_an_active_one_is_refused_with_its_name(world: Any, state: str) -> None:
    done = world()
    held = {"execution": execution_name("22222222"), "run": "20261122T000000Z"}
    done.cloud.buckets.write_json(LOCK, held)
    done.cloud.executions[held["execution"]] = state
    answer = done.start()
    assert answer["error"]["tags"] == ["RunInProgress"]
    assert held["execution"] in answer["error"]["message"]
    assert done.cloud.buckets.read_json(LOCK) == held


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "SUCCEEDED", None])
def test_the_lock_of_an_execution_that_is_over_is_taken_over(world: Any, state: str | None) -> None:
    done = world()
    held = {"execution": execution_name("22222222"), "run": "20261122T000000Z"}
    done.cloud.buckets.write_json(LOCK, held)
    if state:
        done.cloud.executions[held["execution"]] = state
    assert done.start()["result"]["status"] == "succeeded"
    assert not done.cloud.buckets.exists(LOCK)


def test_a_run_that_succeeded_is_not_run_again(world: Any) -> None:
    done = world()
    done.start()
    calls = done.scenario.calls()
    assert done.start()["result"] == {"run": "20261123T000000Z", "status": "succeeded"}
    assert done.scenario.calls() == calls
    assert not done.cloud.buckets.exists(LOCK)


def test_a_run_that_failed_goes_on_from_the_failed_step(world: Any) -> None:
    done = world({"train": [MEND, RESULTS["train"]]})
    assert "the key is missing" in done.start()["error"]["message"]
    assert done.start()["result"]["status"] == "succeeded"
    record = done.record()
    assert {name: step.attempts for name, step in record.steps.items()} == {
        **dict.fromkeys(NAMES[: NAMES.index("train")], 0),
        **dict.fromkeys(NAMES[NAMES.index("train") :], 1),
    }
    assert done.scenario.calls() == {**dict.fromkeys(NAMES, 1), "train": 2}


def test_an_ingest_that_was_cut_off_between_calls_is_called_again(world: Any) -> None:
    done = world({"ingest": [{"done": False, "remaining": 1}, CRASH, CRASH, CRASH, RESULTS["ingest"]]})
    assert "error" in done.start()
    assert done.start()["result"]["status"] == "succeeded"
    assert done.record().results["ingest"] == RESULTS["ingest"]


@pytest.mark.parametrize("step", ["etl", "score", "train"])
def test_a_job_that_takes_too_long_is_stopped_and_tried_again(world: Any, step: str) -> None:
    done = world(steps=tuple(replace(s, timeout_minutes=3, attempts=2) for s in STEPS))
    done.cloud.hang = {step}
    answer = done.start()
    assert "longer than 180 seconds" in answer["error"]["message"]
    assert done.record().steps[step].attempts == 2
    assert [job.cancelled for job in done.cloud.jobs.values() if job.ended is None] == [True, True]


@pytest.mark.parametrize(
    "fault",
    [(":run", 503), ("executions/job", 502), ("flexTemplates", 429), ("customJobs", 503), ("record.json", 504)],
)
def test_a_passing_fault_of_an_api_costs_no_attempt(world: Any, fault: tuple[str, int]) -> None:
    done = world()
    done.cloud.faults = [fault] * 2
    assert done.start()["result"]["status"] == "succeeded"
    assert not done.cloud.faults
    assert {step.attempts for step in done.record().steps.values()} == {1}


def test_a_launch_that_may_have_been_carried_out_is_not_sent_twice_in_an_attempt(world: Any) -> None:
    done = world()
    done.cloud.faults = [(":run", 504)]
    assert done.start()["result"]["status"] == "succeeded"
    assert {step.attempts for step in done.record().steps.values()} == {1, 2}


def test_a_refused_request_is_not_repeated(world: Any) -> None:
    done = world()
    done.cloud.faults = [("customJobs", 403)]
    assert "403" in done.start()["error"]["message"]
    assert done.record().steps["train"].attempts == 1


def test_an_as_of_that_is_no_instant_is_refused_before_anything_is_written(world: Any) -> None:
    done = world()
    objects = done.cloud.buckets.names("gs://bank-artifacts")
    assert "must read like" in done.start({"as_of": "yesterday"})["error"]["message"]
    assert done.cloud.buckets.names("gs://bank-artifacts") == objects


def test_a_project_without_a_release_says_how_to_publish_one(world: Any) -> None:
    done = world()
    done.cloud.buckets.delete("gs://bank-artifacts/config/deployed/payments.json")
    assert "caudal publish --env test" in done.start()["error"]["message"]
    assert not done.cloud.buckets.exists(LOCK)


def test_only_results_that_conditions_read_are_fetched(world: Any) -> None:
    done = world()
    done.start()
    fetched = {
        unquote(url).rsplit("/", 1)[-1] for verb, url, _ in done.cloud.requests if verb == "GET" and "/o/" in url
    }
    assert fetched == {"payments.json", "record.json", "outcomes.json", "validate.json"}
