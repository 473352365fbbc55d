"""How each service runs a step: what starts it, how it is awaited, how it is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.steps import Step
from pipeline.workflow.api import ApiCall
from pipeline.workflow.objects import RETRY, RETRY_IF_NOT_SENT, Subworkflows, request
from pipeline.workflow.syntax import (
    WorkflowStep,
    WorkflowSteps,
    assign,
    attempt,
    call,
    case,
    case_next,
    case_raise,
    case_return,
    fail,
    give,
    go,
    subworkflow,
    switch,
)
from pipeline.workflow.targets import Service, Targets, service_of
from trainer.vertex import JobSettings, custom_job

FUNCTION_TIMEOUT_SECONDS = 1_800
# A call takes what its budget allows, so a step that needs more of them than this makes no headway.
FUNCTION_CALLS = 500


@dataclass(frozen=True)
class Polling:
    """How a job that runs for itself is awaited.

    Attributes:
        look: asks for its state.
        state: the state, an expression over `answer.body`.
        done: states of success.
        failed: states of failure.
        cancel: stops it when its time is up.
        every: seconds between two looks.
    """

    look: ApiCall
    state: str
    done: Sequence[str]
    failed: Sequence[str]
    cancel: ApiCall
    every: int


def polling(service: Service, targets: Targets) -> Polling | None:
    """How a service's jobs are awaited; None for a function, which answers when it is done."""
    if service == "function":
        return None
    if service == "template":
        path = {"projectId": targets.project, "location": targets.region, "jobId": "${job}"}
        jobs = "dataflow.projects.locations.jobs"
        return Polling(
            ApiCall("dataflow.v1b3", f"{jobs}.get", path, {"view": "JOB_VIEW_SUMMARY"}),
            'default(map.get(answer.body, "currentState"), "")',
            ("JOB_STATE_DONE",),
            ("JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED", "JOB_STATE_DRAINED"),
            ApiCall("dataflow.v1b3", f"{jobs}.update", path, body={"requestedState": "JOB_STATE_CANCELLED"}),
            every=30,
        )
    if service == "training":
        jobs, root = "aiplatform.projects.locations.customJobs", _vertex(targets)
        return Polling(
            ApiCall("aiplatform.v1", f"{jobs}.get", {"name": "${job}"}, root=root),
            'default(map.get(answer.body, "state"), "")',
            ("JOB_STATE_SUCCEEDED",),
            ("JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED", "JOB_STATE_PARTIALLY_SUCCEEDED"),
            ApiCall("aiplatform.v1", f"{jobs}.cancel", {"name": "${job}"}, body={}, root=root),
            every=30,
        )
    # An execution has no state of its own: it is over when it has a completion time, and it succeeded when all
    # of its tasks did.
    over = 'default(map.get(answer.body, "completionTime"), "") != ""'
    count = 'default(map.get(answer.body, "{}"), {})'
    well = f"{count.format('succeededCount', 0)} >= {count.format('taskCount', 1)}"
    executions = "run.projects.locations.jobs.executions"
    return Polling(
        ApiCall("run.v2", f"{executions}.get", {"name": "${job}"}),
        f'if({over}, if({well}, "SUCCEEDED", "FAILED"), "RUNNING")',
        ("SUCCEEDED",),
        ("FAILED",),
        ApiCall("run.v2", f"{executions}.cancel", {"name": "${job}"}, body={}),
        every=10,
    )


def awaiting(how: Polling) -> dict[str, Any]:
    """A subworkflow that returns when a job is done, and raises when it failed or its time is up."""

    def among(states: Sequence[str]) -> str:
        return " or ".join(f'state == "{state}"' for state in states)

    def failed(name: str, message: str) -> WorkflowStep:
        return call(name, "raise_failure", folder="${folder}", step="${step}", message=message, final=False)

    return subworkflow(
        ["job", "folder", "step", "seconds"],
        assign("begin", deadline="${sys.now() + seconds}"),
        attempt(request("look", how.look), RETRY),
        assign("understand", state=f"${{{how.state}}}"),
        switch(
            "decide",
            case_return(among(how.done), {"state": "${state}"}),
            case(among(how.failed), failed("ended_badly", '${"its job ended as " + state + ": " + job}')),
            case_next("sys.now() > deadline", "stop"),
        ),
        call("pause", "sys.sleep", seconds=how.every),
        go("look_again", "look"),
        # It may have ended meanwhile; the attempt has failed in any case.
        attempt(request("stop", how.cancel), RETRY, [assign("stopped_before", state="ENDED")]),
        failed("late", '${"it took longer than " + string(seconds) + " seconds and was stopped: " + job}'),
    )


def failure_workflows() -> Subworkflows:
    """`raise_failure`, with the reason that a step recorded, and `again`, the predicate of a step's retries.

    An error is a map with a `message`; with `final` when another attempt would fail alike. What the step recorded
    goes before what its service says (`caudal.unit.record_error`).
    """
    raised = {"message": "${message}", "final": "${final}", "tags": ["StepFailed"]}
    final = '${default(map.get(recorded.value, "final"), true)}'
    recorded = {"message": "${recorded.value.error}", "final": final, "tags": ["StepFailed"]}
    raise_failure = subworkflow(
        ["folder", "step", "message", "final"],
        call("look", "read_object", "recorded", name='${folder + "/" + step + ".error"}'),
        switch("reason", case_raise("recorded.found", recorded)),
        fail("no_reason", raised),
    )
    # A request that was refused as it stands is refused again.
    refused = "code == 400 or code == 401 or code == 403 or code == 404"
    again = subworkflow(
        ["e"],
        assign("begin", code='${default(map.get(e, "code"), 0)}'),
        switch(
            "hopeless",
            case_return(refused, False),
            case_return('default(map.get(e, "final"), false)', False),
        ),
        give("hopeful", True),
    )
    return {"raise_failure": raise_failure, "again": again}


def one_attempt(step: Step, targets: Targets) -> WorkflowSteps:
    """What one attempt of a step does, where `run`, `release`, `folder` and `job_name` are set."""
    service = service_of(step)
    if service == "function":
        return _call_until_done(step, targets)
    started, job = {
        "template": (_launch_template, "${answer.body.job.id}"),
        "training": (_create_training, "${answer.body.name}"),
        "job": (_run_job, "${answer.body.metadata.name}"),
    }[service]
    return [
        attempt(request("start", started(step, targets)), RETRY_IF_NOT_SENT),
        call(
            "await",
            f"await_{service}",
            job=job,
            folder="${folder}",
            step=step.name,
            seconds=step.timeout_minutes * 60,
        ),
    ]


def most_steps(step: Step, targets: Targets) -> int:
    """The most of Workflows' steps that one step of the table can take."""
    how = polling(service_of(step), targets)
    looks = FUNCTION_CALLS if how is None else step.timeout_minutes * 60 // how.every + 1
    return step.attempts * (5 * looks + 40)


def _call_until_done(step: Step, targets: Targets) -> WorkflowSteps:
    remains = f"not(answer.body.{step.repeat_until})" if step.repeat_until else "false"
    stuck = {"message": f"more remains after {FUNCTION_CALLS} calls", "final": True, "tags": ["StepFailed"]}
    why = call(
        "call_failed",
        "raise_failure",
        folder="${folder}",
        step=step.name,
        message='${default(map.get(e, "message"), "the function gave no answer")}',
        final="${not(retriable)}",
    )
    return [
        assign("no_calls", calls=0),
        attempt(
            call(
                "call",
                "http.post",
                "answer",
                url=targets.function,
                auth={"type": "OIDC", "audience": targets.function},
                timeout=min(step.timeout_minutes * 60, FUNCTION_TIMEOUT_SECONDS),
                body={"config": "${run.config}", "run": "${run.uri}"},
            ),
            on_error=[call("call_refused", "again", "retriable", e="${e}"), why],
        ),
        assign("count_calls", calls="${calls + 1}"),
        switch(
            "more",
            case_raise(f"{remains} and calls >= {FUNCTION_CALLS}", stuck),
            case_next(remains, "call"),
        ),
    ]


def _launch_template(step: Step, targets: Targets) -> ApiCall:
    dataflow = targets.dataflow
    environment = {
        "serviceAccountEmail": dataflow.account,
        "subnetwork": dataflow.subnetwork,
        "ipConfiguration": "WORKER_IP_PRIVATE",
        "tempLocation": dataflow.temp,
        "stagingLocation": dataflow.staging,
        "sdkContainerImage": f"${{release.{step.unit}.image}}",
        "numWorkers": dataflow.workers,
        "maxWorkers": dataflow.max_workers,
        "machineType": dataflow.machine_type,
        "diskSizeGb": dataflow.disk_gb,
        "additionalUserLabels": dict(targets.labels),
    }
    parameter = {
        "jobName": "${job_name}",
        "containerSpecGcsPath": f"${{release.{step.unit}.template}}",
        "parameters": {"config": "${run.config}", "run": "${run.uri}"},
        "environment": environment,
    }
    return ApiCall(
        "dataflow.v1b3",
        "dataflow.projects.locations.flexTemplates.launch",
        {"projectId": targets.project, "location": targets.region},
        body={"launchParameter": parameter},
    )


def _create_training(step: Step, targets: Targets) -> ApiCall:
    settings = JobSettings(
        image=f"${{release.{step.unit}.image}}",
        account=targets.training.account,
        output='${run.uri + "/vertex"}',
        timeout_seconds=step.timeout_minutes * 60,
        machine_type=targets.training.machine_type,
        strategy=targets.training.strategy,
        labels=targets.labels,
    )
    return ApiCall(
        "aiplatform.v1",
        "aiplatform.projects.locations.customJobs.create",
        {"parent": f"projects/{targets.project}/locations/{targets.region}"},
        body=custom_job("${job_name}", _arguments(step), settings),
        root=_vertex(targets),
    )


def _run_job(step: Step, targets: Targets) -> ApiCall:
    name = f"projects/{targets.project}/locations/{targets.region}/jobs/{targets.jobs[step.unit]}"
    overrides = {
        "containerOverrides": [{"args": _arguments(step)}],
        "timeout": f"{step.timeout_minutes * 60}s",
    }
    return ApiCall("run.v2", "run.projects.locations.jobs.run", {"name": name}, body={"overrides": overrides})


def _arguments(step: Step) -> list[str]:
    return [step.name, "--config", "${run.config}", "--run", "${run.uri}"]


def _vertex(targets: Targets) -> str:
    return f"https://{targets.region}-aiplatform.googleapis.com/"
