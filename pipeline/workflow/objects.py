"""The artifacts bucket: JSON objects read, written and deleted by name, and the lock that is one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.workflow.api import ApiCall, concatenate
from pipeline.workflow.syntax import (
    WorkflowStep,
    assign,
    attempt,
    call,
    case_next,
    case_return,
    give,
    subworkflow,
    switch,
)

# Workflows' own policies: 429, 502, 503, 504 and lost connections; or only what surely was not carried out.
RETRY = "${http.default_retry}"
RETRY_IF_NOT_SENT = "${http.default_retry_non_idempotent}"

Subworkflows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Bucket:
    """A bucket, and the prefix in it below which everything lies."""

    name: str
    prefix: str

    def name_of(self, *parts: str) -> str:
        """The name of an object: text, or an expression."""
        return concatenate(f"{self.prefix}/" if self.prefix else "", *parts)


def request(name: str, api_call: ApiCall, result: str = "answer") -> WorkflowStep:
    """One request, checked against the API's description."""
    api_call.check()
    arguments: dict[str, Any] = {"url": api_call.url, "auth": {"type": "OAuth2"}}
    if api_call.query:
        arguments["query"] = dict(api_call.query)
    if api_call.body is not None:
        arguments["body"] = api_call.body
    return call(name, f"http.{api_call.verb}", result, **arguments)


def object_workflows(bucket: Bucket) -> Subworkflows:
    """`read_object`, `write_object` (at a generation, 0 for none), `replace_object` and `delete_object`."""
    # Always with a value: Workflows knows no missing key, and need not stop at the first half of an `and`.
    absent = [give("absent", {"found": False, "value": {}})]
    read = subworkflow(
        ["name"],
        attempt(
            request("read", _of_object(bucket, "get", query={"alt": "media"})),
            RETRY,
            absent,
            only=404,
        ),
        # The body is a map only where the object's content type says JSON.
        switch("decoded", case_next('get_type(answer.body) == "map"', "found")),
        assign("decode", ("answer.body", "${json.decode(answer.body)}")),
        give("found", {"found": True, "value": "${answer.body}"}),
    )
    write = subworkflow(
        ["name", "value", "generation"],
        attempt(
            request("write", _insert(bucket, ifGenerationMatch="${generation}")),
            RETRY,
            [give("lost", {"written": False, "generation": ""})],
            only=412,
        ),
        give("written", {"written": True, "generation": "${answer.body.generation}"}),
    )
    replace = subworkflow(["name", "value"], attempt(request("replace", _insert(bucket)), RETRY))
    delete = subworkflow(
        ["name"],
        attempt(
            request("delete", _of_object(bucket, "delete")), RETRY, [give("absent", {"found": False})], only=404
        ),
    )
    return {"read_object": read, "write_object": write, "replace_object": replace, "delete_object": delete}


def lock_workflows(bucket: Bucket, contract: str) -> Subworkflows:
    """`acquire_lock` and `release_lock`: one run of a contract at a time.

    The lock is an object that names the execution that holds it. It is created exclusively. One that is there is
    replaced, at exactly the generation that was seen, only when the execution it names is no longer active.
    """
    name = bucket.name_of(f"ledger/{contract}/lock.json")
    look_up = ApiCall(
        "workflowexecutions.v1",
        "workflowexecutions.projects.locations.workflows.executions.get",
        {"name": "${holder.value.execution}"},
        {"view": "BASIC"},
    )
    held = {"held": True, "generation": "${lock.generation}", "by": "", "run": ""}
    refused = {
        "held": False,
        "generation": "",
        "by": "${holder.value.execution}",
        "run": "${holder.value.run}",
    }
    acquire = subworkflow(
        ["execution", "run"],
        assign("begin", name=name, mine={"execution": "${execution}", "run": "${run}"}),
        call("create", "write_object", "lock", name="${name}", value="${mine}", generation="0"),
        switch("created", case_return("lock.written", held)),
        attempt(
            request("see", _of_object(bucket, "get", query={"fields": "generation"}), "seen"),
            RETRY,
            [assign("see_none", seen={"body": {"generation": ""}})],
            only=404,
        ),
        switch("released", case_next('seen.body.generation == ""', "create")),
        call("read", "read_object", "holder", name="${name}"),
        switch("vanished", case_next("not(holder.found)", "create")),
        attempt(
            request("look_up", look_up),
            RETRY,
            [assign("look_up_none", answer={"body": {"state": "UNAVAILABLE"}})],
            only=404,
        ),
        switch("active", case_return('answer.body.state == "ACTIVE" or answer.body.state == "QUEUED"', refused)),
        call(
            "take_over",
            "write_object",
            "lock",
            name="${name}",
            value="${mine}",
            generation="${seen.body.generation}",
        ),
        # Somebody else was faster: look again.
        switch("lost", case_next("not(lock.written)", "create")),
        give("taken", held),
    )
    release = subworkflow(
        ["generation"],
        assign("begin", name=name),
        attempt(
            request("release", _of_object(bucket, "delete", query={"ifGenerationMatch": "${generation}"})),
            RETRY,
            # Whoever took it over holds it now. One that can't be deleted is taken over by the next run.
            [give("kept", {"released": False})],
        ),
    )
    return {"acquire_lock": acquire, "release_lock": release}


def _of_object(bucket: Bucket, method: str, **more: Any) -> ApiCall:
    path = {"bucket": bucket.name, "object": "${text.url_encode(name)}"}
    return ApiCall("storage.v1", f"storage.objects.{method}", path, **more)


def _insert(bucket: Bucket, **query: str) -> ApiCall:
    return ApiCall(
        "storage.v1",
        "storage.objects.insert",
        {"bucket": bucket.name},
        {"uploadType": "media", "name": "${name}", **query},
        "${value}",
        media=True,
    )
