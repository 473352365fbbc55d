"""The API's description: FastAPI's own, with the request and the answer of the live model filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from serving.service import Prediction, Predictions

if TYPE_CHECKING:
    from fastapi import FastAPI

    from serving.models import ServedModel

_TEMPLATE = "#/components/schemas/{model}"
_REFUSALS = {
    "413": "The body is too large.",
    "422": "A field is missing, of the wrong type, or outside what the contract allows.",
    "429": "Too many requests from this client.",
    "503": "No model is live yet, or the server is busy.",
}


def describe(app: FastAPI, model: ServedModel) -> dict[str, Any]:
    """OpenAPI 3.1 with the fields, limits and an example of the model's contract."""
    made = get_openapi(title=app.title, version=model.version, description=app.description, routes=app.routes)
    schemas = {**model.reader.schemas(), **_answers(model)}
    # The route's own answers are bytes to FastAPI: these are what the bytes hold.
    made["components"] = {"schemas": schemas | {"Problems": _problems()}}
    example = model.reader.example
    _complete(made["paths"]["/v1/predict"]["post"], "Instance", example, "Prediction")
    _complete(made["paths"]["/v1/predict/batch"]["post"], "Batch", {"instances": [example]}, "Predictions")
    return made


def _complete(operation: dict[str, Any], asked: str, example: dict[str, Any], answered: str) -> None:
    operation["requestBody"] = {"required": True, "content": _content(asked) | {}}
    operation["requestBody"]["content"]["application/json"]["example"] = example
    operation["responses"] = {
        "200": {"description": "The answer.", "content": _content(answered)},
        **{status: {"description": said, "content": _content("Problems")} for status, said in _REFUSALS.items()},
    }


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _TEMPLATE.format(model=schema)}}}


def _answers(model: ServedModel) -> dict[str, Any]:
    single = TypeAdapter(Prediction).json_schema(ref_template=_TEMPLATE, mode="serialization")
    parts = single.pop("$defs")
    contract = model.contract
    single["properties"]["key"] = model.reader.schemas()["Instance"]["properties"][contract.key]
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
