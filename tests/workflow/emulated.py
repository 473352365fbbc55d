"""Runs compiled workflows in `workflows-emulator`; started in that package's own environment, never imported.

Reads one request a line from standard input, `{"source", "args", "variables", "cloud"}`, and writes one answer a
line: `{"result": ...}` or `{"error": ...}`. Requests to every host go to `cloud`, below the host's name.

What the emulator gets wrong is mended here, so that the source runs as Google documents it:

- `null`, `true`, `false` and `if(...)` are no Python;
- a single expression is its value, not text that is read as YAML again;
- `get_type` does not know the emulator's own maps;
- `switch` goes on to the next condition after one that held and ran steps;
- an `except` leaves the error behind as a map without `get`; a retry sleeps by the wrong keys;
- OIDC is not implemented;
- an error inside `assign` keeps a lock for ever.

Time is the test's: a sleep returns at once and the clock jumps.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import sys
import threading
import time
from datetime import UTC, datetime
from functools import cache
from typing import Any

import requests
import workflows_emulator.lib.http_utils as http
import workflows_emulator.lib.sys_utils as system
import workflows_emulator.lib.time_utils as times
import workflows_emulator.main as engine
import workflows_emulator.render as render
import yaml
from jsonschema import validate
from workflows_emulator.utils import ContextDict, WorkflowError

cloud = ""
variables: dict[str, str] = {}
jumped = 0.0
jump_lock = threading.Lock()
NAME = re.compile(r"\w+")
EXPRESSION = re.compile(r"\$\{(.*)\}", re.DOTALL)


def request(
    method: str,
    url: str,
    body: Any = None,
    headers: Any = None,
    query: Any = None,
    auth: Any = None,
    timeout: float = 300,
) -> dict[str, Any]:
    """What `http.get` and its like do, against the stand-ins; a failed answer is an error as Workflows has it."""
    address = cloud + "/" + url.split("://", 1)[1]
    shown = f"{auth['type']} {auth.get('audience', '')}".strip() if auth else ""
    answer = requests.request(
        method, address, json=plain(body), params=query, headers={"X-Auth": shown, **(headers or {})}, timeout=60
    )
    is_json = "application/json" in answer.headers.get("Content-Type", "")
    content = answer.json() if is_json and answer.text else answer.text
    if answer.status_code >= 400:
        raise WorkflowError(
            message=f"HTTP server responded with error code {answer.status_code}",
            tags=["HttpError"],
            code=answer.status_code,
            headers=dict(answer.headers),
            body=content,
        )
    return {"code": answer.status_code, "headers": dict(answer.headers), "body": content}


def plain(value: Any) -> Any:
    """A value without the emulator's own map type."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in dict.items(value)}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def render_text(value: Any, context: dict[str, Any]) -> Any:
    if isinstance(value, str) and (match := EXPRESSION.fullmatch(value)):
        return plain(render.run_code(match.group(1), context))
    if isinstance(value, str) and "${" in value:
        raise SyntaxError(f"Workflows evaluates only whole values: {value}")
    return value


def run_code(code: str, context: dict[str, Any]) -> Any:
    if len(code) > 400:
        raise SyntaxError(f"expression of {len(code)} characters")
    # The emulator copies all that it is given, for each expression.
    named = {name: context[name] for name in NAME.findall(code) if dict.__contains__(context, name)}
    return plain(original_run_code(re.sub(r"\bif\(", "if_(", code), named))


def assign_var(key: str, value: Any, context: dict[str, Any]) -> tuple[str, Any]:
    root = NAME.findall(key)[0]
    if key == root:
        return root, value
    return original_assign_var(key, value, {root: context[root]})  # type: ignore[no-any-return]


def sleep(seconds: float) -> None:
    global jumped
    with jump_lock:
        jumped += seconds
    time.sleep(0.001)


class Switch(engine.Step):
    """A switch that ends with the first case that holds."""

    def execute(self) -> Any:
        for given in self.config["switch"]:
            held = render.render_config(given["condition"], self.context)
            if not isinstance(held, bool):
                raise SyntaxError(f"the condition is no boolean: {given['condition']}")
            if held:
                rest = {key: value for key, value in given.items() if key != "condition"}
                return engine.execute_step(step_id=self.step_id, config=rest, context=self.context)
        return self.context, self.config.get("next"), None


class Assign(engine.Step):
    """An assignment that gives its lock back when an expression fails."""

    def execute(self) -> Any:
        try:
            return original_assign(self.step_id, self.config, self.context).execute()
        finally:
            if engine.LOCK.locked():
                engine.LOCK.release()


class Try(engine.Step):
    """`try` with `retry` and `except`, as documented."""

    def execute(self) -> Any:
        policy = render.render_config(self.config.get("retry", {}), self.context)
        if "predicate" not in policy:
            policy = {**policy, "predicate": None}
        backoff = policy.get("backoff", {})
        delay = backoff.get("initial_delay", 1)
        for retried in range(policy.get("max_retries", 0) + 1):
            try:
                inner = self.config["try"]
                return engine.execute_step(self.step_id, inner, self.context)
            except WorkflowError as error:
                failure = error
                subworkflows = engine.keep_only_subworkflows(self.context)
                given = {"e": plain(error.payload)}
                if retried == policy.get("max_retries", 0):
                    break
                if policy["predicate"] and not engine.execute_subworkflow(
                    policy["predicate"], given, copy.copy(subworkflows)
                ):
                    break
                sleep(min(delay, backoff.get("max_delay", 60)))
                delay *= backoff.get("multiplier", 1.25)
        if "except" not in self.config:
            raise failure
        self.context[self.config["except"]["as"]] = plain(failure.payload)
        return engine.execute_steps_list(self.config["except"]["steps"], self.context)


def default_predicate(codes: list[int]) -> dict[str, Any]:
    """Workflows' documented predicate, in its own syntax."""
    condition = "${default(map.get(e, 'code'), 0) in " + json.dumps(codes) + "}"
    return {"params": ["e"], "steps": [{"known": {"return": condition}}]}


@cache
def parse(source: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load(source, Loader=yaml.CSafeLoader)
    validate(parsed, schema)
    return parsed


def run(source: str, args: Any) -> dict[str, Any]:
    global jumped
    jumped = 0.0
    parsed = copy.deepcopy(parse(source))
    try:
        return {"result": plain(engine.execute_workflow(parsed, {"args": args})), "slept": jumped}
    except WorkflowError as error:
        return {"error": plain(error.payload), "slept": jumped}


def format_time(seconds: float, tz: str = "UTC") -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


logging.disable(logging.CRITICAL)
original_run_code, original_assign_var = render.run_code, render.assign_var
engine.assign_var = assign_var
render.run_code = engine.run_code = run_code
render.render_str = render_text
render.STANDARD_LIBRARY.update(
    {
        "null": None,
        "true": True,
        "false": False,
        "if_": lambda condition, yes, no: yes if condition else no,
        "default": lambda value, other: other if value is None else value,
        "get_type": lambda value: "map" if isinstance(value, dict) else original_get_type(value),
        "map": type("map", (), {"get": staticmethod(lambda value, key: value.get(key) if value else None)}),
    }
)
original_get_type = __import__("workflows_emulator.lib.helpers", fromlist=["get_type"]).get_type
original_assign = engine.StepAssign
engine.StepSwitch, engine.StepAssign, engine.StepTry, engine.StepRetry = Switch, Assign, Try, Try
http.request = request
http.default_retry = {"predicate": default_predicate([429, 502, 503, 504]), "max_retries": 5}
http.default_retry_non_idempotent = {"predicate": default_predicate([429, 503]), "max_retries": 5}
system.sleep, system.now = sleep, lambda: time.time() + jumped
system.get_env = lambda name, default=None: variables.get(name, default)
times.format = format_time
schema = engine.WORKFLOW_SCHEMA
ContextDict.__repr__ = ContextDict.__str__

for line in sys.stdin:
    asked = json.loads(line)
    cloud, variables = asked["cloud"], asked["variables"]
    try:
        answer = run(asked["source"], asked["args"])
    except Exception as error:
        answer = {"broken": f"{type(error).__name__}: {error}"[:4000]}
    print(json.dumps(answer), flush=True)
