"""A key means the same row in a request, in the answer, in the log and in the warehouse, whatever its type."""

from __future__ import annotations

import json
import warnings
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from caudal.contract.types import arrow_type
from caudal.environment import Environment
from caudal.package import Encoder
from caudal.tables import served_table, warehouse_table
from ingest_function.conversion import convert
from monitor.served import collect
from serving.instances import InstanceReader, InvalidRequest
from serving.keys import canonical
from serving.states import SnapshotStates
from tests.serving.made import WHEN, lines, make_model, promote, served
from tests.serving.test_answers import example
from tests.world import World, payments

LISBON = ZoneInfo("Europe/Lisbon")
LARGE = "12345678901234567890123456789.123456789"
CASES: dict[str, list[tuple[Any, int | str, Any]]] = {
    # As asked for, as answered and logged, as the warehouse has it.
    "decimal": [
        (10, "10", Decimal(10)),
        ("10.50", "10.5", Decimal("10.5")),
        (12345678901234567890123456789, "12345678901234567890123456789", Decimal("12345678901234567890123456789")),
        (LARGE, LARGE, Decimal(LARGE)),
    ],
    "date": [("2026-02-01", "2026-02-01", date(2026, 2, 1))],
    "timestamp": [
        ("2026-07-01T12:00:00", "2026-07-01T11:00:00Z", datetime(2026, 7, 1, 11, tzinfo=UTC)),
        ("2026-07-01T12:00:00.25+02:00", "2026-07-01T10:00:00.250000Z",
         datetime(2026, 7, 1, 10, 0, 0, 250_000, tzinfo=UTC)),
    ],
    "text": [("a/1", "a/1", "a/1"), ("x" * 1024, "x" * 1024, "x" * 1024)],
    "integer": [(2**62, 2**62, 2**62)],
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_a_key_is_answered_logged_and_joined_as_the_warehouse_has_it(
    kind: str, small_contract: Any, quick: Environment
) -> None:
    contract = small_contract({"columns.payment.type": kind}, time_zone="Europe/Lisbon")
    world = World(contract, quick)
    count = len(CASES[kind])
    training = world.arrive(payments(count, "2026-01-01", payment=[held for *_, held in CASES[kind]]), WHEN)
    promote(world.storage, quick, make_model(world.storage, quick, contract, training))
    row = {"amount": 3.0, "items": 2, "rate": 0.5, "channel": "web", "abroad": True}
    with warnings.catch_warnings(record=True) as told, served(contract, quick, world.storage) as server:
        warnings.simplefilter("always")
        for asked, answered, _ in CASES[kind]:
            answer = server.predict({**row, "payment": asked})
            assert answer.status_code == 200, answer.text
            assert answer.json()["key"] == answered
            assert lines(quick.serving.prediction_log)[-1]["key"] == str(answered)
        assert server.predict(example(server)).status_code == 200
        # The page sends what is no whole number as text.
        field = f'data-path="[&quot;payment&quot;]" data-kind="{"number" if kind == "integer" else "text"}"'
        assert field in server.client.get("/").text
        schema = server.client.get("/openapi.json").json()["components"]["schemas"]["Prediction"]
        assert schema["properties"]["key"]["type"] == ("integer" if kind == "integer" else "string")
    # A warning would quote the key, which may be personal.
    assert [one for one in told if "serializ" in str(one.message).lower()] == []
    assert collect(world.context(WHEN)).broken == 0
    (joined,) = world.rows(
        f"SELECT COUNT(*) AS n FROM {served_table(contract).sql_name} AS s "
        f"JOIN {warehouse_table(contract).sql_name} AS w ON w.`payment` = s.key"
    )
    assert joined["n"] >= count


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("decimal", 1.5), ("decimal", "1e5"), ("decimal", "1." + "1" * 10), ("decimal", "1" * 30),
        ("decimal", 10**29), ("decimal", True), ("decimal", "NaN"), ("decimal", -1), ("decimal", "10.01"),
        ("date", "86400"), ("date", 86400), ("timestamp", "86400"), ("timestamp", "0001-01-01T00:00:00+14:00"),
        ("text", "x" * 1025), ("category", "x" * 1025), ("integer", "1"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused(small_contract: Any, kind: str, key: Any) -> None:
    changes: dict[str, Any] = {"columns.payment.type": kind}
    if kind == "decimal":
        changes["columns.payment.range"] = [0, 10] if key in (-1, "10.01") else [-1e40, 1e40]
    contract = small_contract(changes)
    reader = InstanceReader(contract, Encoder.of(contract, {"channel": []}), {}, batch=10)
    with pytest.raises(InvalidRequest) as refused:
        reader.one(json.dumps({"payment": key}).encode())
    assert [problem["loc"] for problem in refused.value.problems] == [["body", "payment"]]
    assert str(key) not in str(refused.value.problems).replace("of at most 29", "")


@pytest.mark.parametrize("low", [-7, 0.5, 3])
@pytest.mark.parametrize("kind", ["integer", "decimal"])
def test_the_example_lies_in_the_keys_range(small_contract: Any, kind: str, low: float) -> None:
    contract = small_contract({"columns.payment.type": kind, "columns.payment.range": [low, low + 2]})
    reader = InstanceReader(contract, Encoder.of(contract, {"channel": []}), {}, batch=10)
    assert reader.one(json.dumps(reader.example).encode()).key == reader.example["payment"]


@pytest.mark.parametrize(
    "naive", ["2026-03-29T01:30:00", "2026-10-25T01:30:00", "2026-03-29T01:00:00", "2026-07-01T00:00:00"]
)
def test_an_instant_without_an_offset_is_the_one_that_ingest_reads(naive: str) -> None:
    """Lisbon's clocks skip the hour from 1 on 29 March 2026, and repeat it on 25 October."""
    (expected,) = convert(pa.array([naive]), "timestamp", LISBON).to_pylist()
    assert datetime.fromisoformat(str(canonical(datetime.fromisoformat(naive), LISBON))) == expected


@pytest.mark.parametrize(("kind", "key"), [(k, held) for k in CASES for _, _, held in CASES[k][:1]])
def test_the_state_of_an_entity_is_found_by_a_key_of_any_type(small_contract: Any, kind: str, key: Any) -> None:
    contract = small_contract(
        {
            "columns.customer": {"type": kind},
            "features.windows": [{"entity": "customer", "lengths": ["1d"], "values": {"count": "*"}}],
        }
    )

    class Publication:
        def holds(self, _: str) -> bool:
            return True

        def table(self, _: str) -> pa.Table:
            moments = pa.array([WHEN], pa.timestamp("us", tz="UTC"))
            columns = [pa.array([key], arrow_type(contract.columns["customer"].type)), moments, pa.array([3])]
            return pa.table(columns, names=["key", "as_of", "customer_count_1d"])

    states = SnapshotStates(contract, Publication())  # type: ignore[arg-type]
    found = states.lookup("customer", key)
    assert found is not None
    assert (found.features, found.as_of) == ({"customer_count_1d": 3.0}, WHEN)
