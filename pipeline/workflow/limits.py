"""The documented limits of Cloud Workflows, checked when the source is compiled.

Source of the figures: cloud.google.com/workflows/quotas, as collected in November 2026; the number of parameters
is that of SchemaStore's schema of workflows. Two limits depend on what services answer and are kept by design:
512 KB of variables and 2 MB an answer. Only results that conditions name are read, and only those fields kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.workflow.errors import LimitExceeded

SOURCE_BYTES = 128 * 1024
EXPRESSION_CHARACTERS = 400
STEPS_EXECUTED = 100_000
CALL_DEPTH = 20
BRANCHES = 10
PARALLEL_NESTING = 2
CONCURRENT_BRANCHES = 20
ASSIGNMENTS = 50
CONDITIONS = 50
HTTP_TIMEOUT_SECONDS = 1_800
PARAMETERS = 10

Source = Mapping[str, Any]


def check_limits(source: Source, text: str, steps_executed: int) -> None:
    """Checks a source against every limit that is known before it runs.

    Args:
        source: the subworkflows by name.
        text: the source as it is deployed.
        steps_executed: the most steps that one execution can take.

    Raises:
        LimitExceeded: naming the limit and the place.
    """
    _at_most(len(text.encode()), SOURCE_BYTES, "bytes of source", "the workflow", "move work into a service")
    _at_most(steps_executed, STEPS_EXECUTED, "steps executed in the worst case", "the workflow", "poll less often")
    for name, workflow in source.items():
        _at_most(len(workflow.get("params", ())), PARAMETERS, "parameters", name, "pass a map")
        repeated = [step for step, count in Counter(_names(workflow["steps"])).items() if count > 1]
        if repeated:
            raise LimitExceeded(
                "two steps have one name", where=f"{name}.{repeated[0]}", mend="rename one of them"
            )
        _check_steps(workflow["steps"], name)
        wide = _width(workflow["steps"])
        _at_most(wide, CONCURRENT_BRANCHES, "branches at a time", name, "let some steps wait for others")
        for place, value in _leaves(workflow, name):
            if isinstance(value, str) and "${" in value:
                _at_most(
                    len(value), EXPRESSION_CHARACTERS, "characters in an expression", place, "assign parts of it"
                )
    _check_depth(source)


def _check_steps(steps: list[dict[str, Any]], where: str, nesting: int = 0) -> None:
    for step in steps:
        for name, body in step.items():
            place = f"{where}.{name}"
            _at_most(len(body.get("assign", ())), ASSIGNMENTS, "assignments in a step", place, "split the step")
            _at_most(len(body.get("switch", ())), CONDITIONS, "conditions in a step", place, "split the step")
            arguments = body.get("args")
            seconds = arguments.get("timeout", 0) if isinstance(arguments, Mapping) else 0
            if isinstance(seconds, int) and str(body.get("call", "")).startswith("http."):
                _at_most(seconds, HTTP_TIMEOUT_SECONDS, "seconds for an answer", place, "poll instead of waiting")
            if "parallel" in body:
                branches = body["parallel"]["branches"]
                _at_most(len(branches), BRANCHES, "branches in a step", place, "group the steps")
                _at_most(nesting + 1, PARALLEL_NESTING, "levels of parallel steps", place, "flatten the order")
                for branch in branches:
                    for branch_name, inner in branch.items():
                        _check_steps(inner["steps"], f"{place}.{branch_name}", nesting + 1)
            for inner_steps in _inner(body):
                _check_steps(inner_steps, place, nesting)


def _width(steps: list[dict[str, Any]]) -> int:
    """The most branches that run at a time."""
    widths = [1]
    for step in steps:
        for body in step.values():
            branches = body.get("parallel", {}).get("branches", ())
            widths.append(sum(_width(inner["steps"]) for branch in branches for inner in branch.values()))
            widths += [_width(inner) for inner in _inner(body)]
    return max(widths)


def _names(steps: list[dict[str, Any]]) -> Iterator[str]:
    for step in steps:
        for name, body in step.items():
            yield name
            for inner in _inner(body):
                yield from _names(inner)
            for branch in body.get("parallel", {}).get("branches", ()):
                yield from _names([branch])


def _inner(body: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The lists of steps directly inside a step, those of parallel branches aside."""
    holders = [body, body.get("for"), body.get("try"), body.get("except"), *body.get("switch", ())]
    for holder in holders:
        if isinstance(holder, Mapping) and "steps" in holder:
            yield holder["steps"]


def _check_depth(source: Source) -> None:
    calls = {name: {c for c in _calls(workflow) if c in source} for name, workflow in source.items()}

    def depth(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            raise LimitExceeded("a subworkflow calls itself", where=" -> ".join((*path, name)), mend="use a loop")
        return 1 + max((depth(called, (*path, name)) for called in calls[name]), default=0)

    _at_most(depth("main", ()), CALL_DEPTH, "levels of calls", "main", "call less deeply")


def _calls(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("call"), str):
            yield value["call"]
        for inner in value.values():
            yield from _calls(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _calls(inner)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{place}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{index}]")
    else:
        yield place, value


def _at_most(value: int, limit: int, of: str, where: str, mend: str) -> None:
    if value > limit:
        raise LimitExceeded(f"{value:,} {of}; Cloud Workflows allows {limit:,}", where=where, mend=mend)
