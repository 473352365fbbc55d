"""What the contract refuses, with every reason; the good rows go on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from caudal.tables import lake_table
from etl_beam.checks import CONTENT, REASONS, check, count_reasons

GOOD = {
    "payment": 1,
    "paid_at": datetime(2020, 3, 2, tzinfo=UTC),
    "amount": Decimal("12.50"),
    "items": 2,
    "rate": 0.5,
    "channel": "web",
}


@pytest.fixture
def checked(small_contract: Any) -> Any:
    def run(*rows: dict[str, Any], changes: Any = None) -> Any:
        contract = small_contract(changes)
        schema = pa.schema([f for f in lake_table(contract).schema if f.name[0] != "_" or f.name == "_unparsed"])
        full = [{**GOOD, **row} for row in rows]
        for row in full:
            if "_unparsed" in row:
                row["_unparsed"] = json.dumps(row["_unparsed"])
        return check(contract, pa.Table.from_pylist(full, schema=schema))

    return run


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        ({"items": None, "_unparsed": {"items": "two"}}, ["type:items"]),
        ({"payment": None, "_unparsed": {"payment": "x1"}}, ["type:payment"]),
        ({"payment": None}, ["missing:payment"]),
        ({"paid_at": None}, ["missing:paid_at"]),
        ({"items": 0}, ["range:items"]),
        ({"items": 100}, ["range:items"]),
        ({"amount": Decimal("-0.01")}, ["range:amount"]),
        ({"rate": float("nan")}, ["range:rate"]),
        ({"rate": float("-inf")}, ["range:rate"]),
        ({"channel": "pigeon"}, ["value:channel"]),
        ({"channel": ""}, ["value:channel"]),
        ({"_unparsed": {"colour": "red"}}, ["unknown:colour"]),
        ({"paid_at": datetime(1066, 10, 14, tzinfo=UTC)}, ["range:paid_at"]),
        ({"paid_at": datetime(2160, 1, 1, tzinfo=UTC)}, ["range:paid_at"]),
        (
            {"payment": None, "items": 1000, "channel": "pigeon", "_unparsed": {"amount": "ten", "x": "1"}},
            ["missing:payment", "type:amount", "range:items", "value:channel", "unknown:x"],
        ),
    ],
)
def test_a_row_is_refused_with_every_reason(checked: Any, row: dict[str, Any], reasons: list[str]) -> None:
    good, rejected = checked({}, row, {"payment": 2})
    assert good["payment"].to_pylist() == [1, 2]
    assert rejected[REASONS].to_pylist() == [reasons]
    assert count_reasons(rejected) == dict.fromkeys(reasons, 1)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"items": 1},
        {"items": 99},
        {"items": None, "amount": None, "rate": None, "channel": None},
        {"amount": Decimal(0)},
        {"amount": Decimal(10000)},
        {"paid_at": datetime(1960, 1, 2, tzinfo=UTC)},
    ],
)
def test_a_row_within_its_limits_passes(checked: Any, row: dict[str, Any]) -> None:
    good, rejected = checked(row)
    assert good.num_rows == 1
    assert rejected is None


def test_a_number_with_a_range_is_never_nan(checked: Any) -> None:
    good, rejected = checked({"rate": float("nan")}, {"rate": None}, changes={"columns.rate.range": [0, 1]})
    assert good.num_rows == 1
    assert rejected[REASONS].to_pylist() == [["range:rate"]]


def test_a_large_integer_is_compared_to_its_last_digit(checked: Any) -> None:
    limit = 9_007_199_254_740_992
    changes = {"columns.payment.range": [0, limit]}
    good, rejected = checked({"payment": limit}, {"payment": limit + 1}, changes=changes)
    assert good["payment"].to_pylist() == [limit]
    assert rejected[REASONS].to_pylist() == [["range:payment"]]


def test_the_content_of_a_refused_row_is_kept_as_it_came(checked: Any) -> None:
    _, rejected = checked({"items": None, "_unparsed": {"items": "two", "colour": "red"}})
    content = json.loads(rejected[CONTENT][0].as_py())
    assert content["items"] == "two"
    assert content["colour"] == "red"
    assert content["payment"] == "1"
    assert content["paid_at"].startswith("2020-03-02T00:00:00")
    assert Decimal(content["amount"]) == Decimal("12.5")
