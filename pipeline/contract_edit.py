"""Edits of a contract's text that leave comments, order and layout as they are."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import yaml

from caudal.errors import UsageError

Scalar = str | int | float


def with_values(text: str, path: tuple[str, ...], values: Mapping[str, Scalar]) -> str:
    """The text with scalars of one mapping replaced, or added where the mapping lacks them.

    Args:
        path: of the mapping, such as `("model", "parameters")`.

    Raises:
        UsageError: the text has no such mapping.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for name in path:
        node = _child(node, name)
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise UsageError(
            f"the contract does not say '{'.'.join(path)}'",
            where=".".join(path),
            mend="add the section with at least one value; the proposal then changes it",
        )
    present = {key.value: value for key, value in node.value}
    edits: list[tuple[int, int, str]] = []
    added = []
    for name, value in values.items():
        if name in present:
            old = present[name]
            edits.append((old.start_mark.index, old.end_mark.index, _written(value)))
        else:
            added.append(f"{name}: {_written(value)}")
    if added:
        last = node.value[-1][1].end_mark.index
        first_key = node.value[0][0]
        glue = ", " if node.flow_style else "\n" + " " * first_key.start_mark.column
        edits.append((last, last, "".join(glue + entry for entry in added)))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def as_diff(before: str, after: str, name: str) -> str:
    """A unified diff that `patch -p1` and `git apply` take; empty when nothing changes."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(lines)


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                found: yaml.Node = value
                return found
    return None


def _written(value: Scalar) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
