"""What a request may hold, and what is said about one that holds something else."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from caudal.contract import Contract
from caudal.package import Encoder
from serving.instances import InstanceReader, InvalidRequest
from tests.serving.made import Served

ROW = {"payment": 7, "amount": 12.5, "items": 3, "rate": 0.1, "channel": "web", "abroad": False}
SEEN = {"channel": ["app", "web"]}


@pytest.fixture
def reader(small_contract: Any) -> Any:
    """`reader({"serving.missing": "flag"})` reads requests for the made-up contract, as its model saw it."""

    def make(changes: dict[str, Any] | None = None) -> InstanceReader:
        required = {f"columns.{name}.required": True for name in ("amount", "channel")}
        contract: Contract = small_contract({**required, **(changes or {})})
        return InstanceReader(contract, Encoder.of(contract, SEEN), {}, batch=10)

    return make


def problems(reader: InstanceReader, instance: Any) -> list[tuple[Any, str]]:
    body = instance if isinstance(instance, bytes) else json.dumps(instance).encode()
    with pytest.raises(InvalidRequest) as refused:
        reader.one(body)
    return [(problem["loc"][-1], problem["type"]) for problem in refused.value.problems]


def flags(reader: InstanceReader, **changes: Any) -> list[tuple[str, str]]:
    row = {name: value for name, value in {**ROW, **changes}.items() if value is not ...}
    return [(flag.field, flag.flag) for flag in reader.one(json.dumps(row).encode()).flags]


def test_a_row_that_fits_the_contract_is_read_without_flags(reader: Any) -> None:
    instance = reader().one(json.dumps(ROW).encode())
    assert instance.key == 7
    assert instance.row == {k: v for k, v in ROW.items() if k != "payment"}
    assert instance.flags == []


@pytest.mark.parametrize(
    ("changes", "field", "kind"),
    [
        ({"amount": "12.5"}, "amount", "float_type"),
        ({"amount": 10_001}, "amount", "less_than_equal"),
        ({"amount": -0.01}, "amount", "greater_than_equal"),
        ({"amount": None}, "amount", "float_type"),
        ({"items": 2.5}, "items", "int_type"),
        ({"items": True}, "items", "int_type"),
        ({"items": "3"}, "items", "int_type"),
        ({"rate": 1e300}, "rate", "less_than_equal"),
        ({"channel": "fax"}, "channel", "literal_error"),
        ({"channel": 3}, "channel", "literal_error"),
        ({"abroad": 1}, "abroad", "bool_type"),
        ({"payment": None}, "payment", "int_type"),
        ({"payment": 2**63}, "payment", "less_than_equal"),
        ({"paid_at": "yesterday"}, "paid_at", "datetime_parsing"),
        ({"paid_at": "0001-01-01T00:00:00+14:00"}, "paid_at", "datetime_range"),
        ({"paid_at": 1e12}, "paid_at", "datetime_type"),
        ({"paid_at": 86400}, "paid_at", "datetime_type"),
        # Seconds since 1970 for who takes digits for them.
        ({"paid_at": "20100601"}, "paid_at", "datetime_parsing"),
        ({"paid_at": "-1"}, "paid_at", "datetime_parsing"),
        ({"paid_at": "2010-06-01"}, "paid_at", "datetime_parsing"),
        ({"refunded": 1.0}, "refunded", "extra_forbidden"),
        ({"disputed": "no"}, "disputed", "extra_forbidden"),
        ({"amuont": 1.0}, "amuont", "extra_forbidden"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(
    reader: Any, changes: dict[str, Any], field: str, kind: str
) -> None:
    assert problems(reader(), {**ROW, **changes}) == [(field, kind)]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(reader: Any, number: str) -> None:
    body = json.dumps(ROW).replace("12.5", number).encode()
    assert problems(reader(), body)[0][0] in ("amount", "body")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b'"text"', b"[" * 100_000, b'{"payment":' + b"9" * 5000 + b"}"],
)
def test_a_body_that_is_no_instance_is_refused(reader: Any, body: bytes) -> None:
    assert problems(reader(), body)


def test_all_that_is_wrong_is_told_at_once(reader: Any) -> None:
    found = problems(reader(), {"amount": "x", "channel": "fax"})
    assert {name for name, _ in found} == {"payment", "amount", "channel"}


def test_what_is_told_never_holds_the_value(reader: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        reader().one(json.dumps({**ROW, "amount": 98765.25, "channel": "my secret"}).encode())
    assert "98765" not in str(refused.value.problems)
    assert "secret" not in str(refused.value.problems)


def test_a_missing_value_is_refused_or_flagged_as_the_contract_says(reader: Any) -> None:
    row = {k: v for k, v in ROW.items() if k != "amount"}
    assert problems(reader(), row) == [("amount", "missing")]
    lenient = reader({"serving": {"missing": "flag"}})
    assert flags(lenient, amount=...) == flags(lenient, amount=None) == [("amount", "missing")]


def test_a_column_that_may_be_empty_is_missing_without_a_flag(reader: Any) -> None:
    assert flags(reader(), items=None, rate=...) == []


def test_a_value_out_of_range_is_scored_as_it_is_when_the_contract_flags_it(reader: Any) -> None:
    lenient = reader({"serving": {"out_of_range": "flag"}})
    assert flags(lenient, amount=10_001, items=0) == [("amount", "out_of_range"), ("items", "out_of_range")]
    assert flags(lenient, amount=10_000, items=99) == []
    assert lenient.one(json.dumps({**ROW, "amount": 10_001}).encode()).row["amount"] == 10_001


def test_a_category_that_the_contract_does_not_list_is_flagged_when_it_says_so(reader: Any) -> None:
    lenient = reader({"serving": {"unknown_category": "flag"}})
    assert flags(lenient, channel="fax") == [("channel", "unknown_category")]


def test_a_category_that_training_never_saw_is_always_flagged(reader: Any) -> None:
    assert flags(reader(), channel="desk") == [("channel", "unseen_category")]


def test_a_batch_is_read_whole_or_not_at_all(reader: Any) -> None:
    rows = [{**ROW, "payment": i} for i in range(10)]
    assert [i.key for i in reader().many(json.dumps({"instances": rows}).encode())] == list(range(10))
    rows[3]["amount"] = -1
    with pytest.raises(InvalidRequest) as refused:
        reader().many(json.dumps({"instances": rows}).encode())
    assert refused.value.problems[0]["loc"] == ["body", "instances", 3, "amount"]


@pytest.mark.parametrize("count", [0, 11])
def test_a_batch_has_at_least_one_row_and_no_more_than_the_environment_allows(reader: Any, count: int) -> None:
    with pytest.raises(InvalidRequest):
        reader().many(json.dumps({"instances": [ROW] * count}).encode())


def test_a_long_list_of_problems_is_cut(reader: Any) -> None:
    rows = [{**ROW, "amount": -1, "items": 0, "channel": "fax"}] * 10
    with pytest.raises(InvalidRequest) as refused:
        reader().many(json.dumps({"instances": rows}).encode())
    assert len(refused.value.problems) == 21
    assert refused.value.problems[-1]["msg"] == "and 10 more problems"


def test_a_naive_event_time_is_in_the_contracts_time_zone(reader: Any) -> None:
    lisbon = reader({"time_zone": "Europe/Lisbon"})
    instance = lisbon.one(json.dumps({**ROW, "paid_at": "2026-07-01T12:00:00"}).encode())
    assert instance.event_time.isoformat() == "2026-07-01T11:00:00+00:00"
    instance = lisbon.one(json.dumps({**ROW, "paid_at": "2026-07-01T12:00:00+02:00"}).encode())
    assert instance.event_time.isoformat() == "2026-07-01T10:00:00+00:00"


@pytest.mark.parametrize("value", ["86400", "20100601", "-1", 86400, "2010-06-01T00:00:00Z", "2010-06-31"])
def test_a_day_is_written_as_one(reader: Any, value: Any) -> None:
    dated = reader({"columns.paid_at.type": "date"})
    assert problems(dated, {**ROW, "paid_at": value})[0][0] == "paid_at"
    instance = dated.one(json.dumps({**ROW, "paid_at": "2010-06-01"}).encode())
    assert instance.event_time.isoformat() == "2010-06-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("zone", "moment"),
    [("Europe/Berlin", "9999-12-31T23:59:59Z"), ("America/New_York", "0001-01-01T00:00:00Z")],
)
def test_an_instant_without_a_day_in_the_contracts_time_zone_is_refused(
    reader: Any, zone: str, moment: str
) -> None:
    calendar = reader({"time_zone": zone, "features.calendar": ["weekend", "night"]})
    row = {**ROW, "paid_at": moment}
    assert problems(calendar, row) == [("paid_at", "datetime_range")]
    with pytest.raises(InvalidRequest) as refused:
        calendar.many(json.dumps({"instances": [ROW, row]}).encode())
    assert [problem["loc"] for problem in refused.value.problems] == [["body", "instances", 1, "paid_at"]]


def seconds_of_cpu(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**ROW, **{f"f{i}": 1 for i in range(70_000)}}).encode(),
        b'{"same":1,' + b'"same":1,' * 100_000 + b'"same":1}',
        b'{"instances":[' + b"{}," * 300_000 + b"{}]}",
        b'{"instances":[' + b"1," * 450_000 + b"1]}",
        b'{"instances":[{' + b'"\\\\":1,' * 100_000 + b'"x":1}]}',
    ],
)
@pytest.mark.parametrize("name", ["one", "many"])
def test_a_body_full_of_what_is_not_asked_for_costs_little_and_is_told_in_one_line(
    reader: Any, body: bytes, name: str
) -> None:
    read = getattr(reader(), name)

    def refuse() -> None:
        with pytest.raises(InvalidRequest) as refused:
            read(body)
        (problem,) = refused.value.problems
        assert problem["type"] == "too_many"
        assert len(problem["msg"]) < 100

    # Validating such a body takes 0.2 s of a core, and wording its problems 1 s.
    assert seconds_of_cpu(refuse) < 0.1


def test_more_than_1000_problems_are_told_as_their_number(small_contract: Any) -> None:
    reader = InstanceReader(small_contract(), Encoder.of(small_contract(), SEEN), {}, batch=1000)
    body = json.dumps({"instances": [{**ROW, "amount": -1, "items": 0}] * 600}).encode()
    with pytest.raises(InvalidRequest) as refused:
        reader.many(body)
    assert [(one["type"], one["msg"]) for one in refused.value.problems] == [
        ("too_many", "1200 problems: too many to tell")
    ]


@pytest.mark.parametrize("text", [":" * 5000, "," * 5000, '":' * 3000, "\\" * 3001 + '",":', '{"a":[1,2]},' * 500])
def test_what_stands_within_a_text_is_no_field(reader: Any, text: str) -> None:
    wordy = reader({"features.text": {"customer": {"hashed": 16}}})
    assert wordy.one(json.dumps({**ROW, "customer": text}).encode()).row["customer"] == text


def test_columns_may_have_any_name_that_a_contract_may_give_them(small_contract: Any) -> None:
    awkward = ["copy", "schema", "class", "model_config", "json"]
    contract = small_contract(
        {
            **{f"columns.{name}": {"type": "number"} for name in awkward},
            "features.numeric": awkward,
            "features.categorical": [],
            "features.boolean": [],
        }
    )
    reader = InstanceReader(contract, Encoder.of(contract, {}), {}, batch=10)
    row = {name: float(i) for i, name in enumerate(awkward)}
    assert reader.one(json.dumps({"payment": 1, **row}).encode()).row == row


def test_one_clients_senseless_body_does_not_keep_another_waiting(bank_server: Served) -> None:
    body = json.dumps({f"f{i}": 1 for i in range(70_000)})
    began = time.process_time()
    answer = bank_server.client.post("/v1/predict", content=body)
    # The server is in this process: its time is its event loop's.
    assert time.process_time() - began < 0.2
    assert [problem["type"] for problem in answer.json()["detail"]] == ["too_many"]


def test_a_refusal_over_http_is_422_and_counted_by_field(bank_server: Served) -> None:
    before = bank_server.metric('caudal_refused_fields_total{field="other",kind="extra_forbidden"')
    answer = bank_server.predict({"nonsense": 1})
    assert answer.status_code == 422
    assert {problem["type"] for problem in answer.json()["detail"]} == {"missing", "extra_forbidden"}
    assert bank_server.metric('caudal_refused_fields_total{field="other",kind="extra_forbidden"') == before + 1


@pytest.mark.parametrize("query", ["reasons=-1", "reasons=x", "reasons=101", "reasons=1e2", "raesons=3"])
def test_a_query_that_is_not_known_is_refused(bank_server: Served, query: str) -> None:
    answer = bank_server.client.post(f"/v1/predict?{query}", json={})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "query"
