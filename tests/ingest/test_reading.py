"""What becomes of a record depends on the record alone: not on its neighbours, nor on where a block ends."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal.errors import UnreadableObject
from ingest_function import ndjson, reading
from ingest_function.lake_rows import LakeRows
from ingest_function.reading import read_batches

HEADER = "payment,paid_at,amount,items,rate,channel,abroad,customer,refunded,disputed\n"
ROW = "{},2024-01-01T10:00:00Z,12.50,2,0.5,web,true,Ann,,no\n"


def read(content, name, contract, block_bytes=reading.BLOCK_BYTES):
    """The lake's rows of a file, and its broken records."""
    rows, broken = [], []
    lake = LakeRows(contract, "file:///x", "1", "load", datetime(2024, 1, 1, tzinfo=UTC))
    with mock.patch.object(reading, "BLOCK_BYTES", block_bytes):
        for raw in read_batches(io.BytesIO(content), name, contract, broken.append):
            assert len(raw.rows) == raw.values.num_rows
            rows += lake.convert(raw).to_pylist()
    return rows, broken


# A header that fills the smallest block, so that a block ends wherever it may.
LINES = st.lists(st.sampled_from(["good", "good", "good", "broken", "blank", "no text"]), min_size=1, max_size=120)


@given(LINES, st.integers(100, 1500))
def test_a_csv_record_has_its_number_wherever_broken_ones_and_ends_of_blocks_lie(small_contract, lines, size):
    text, number, good, broken = [HEADER.encode()], 0, [], []
    for line in lines:
        if line == "blank":
            text.append(b"\n")
            continue
        number += 1
        if line == "broken":
            text.append(b"x,y\n")
            broken.append(number)
        elif line == "no text":
            text.append(ROW.format(number).encode().replace(b"Ann", b"\xff"))
            broken.append(number)
        else:
            text.append(ROW.format(number).encode())
            good.append(number)

    contract = small_contract()
    if broken and not good:
        with pytest.raises(UnreadableObject, match="no record can be read"):
            read(b"".join(text), "a.csv", contract, size)
        return
    rows, aside = read(b"".join(text), "a.csv", contract, size)

    assert [row["payment"] for row in rows] == good
    assert [row["_row"] for row in rows] == good
    assert sorted(record.row for record in aside) == broken


def test_one_broken_line_far_into_a_large_csv_leaves_every_number_right(small_contract):
    lines = [ROW.format(number) for number in range(1, 200_001)]
    lines[150_000] = "x,y\n"
    rows, broken = 0, []
    for raw in read_batches(
        io.BytesIO((HEADER + "".join(lines)).encode()), "a.csv", small_contract(), broken.append
    ):
        keys = raw.values.column("payment").cast(pa.int64())
        assert keys.equals(pa.array(raw.rows))
        rows += len(keys)

    assert rows == 199_999
    assert [record.row for record in broken] == [150_001]


BAD = object()
"""In place of a value that is none of its column's type."""

# What a JSON value is in a column of each type: integer, decimal, number and text. Written down, not computed.
MEANING = {
    "null": (None, None, None, None),
    "7": (7, Decimal(7), 7.0, "7"),
    "1.5": (BAD, Decimal("1.5"), 1.5, "1.5"),
    "3.0": (3, Decimal(3), 3.0, "3"),
    "12345678901": (12345678901, Decimal(12345678901), 12345678901.0, "12345678901"),
    "25000000000.5": (BAD, Decimal("25000000000.5"), 25000000000.5, "25000000000.5"),
    "9007199254740993": (2**53 + 1, Decimal(2**53 + 1), 2.0**53, "9007199254740993"),
    "9007199254740993.25": (BAD, Decimal("9007199254740993.25"), 2.0**53 + 2, "9007199254740993.25"),
    "123456789012.123456": (BAD, Decimal("123456789012.123456"), 123456789012.123456, "123456789012.123456"),
    "12345678901234567890": (BAD, Decimal(12345678901234567890), 12345678901234567890.0, "12345678901234567890"),
    "1e-10": (BAD, BAD, 1e-10, "0.0000000001"),
    "1e400": (BAD, BAD, BAD, "1e400"),
    "NaN": (BAD, BAD, BAD, "NaN"),
    '"8"': (8, Decimal(8), 8.0, "8"),
    '"1e3"': (BAD, BAD, 1000.0, "1e3"),
    '"many"': (BAD, BAD, BAD, "many"),
    '"2024-01-01"': (BAD, BAD, BAD, "2024-01-01"),
    "true": (BAD, BAD, BAD, "true"),
    '[1, "a"]': (BAD, BAD, BAD, '[1, "a"]'),
    '{"b": 1}': (BAD, BAD, BAD, '{"b": 1}'),
    '{"c": "2024-01-01"}': (BAD, BAD, BAD, '{"c": "2024-01-01"}'),
}
COLUMNS = ("payment", "amount", "rate", "customer", "surprise")
BROKEN = ['{"payment": 1', "null", "5", '{"payment": 1}{"payment": 2}', '{"customer": "\\ud800"}', "[" * 100_000]

RECORD = st.fixed_dictionaries({}, optional={name: st.sampled_from(sorted(MEANING)) for name in COLUMNS})


@given(
    st.lists(st.one_of(RECORD, RECORD, RECORD, st.sampled_from(BROKEN)), min_size=1, max_size=40),
    st.integers(60, 4000),
    st.integers(1, 20),
)
def test_a_json_value_means_the_same_whatever_its_neighbours_are(small_contract, records, size, one_by_one):
    # A first record that is good in each way, so that the file has its key and event time.
    records = [{"payment": "7"}, *records]
    lines = [
        record
        if isinstance(record, str)
        else "{"
        + ", ".join(['"paid_at": "2024-01-01T10:00:00Z"', *(f'"{k}": {v}' for k, v in record.items())])
        + "}"
        for record in records
    ]
    expected = []
    for number, record in enumerate(records, 1):
        if isinstance(record, str):
            continue
        row, unparsed = {"_row": number}, {}
        for place, name in enumerate(COLUMNS[:4]):
            meaning = MEANING[record.get(name, "null")]
            row[name] = None if meaning[place] is BAD else meaning[place]
            if meaning[place] is BAD:
                unparsed[name] = meaning[3]
        if MEANING[record.get("surprise", "null")][3] is not None:
            unparsed["surprise"] = MEANING[record["surprise"]][3]
        expected.append({**row, "_unparsed": unparsed or None})

    with mock.patch.object(ndjson, "ONE_BY_ONE", one_by_one):
        rows, broken = read("\n".join(lines).encode(), "a.ndjson", small_contract(), size)

    found = [
        {
            **{name: row[name] for name in ("_row", *COLUMNS[:4])},
            "_unparsed": row["_unparsed"] and json.loads(row["_unparsed"]),
        }
        for row in rows
    ]
    assert found == expected
    assert [record.row for record in broken] == [
        number for number, record in enumerate(records, 1) if isinstance(record, str)
    ]


def test_numbers_where_the_contract_has_text_are_parsed_together(small_contract):
    line = '{"payment": %d, "paid_at": "2024-01-01T10:00:00Z", "channel": 5, "customer": "2024-01-01"}\n'
    content = "".join(line % number for number in range(20_000)).encode()
    with mock.patch.object(ndjson, "_one_by_one", side_effect=AssertionError("line by line")):
        rows, _ = read(content, "a.ndjson", small_contract(), 200_000)

    assert {row["channel"] for row in rows} == {"5"}
    assert {row["customer"] for row in rows} == {"2024-01-01"}


def test_one_broken_line_does_not_send_its_block_line_by_line(small_contract):
    line = '{"payment": %d, "paid_at": "2024-01-01T10:00:00Z", "amount": 1.25}\n'
    content = "".join(line % number for number in range(20_000)).encode() + b"{\n"
    seen = []
    parse = ndjson._one_by_one

    def count(lines, *rest):
        seen.extend(lines)
        return parse(lines, *rest)

    with mock.patch.object(ndjson, "_one_by_one", count):
        rows, broken = read(content, "a.ndjson", small_contract())

    assert (len(rows), [record.row for record in broken]) == (20_000, [20_001])
    assert len(seen) <= ndjson.ONE_BY_ONE


@pytest.mark.parametrize("field", ["payment", "paid_at"])
def test_a_json_file_none_of_whose_records_has_the_key_or_the_event_time_is_unreadable(small_contract, field):
    record = {"payment": 1, "paid_at": "2024-01-01T10:00:00Z"}
    del record[field]
    with pytest.raises(UnreadableObject, match=f"'{field}'"):
        read(json.dumps(record).encode(), "a.ndjson", small_contract())


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.parquet"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n"])
def test_a_file_with_nothing_in_it_is_unreadable(small_contract, name, content):
    with pytest.raises(UnreadableObject):
        read(content, name, small_contract())


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_that_has_a_header_and_no_record_is_no_rows(small_contract, name):
    contract = small_contract()
    sink = io.BytesIO()
    pq.write_table(LakeRows(contract, "", "", "", datetime(2024, 1, 1, tzinfo=UTC)).schema.empty_table(), sink)

    assert read(sink.getvalue() if name == "a.parquet" else HEADER.encode(), name, contract) == ([], [])


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError])
def test_a_connection_that_breaks_says_nothing_about_the_file(small_contract, error):
    class Torn(io.BytesIO):
        def read(self, size=-1):
            raise error("torn")

    with pytest.raises(error):
        list(read_batches(Torn(b"x"), "a.csv", small_contract(), lambda broken: None))
