"""Writes the reference pages of contract and environment from the models that read them.

    python docs/generate.py            # writes docs/contract.md and docs/environment.md
    python docs/generate.py --check    # exit status 1 when a page is not up to date

The meaning of a key stands once, in the docstring of its section.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.yaml_document import Section

DOCS = Path(__file__).resolve().parent

CONTRACT_INTRO = """# The contract

One YAML file in contracts/ describes a data set and its model; it is the only file that a new data set needs.
`caudal check` reads it and tells every mistake with file, line and mend. The shipped
[bank_marketing.yaml](../contracts/bank_marketing.yaml) is an example of each part.

Lengths of time are written `14d`, `36h`, `90m`, `30s` or `2w`, up to 100 years. Keys that are not listed here are
refused.

**An edit** is taken up by the next run. Where it changes what rows are (`columns`, `key`, `event_time`, `version`,
`time_zone`, calendar features or windows), that run makes the warehouse's tables anew from the whole lake, as one
run over all files would; a key keeps the as-of at which it first arrived, and its prediction. The result of `etl`
names the parts under `rebuilt`. A column that is new is null in rows that the lake had before, and a row that had
brought it while it was unknown stays refused: land its file again. A column of another type needs another name.

This page is made by `python docs/generate.py` from the models in libs/caudal/contract/."""

ENVIRONMENT_INTRO = """# The environment

One YAML file in environments/ says where things live and how big they are; it is the only file that differs
between a laptop and production. `--env` chooses it, `--root` replaces the folder of a local one.
This page is made by `python docs/generate.py` from the models in libs/caudal/."""


def page(intro: str, model: type[BaseModel]) -> str:
    """The reference of a model and of every section below it."""
    parts = [intro]
    for path, section in _sections(model, ""):
        about, meanings = _docstring(section)
        rows = [
            f"| `{field.alias or name}` | {_type_name(field.annotation)} | {_default(field)} | {meaning} |"
            for name, field in section.model_fields.items()
            for meaning in [meanings.get(name) or _of_section(field)]
        ]
        heading = f"## `{path}`" if path else "## The file"
        table = "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])
        parts.append(f"{heading}\n\n{about}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is not None:
            said = field.alias or name
            mark = {"dict": ".<name>", "tuple": "[]"}.get(_container(field.annotation), "")
            yield from _sections(inner, f"{path}.{said}{mark}".lstrip("."))


def _of_section(field: FieldInfo) -> str:
    """A key that opens a section is explained by it."""
    section = _section_in(field.annotation)
    return _docstring(section)[0].split("\n\n")[0].replace("\n", " ") if section else ""


def _container(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return next((_container(a) for a in get_args(annotation) if a is not type(None)), "")
    return origin.__name__ if origin in (dict, tuple) else ""


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for a in get_args(annotation) if (found := _section_in(a)) is not None), None)


def _docstring(section: type[BaseModel]) -> tuple[str, dict[str, str]]:
    text = inspect.getdoc(section) or ""
    about, _, attributes = text.partition("\nAttributes:\n")
    meanings = {}
    for match in re.finditer(r"^    (\w+): ((?:.|\n(?!    \w+: ))*)", attributes, re.MULTILINE):
        meanings[match[1]] = " ".join(match[2].split())
    return about.strip(), meanings


def _type_name(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(_type_name(a) for a in inner if a is not type(None))
    if origin is dict:
        return f"{_type_name(inner[0])} to {_type_name(inner[1])}"
    if origin is tuple:
        if Ellipsis in inner:
            return f"list of {_type_name(inner[0])}"
        return f"[{', '.join(_type_name(a) for a in inner)}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false",
             "timedelta": "length of time"}  # fmt: skip
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel) or value in ({}, (), "", None):
        return "" if isinstance(value, BaseModel) else "none"
    if isinstance(value, tuple):
        said = ", ".join(str(v) or '""' for v in value)
        return f"`[{said}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


PAGES: dict[str, tuple[str, type[BaseModel]]] = {
    "contract.md": (CONTRACT_INTRO, Contract),
    "environment.md": (ENVIRONMENT_INTRO, Environment),
}


def main(arguments: list[str]) -> int:
    """Writes the pages, or says which are not up to date."""
    stale = []
    for name, (intro, model) in PAGES.items():
        text = page(intro, model)
        path = DOCS / name
        if "--check" in arguments:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    for name in stale:
        print(f"docs/{name} is not up to date: call `python docs/generate.py`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
