"""Blocks of lines of JSON objects, parsed by Arrow behind a guard.

Arrow's reader (25.0) crashes the process on a text whose only line is `null` and on deep nesting, takes invalid
UTF-8, takes two objects in one line for two rows, and gives up a whole block for one broken line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import pyarrow as pa
import pyarrow.json as pj

# Arrow's parser is recursive: some ten thousand levels overflow its stack. A line can't be nested deeper than it
# has opening brackets.
MOST_BRACKETS = 500

_NO_OBJECT = re.compile(rb"\n[^{\n]")

UNPARSABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
"""What Arrow's reader raises for lines that it can't take: broken ones, and values that don't go together."""

Parsed = TypeVar("Parsed")


def parse_objects(
    block: bytes, options: pj.ParseOptions | None = None, reading: pj.ReadOptions | None = None
) -> pa.Table:
    """One row a line that is not empty.

    Raises:
        UNPARSABLE: some line is broken, is no UTF-8, or is anything but one object
            that begins with the line; `in_runs` finds which.
    """
    if block[:1] not in (b"", b"{", b"\n") or _NO_OBJECT.search(block) is not None:
        raise pa.ArrowInvalid("a line holds no object")
    try:
        block.decode()
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid("a line is not UTF-8") from error
    lines = block.count(b"\n") + (not block.endswith(b"\n"))
    if _brackets(block) > lines + MOST_BRACKETS and max(map(_brackets, block.split(b"\n"))) > MOST_BRACKETS:
        raise pa.ArrowInvalid("a line is nested too deeply")
    table = pj.read_json(pa.BufferReader(block), read_options=reading, parse_options=options)
    if table.num_rows != lines and table.num_rows != sum(1 for line in block.split(b"\n") if line):
        raise pa.ArrowInvalid("a line holds more than one object, or a part of one")
    return table


def in_runs(
    lines: list[bytes], parse: Callable[[bytes], Parsed], smallest: int = 1
) -> Iterator[tuple[int, int, Parsed | None]]:
    """Parses lines together, halving those that don't go together.

    Args:
        parse: raises one of UNPARSABLE for a block that it can't take.
        smallest: runs of so many lines are not halved further.

    Yields:
        Start, stop and what came of these lines, every line once and in order; None where a smallest run can't be
        parsed.
    """
    pending = [(0, len(lines))] if lines else []
    while pending:
        start, stop = pending.pop()
        try:
            parsed = parse(b"\n".join(lines[start:stop]))
        except UNPARSABLE:
            if stop - start > smallest:
                middle = (start + stop) // 2
                pending += [(middle, stop), (start, middle)]
            else:
                yield start, stop, None
        else:
            yield start, stop, parsed


def _brackets(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")
