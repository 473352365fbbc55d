"""Landed files reach the lake, each once, whatever they hold."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HEADER = "payment,paid_at,amount,items,rate,channel,abroad,customer,refunded,disputed\n"
ROW = "{},2024-01-01T10:00:00Z,12.50,2,0.5,web,true,Ann,,no\n"


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


def test_an_empty_file_and_a_file_with_a_header_only_are_no_rows(desk):
    at = desk()
    at.land("a.csv", "")
    at.land("b.csv", HEADER)
    assert at.ingest()["loads"] == 2
    assert at.lake() == []


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
