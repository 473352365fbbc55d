"""The ETL equals the SQL oracle: any small table, any ties, any files, any order of arrival, any runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caudal.contract import Contract, parse_contract
from caudal.tables import contract_tables
from tests.etl_oracle.oracle import content_hash, expected
from tests.etl_oracle.stream import Landed, Stream, differences, tables_from

TIMED = """
contract: 1
name: timed
question: Does every kind of column and window come out alike?
key: id
event_time: at
version: edition
time_zone: Europe/Lisbon
columns:
  id:      {type: integer, required: true, range: [0, 1000]}
  at:      {type: timestamp, required: true}
  edition: {type: integer}
  payer:   {type: text}
  shop:    {type: integer, range: [0, 50]}
  money:   {type: decimal, required: true, range: [-1000, 1000]}
  speed:   {type: number}
  kind:    {type: category, values: [a, b, "it's"]}
  abroad:  {type: boolean}
  fraud:   {type: category, values: ["yes", "no"]}
label: {column: fraud, positive: "yes", due_after: 2d}
task: binary
features:
  numeric: [money]
  calendar: [weekend, night]
  night_hours: [22, 5]
  windows:
    - entity: payer
      lengths: [1d, 36h]
      values: {count: ["*", speed], sum: [money, speed], mean: [money, shop], rate: abroad}
    - {entity: shop, lengths: [1d, 5d], delay: 2d, values: {count: "*", rate: fraud, mean: money}}
gate: {metric: auc, against_champion: {at_least: 0}}
"""

DATED = """
contract: 1
name: dated
question: And with dates, without a version, and with an entity that is required?
key: id
event_time: day
time_zone: Asia/Tokyo
columns:
  id:     {type: text, required: true}
  day:    {type: date, required: true}
  who:    {type: category, required: true, values: [x, y, z]}
  weight: {type: number, range: [0, 1]}
  good:   {type: boolean}
label: {column: good, positive: "false", due_after: 3d}
task: binary
features:
  numeric: [weight]
  calendar: [weekend]
  windows:
    - {entity: who, lengths: [1d, 4d], values: {count: "*", sum: weight}}
    - {entity: who, lengths: [2d], delay: 3d, values: {rate: good}}
gate: {metric: auc, against_champion: {at_least: 0}}
"""

START = datetime(2024, 3, 28, 21, tzinfo=UTC)
AS_OF = datetime(2024, 6, 1, tzinfo=UTC)

# Half days make ties and rows that lie exactly on the edge of a window; a microsecond lies just beside it.
TIMES = st.builds(
    lambda half, beside: START + timedelta(hours=12 * half, microseconds=beside),
    st.integers(0, 20),
    st.sampled_from([0, 0, 0, 1, -1]),
)
PLACES = st.integers(-2_000_000, 2_000_000)


def sometimes(strategy: st.SearchStrategy[Any], *others: Any) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, st.sampled_from(others))


TIMED_ROWS = st.fixed_dictionaries(
    {
        "id": sometimes(st.integers(0, 8), None, -1),
        "at": sometimes(TIMES, None, datetime(1950, 1, 1, tzinfo=UTC)),
        "edition": st.sampled_from([None, 1, 2, 3]),
        "payer": st.sampled_from(["ana", "bé", None, ""]),
        "shop": sometimes(st.integers(0, 2), None, 51),
        "money": sometimes(PLACES.map(lambda n: Decimal(n) / 10_000), None, Decimal("1000.000000001")),
        "speed": sometimes(PLACES.map(lambda n: n / 1_000), None),
        "kind": sometimes(st.sampled_from(["a", "b", "it's"]), None, "c", ""),
        "abroad": st.sampled_from([True, False, None]),
        "fraud": st.sampled_from(["yes", "no", None, "no"]),
    }
)
DATED_ROWS = st.fixed_dictionaries(
    {
        "id": sometimes(st.sampled_from(["a", "b", "ß", "d", "e", ""]), None),
        "day": sometimes(st.integers(0, 12).map(lambda n: date(2024, 3, 28) + timedelta(days=n)), None),
        "who": sometimes(st.sampled_from(["x", "y", "z"]), None, "w"),
        "weight": sometimes(st.integers(0, 1_000).map(lambda n: n / 1_000), None, 1.5, -0.0),
        "good": st.sampled_from([True, False, None]),
    }
)
UNPARSED = st.sampled_from([None] * 12 + ["shop", "weight", "extra", "extra+other"])


def with_unparsed(record: dict[str, Any], lost: str | None, names: set[str]) -> dict[str, Any]:
    """The record with a value that could not be parsed, or with columns that nobody knows."""
    if lost is None or (lost in ("shop", "weight") and lost not in names):
        return record
    if lost in names:
        return {**record, lost: None, "_unparsed": f'{{"{lost}": "zw\\"ölf"}}'}
    return {**record, "_unparsed": "{" + ", ".join(f'"{name}": "7"' for name in lost.split("+")) + "}"}


def objects(rows: st.SearchStrategy[dict[str, Any]], contract: Contract) -> st.SearchStrategy[list[list[Landed]]]:
    """Any rows in any files, cut into runs in any order; some files come again in a newer generation."""
    names = set(contract.columns)
    record = st.builds(lambda r, lost: with_unparsed(r, lost, names), rows, UNPARSED)
    file = st.tuples(
        st.sampled_from(["one.csv", "two.csv", "three.csv", "four.csv"]),
        st.integers(0, 3),
        st.lists(record, max_size=12),
    )

    def landed(files: list[tuple[str, int, list[dict[str, Any]]]]) -> list[Landed]:
        # The generation of a file is its place in the list: equal landing times are decided by it.
        return [
            Landed(name, f"g{i}", START + timedelta(days=30 + after), tables_from(records, contract))
            for i, (name, after, records) in enumerate(files)
        ]

    def into_runs(found: list[Landed], order: Any, cuts: list[int]) -> list[list[Landed]]:
        shuffled = list(order.sample(found, len(found)))
        edges = sorted({0, *(cut % (len(shuffled) + 1) for cut in cuts), len(shuffled)})
        return [shuffled[a:b] for a, b in pairwise(edges)]

    return st.builds(
        into_runs,
        st.lists(file, min_size=1, max_size=6).map(landed),
        st.randoms(use_true_random=False),
        st.lists(st.integers(0, 100), max_size=2),
    )


def check_any_arrival(contract: Contract, runs: list[list[Landed]], shards: int, rows_a_slice: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stream = Stream(contract, Path(folder), shards, rows_a_slice=rows_a_slice)
        present: list[tuple[datetime, set[Any]]] = []
        counted = {"rejected": 0, "warehouse": 0, "duplicates": 0, "removed": 0, "read": 0}
        for i, loads in enumerate(runs):
            as_of = AS_OF + timedelta(days=i)
            stream.load(loads)
            result = stream.run(as_of)
            for name in counted:
                counted[name] += result["rows"][name]
            assert result["loads"] == len(loads)
            present.append((as_of, set(stream.expected().warehouse[contract.key].to_pylist())))
        assert stream.differences() == []
        check_first_as_of(stream, present)
        said = stream.expected()
        came = sum(each.rows.num_rows for loads in runs for each in loads)
        assert counted["read"] == came
        assert counted["rejected"] == said.rejected.num_rows
        assert counted["warehouse"] == said.warehouse.num_rows
        assert counted["duplicates"] + counted["removed"] == said.duplicates


def check_first_as_of(stream: Stream, present: list[tuple[datetime, set[Any]]]) -> None:
    """A key keeps the as-of of the run that first brought it; one that left for a while is not looked at."""
    rows = stream.warehouse_rows()
    keys, firsts = rows[stream.contract.key].to_pylist(), rows["_first_as_of"].to_pylist()
    for key, first in zip(keys, firsts, strict=True):
        seen = [as_of for as_of, there in present if key in there]
        if len(seen) == sum(as_of >= seen[0] for as_of, _ in present):
            assert first == seen[0], f"{key}: first seen by {seen[0]}, not {first}"


# CI looks at as many as fit its time; `make test-at-length` searches.
EXAMPLES = int(os.environ.get("CAUDAL_EXAMPLES", "25"))
LIKELY = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
timed = parse_contract(TIMED, "timed.yaml")
dated = parse_contract(DATED, "dated.yaml")


@LIKELY
@given(objects(TIMED_ROWS, timed), st.integers(1, 3), st.sampled_from([1, 3, 1000]))
def test_any_rows_in_any_files_and_runs_end_in_the_warehouse_that_sql_says(
    runs: list[list[Landed]], shards: int, rows_a_slice: int
) -> None:
    check_any_arrival(timed, runs, shards, rows_a_slice)


@LIKELY
@given(objects(DATED_ROWS, dated), st.integers(1, 3), st.sampled_from([1, 3, 1000]))
def test_event_dates_in_any_files_and_runs_end_in_the_warehouse_that_sql_says(
    runs: list[list[Landed]], shards: int, rows_a_slice: int
) -> None:
    check_any_arrival(dated, runs, shards, rows_a_slice)


# The oracle itself, against definitions in plain Python.


def plain_windows(
    rows: list[dict[str, Any]], at: str, entity: str, inside: Callable[[timedelta], bool]
) -> list[int]:
    return [sum(r[entity] == row[entity] and inside(row[at] - r[at]) for r in rows) for row in rows]


@given(st.lists(TIMED_ROWS, max_size=25))
@settings(max_examples=60)
def test_the_oracles_windows_are_those_of_the_contracts_words(records: list[dict[str, Any]]) -> None:
    good = [
        {
            **r,
            "id": i,
            "at": r["at"] or START,
            "money": r["money"] or Decimal(0),
            "kind": "a",
            "shop": r["shop"] or 1,
        }
        for i, r in enumerate(records)
    ]
    good = [r for r in good if r["at"].year > 2000 and r["shop"] <= 50 and abs(r["money"]) <= 1000]
    landed = Landed("one.csv", "g", START, tables_from(good, timed))
    with duckdb.connect() as connection:
        connection.register("lake", landed.lake_rows(timed))
        rows = expected(timed, connection, "lake", [landed.record()]).warehouse.to_pylist()
    assert len(rows) == len(good)
    day = timedelta(days=1)
    assert [r["shop_count_5d"] for r in rows] == plain_windows(
        rows, "at", "shop", lambda ago: 2 * day <= ago < 7 * day
    )
    payers = [r for r in rows if r["payer"] is not None]
    assert [r["payer_count_36h"] for r in payers] == plain_windows(
        payers, "at", "payer", lambda ago: timedelta(0) <= ago < 1.5 * day
    )
    for row in rows:
        known = [
            r["fraud"] == "yes"
            for r in rows
            if r["shop"] == row["shop"] and 2 * day <= row["at"] - r["at"] < 3 * day and r["fraud"] is not None
        ]
        rate = row["shop_rate_fraud_1d"]
        assert rate == (sum(known) / len(known) if known else None)


def test_the_oracle_finds_every_reason() -> None:
    bad = {
        "id": -1,
        "at": None,
        "money": Decimal(2000),
        "kind": "c",
        "_unparsed": '{"shop": "x", "b": "1", "a": "2"}',
    }
    good = {"id": 1, "at": START, "money": Decimal(1)}
    landed = Landed("one.csv", "g", START, tables_from([bad, good], timed))
    with duckdb.connect() as connection:
        connection.register("lake", landed.lake_rows(timed))
        said = expected(timed, connection, "lake", [landed.record()])
    assert said.rejected["_reasons"].to_pylist() == [
        ["range:id", "missing:at", "type:shop", "range:money", "value:kind", "unknown:a", "unknown:b"]
    ]
    assert said.warehouse["id"].to_pylist() == [1]


def test_the_oracle_lets_the_newer_generation_the_version_and_the_hash_decide() -> None:
    def row(edition: int | None, money: int) -> dict[str, Any]:
        return {"id": 1, "at": START, "edition": edition, "money": Decimal(money)}

    def kept(*files: tuple[str, int, list[dict[str, Any]]]) -> Decimal:
        found = [
            Landed(name, f"g{i}", START + timedelta(days=after), tables_from(rows, timed))
            for i, (name, after, rows) in enumerate(files)
        ]
        with duckdb.connect() as connection:
            connection.register("lake", pa.concat_tables([each.lake_rows(timed) for each in found]))
            said = expected(timed, connection, "lake", [each.record() for each in found])
        [only] = said.warehouse["money"].to_pylist()
        return Decimal(only)

    assert kept(("a", 0, [row(1, 10)]), ("b", 0, [row(2, 20)])) == 20
    assert kept(("a", 0, [row(None, 10)]), ("b", 0, [row(1, 20)])) == 20
    assert kept(("a", 1, [row(1, 10)]), ("a", 0, [row(9, 20)])) == 10
    kinds = [column.type for column in timed.columns.values()]
    either = {
        money: content_hash([row(1, money).get(name) for name in timed.columns], kinds) for money in (10, 20)
    }
    assert kept(("a", 0, [row(1, 10), row(1, 20)])) == min(either, key=lambda money: either[money])


LABELLED = """
contract: 1
name: labelled
question: Is a label of any type counted by its positive value?
key: id
event_time: day
columns:
  id:   {type: integer, required: true}
  day:  {type: date, required: true}
  who:  {type: category, values: [x, y]}
  bad:  {type: TYPE}
label: {column: bad, positive: "POSITIVE", due_after: 1d}
task: binary
features:
  windows:
    - {entity: who, lengths: [3d], delay: 1d, values: {count: "bad", rate: bad}}
gate: {metric: auc, against_champion: {at_least: 0}}
"""


@pytest.mark.parametrize(
    ("kind", "positive", "values"),
    [
        ("boolean", "false", [True, False]),
        ("boolean", "true", [True, False]),
        ("integer", "1", [0, 1, 2]),
        ("number", "1", [0.0, 1.0, 1.5]),
        ("decimal", "1.5", [Decimal(1), Decimal("1.5")]),
        ("text", "1", ["1", "0", "1.0"]),
    ],
)
@settings(LIKELY, max_examples=max(EXAMPLES // 8, 3))
@given(data=st.data())
def test_the_rate_of_a_label_of_any_type_is_that_of_its_positive_value(
    kind: str, positive: str, values: list[Any], data: st.DataObject
) -> None:
    contract = parse_contract(LABELLED.replace("TYPE", kind).replace("POSITIVE", positive), "labelled.yaml")
    rows = st.fixed_dictionaries(
        {
            "id": st.integers(0, 20),
            "day": st.integers(0, 6).map(lambda n: date(2024, 3, 28) + timedelta(days=n)),
            "who": st.sampled_from(["x", "y", None]),
            "bad": st.sampled_from([*values, None]),
        }
    )
    check_any_arrival(contract, data.draw(objects(rows, contract)), shards=2, rows_a_slice=1000)


EDITS: list[list[tuple[str, str]]] = [
    [],
    [("Europe/Lisbon", "Pacific/Auckland")],
    [("version: edition\n", "")],
    [("lengths: [1d, 36h]", "lengths: [1d, 36h, 4d]")],
    [("lengths: [1d, 5d], delay: 2d", "lengths: [1d, 5d], delay: 4d")],
    [("calendar: [weekend, night]", "calendar: [night]"), ("[22, 5]", "[1, 3]")],
    [("range: [-1000, 1000]", "range: [-50, 1000]"), ('[a, b, "it\'s"]', "[a, c]")],
    [('positive: "yes"', 'positive: "no"')],
    [("  shop:  ", "  later: {type: date}\n  shop:  ")],
]


def edited(edit: list[tuple[str, str]]) -> Contract:
    text = TIMED
    for old, new in edit:
        assert old in text
        text = text.replace(old, new)
    return parse_contract(text, "timed.yaml")


@settings(LIKELY, max_examples=max(EXAMPLES // 2, 5))
@given(objects(TIMED_ROWS, timed), st.lists(st.sampled_from(EDITS), min_size=3, max_size=3))
def test_whatever_is_edited_between_runs_the_warehouse_is_that_of_the_last_contract(
    runs: list[list[Landed]], edits: list[list[tuple[str, str]]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stream = Stream(timed, Path(folder))
        present: list[tuple[datetime, set[Any]]] = []
        loads = 0
        for i, (edit, landed) in enumerate(zip_longest(edits, runs, fillvalue=[])):
            if i < len(edits):
                stream.contract = edited(edit)
                # As ingest does.
                stream.warehouse.ensure_tables(contract_tables(stream.contract))
            as_of = AS_OF + timedelta(days=i)
            if landed:
                stream.load(landed)
            result = stream.run(as_of)
            said = stream.expected()
            assert stream.differences() == []
            present.append((as_of, set(said.warehouse["id"].to_pylist())))
            if result["rebuilt"]:
                # It counts as one run over everything does.
                came = sum(load["rows"] for load in stream.loads())
                assert result["rows"] == {
                    "read": came,
                    "rejected": said.rejected.num_rows,
                    "duplicates": said.duplicates,
                    "removed": 0,
                    "warehouse": said.warehouse.num_rows,
                }
            assert bool(result["rebuilt"]) == (i < len(edits) and i > 0 and loads > 0 and edit != edits[i - 1])
            loads += len(landed)
        check_first_as_of(stream, present)


def test_a_difference_is_found_wherever_it_is() -> None:
    table = pa.table({"a": [1.0, None], "b": ["x", None], "c": [["r"], []]})
    assert differences(table, table) == []
    for changed in (
        {"a": [1.0000001, None]}, {"a": [1.0, 2.0]}, {"b": ["x", "y"]}, {"b": [None, None]}, {"c": [["r"], ["s"]]},
    ):  # fmt: skip
        other = pa.table({**{name: table[name] for name in table.column_names}, **changed})
        assert len(differences(table, other)) == 1
    assert differences(table, table.slice(1)) == ["2 rows instead of 1"]


@pytest.mark.parametrize("contract", [timed, dated], ids=["timed", "dated"])
def test_a_run_without_anything_new_changes_nothing(contract: Contract, tmp_path: Path) -> None:
    stream = Stream(contract, tmp_path)
    rows = {
        "timed": {"id": 1, "at": START, "money": Decimal(5), "payer": "ana", "shop": 2},
        "dated": {"id": "a", "day": date(2024, 4, 1), "who": "x"},
    }
    stream.load([Landed("one.csv", "g", START, tables_from([rows[contract.name]], contract))])
    stream.run(AS_OF)
    before = stream.warehouse_rows()
    result = stream.run(AS_OF + timedelta(days=1))
    assert result["rows"]["read"] == 0
    assert stream.warehouse_rows().equals(before)
    assert before.num_rows == 1
