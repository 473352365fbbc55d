"""The step table as Cloud Workflows source.

The workflow does what the local executor does: it starts a step when all before it is complete, skips what a
condition rules out, repeats failed attempts, starts nothing more after a failure, takes up a run that stopped half
way, and leaves the same record.

An execution's argument is a map, every key of which may be left out:

    as_of    the instant, as `2026-11-23T00:00:00Z`; else the start, floored to the schedule's period
    id       the run's name, for a further run of one as-of; else the as-of's
    reason   why it was started; else `schedule`
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caudal.unit import RUN_FILE
from pipeline.runs import RECORD_FILE
from pipeline.steps import STEPS, Condition, Step
from pipeline.workflow.api import concatenate
from pipeline.workflow.errors import WorkflowError
from pipeline.workflow.limits import check_limits
from pipeline.workflow.objects import Bucket, Subworkflows, lock_workflows, object_workflows
from pipeline.workflow.order import Parallel, Part, Series, order
from pipeline.workflow.services import awaiting, failure_workflows, most_steps, polling
from pipeline.workflow.step_workflow import no_fields, outcome, step_workflow
from pipeline.workflow.syntax import (
    WorkflowStep,
    WorkflowSteps,
    assign,
    attempt,
    block,
    call,
    case,
    case_raise,
    case_return,
    fail,
    give,
    parallel,
    subworkflow,
    switch,
)
from pipeline.workflow.targets import Targets, deployed_name, service_of

if TYPE_CHECKING:
    from caudal.environment import Environment

Fields = Mapping[str, Sequence[str]]

_AS_OF = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
# Workflows' steps outside of those of the table: lock, run, record.
_STEPS_AROUND = 200


@dataclass(frozen=True)
class CompiledWorkflow:
    """A workflow's source.

    Attributes:
        subworkflows: by name; an execution begins with `main`.
        text: YAML, as Cloud Workflows takes it.
    """

    subworkflows: Subworkflows
    text: str


def compile_workflow(
    contract: str, environment: Environment, targets: Targets, steps: Iterable[Step] = STEPS
) -> CompiledWorkflow:
    """Compiles the step table for one contract in one environment.

    Raises:
        InvalidOrder: Workflows can't run the table's order.
        InvalidCall: a request is not what the API describes.
        LimitExceeded: the source is beyond a limit of Workflows.
    """
    table = tuple(steps)
    bucket = _artifacts(environment)
    fields = _fields_read(table)
    source: Subworkflows = {"main": _main(contract, environment, bucket, order(table), fields)}
    for step in table:
        source[f"step_{step.name}"] = step_workflow(step, fields[step.name], contract, targets)
    for service in sorted({service_of(step) for step in table}):
        how = polling(service, targets)
        if how is not None:
            source[f"await_{service}"] = awaiting(how)
    source |= failure_workflows() | object_workflows(bucket) | lock_workflows(bucket, contract)
    text = _yaml(source)
    check_limits(source, text, _STEPS_AROUND + sum(most_steps(step, targets) for step in table))
    return CompiledWorkflow(source, text)


def escape_for_terraform(text: str) -> str:
    """A source as Terraform must be given it, so that it takes no expression for one of its own."""
    return text.replace("${", "$${").replace("%{", "%%{")


def _yaml(source: Subworkflows) -> str:
    import yaml

    class Plain(yaml.SafeDumper):
        """Without anchors, which Cloud Workflows does not know."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    header = "# Compiled from pipeline/steps.py; not to be edited.\n"
    return header + yaml.dump(source, Dumper=Plain, sort_keys=False, width=10_000, allow_unicode=True)


def _artifacts(environment: Environment) -> Bucket:
    scheme, _, rest = environment.places.artifacts.partition("://")
    if scheme != "gs":
        raise WorkflowError(
            "Cloud Workflows reads and writes only gs:// URIs",
            where=f"environment '{environment.name}': places.artifacts",
            mend="compile a cloud environment; a laptop runs the local executor",
        )
    name, _, prefix = rest.strip("/").partition("/")
    return Bucket(name, prefix)


def _fields_read(table: tuple[Step, ...]) -> Fields:
    """The fields of each step's result that conditions read."""
    conditions = [step.when for step in table if step.when is not None]
    return {step.name: sorted({c.field for c in conditions if c.step == step.name}) for step in table}


def _main(contract: str, environment: Environment, bucket: Bucket, plan: Part, fields: Fields) -> dict[str, Any]:
    run_all = block(
        "run_all",
        call("read_record", "read_object", "earlier", name="${record_name}"),
        switch(
            "over",
            case(
                'earlier.found and default(map.get(earlier.value, "status"), "") == "succeeded"',
                _unlock("unlock_over"),
                give("over_before", {"run": "${id}", "status": "succeeded"}),
            ),
        ),
        *_begin_run(contract, environment, bucket),
        *_run(plan, fields),
        call("write_record", "replace_object", name="${record_name}", value=_record()),
    )
    return subworkflow(
        ["args"],
        *_understand(contract, environment, bucket),
        assign(
            "no_step_yet",
            ("resumed", False),
            ("failed", False),
            ("error", ""),
            ("records", {}),
            *((_variable(name), outcome("", no_fields(names))) for name, names in fields.items()),
        ),
        call("lock", "acquire_lock", "lock", execution="${workflow}", run="${id}"),
        switch(
            "locked",
            # The scheduler may start twice; the second start of a run is no failure.
            case_return(
                "not(lock.held) and lock.run == id", {"run": "${id}", "status": "active", "by": "${lock.by}"}
            ),
            case_raise(
                "not(lock.held)",
                {"message": '${"another run of this contract is active: " + lock.by}', "tags": ["RunInProgress"]},
            ),
        ),
        attempt(run_all, on_error=[_unlock("unlock_after_error"), fail("raise_error", "${e}")]),
        _unlock("unlock"),
        switch("ended", case_raise("failed", {"message": "${error}", "run": "${id}", "tags": ["StepFailed"]})),
        give("end", {"run": "${id}", "status": "succeeded"}),
    )


def _understand(contract: str, environment: Environment, bucket: Bucket) -> WorkflowSteps:
    """Reads the argument; names the execution, the instant and the run."""
    period = int(environment.schedule.every.total_seconds())
    folder = bucket.name_of(f"runs/{contract}/", "${id}")
    wrong = {
        "message": '${"as_of must read like 2026-11-23T00:00:00Z, not " + as_of}',
        "tags": ["UsageError"],
    }
    return [
        assign(
            "begin",
            ("execution", '${sys.get_env("GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID")}'),
            ("workflow", '${"projects/" + sys.get_env("GOOGLE_CLOUD_PROJECT_NUMBER") + "/locations/"}'),
            ("workflow", '${workflow + sys.get_env("GOOGLE_CLOUD_LOCATION") + "/workflows/"}'),
            ("workflow", '${workflow + sys.get_env("GOOGLE_CLOUD_WORKFLOW_ID") + "/executions/" + execution}'),
            ("given", {}),
            ("now", f"${{math.floor(sys.now() / {period}) * {period}}}"),
            ("as_of", '${text.substring(time.format(now), 0, 19) + "Z"}'),
        ),
        switch("is_given", case("args != null", assign("take_args", given="${args}"))),
        assign("take_as_of", as_of='${default(map.get(given, "as_of"), as_of)}'),
        switch("check_as_of", case_raise(f'not(text.match_regex(as_of, "{_AS_OF}"))', wrong)),
        assign(
            "name_run",
            ("stamp", '${text.replace_all(text.replace_all(as_of, "-", ""), ":", "")}'),
            ("id", '${default(map.get(given, "id"), stamp)}'),
            ("folder", folder),
            ("record_name", f'${{folder + "/{RECORD_FILE}"}}'),
            ("run_name", f'${{folder + "/{RUN_FILE}"}}'),
        ),
    ]


def _begin_run(contract: str, environment: Environment, bucket: Bucket) -> WorkflowSteps:
    """Reads what is deployed, and creates the run's first object, or reads the one that is there."""
    deployed = bucket.name_of(deployed_name(contract))
    run = {
        "id": "${id}",
        "contract": contract,
        "as_of": "${as_of}",
        "uri": concatenate(environment.runs(contract) + "/", "${id}"),
        "config": "${release.config}",
        "reason": '${default(map.get(given, "reason"), "schedule")}',
        "commit": "${release.commit}",
        # A release that was published before this was said says nothing.
        "trainer": '${default(map.get(release.units.trainer, "digest"), "")}',
    }
    nothing = {
        "message": f"nothing is deployed: there is no gs://{bucket.name}/{deployed}; "
        f"mend: caudal publish --env {environment.name}",
        "tags": ["NotFound"],
    }
    return [
        call("read_deployed", "read_object", "deployed", name=deployed),
        switch("is_deployed", case_raise("not(deployed.found)", nothing)),
        assign("describe_run", ("release", "${deployed.value}"), ("run", run)),
        call("create_run", "write_object", "created", name="${run_name}", value="${run}", generation="0"),
        switch(
            "is_new",
            case(
                "not(created.written)",
                call("read_run", "read_object", "begun", name="${run_name}"),
                assign("resume", run="${begun.value}", resumed=True),
            ),
        ),
    ]


def _run(part: Part, fields: Fields) -> WorkflowSteps:
    """Runs a part, and notes what became of each step once nothing runs beside it."""
    if isinstance(part, Series):
        return [step for inner in part.parts for step in _run(inner, fields)]
    return [*_start(part, fields), *(_note(name) for name in _names(part))]


def _start(part: Part, fields: Fields) -> WorkflowSteps:
    """Runs a part; a branch writes no variables but those of its steps."""
    if isinstance(part, Series):
        return [step for inner in part.parts for step in _start(inner, fields)]
    if isinstance(part, Parallel):
        names = _names(part)
        branches = [block(f"beside_{index}", *_start(inner, fields)) for index, inner in enumerate(part.parts, 1)]
        return [parallel(f"beside_{'_'.join(names)}", [_variable(name) for name in names], branches)]
    return [_decide(part, fields[part.name])]


def _decide(step: Step, fields: Sequence[str]) -> WorkflowStep:
    """Runs a step when all before it succeeded and its condition holds; skips it, or leaves it, otherwise.

    After a failure nothing more starts, and what did not start has no record.
    """
    run = call(
        f"run_{step.name}",
        f"step_{step.name}",
        _variable(step.name),
        run="${run}",
        folder="${folder}",
        release="${release.units}",
        resumed="${resumed}",
        execution="${text.substring(execution, 0, 8)}",
    )
    skip = assign(f"skip_{step.name}", (_variable(step.name), outcome("skipped", no_fields(fields))))
    ready = [f'{_status(name)} == "succeeded"' for name in step.after]
    ended = [f'({_status(name)} == "succeeded" or {_status(name)} == "skipped")' for name in step.after]
    if step.when is not None:
        ready.append(_holds(step.when))
    if not ready:
        return run
    # The second condition says all that it needs: it does not rest on the first being false.
    not_run = f'{_status(step.name)} == ""'
    return switch(
        f"decide_{step.name}", case(" and ".join(ready), run), case(" and ".join([not_run, *ended]), skip)
    )


def _holds(when: Condition) -> str:
    return f"{_variable(when.step)}.fields.{when.field} == {json.dumps(when.equals)}"


def _note(name: str) -> WorkflowStep:
    """Takes a step's record into the run's, and remembers the first failure."""
    first_failure = case(
        f'{_status(name)} == "failed" and not(failed)',
        assign(
            f"fail_{name}",
            failed=True,
            error=f"${{\"the step '{name}' failed: \" + {_variable(name)}.record.error}}",
        ),
    )
    return switch(
        f"note_{name}",
        case(
            f'{_status(name)} != ""',
            assign(f"record_{name}", (f"records.{name}", f"${{{_variable(name)}.record}}")),
            switch(f"has_failed_{name}", first_failure),
        ),
    )


def _record() -> dict[str, Any]:
    """What became of the run, as `pipeline.runs.RunRecord` has it; results stay in the run's folder."""
    return {"run": "${run}", "status": '${if(failed, "failed", "succeeded")}', "steps": "${records}"}


def _names(part: Part) -> list[str]:
    if isinstance(part, Step):
        return [part.name]
    return [name for inner in part.parts for name in _names(inner)]


def _variable(name: str) -> str:
    return f"{name}_step"


def _status(name: str) -> str:
    return f"{_variable(name)}.record.status"


def _unlock(name: str) -> WorkflowStep:
    return call(name, "release_lock", generation="${lock.generation}")
