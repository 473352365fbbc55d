"""A contract is parsed once, and everything that is wrong with it is said with file, line and mend."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from caudal.contract import Contract, load_contract, parse_contract
from caudal.errors import InvalidContract, Problem
from caudal.yaml_document import write_document
from tests.conftest import REMOVED, SMALL_CONTRACT

Text = Callable[..., str]
Make = Callable[..., Contract]


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidContract) as caught:
        parse_contract(text, "payments.yaml")
    assert caught.value.exit_status == 2
    return caught.value.problems


def the_problem(text: str) -> Problem:
    (found,) = problems(text)
    return found


def line_of(text: str, starts: str) -> int:
    """The number of the line that begins so, however indented; `a > b` is the first `b` after the first `a`."""
    lines = text.splitlines()
    number = 0
    for start in starts.split(" > "):
        number = next(n for n in range(number, len(lines)) if lines[n].strip().startswith(start))
    return number + 1


WINDOW = {"entity": "customer", "lengths": ["1d"], "values": {"count": "*"}}


@pytest.mark.parametrize(
    ("changes", "line", "what", "mend"),
    [
        # Keys
        ({"questoin": "x"}, "questoin", "unknown key 'questoin'", "write 'question'"),
        ({"label.due_afer": "7d"}, "due_afer", "unknown key 'label.due_afer'", "write 'due_after'"),
        ({"columns.items.requierd": True}, "requierd", "unknown key 'columns.items.requierd'", "write 'required'"),
        ({"gate.against_champion.atleast": 0}, "atleast", "unknown key", "at_least"),
        ({"monitor": {"colour": 1}}, "colour", "unknown key 'monitor.colour'", "known here: drift"),
        ({"label.due_after": REMOVED}, "label:", "'label.due_after' is missing", "add 'due_after'"),
        ({"gate": REMOVED}, "contract: 1", "'gate' is missing", "add 'gate'"),
        # Types
        ({"columns.items.type": "integr"}, "type: integr", "'columns.items.type'", "write 'integer'"),
        ({"label.due_after": "a week"}, "due_after", "not a length of time such as 14d", "a week"),
        ({"task": "binry"}, "task", "'task'", "write 'binary'"),
        ({"columns.channel.values": [1, "a"]}, "channel: > - 1", "valid string", 'put it in quotes: "1"'),
        ({"columns.items.range": [1]}, "items: > range", "'columns.items.range.1' is missing", "add"),
        ({"columns.items.range": ["low", 3]}, "- low", "number", "'low'"),
        ({"contract": 2}, "contract", "'contract'", "choose one of 1"),
        ({"model": {"parameters": {"max_depth": -1}}}, "max_depth", "greater than or equal to 0", "-1"),
        ({"model": {"parameters": {"max_dept": 3}}}, "max_dept", "unknown key", "write 'max_depth'"),
        ({"columns.items.range": [0, float("inf")]}, "- .inf", "finite", "inf"),
        ({"monitor.quality.limits": {"auc": {}}}, "auc", "needs 'at_least' or 'at_most'", "{}"),
        ({"monitor.quality.limits": {"auc": {"at_least": 0.8, "at_most": 0.7}}}, "auc", "above 'at_most'", "0.8"),
        ({"monitor.quality.limits": {"rmse": {"at_most": 2}}}, "rmse", "a binary task has no metric", "recall"),
        ({"monitor.remind_every": "0d"}, "remind_every", "needs some time", "0d"),
        # Values that can't be meant
        ({"columns.items.range": [99, 1]}, "items: > range", "99 is above 1", "write [1, 99]"),
        ({"columns.channel.range": [0, 1]}, "channel: > range", "a category has no range", "remove 'range'"),
        ({"columns.items.values": ["1"]}, "values", "lists values but is of type integer", "category"),
        ({"columns.channel.values": ["web", "web"]}, "values", "lists no value, or one twice", "once"),
        ({"columns.channel.values": []}, "values", "lists no value, or one twice", "once"),
        ({"columns._hidden": {"type": "text"}}, "_hidden", "underscore", "rename"),
        ({"columns.a b": {"type": "text"}}, "a b", "can't be the name", "letters, digits and underscores"),
        ({"columns.Amount": {"type": "text"}}, "Amount", "differ only in case", "rename"),
        ({"time_zone": "Europe/Lisbn"}, "time_zone", "not a time zone", "write 'Europe/Lisbon'"),
        ({"source": {"csv": {"delimiter": ",", "decimal": ","}}}, "csv", "one character", "';'"),
        ({"source": {"csv": {"encoding": "utf9"}}}, "encoding", "not an encoding", "utf8"),
        ({"label.due_after": "9999999999d"}, "due_after", "longer than 100 years", "36525d"),
        ({"monitor.fresh_within": "5219w"}, "fresh_within", "longer than 100 years", "36525d"),
        ({"features.windows": [{**WINDOW, "lengths": ["1d", "999999d"]}]}, "- 999999d", "100 years", "36525d"),
        # Columns that are not there
        ({"key": "paymnt"}, "key", "'paymnt' is not one of the columns", "write 'payment'"),
        ({"event_time": "paid"}, "event_time", "not one of the columns", "write 'paid_at'"),
        ({"label.column": "dispute"}, "column:", "not one of the columns", "write 'disputed'"),
        ({"version": "revision"}, "version", "not one of the columns", "name a column"),
        ({"features.numeric": ["amount", "itms"]}, "- itms", "not one of the columns", "write 'items'"),
        ({"never.refundd": "why"}, "refundd", "not one of the columns", "write 'refunded'"),
        ({"gate.slices": ["chanel"]}, "- chanel", "not one of the columns", "write 'channel'"),
        ({"features.windows": [{**WINDOW, "entity": "custmer"}]}, "- entity", "not one of", "write 'customer'"),
        ({"features.windows": [{**WINDOW, "values": {"mean": "amont"}}]}, "mean", "not one of", "write 'amount'"),
        # Roles
        ({"columns.payment.required": False}, "key", "'payment' is not required", "required: true"),
        ({"columns.paid_at.type": "text"}, "event_time", "is of type text", "date or timestamp"),
        ({"columns.payment.type": "number"}, "key", "of type number", "integer"),
        ({"version": "customer"}, "version", "no order that can be meant", "timestamp"),
        ({"label.positive": "maybe"}, "positive", "'maybe' is not a value", "choose one of yes, no"),
        ({"label.positive": REMOVED}, "label", "needs 'positive'", "say which value"),
        ({"columns.disputed": {"type": "boolean"}}, "positive", "neither 'true' nor 'false'", "as the column"),
        ({"columns.disputed": {"type": "integer"}}, "positive", "'yes' is no number", "as the column holds it"),
        (
            {"columns.disputed": {"type": "integer"}, "label.positive": "1.5"},
            "positive",
            "more places than a value of type integer",
            "as the column holds it",
        ),
        ({"columns.disputed": {"type": "number"}, "label.positive": "nan"}, "positive", "out of range", "as the"),
        ({"columns.disputed": {"type": "date"}}, "positive", "type date, which has no classes", "boolean"),
        # Features
        (
            {"columns.Weekend": {"type": "text"}, "features.calendar": ["weekend"]},
            "features",
            "name of the column 'Weekend'",
            "rename",
        ),
        (
            {
                "columns.Customer_Count_1d": {"type": "number"},
                "features.windows": [WINDOW],
            },
            "features",
            "name of the column 'Customer_Count_1d'",
            "rename",
        ),
        ({"features.windows": [{**WINDOW, "entity": "disputed"}]}, "- entity", "would tell the label", "about"),
        (
            {
                "task": "regression",
                "label.positive": REMOVED,
                "gate.metric": "rmse",
                "columns.disputed": {"type": "integer"},
                "features.windows": [{**WINDOW, "delay": "7d", "values": {"rate": "disputed"}}],
            },
            "windows > rate",
            "a label without 'positive' has no rate",
            "mean",
        ),
        (
            {"features.numeric": ["channel"], "features.categorical": ["items"]},
            "- channel",
            "of type category",
            "kind",
        ),
        (
            {"features.numeric": ["items", "refunded"]},
            "- refunded",
            "both a feature and in 'never'",
            "one of the two",
        ),
        ({"features.categorical": ["disputed"]}, "- disputed", "is the label", "remove it"),
        ({"features.numeric": ["payment"]}, "- payment", "is the key", "remove it"),
        ({"features.numeric": ["items", "items"]}, "features", "'items' occurs twice", "keep one"),
        ({"features": {}}, "features", "there is no feature", "at least one"),
        ({"features.night_hours": [22, 30]}, "night_hours", "not hours of a day", "[0, 6]"),
        (
            {"columns.weekend": {"type": "text"}, "features.calendar": ["weekend"]},
            "features",
            "name of the column 'weekend'",
            "rename",
        ),
        # Windows
        ({"features.windows": [{**WINDOW, "lengths": ["0d"]}]}, "- 0d", "no length", "1d"),
        (
            {"features.windows": [{**WINDOW, "values": {"mean": "channel"}}]},
            "mean",
            "a category has no mean",
            "number",
        ),
        (
            {"features.windows": [{**WINDOW, "values": {"rate": "amount"}}]},
            "windows > rate",
            "a decimal has no rate",
            "boolean",
        ),
        (
            {"features.windows": [{**WINDOW, "values": {"rate": "disputed"}}]},
            "- entity",
            "has no delay",
            "add 'delay'",
        ),
        (
            {"features.windows": [{**WINDOW, "delay": "6d", "values": {"rate": "disputed"}}]},
            "delay",
            "before it is due",
            "at least as long as label.due_after",
        ),
        ({"features.windows": [{**WINDOW, "values": {"sum": "refunded"}}]}, "sum", "in 'never'", "another column"),
        ({"features.windows": [{**WINDOW, "lengths": ["7d", "1w"]}]}, "features", "occurs twice", "keep one"),
        # Model, gate, retraining
        ({"gate.metric": "rmse"}, "metric", "no metric 'rmse'", "auc"),
        (
            {"model": {"train_on": {"latest": 10, "minimum": 20}}},
            "train_on",
            "at most 10 and at least 20",
            "minimum",
        ),
        ({"retrain": {"at_most_every": "9d", "at_least_every": "8d"}}, "retrain", "longer than", "exchange"),
        (
            {"retrain": {"at_least_every": "6d", "budget": None}},
            "retrain",
            "longer than",
            "'at_most_every' of 6d or less; it is 7d",
        ),
        (
            {"retrain": {"at_most_every": "1d", "at_least_every": "1d"}},
            "retrain",
            "asks for 90 trainings within 90d, and the budget allows 12",
            "{trainings: 90, within: 90d}",
        ),
    ],
)
def test_each_mistake_is_told_with_its_line_and_mend(
    small_contract_text: Text, changes: dict[str, Any], line: str, what: str, mend: str
) -> None:
    text = small_contract_text(changes)

    found = the_problem(text)

    assert found.where == f"payments.yaml:{line_of(text, line)}"
    assert what in found.what
    assert mend in found.mend


def test_a_hundred_years_are_a_length_of_time(small_contract: Make) -> None:
    contract = small_contract({"features.windows": [{**WINDOW, "lengths": ["36525d"]}]})

    assert contract.features.windows[0].lengths[0].days == 36525


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(small_contract_text: Text) -> None:
    found = problems(small_contract_text({"key": "nothing", "columns.items.range": [9, 1], "gate.metric": "mae"}))

    assert len(found) == 3
    lines = [int(problem.where.split(":")[1]) for problem in found]
    assert lines == sorted(lines)


def test_an_error_prints_every_problem_with_place_and_mend(small_contract_text: Text) -> None:
    with pytest.raises(InvalidContract) as caught:
        parse_contract(small_contract_text({"key": "nothing", "gate.metric": "mae"}), "payments.yaml")

    assert str(caught.value).count("payments.yaml:") == 2
    assert str(caught.value).count("mend: ") == 2


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "not a mapping"),
        ("- a\n- b\n", 1, "not a mapping"),
        ("contract: 1\nname: x\ncontract: 1\n", 3, "'contract' is said twice"),
        ("contract: 1\ncolumns:\n  a: {type: text, type: date}\n", 3, "'type' is said twice"),
        ("contract: 1\n  name: x\n", 2, "not valid YAML"),
        ("contract: 1\nname: 'x\n", 3, "not valid YAML"),
        ("contract: 1\nname: [a, b\nkey: c\n", 3, "not valid YAML"),
        ("contract: \x00", 1, "not text that YAML allows"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
    ],
)
def test_text_that_is_no_yaml_is_told_with_its_line(text: str, line: int, what: str) -> None:
    found = the_problem(text)

    assert found.where == f"payments.yaml:{line}"
    assert what in found.what
    assert found.mend


def test_a_contract_that_is_not_there_is_told_with_those_that_are(repository: Path) -> None:
    with pytest.raises(InvalidContract, match="no such contract") as caught:
        load_contract(repository / "contracts" / "bank_markting.yaml")

    assert "bank_marketing" in caught.value.mend
    assert caught.value.where.endswith("bank_markting.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InvalidContract, match="UTF-8"):
        load_contract(tmp_path / "x.yaml")
    with pytest.raises(InvalidContract, match="a folder"):
        load_contract(tmp_path)


def test_a_contract_knows_where_each_part_was_written(small_contract_text: Text) -> None:
    text = small_contract_text()
    contract = parse_contract(text, "payments.yaml")

    assert contract.where("columns", "items") == f"payments.yaml:{line_of(text, 'items:')}"
    assert contract.where("label", "due_after") == f"payments.yaml:{line_of(text, 'due_after')}"
    assert contract.where("retrain", "on") == "payments.yaml:1"


def test_a_contract_can_not_be_changed(small_contract: Make) -> None:
    contract = small_contract()

    with pytest.raises(ValidationError):
        contract.key = "items"
    with pytest.raises(ValidationError):
        contract.columns["items"].type = "text"


@pytest.mark.parametrize("name", ["bank_marketing", "wallet"])
def test_the_shipped_contracts_are_valid_and_read_back_what_they_say(repository: Path, name: str) -> None:
    contract = load_contract(repository / "contracts" / f"{name}.yaml")

    again = parse_contract(write_document(contract.model_dump(mode="json")))

    assert contract.name == name
    assert again.model_dump() == contract.model_dump()
    assert again.digest() == contract.digest()


durations = st.integers(1, 400).flatmap(lambda n: st.sampled_from([f"{n}d", f"{n}h", f"{n}m", f"{n}s"]))


@settings(max_examples=30)
@given(
    due=durations,
    reach=st.tuples(st.integers(0, 50), st.integers(50, 10**6)),
    channels=st.lists(st.text(min_size=1), min_size=1, unique=True),
    numeric=st.permutations(["amount", "items", "rate"]),
    lengths=st.lists(st.integers(1, 60).map(lambda n: f"{n}d"), min_size=1, max_size=3, unique=True),
    minimum=st.integers(1, 10**6),
)
def test_any_contract_reads_back_what_it_says(
    small_contract: Make,
    due: str,
    reach: tuple[int, int],
    channels: list[str],
    numeric: list[str],
    lengths: list[str],
    minimum: int,
) -> None:
    window = {"entity": "customer", "lengths": lengths, "values": {"count": "*", "mean": ["amount", "items"]}}
    contract = small_contract(
        {
            "label.due_after": due,
            "columns.items.range": list(reach),
            "columns.channel.values": channels,
            "features.numeric": numeric,
            "features.windows": [window],
            "gate.minimum_rows": minimum,
        }
    )

    again = parse_contract(write_document(contract.model_dump(mode="json")))

    assert again.model_dump() == contract.model_dump()
    assert again.digest() == contract.digest()
    assert again.model_digest() == contract.model_digest()
    assert list(again.columns["channel"].values or ()) == channels


# Digests


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same values with the keys of every mapping in another order."""
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: shuffled(value[key], chance) for key in keys}
    return value


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_keys_or_on_layout(small_contract: Make, chance: Any) -> None:
    mixed = yaml.safe_dump(
        shuffled(SMALL_CONTRACT, chance), sort_keys=False, default_flow_style=chance.random() < 0.5
    )

    assert parse_contract(f"# a comment\n{mixed}\n# another\n").digest() == small_contract().digest()


def test_the_digest_does_not_depend_on_defaults_that_are_written_out(small_contract: Make) -> None:
    assert small_contract({"time_zone": "UTC", "gate.minimum_rows": 500}).digest() == small_contract().digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"label.due_after": "8d"},
        {"columns.items.range": [1, 98]},
        {"features.numeric": ["items", "amount", "rate"]},
        {"question": "Another?"},
        {"never.refunded": "another reason"},
    ],
)
def test_every_change_of_meaning_changes_the_digest(small_contract: Make, changes: dict[str, Any]) -> None:
    assert small_contract(changes).digest() != small_contract().digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"features.numeric": ["items", "amount", "rate"]},
        {"label.due_after": "8d"},
        {"model": {"parameters": {"max_depth": 3}}},
        {"columns.channel.values": ["web", "app"]},
        {"features.calendar": ["weekend"]},
    ],
)
def test_what_decides_the_model_changes_its_digest(small_contract: Make, changes: dict[str, Any]) -> None:
    assert small_contract(changes).model_digest() != small_contract().model_digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "Another?"},
        {"never.refunded": "another reason"},
        {"columns.amount.unit": "USD"},
        {"columns.items.personal": True},
        {"columns.refunded.range": [0, 1]},
        {"gate.metric": "brier"},
        {"monitor": {"drift": {"threshold": 0.5}}},
        {"retrain": {"new_rows": 7}},
        {"model": {"search": {"space": {"max_depth": [2, 4]}}}},
    ],
)
def test_what_does_not_decide_the_model_leaves_its_digest(small_contract: Make, changes: dict[str, Any]) -> None:
    assert small_contract(changes).model_digest() == small_contract().model_digest()


def test_the_order_of_a_windows_values_decides_the_order_of_inputs_and_so_the_model(small_contract: Make) -> None:
    one = {"entity": "customer", "lengths": ["1d"], "values": {"count": "*", "mean": "amount"}}
    other = {**one, "values": {"mean": "amount", "count": "*"}}

    digests = {small_contract({"features.windows": [window]}).model_digest() for window in (one, other)}

    assert len(digests) == 2
