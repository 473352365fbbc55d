"""The page at `/`: a form made from the contract, in one self-contained document."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from serving.instances import ENTITIES

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.contract.columns import Column
    from serving.models import ServedModel


def _part(name: str) -> str:
    return files("serving").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


_TEMPLATE = Template(_part("page.html"))
_STYLE = _part("page.css")
_SCRIPT = _part("page.js")
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render(model: ServedModel) -> str:
    """The page for the live model; its fields hold the package's made-up row."""
    contract = model.contract
    return _TEMPLATE.substitute(
        title=escape(f"{contract.name}: {contract.question}"),
        question=escape(contract.question),
        contract=escape(contract.name),
        version=escape(model.version),
        unit="log-odds" if contract.task != "regression" else "in the unit of the score",
        reasons=contract.serving.reasons,
        fields="\n".join(_fields(model)),
        style=_STYLE,
        script=_SCRIPT,
    )


def _fields(model: ServedModel) -> list[str]:
    contract = model.contract
    example = model.reader.example
    made = [
        _named(contract.columns[contract.key], [contract.key], example.get(contract.key), must=True),
        _field(contract.columns[contract.event_time], [contract.event_time], None, must=False),
    ]
    for feature in contract.model_features():
        if not feature.derived:
            column = contract.columns[feature.name]
            made.append(_field(column, [feature.name], example.get(feature.name), must=_must(contract, column)))
    entities = dict.fromkeys(window.entity for window in contract.features.windows)
    # An entity's latest published state is looked up when its aggregates are left empty.
    made += [_named(contract.columns[entity], [ENTITIES, entity], None, must=False) for entity in entities]
    for window in contract.features.windows:
        made += [_input([name], "number", example.get(name), "", must=False) for name in window.feature_names()]
    return made


def _must(contract: Contract, column: Column) -> bool:
    return column.required and contract.serving.missing == "refuse"


def _named(column: Column, path: list[str], value: object, *, must: bool) -> str:
    """The field of what names a row or an entity: a decimal goes out as text, so that no digit is lost."""
    if column.type == "decimal":
        return _input(path, "text", value, column.unit, must=must)
    return _field(column, path, value, must=must)


def _field(column: Column, path: list[str], value: object, *, must: bool) -> str:
    if column.type == "boolean":
        return _select(path, "boolean", ("true", "false"), str(value).lower(), must=must)
    if column.values is not None:
        return _select(path, "text", column.values, str(value), must=must)
    numeric = column.type in ("integer", "number", "decimal")
    hint = column.unit
    if numeric and column.range is not None:
        hint = f"{column.range[0]:.15g} to {column.range[1]:.15g} {hint}".strip()
    elif column.type in ("date", "timestamp"):
        hint = "now, when empty" if column.type == "timestamp" else "today, when empty"
    return _input(path, "number" if numeric else "text", value, hint, must=must)


def _input(path: list[str], kind: str, value: object, hint: str, *, must: bool) -> str:
    mode = ' inputmode="decimal"' if kind == "number" else ""
    shown = "" if value is None else f' value="{escape(str(value))}"'
    return _label(path, hint, f'<input {_data(path, kind, must)}{mode} autocomplete="off"{shown}>')


def _select(path: list[str], kind: str, values: tuple[str, ...], chosen: str, *, must: bool) -> str:
    options = ([] if must else ['<option value="">not known</option>']) + [
        f'<option value="{escape(v)}"{" selected" if v == chosen else ""}>{escape(v)}</option>' for v in values
    ]
    return _label(path, "", f"<select {_data(path, kind, must)}>{''.join(options)}</select>")


def _data(path: list[str], kind: str, must: bool) -> str:
    # As JSON.stringify writes it, since the script compares the two.
    said = json.dumps(path, separators=(",", ":"), ensure_ascii=False)
    return f'data-path="{escape(said)}" data-kind="{kind}"{" required" if must else ""}'


def _label(path: list[str], hint: str, control: str) -> str:
    told = f" <small>{escape(hint)}</small>" if hint else ""
    return f'<label>{escape(path[-1])}{told}{control}<span class="complaint"></span></label>'
