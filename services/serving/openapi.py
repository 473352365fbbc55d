"""The API's description: FastAPI's own of the plain routes, and that of predictions from the live model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from serving.service import Prediction, Predictions

if TYPE_CHECKING:
    from fastapi import FastAPI

    from serving.models import ServedModel

ONE, MANY = "/v1/predict", "/v1/predict/batch"
MOST_REASONS = 100

_TEMPLATE = "#/components/schemas/{model}"
_REFUSALS = {
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "422": "A field is missing, of the wrong type, or outside what the contract allows.",
    "429": "Too many requests from this client.",
    "431": "The headers, or the address, are too large.",
    "500": "The server failed; its log says where.",
    "503": "No model is live yet or none could be loaded, or the server is busy.",
}


class Description:
    """The description as JSON, made once for each model: it takes tens of milliseconds."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._made: tuple[ServedModel, bytes] | None = None

    def of(self, model: ServedModel) -> bytes:
        """The description with the fields of the model's contract."""
        if self._made is None or self._made[0] is not model:
            self._made = (model, json.dumps(describe(self._app, model)).encode())
        return self._made[1]


def describe(app: FastAPI, model: ServedModel) -> dict[str, Any]:
    """OpenAPI 3.1 with the fields, limits and an example of the model's contract."""
    made = get_openapi(title=app.title, version=model.version, description=app.description, routes=app.routes)
    schemas = {**model.reader.schemas(), **_answers(model)}
    made["components"] = {"schemas": schemas | {"Problems": _problems()}}
    example = model.reader.example
    reasons = _reasons_parameter(model)
    made["paths"] = {
        ONE: {"post": _operation("Scores one row.", "Instance", example, "Prediction", reasons)},
        MANY: {
            "post": _operation(
                "Scores several rows, in their order; all of them or none.",
                "Batch",
                {"instances": [example]},
                "Predictions",
                reasons,
            )
        },
        **made["paths"],
    }
    return made


def _reasons_parameter(model: ServedModel) -> dict[str, Any]:
    told = model.contract.serving.reasons
    return {
        "name": "reasons",
        "in": "query",
        "description": "How many of the features that moved the score most are told. "
        f"Without a number (`?reasons`) {told}, by the contract; none where it is not asked for.",
        "allowEmptyValue": True,
        "schema": {"type": "integer", "minimum": 0, "maximum": MOST_REASONS, "default": 0},
    }


def _operation(
    summary: str, asked: str, example: dict[str, Any], answered: str, reasons: dict[str, Any]
) -> dict[str, Any]:
    body = _content(asked)
    body["application/json"]["example"] = example
    return {
        "summary": summary,
        "operationId": f"predict_{asked.lower()}",
        "parameters": [reasons],
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "The answer.", "content": _content(answered)},
            **{
                status: {"description": said, "content": _content("Problems")}
                for status, said in _REFUSALS.items()
            },
        },
    }


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _TEMPLATE.format(model=schema)}}}


def _answers(model: ServedModel) -> dict[str, Any]:
    single = TypeAdapter(Prediction).json_schema(ref_template=_TEMPLATE, mode="serialization")
    parts = single.pop("$defs")
    contract = model.contract
    asked = model.reader.schemas()["Instance"]["properties"][contract.key]
    # A decimal may be asked for in two ways, and is answered as text.
    single["properties"]["key"] = {**asked.pop("anyOf", [{}])[0], **asked}
    if model.outcomes:
        single["properties"]["prediction"]["enum"] = list(model.outcomes)
    if contract.task != "regression":
        single["properties"]["score"] |= {"minimum": 0, "maximum": 1}
    many = TypeAdapter(Predictions).json_schema(ref_template=_TEMPLATE, mode="serialization")
    many.pop("$defs")
    return {**parts, "Prediction": single, "Predictions": many}


def _problems() -> dict[str, Any]:
    place = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}
    one = {
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": {"loc": place, "msg": {"type": "string"}, "type": {"type": "string"}},
    }
    return {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "array", "items": one}}}
