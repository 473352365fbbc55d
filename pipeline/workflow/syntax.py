"""Cloud Workflows' syntax as Python values: each function gives one named step."""

from __future__ import annotations

from typing import Any

WorkflowStep = dict[str, Any]
WorkflowSteps = list[WorkflowStep]
Case = dict[str, Any]


def assign(name: str, /, *pairs: tuple[str, Any], **values: Any) -> WorkflowStep:
    """Assigns variables in order; pairs are for variables that an earlier one needs, and for parts of maps."""
    return {name: {"assign": [{variable: value} for variable, value in (*pairs, *values.items())]}}


def call(name: str, function: str, result: str | None = None, /, **arguments: Any) -> WorkflowStep:
    """Calls a subworkflow or a function of Workflows' library."""
    body: dict[str, Any] = {"call": function, "args": arguments}
    return {name: {**body, "result": result} if result else body}


def switch(name: str, *cases: Case) -> WorkflowStep:
    """Takes the first case whose condition holds, or none."""
    return {name: {"switch": list(cases)}}


def case(condition: str, *steps: WorkflowStep) -> Case:
    """A case that runs steps."""
    return {"condition": f"${{{condition}}}", "steps": list(steps)}


def case_next(condition: str, step: str) -> Case:
    """A case that goes on at another step of the same list."""
    return {"condition": f"${{{condition}}}", "next": step}


def case_return(condition: str, value: Any) -> Case:
    """A case that ends the subworkflow with a value."""
    return {"condition": f"${{{condition}}}", "return": value}


def case_raise(condition: str, error: Any) -> Case:
    """A case that raises an error."""
    return {"condition": f"${{{condition}}}", "raise": error}


def give(name: str, value: Any) -> WorkflowStep:
    """Ends the subworkflow with a value."""
    return {name: {"return": value}}


def fail(name: str, error: Any) -> WorkflowStep:
    """Raises an error."""
    return {name: {"raise": error}}


def go(name: str, step: str) -> WorkflowStep:
    """Goes on at another step of the same list."""
    return {name: {"next": step}}


def attempt(
    step: WorkflowStep, retry: Any = None, on_error: WorkflowSteps | None = None, only: int | None = None
) -> WorkflowStep:
    """A step that is retried, or whose error is handled.

    Args:
        step: what is tried.
        retry: Workflows' retry policy.
        on_error: runs when it failed for good; the error is `e`.
        only: the HTTP status that is handled; every other error is raised again.
    """
    ((name, body),) = step.items()
    tried: dict[str, Any] = {"try": body}
    if retry is not None:
        tried["retry"] = retry
    if on_error is not None:
        steps = list(on_error)
        if only is not None:
            steps.insert(
                0, switch(f"{name}_error", case_raise(f'default(map.get(e, "code"), 0) != {only}', "${e}"))
            )
        tried["except"] = {"as": "e", "steps": steps}
    return {name: tried}


def block(name: str, *steps: WorkflowStep) -> WorkflowStep:
    """Steps under one name."""
    return {name: {"steps": list(steps)}}


def parallel(name: str, shared: list[str], branches: list[WorkflowStep]) -> WorkflowStep:
    """Branches side by side; of the variables outside they may write only the shared ones."""
    return {name: {"parallel": {"shared": shared, "branches": branches}}}


def subworkflow(params: list[str], *steps: WorkflowStep) -> dict[str, Any]:
    """A subworkflow."""
    return {"params": params, "steps": list(steps)}
