"""Requests to Google Cloud's APIs, checked against the discovery documents that the API client ships.

A value may be an expression (`${...}`), known only when the workflow runs: it is taken for any type. Everything
else is held against the document: the method, the parameters, the names, types and enumerations of the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from pipeline.workflow.errors import InvalidCall

_EXPRESSION = re.compile(r"\$\{.*\}", re.DOTALL)
_PLACE = re.compile(r"\{\+?(\w+)\}")
# Of every method; the documents list them at their top. `uploadType` is the media protocol's own.
_UPLOAD = "uploadType"


@dataclass(frozen=True)
class ApiCall:
    """One request.

    Attributes:
        api: name and version, such as `dataflow.v1b3`.
        method: the method's id, such as `dataflow.projects.locations.flexTemplates.launch`.
        path: values of the path's parameters, text or expressions; an object's name must come encoded.
        query: values of the query's parameters.
        body: the request's body; None for none.
        root: replaces the API's host, for regional endpoints.
        media: the body is an object's content, sent by the simple upload protocol.
    """

    api: str
    method: str
    path: Mapping[str, str]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    root: str | None = None
    media: bool = False

    @property
    def verb(self) -> str:
        """The HTTP verb, as the name of Workflows' function: get, post, ..."""
        return str(self._description["httpMethod"]).lower()

    @property
    def url(self) -> str:
        """The URL: text, or one expression that concatenates text and expressions."""
        document = _document(self.api)
        if self.media:
            template = self._description["mediaUpload"]["protocols"]["simple"]["path"].lstrip("/")
        else:
            template = document.get("servicePath", "") + self._description["path"]
        return concatenate(self.root or document["rootUrl"], *_fill(template, self.path))

    @property
    def _description(self) -> dict[str, Any]:
        return _method(self.api, self.method)

    def check(self) -> None:
        """Holds the request against the API's description.

        Raises:
            InvalidCall: naming the place in the request.
        """
        described = self._description.get("parameters", {})
        for name, parameter in described.items():
            given = self.path if parameter["location"] == "path" else self.query
            if parameter.get("required") and name not in given:
                raise self._invalid(name, "this parameter is required", "give it a value")
        for name, value in self.path.items():
            if described.get(name, {}).get("location") != "path":
                raise self._invalid(name, "the path has no such parameter", f"it has {_list(described)}")
            pattern = described[name].get("pattern")
            if pattern and not is_expression(value) and not re.fullmatch(pattern, value):
                raise self._invalid(name, f"'{value}' is not of the form {pattern}", "give the full name")
        allowed = {**_document(self.api)["parameters"], **described}
        for name, value in self.query.items():
            if name == _UPLOAD and self.media:
                continue
            if name not in allowed:
                raise self._invalid(name, "the method has no such parameter", f"it has {_list(described)}")
            for one in value if allowed[name].get("repeated") else [value]:
                self._check_value(one, allowed[name], name)
        if self.media:
            if "mediaUpload" not in self._description:
                raise self._invalid("body", "the method takes no upload", "send the body as JSON")
            return
        request = self._description.get("request")
        if request is None and self.body is not None:
            raise self._invalid("body", "the method takes no body", "leave it out")
        if request is not None:
            self._check_value(self.body if self.body is not None else {}, request, "body")

    def _check_value(self, value: Any, schema: Mapping[str, Any], where: str) -> None:
        if is_expression(value):
            return
        if "$ref" in schema:
            schema = _document(self.api)["schemas"][schema["$ref"]]
        kind = schema.get("type", "any")
        if kind == "any":
            return
        if not _FITS[kind](value):
            raise self._invalid(where, f"{value!r} is no {kind}", f"give a value of type {kind}")
        if "enum" in schema and value not in schema["enum"]:
            raise self._invalid(where, f"'{value}' is not allowed", f"use one of {', '.join(schema['enum'])}")
        if kind == "array":
            for index, item in enumerate(value):
                self._check_value(item, schema["items"], f"{where}[{index}]")
        if kind == "object":
            properties = schema.get("properties", {})
            for name, inner in value.items():
                known = properties.get(name, schema.get("additionalProperties"))
                if known is None:
                    mend = f"the API knows {_list(properties)}"
                    raise self._invalid(f"{where}.{name}", "the API knows no such field", mend)
                if known.get("readOnly"):
                    raise self._invalid(f"{where}.{name}", "only the API sets this field", "leave it out")
                self._check_value(inner, known, f"{where}.{name}")

    def _invalid(self, place: str, what: str, mend: str) -> InvalidCall:
        return InvalidCall(what, where=f"{self.method}: {place}", mend=mend)


def is_expression(value: object) -> bool:
    """Whether a value is known only when the workflow runs."""
    return isinstance(value, str) and _EXPRESSION.fullmatch(value) is not None


def concatenate(*parts: str) -> str:
    """Text and expressions as one value; text alone stays text.

    Workflows evaluates an expression only where it is the whole value.
    """
    merged: list[str] = []
    for part in parts:
        if merged and not is_expression(part) and not is_expression(merged[-1]):
            merged[-1] += part
        elif part:
            merged.append(part)
    if not any(map(is_expression, merged)):
        return "".join(merged)
    return "${" + " + ".join(part[2:-1] if is_expression(part) else json.dumps(part) for part in merged) + "}"


def _fill(template: str, values: Mapping[str, str]) -> list[str]:
    pieces = _PLACE.split(template)
    return [values[piece] if index % 2 else piece for index, piece in enumerate(pieces)]


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"


_FITS = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, Mapping),
}


@cache
def _document(api: str) -> dict[str, Any]:
    path = files("googleapiclient.discovery_cache.documents") / f"{api}.json"
    if not path.is_file():
        raise InvalidCall("there is no discovery document of this API", where=api, mend="check name and version")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


@cache
def _method(api: str, method: str) -> dict[str, Any]:
    node: dict[str, Any] = _document(api)
    *resources, name = method.split(".")[1:]
    for resource in resources:
        node = node.get("resources", {}).get(resource, {})
    if name not in node.get("methods", {}):
        raise InvalidCall("the API has no such method", where=f"{api}: {method}", mend="check its name")
    description: dict[str, Any] = node["methods"][name]
    return description
