"""The documented limits of Cloud Workflows: each is met exactly, and one more is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from caudal.environment import parse_environment
from pipeline.steps import STEPS, Step
from pipeline.workflow import compile_workflow, escape_for_terraform
from pipeline.workflow.errors import LimitExceeded, WorkflowError
from pipeline.workflow.limits import check_limits

from .cloud import ENVIRONMENT
from .test_executors import TARGETS


def nested_calls(depth: int) -> dict[str, Any]:
    names = ["main", *(f"w{i}" for i in range(1, depth))]
    last = {names[-1]: {"steps": [{"s": {"return": 1}}]}}
    return {a: {"steps": [{"s": {"call": b}}]} for a, b in pairwise(names)} | last


def one(body: dict[str, Any]) -> dict[str, Any]:
    return {"main": {"steps": [{"s": body}]}}


def branches(count: int, depth: int = 1) -> dict[str, Any]:
    inner = {"assign": [{"a": 1}]} if depth == 1 else branches(1, depth - 1)
    made = [{f"b{depth}_{i}": {"steps": [{f"s{depth}_{i}": inner}]}} for i in range(count)]
    return {"parallel": {"branches": made}}


def beside(outer: int, inner: int) -> dict[str, Any]:
    """Parallels in the branches of a parallel."""

    def branch(name: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: {"steps": steps}}

    def inside(i: int) -> dict[str, Any]:
        made = [branch(f"b{i}_{j}", [{f"s{i}_{j}": {"assign": [{"a": 1}]}}]) for j in range(inner)]
        return {f"p{i}": {"parallel": {"branches": made}}}

    return {"parallel": {"branches": [branch(f"o{i}", [inside(i)]) for i in range(outer)]}}


AT_THE_LIMIT: dict[str, tuple[Any, Any]] = {
    "50 assignments": (one({"assign": [{"a": 1}] * 50}), one({"assign": [{"a": 1}] * 51})),
    "50 conditions": (one({"switch": [{"condition": True}] * 50}), one({"switch": [{"condition": True}] * 51})),
    "10 branches": (one(branches(10)), one(branches(11))),
    "20 branches at a time": (one(beside(4, 5)), one(beside(3, 7))),
    "2 levels of parallels": (one(branches(1, 2)), one(branches(1, 3))),
    "20 levels of calls": (nested_calls(20), nested_calls(21)),
    "400 characters": (one({"return": "${" + "a" * 397 + "}"}), one({"return": "${" + "a" * 398 + "}"})),
    "1,800 seconds": (
        one({"call": "http.post", "args": {"timeout": 1800}}),
        one({"call": "http.post", "args": {"timeout": 1801}}),
    ),
    "10 parameters": (
        {"main": {"params": list("abcdefghij"), "steps": []}},
        {"main": {"params": list("abcdefghijk"), "steps": []}},
    ),
}


@pytest.mark.parametrize(("within", "beyond"), AT_THE_LIMIT.values(), ids=AT_THE_LIMIT)
def test_a_limit_is_met_exactly(within: dict[str, Any], beyond: dict[str, Any]) -> None:
    check_limits(within, "", 0)
    with pytest.raises(LimitExceeded):
        check_limits(beyond, "", 0)


def test_source_and_executed_steps_are_limited() -> None:
    check_limits(one({"return": 1}), "x" * 128 * 1024, 100_000)
    with pytest.raises(LimitExceeded, match="bytes of source"):
        check_limits(one({"return": 1}), "x" * (128 * 1024 + 1), 0)
    with pytest.raises(LimitExceeded, match="steps executed"):
        check_limits(one({"return": 1}), "", 100_001)


def test_two_steps_of_one_name_are_refused_wherever_they_lie() -> None:
    twice = one({"switch": [{"condition": True, "steps": [{"s": {"return": 1}}]}]})
    with pytest.raises(LimitExceeded, match="one name"):
        check_limits(twice, "", 0)


def test_a_subworkflow_that_calls_itself_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="calls itself"):
        check_limits(one({"call": "main"}), "", 0)


def compiled(steps: tuple[Step, ...] = STEPS) -> str:
    return compile_workflow("payments", parse_environment(ENVIRONMENT), TARGETS, steps).text


def test_a_timeout_that_would_poll_too_often_is_refused_when_compiled() -> None:
    with pytest.raises(LimitExceeded, match="steps executed"):
        compiled(tuple(replace(step, timeout_minutes=60 * 24 * 7) for step in STEPS))


def test_a_laptop_is_not_compiled() -> None:
    laptop = parse_environment(ENVIRONMENT.replace("gs://", "file:///").replace("bigquery:", "duckdb:"))
    with pytest.raises(WorkflowError, match="only gs://"):
        compile_workflow("payments", laptop, TARGETS)


def test_the_source_is_the_same_each_time() -> None:
    assert compiled() == compiled()


def test_terraform_leaves_an_escaped_source_as_it_was() -> None:
    source = compiled()
    escaped = escape_for_terraform(source)
    assert "$${" in escaped
    assert escaped.replace("$${", "${").replace("%%{", "%{") == source
    assert "${" not in escaped.replace("$${", "")


def test_an_artifacts_place_may_lie_below_a_prefix() -> None:
    prefixed = parse_environment(ENVIRONMENT.replace("gs://bank-artifacts", "gs://bank-artifacts/team"))
    text = compile_workflow("payments", prefixed, TARGETS).text
    assert '${"team/runs/payments/" + id}' in text
    assert "team/ledger/payments/lock.json" in text
    assert "name: team/config/deployed/payments.json" in text
