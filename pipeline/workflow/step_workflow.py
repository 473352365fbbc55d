"""The subworkflow of one step: takes up what is recorded, else tries; gives what became of it, never an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.steps import Step
from pipeline.workflow.services import one_attempt
from pipeline.workflow.syntax import (
    WorkflowSteps,
    assign,
    attempt,
    block,
    call,
    case_next,
    case_return,
    give,
    subworkflow,
    switch,
)
from pipeline.workflow.targets import Targets

PAUSE_BETWEEN_ATTEMPTS = {"initial_delay": 30, "max_delay": 300, "multiplier": 2}


def outcome(
    status: str, fields: dict[str, Any], attempts: Any = 0, seconds: Any = 0, error: str = ""
) -> dict[str, Any]:
    """What became of a step: its record, as `pipeline.runs.StepRecord` has it, and the fields conditions read."""
    return {
        "record": {"status": status, "attempts": attempts, "seconds": seconds, "error": error},
        "fields": fields,
    }


def no_fields(fields: Sequence[str]) -> dict[str, Any]:
    """What conditions find in a step that has no result; Workflows knows no missing key."""
    return dict.fromkeys(fields, "")


def step_workflow(step: Step, fields: Sequence[str], contract: str, targets: Targets) -> dict[str, Any]:
    """Compiles one step.

    Args:
        step: the step.
        fields: of its result that conditions read; only then is the result read.
        contract: the contract's name.
        targets: what is called.
    """
    result_name = f'${{folder + "/{step.name}.json"}}'
    error_name = f'${{folder + "/{step.name}.error"}}'
    job_name = '${prefix + text.to_lower(run.id) + "-" + execution + "-" + string(attempts)}'
    values = {name: f'${{default(map.get(found.value, "{name}"), "")}}' for name in fields}
    taken_up = "found.found"
    if step.repeat_until:
        # A function records the result of each call, and the last need not have been made.
        taken_up += f' and default(map.get(found.value, "{step.repeat_until}"), false)'

    def tried(status: str, fields: dict[str, Any], error: str = "") -> dict[str, Any]:
        return outcome(status, fields, "${attempts}", "${sys.now() - started}", error)

    def read_result(name: str) -> dict[str, Any]:
        return call(name, "read_object", "found", name=result_name)

    last: WorkflowSteps = [give("done", tried("succeeded", values))]
    if fields:
        silent = tried("failed", no_fields(fields), "it ended well and recorded no result")
        last = [read_result("read_result"), switch("silent", case_return("not(found.found)", silent)), *last]
    return subworkflow(
        ["run", "folder", "release", "resumed", "execution"],
        assign(
            "begin",
            attempts=0,
            started="${sys.now()}",
            prefix=f"{step.name}-{contract.replace('_', '-')}-",
        ),
        switch("fresh", case_next("not(resumed)", "attempt")),
        read_result("look"),
        switch("take_up", case_return(taken_up, outcome("succeeded", values))),
        attempt(
            block(
                "attempt",
                assign("count", ("attempts", "${attempts + 1}"), started="${sys.now()}", job_name=job_name),
                # What an earlier attempt said must not be taken for the reason of this one.
                call("forget_error", "delete_object", name=error_name),
                *one_attempt(step, targets),
            ),
            {"predicate": "${again}", "max_retries": step.attempts - 1, "backoff": PAUSE_BETWEEN_ATTEMPTS},
            [
                give(
                    "failed",
                    tried("failed", no_fields(fields), '${default(map.get(e, "message"), "an unknown error")}'),
                )
            ],
        ),
        *last,
    )
