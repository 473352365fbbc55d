"""Requests are held against Google's discovery documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.workflow.api import ApiCall, concatenate
from pipeline.workflow.errors import InvalidCall

CREATE = ApiCall(
    "aiplatform.v1",
    "aiplatform.projects.locations.customJobs.create",
    {"parent": "projects/p/locations/r"},
    body={
        "displayName": "${name}",
        "jobSpec": {
            "scheduling": {"timeout": "60s", "strategy": "SPOT"},
            "workerPoolSpecs": [{"replicaCount": "1", "containerSpec": {"imageUri": "i", "args": ["train"]}}],
        },
    },
)


def changed(path: str, value: Any) -> ApiCall:
    def put(node: Any, parts: list[str]) -> Any:
        if not parts:
            return value
        head, *rest = parts
        if isinstance(node, list):
            return [put(item, rest) if str(i) == head else item for i, item in enumerate(node)]
        return {**node, head: put(node.get(head, {}), rest)}

    return replace(CREATE, body=put(CREATE.body, path.split(".")))


def test_a_request_as_documented_passes() -> None:
    CREATE.check()
    assert CREATE.url == "https://aiplatform.googleapis.com/v1/projects/p/locations/r/customJobs"
    assert CREATE.verb == "post"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("jobSpec.schedule", {}, "knows no such field"),
        ("jobSpec.scheduling.strategy", "CHEAP", "not allowed"),
        ("jobSpec.scheduling.timeout", 60, "no string"),
        ("jobSpec.workerPoolSpecs.0.containerSpec.args", "train", "no array"),
        ("jobSpec.workerPoolSpecs.0.containerSpec.image", "i", "knows no such field"),
        ("displayName", True, "no string"),
        ("state", "JOB_STATE_FAILED", "only the API sets"),
    ],
)
def test_what_the_api_does_not_know_is_refused_with_its_place(path: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidCall, match=message) as refused:
        changed(path, value).check()
    assert path.rsplit(".", 1)[-1] in str(refused.value)


def test_a_missing_path_parameter_is_refused() -> None:
    with pytest.raises(InvalidCall, match="required"):
        replace(CREATE, path={}).check()


def test_a_name_that_is_not_full_is_refused() -> None:
    with pytest.raises(InvalidCall, match="not of the form"):
        replace(CREATE, path={"parent": "p"}).check()


def test_an_unknown_query_parameter_is_refused() -> None:
    with pytest.raises(InvalidCall, match="no such parameter"):
        replace(CREATE, query={"requestId": "1"}).check()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InvalidCall, match="no such method"):
        replace(CREATE, method="aiplatform.projects.locations.customJobs.run").check()


def test_a_body_where_none_is_taken_is_refused() -> None:
    call = ApiCall("storage.v1", "storage.objects.get", {"bucket": "b", "object": "o"}, body={"a": 1})
    with pytest.raises(InvalidCall, match="takes no body"):
        call.check()


def test_text_and_expressions_become_one_whole_expression() -> None:
    assert concatenate("gs://a/", "${id}", "/x") == '${"gs://a/" + id + "/x"}'
    assert concatenate("gs://a/", "b") == "gs://a/b"
    assert concatenate("${id}") == "${id}"
