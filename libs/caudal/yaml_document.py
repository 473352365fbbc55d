"""YAML files that people write, read so that every complaint can name a line.

Contract and environment are both pydantic models; this module turns their text into plain values, keeps
the line of every key, and words pydantic's complaints as problems with a place and a mend.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from caudal.errors import Problem

Path = tuple[str | int, ...]


class Section(BaseModel):
    """A part of a file: typed, frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


@dataclass(frozen=True)
class Document:
    """The values of one YAML file and the line on which each was written (lines count from 1)."""

    name: str
    values: dict[str, Any]
    lines: Mapping[Path, int] = field(default_factory=dict)

    def where(self, path: Iterable[str | int]) -> str:
        """`file:line` of the innermost part of `path` that the file holds."""
        path = tuple(path)
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines.get(path, 1)}"


class MalformedYaml(Exception):
    """The text is not a YAML mapping; carries the problem to report."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `on`, `yes`, `1:30` and `2008-05-05` are text, `010` is ten, `1e-3` a number."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""


for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    for _tag, _regular_expression in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _regular_expression, [_first])


def write_document(values: object, *, sort_keys: bool = False) -> str:
    """Values as YAML text that `read_document` reads back as they are."""
    # Letters beyond ASCII are escaped: PyYAML writes some line breaks of Unicode so that it can't read them back.
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=sort_keys, allow_unicode=False))


def read_document(text: str, name: str) -> Document:
    """Parses YAML text into values and lines.

    Raises:
        MalformedYaml: the text is no YAML, no mapping, or says one key twice.
    """
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise MalformedYaml(
                Problem(
                    f"{name}:1",
                    "the file is not a mapping of keys to values",
                    "start from one of the files in contracts/ or environments/",
                )
            )
        lines: dict[Path, int] = {}
        _collect_lines(root, (), lines, name)
        return Document(name, loader.construct_document(root), lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MalformedYaml(
            Problem(
                f"{name}:{line}",
                f"this is not valid YAML: {error.problem}",
                "check the indentation, quotes and brackets of this line",
            )
        ) from error
    except yaml.YAMLError as error:
        raise MalformedYaml(
            Problem(f"{name}:1", f"this is not text that YAML allows: {error}", "remove the character")
        ) from error
    finally:
        if loader is not None:
            loader.dispose()


def _collect_lines(node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                raise MalformedYaml(
                    Problem(
                        f"{name}:{line}",
                        f"the key '{key.value}' is said twice",
                        f"keep one of lines {lines[inner]} and {line}",
                    )
                )
            lines[inner] = line
            _collect_lines(value, inner, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            inner = (*path, position)
            lines[inner] = value.start_mark.line + 1
            _collect_lines(value, inner, lines, name)


def problems_from(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """Words each of pydantic's complaints as a problem, in the order of their lines."""
    problems = []
    for detail in error.errors(include_url=False):
        path: Path = tuple(detail["loc"])
        written = _written(path, document)
        name = ".".join(str(part) for part in written)
        kind = detail["type"]
        if kind == "extra_forbidden":
            known = _keys_at(model, path[:-1])
            close = difflib.get_close_matches(str(path[-1]), known, n=1)
            what = f"unknown key '{name}'"
            mend = f"write '{close[0]}'" if close else f"remove it; known here: {', '.join(known) or 'none'}"
        elif kind == "missing":
            what, mend = f"'{name}' is missing", f"add '{path[-1]}' here"
        else:
            message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            what = f"'{name}': {message[:1].lower()}{message[1:]}"
            given = detail.get("input")
            mend = _mend(kind, detail.get("ctx") or {}, given)
        problems.append(Problem(document.where(path), what, mend))
    return sorted(problems, key=lambda problem: _line(problem.where))


def _line(where: str) -> int:
    return int(where.rsplit(":", 1)[1])


def _written(path: Path, document: Document) -> Path:
    """The path without the names of union members that pydantic puts into it."""
    kept: Path = ()
    for position, part in enumerate(path):
        last = position == len(path) - 1
        if (*kept, part) in document.lines or (last and not str(part).startswith(("function-", "tuple["))):
            kept = (*kept, part)
    return kept


def _mend(kind: str, context: Mapping[str, Any], given: object) -> str:
    if "mend" in context:
        return str(context["mend"])
    if kind in ("literal_error", "enum"):
        expected = str(context.get("expected", ""))
        options = re.findall(r"'([^']*)'", expected)
        close = difflib.get_close_matches(str(given), options, n=1)
        return f"write '{close[0]}'" if close else f"choose one of {expected}"
    if kind == "string_type" and isinstance(given, (bool, int, float)):
        return f'put it in quotes: "{str(given).lower() if isinstance(given, bool) else given}"'
    return f"correct the value {given!r}"


def _keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the section at `path` knows."""
    here: Any = model
    for part in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            fields = here.model_fields
            found = next((f for n, f in fields.items() if part in (n, f.alias)), None)
            here = found.annotation if found else None
        elif get_origin(here) in (dict, Mapping):
            here = get_args(here)[1]
        elif get_origin(here) is tuple:
            here = get_args(here)[0]
        here = _without_none(here)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [f.alias or n for n, f in here.model_fields.items()]
    return []


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next((a for a in get_args(annotation) if a is not type(None)), None)
    return annotation
