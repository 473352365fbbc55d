"""Lines of JSON objects go through Arrow only where it takes them for what they are."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal.json_lines import in_runs, parse_objects

UNFIT = {
    "null alone, which crashes Arrow's reader": b"null",
    "null behind an object": b'{"a": 1}\nnull',
    "bytes that are no UTF-8": b'{"a": "\xff\xfe"}',
    "two objects in a line": b'{"a": 1}{"a": 2}',
    "an object over two lines": b'{"a":\n{"b": 1}}',
    "nesting so deep that it crashes Arrow's reader": b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "the same with objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "a line that is torn": b'{"a": 1',
    "a number": b"5",
}


@pytest.mark.parametrize("block", UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_block_with_a_line_that_is_no_object_is_refused_whole(block, end):
    with pytest.raises(pa.ArrowInvalid):
        parse_objects(block + end)


@pytest.mark.parametrize("block", [b'{"a": 1}', b'{"a": 1}\n', b'\n{"a": 1}\n\n', b'{"a": 1}\r\n'])
def test_empty_lines_and_the_last_line_end_are_no_rows(block):
    assert parse_objects(block).to_pylist() == [{"a": 1}]


def test_many_brackets_in_many_lines_are_not_deep():
    block = b'{"a": [[1], [2], [3]]}\n' * 5000
    assert parse_objects(block).num_rows == 5000


@given(
    st.lists(st.sampled_from([b'{"a": 1}', b'{"a": "x"}', b"null", b'{"a"']), max_size=40),
    st.integers(1, 5),
)
def test_runs_hold_every_line_once_and_in_order_and_what_failed_is_small(lines, smallest):
    runs = list(in_runs(lines, parse_objects, smallest))

    assert [line for start, stop, _ in runs for line in lines[start:stop]] == lines
    for start, stop, table in runs:
        if table is None:
            assert stop - start <= smallest
        else:
            assert table.num_rows == stop - start
    if smallest == 1:
        good = sum(table.num_rows for _, _, table in runs if table is not None)
        assert good == sum(line.endswith(b"}") for line in lines)
