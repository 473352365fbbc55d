"""Landed files reach the lake, each once, whatever they hold."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from unittest.mock import ANY

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caudal.ledger import LoadLedger
from ingest_function import lake_rows, reading, staging, step

HEADER = "payment,paid_at,amount,items,rate,channel,abroad,customer,refunded,disputed\n"
ROW = "{},2024-01-01T10:00:00Z,12.50,2,0.5,web,true,Ann,,no\n"


def quarantined(at, pattern):
    """What lies in quarantine under a name."""
    found = Path(at.environment.root_path).glob(f"artifacts/quarantine/payments/*/{pattern}")
    return sorted(found)


def test_a_csv_file_is_typed_by_the_contract_and_keeps_its_lineage(desk):
    at = desk()
    landed = at.land("a.csv", HEADER + ROW.format(7))
    os.utime(landed, (1704153600, 1704153600))

    result = at.ingest()

    assert result == {
        "done": True,
        "remaining": 0,
        "rows": 1,
        "quarantined": 0,
        "files_quarantined": 0,
        "loads": 1,
    }
    (row,) = at.lake()
    assert row["payment"] == 7
    assert row["paid_at"] == datetime(2024, 1, 1, 10, tzinfo=UTC)
    assert row["amount"] == Decimal("12.5")
    assert row["abroad"] is True
    assert row["refunded"] is None
    assert row["_unparsed"] is None
    assert row["_row"] == 1
    assert row["_source_uri"].endswith("/payments/a.csv")
    assert row["_ingested_at"] == datetime(2024, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.ndjson", "a.jsonl.gz", "a.parquet"])
def test_every_format_gives_the_same_rows(desk, name):
    at = desk()
    record = {
        "payment": 7, "paid_at": "2024-01-01T10:00:00Z", "amount": 12.5, "items": 2, "rate": 0.5,
        "channel": "web", "abroad": True, "customer": "Ann", "refunded": None, "disputed": "no",
    }  # fmt: skip
    if ".csv" in name:
        content: str | bytes = HEADER + ROW.format(7)
    elif name.endswith(".parquet"):
        sink = io.BytesIO()
        typed = {**record, "paid_at": datetime(2024, 1, 1, 10, tzinfo=UTC)}
        pq.write_table(pa.Table.from_pylist([typed]), sink)
        content = sink.getvalue()
    else:
        content = json.dumps(record) + "\n"
    at.land(name, content)

    at.ingest()

    (row,) = at.lake()
    expected = {**record, "paid_at": datetime(2024, 1, 1, 10, tzinfo=UTC), "amount": Decimal("12.5")}
    assert {column: row[column] for column in expected} == expected


def test_a_file_is_loaded_once_however_often_the_step_is_called(desk):
    at = desk()
    at.land("a.csv", HEADER + ROW.format(1) + ROW.format(2))
    at.ingest()
    again = at.ingest(datetime(2024, 2, 1, tzinfo=UTC))

    assert len(at.lake()) == 2
    assert again["rows"] == 0


def test_a_file_that_changes_is_loaded_again_as_a_new_generation(desk):
    at = desk()
    at.land("a.csv", HEADER + ROW.format(1))
    at.ingest()
    at.land("a.csv", HEADER + ROW.format(1) + ROW.format(2))
    at.ingest(datetime(2024, 2, 1, tzinfo=UTC))

    assert len(at.lake()) == 3
    assert len({row["_source_generation"] for row in at.lake()}) == 2


def test_a_small_budget_is_kept_and_the_rest_is_taken_by_further_calls(desk):
    at = desk()
    for name in "abc":
        at.land(f"{name}.csv", HEADER + ROW.format(ord(name)))
    small = at.environment.ingest.model_copy(update={"budget_bytes": 1})
    at.environment = at.environment.model_copy(update={"ingest": small})

    calls = [at.ingest() for _ in range(3)]

    assert [call["remaining"] for call in calls] == [2, 1, 0]
    assert [call["done"] for call in calls] == [False, False, True]
    assert calls[-1]["rows"] == 3


def test_a_value_that_does_not_parse_is_kept_as_text(desk):
    at = desk()
    at.land("a.csv", HEADER + "1,2024-01-01T10:00:00Z,a lot,2.5,1e3,web,maybe,Ann,NaN,no\n" + ROW.format(2))
    at.ingest()

    first, second = at.lake()
    assert first["amount"] is None
    assert first["items"] is None
    assert first["rate"] == 1000.0
    assert json.loads(first["_unparsed"]) == {
        "amount": "a lot", "items": "2.5", "abroad": "maybe", "refunded": "NaN"}  # fmt: skip
    assert second["_unparsed"] is None


def test_a_column_that_the_contract_does_not_know_is_kept_as_text(desk):
    at = desk()
    at.land("a.csv", HEADER.replace("rate", "surprise") + ROW.format(1))
    at.ingest()

    (row,) = at.lake()
    assert row["rate"] is None
    assert json.loads(row["_unparsed"]) == {"surprise": "0.5"}


def test_a_broken_line_is_quarantined_as_one_row_with_its_number_and_the_others_go_on(desk):
    at = desk()
    at.land("a.csv", HEADER + ROW.format(1) + "2,only,three\n" + ROW.format(3))
    result = at.ingest()

    assert (result["rows"], result["quarantined"]) == (2, 1)
    assert [row["_row"] for row in at.lake()] == [1, 3]
    (records,) = Path(at.environment.root_path).glob("artifacts/quarantine/payments/*/records.ndjson")
    (record,) = [json.loads(line) for line in records.read_text().splitlines()]
    assert record["row"] == 2
    assert record["text"] == "2,only,three"


def test_a_broken_ndjson_line_is_quarantined_and_a_value_of_another_type_is_not(desk):
    at = desk()
    good = '{"payment": 1, "paid_at": "2024-01-01T10:00:00Z", "channel": "web", "items": 3}\n'
    odd = '{"payment": 2, "paid_at": "2024-01-01T10:00:00Z", "channel": 5, "items": "many"}\n'
    at.land("a.ndjson", good + '{"payment": \n' + odd)
    result = at.ingest()

    assert (result["rows"], result["quarantined"]) == (2, 1)
    first, second = at.lake()
    assert (first["items"], first["_row"]) == (3, 1)
    assert (second["channel"], second["_row"]) == ("5", 3)
    assert json.loads(second["_unparsed"]) == {"items": "many"}


def test_bytes_that_are_no_text_spoil_their_own_line_only(desk):
    at = desk()
    content = (HEADER + ROW.format(1) + ROW.format(2)).encode().replace(b"2,2024", b"2,2024", 1)
    spoiled = content.replace(b"Ann", b"\xff\xfe", 1)
    at.land("a.csv", spoiled)
    result = at.ingest()

    assert (result["rows"], result["quarantined"]) == (1, 1)
    assert [row["payment"] for row in at.lake()] == [2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"this is no parquet file"),
        ("a.csv.gz", None),
        ("a.csv", b"some,other,header\n1,2,3\n"),
        ("a.csv", b"Service unavailable\n"),
        ("a.xlsx", b"PK"),
    ],
)
def test_a_file_that_cannot_be_read_goes_to_quarantine_whole_and_the_others_go_on(desk, name, content):
    at = desk()
    if content is None:
        path = at.land(name, HEADER + ROW.format(1))
        path.write_bytes(path.read_bytes()[:-12])
    else:
        at.land(name, content)
    at.land("good.csv", HEADER + ROW.format(5))
    result = at.ingest()

    assert result["files_quarantined"] == 1
    assert result["rows"] == 1
    assert [row["payment"] for row in at.lake()] == [5]
    (reason,) = Path(at.environment.root_path).glob("artifacts/quarantine/payments/*/reason.json")
    assert json.loads(reason.read_text())["mend"]
    assert (reason.parent / name).exists()


def test_an_object_above_the_budget_is_refused_with_the_mend(desk):
    at = desk()
    at.land("a.csv", HEADER + ROW.format(1))
    tiny = at.environment.ingest.model_copy(update={"largest_object_bytes": 10})
    at.environment = at.environment.model_copy(update={"ingest": tiny})
    result = at.ingest()

    assert result["files_quarantined"] == 1
    (reason,) = Path(at.environment.root_path).glob("artifacts/quarantine/payments/*/reason.json")
    assert "split it" in json.loads(reason.read_text())["mend"]


def test_a_file_with_a_header_only_is_no_rows_and_readable(desk):
    at = desk()
    at.land("b.csv", HEADER)
    result = at.ingest()
    assert (result["loads"], result["files_quarantined"]) == (1, 0)
    assert at.lake() == []


@pytest.mark.parametrize(
    "bad", ["", HEADER + ROW.format(1).replace("no\n", "no,\n") + ROW.format(2).replace("no\n", "no,\n")]
)
def test_a_file_without_a_good_record_is_unreadable_so_that_it_supersedes_nothing(desk, bad):
    at = desk()
    at.land("a.csv", HEADER + ROW.format(1) + ROW.format(2))
    at.ingest()
    at.land("a.csv", bad)
    result = at.ingest(datetime(2024, 2, 1, tzinfo=UTC))

    assert (result["files_quarantined"], result["quarantined"]) == (1, 0)
    ledger = LoadLedger(at.storage, at.environment.ledger(at.contract.name, "loads"))
    loads = [load for record in ledger.done() for load in record["loads"]]
    assert sorted((load["rows"], load["unreadable"] is not None) for load in loads) == [(0, True), (2, False)]
    (reason,) = quarantined(at, "reason.json")
    assert json.loads(reason.read_text())["mend"]
    assert quarantined(at, "records.ndjson") == []


def parquet(**columns):
    sink = io.BytesIO()
    times = pa.array([datetime(2024, 1, 1, 10, tzinfo=UTC)])
    pq.write_table(pa.table({"payment": [1], "paid_at": times, **columns}), sink)
    return sink.getvalue()


GOOD_JSON = b'{"payment": 1, "paid_at": "2024-01-01T10:00:00Z"}\n'
ID = uuid.UUID(int=5)
NOT_UTF8 = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))


@pytest.mark.parametrize(
    ("name", "content", "unparsed"),
    [
        ("a.ndjson", GOOD_JSON + GOOD_JSON.replace(b"1,", b'1, "customer": "\xff",'), None),
        ("a.ndjson", GOOD_JSON + b"null\n", None),
        ("a.ndjson", GOOD_JSON + b'{"customer": ' + b"[" * 200_000 + b"\n", None),
        ("a.parquet", parquet(customer=NOT_UTF8), {"customer": "fffe"}),
        ("a.parquet", parquet(customer=pa.array([b"\xff\xd8"])), {"customer": "ffd8"}),
        ("a.parquet", parquet(thumbnail=pa.array([b"\xff\xd8"])), {"thumbnail": "ffd8"}),
        ("a.parquet", parquet(other=pa.array([ID.bytes], pa.uuid())), {"other": str(ID)}),
        ("a.parquet", parquet(refunded=pa.array([9 * 10**18], pa.timestamp("us"))), {"refunded": ANY}),
        (
            "a.csv",
            (HEADER + ROW.format(1).replace(",no\n", "9999-12-31T23:59:59,no\n")).encode(),
            {"refunded": ANY},
        ),
    ],
    ids=["no UTF-8", "null", "deep", "Parquet text", "Parquet bytes", "unknown bytes", "UUID", "far", "far text"],
)
def test_what_one_file_holds_never_stops_the_others(desk, name, content, unparsed):
    types = {"columns.refunded": {"type": "timestamp"}}
    at = desk({**types, "time_zone": "America/New_York"} if unparsed and ANY in unparsed.values() else None)
    at.land(name, content)
    at.land("good.csv", HEADER + ROW.format(5))

    result = at.ingest()

    first, second = at.lake()
    assert result["files_quarantined"] == 0
    assert (first["payment"], second["payment"]) == (1, 5)
    assert (first["_unparsed"] and json.loads(first["_unparsed"])) == unparsed


def test_values_that_cannot_be_taken_up_at_all_send_their_file_to_quarantine_alone(desk, monkeypatch):
    def refuse(values, *_):
        if values.to_pylist() == [7]:
            raise pa.ArrowNotImplementedError("a type of tomorrow")
        return convert(values, *_)

    convert = lake_rows.convert
    monkeypatch.setattr(lake_rows, "convert", refuse)
    at = desk()
    at.land("a.parquet", parquet(items=pa.array([7])))
    at.land("good.csv", HEADER + ROW.format(5))
    result = at.ingest()

    assert (result["rows"], result["files_quarantined"]) == (1, 1)
    (reason,) = quarantined(at, "reason.json")
    assert "a type of tomorrow" in json.loads(reason.read_text())["reason"]


def test_a_record_without_the_key_is_a_row_even_beside_a_broken_line(desk):
    at = desk()
    at.land("a.ndjson", GOOD_JSON + b'{"items": 5}\n' + b'{"broken\n' + GOOD_JSON)
    result = at.ingest()

    assert (result["rows"], result["quarantined"], result["files_quarantined"]) == (3, 1, 0)
    assert [(row["payment"], row["items"], row["_row"]) for row in at.lake()] == [
        (1, None, 1),
        (None, 5, 2),
        (1, None, 4),
    ]


def test_small_blocks_are_gathered_to_few_row_groups(desk, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    at = desk()
    at.land("a.ndjson", GOOD_JSON.replace(b"1,", b'1, "channel": 5,') * 600 + b"{\n")
    groups = []
    write = pq.ParquetWriter.write_table

    def count(self, table, *rest):
        groups.append(table.num_rows)
        write(self, table, *rest)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", count)
    at.ingest()
    assert groups == [600]

    monkeypatch.setattr(staging, "GROUP_ROWS", 200)
    at.land("b.ndjson", GOOD_JSON * 600)
    at.ingest()
    assert len(groups) == 4
    assert sum(groups) == 1200
    assert len(at.lake()) == 1200


def test_broken_records_are_written_as_they_come_and_not_kept(desk, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 10_000)
    at = desk()
    at.land("a.csv", HEADER + "x,y\n" * 20_000 + ROW.format(1) + "x,y\n" * 20_000)
    tracemalloc.start()
    result = at.ingest()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (result["rows"], result["quarantined"]) == (1, 40_000)
    assert most < 4_000_000
    (records,) = quarantined(at, "records.ndjson")
    rows = [json.loads(line)["row"] for line in records.read_text().splitlines()]
    assert rows == [*range(1, 20_001), *range(20_002, 40_002)]


@pytest.mark.parametrize("content", [HEADER + ROW.format(2), "no header\n", None])
def test_an_object_that_is_replaced_or_deleted_after_it_was_listed_is_left_to_the_next_call(
    desk, monkeypatch, content
):
    at = desk()
    at.land("a.csv", HEADER + ROW.format(1) + "x,y\n")
    at.land("b.csv", HEADER + ROW.format(7))
    read = step.read_batches

    def replace_and_read(stream, name, *rest):
        path = at.land("a.csv", content or "")
        if content is None:
            path.unlink()
        return read(stream, name, *rest)

    monkeypatch.setattr(step, "read_batches", replace_and_read)
    first = at.ingest()
    assert (first["rows"], first["done"], first["remaining"]) == (1, False, 1)
    assert quarantined(at, "*") == []
    assert list(Path(at.environment.root_path).rglob("staging/**/*.parquet")) == []
    monkeypatch.undo()

    last = at.ingest()
    assert (last["done"], last["remaining"]) == (True, 0)
    if content is None or content.startswith("no"):
        assert [row["payment"] for row in at.lake()] == [7]
    else:
        assert [row["payment"] for row in at.lake()] == [2, 7]
        generation = at.storage.describe(at.lake()[0]["_source_uri"]).generation
        assert at.lake()[0]["_source_generation"] == generation
    assert last["files_quarantined"] == (content == "no header\n")


def test_the_csv_dialect_of_the_contract_is_followed(desk):
    dialect = {"delimiter": ";", "decimal": ",", "null_values": ["", "n/a"]}
    at = desk({"source": {"csv": dialect}})
    at.land("a.csv", HEADER.replace(",", ";") + '1;2024-01-01 10:00;"12,5";n/a;0,25;web;0;"A;B";;no\n')
    at.ingest()

    (row,) = at.lake()
    assert (row["amount"], row["items"], row["rate"], row["customer"]) == (Decimal("12.5"), None, 0.25, "A;B")
    assert row["abroad"] is False


def test_naive_times_are_in_the_contracts_zone_and_dates_are_real_days(desk):
    at = desk({"time_zone": "Europe/Lisbon", "columns.refunded": {"type": "date"}})
    at.land("a.csv", HEADER + "1,2024-07-01 10:00:00,1,1,1,web,1,Ann,2024-02-29,no\n"
                              "2,2024-07-01 10:00:00+02:00,1,1,1,web,1,Ann,2023-02-29,no\n")  # fmt: skip
    at.ingest()

    first, second = at.lake()
    assert first["paid_at"] == datetime(2024, 7, 1, 9, tzinfo=UTC)
    assert second["paid_at"] == datetime(2024, 7, 1, 8, tzinfo=UTC)
    assert first["refunded"] == date(2024, 2, 29)
    assert json.loads(second["_unparsed"]) == {"refunded": "2023-02-29"}


def test_only_files_that_the_contract_names_are_taken(desk):
    at = desk({"source.files": "pay_*.csv"})
    at.land("pay_1.csv", HEADER + ROW.format(1))
    at.land("notes.csv", "anything\n")
    assert at.ingest()["loads"] == 1


def test_an_ingest_that_is_killed_while_it_loads_is_finished_by_the_next_call(desk):
    at = desk()
    at.land("a.csv", HEADER + "".join(ROW.format(n) for n in range(100)))
    config_run = textwrap.dedent(
        """
        import os, signal, sys
        from caudal.unit import open_context
        from caudal.warehouse.duckdb import DuckDBWarehouse
        from ingest_function.step import ingest
        point = sys.argv[3]
        if point == "before":
            DuckDBWarehouse.load = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
        else:
            load = DuckDBWarehouse.load
            def load_and_die(*arguments):
                load(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            DuckDBWarehouse.load = load_and_die
        ingest(open_context(sys.argv[1], sys.argv[2]))
        """
    )
    from pipeline.runs import begin_run

    run = begin_run(at.storage, at.contract, at.environment, datetime(2024, 1, 1, tzinfo=UTC))
    for point in ("before", "after"):
        died = subprocess.run([sys.executable, "-c", config_run, run.config, run.uri, point], check=False)
        assert died.returncode == -signal.SIGKILL
    result = at.ingest()

    assert result["rows"] == 100
    assert len(at.lake()) == 100
