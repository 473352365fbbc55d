"""Who learns what: always by time, and never the rows that judge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal.contract import Contract, parse_contract
from trainer.split import Split, TooFew, split

START = np.datetime64("2026-01-01", "us")


@pytest.fixture(scope="module")
def make(small_contract: Any) -> Any:
    def made(minimum_rows: int = 100, **train_on: Any) -> Contract:
        contract: Contract = small_contract({"gate.minimum_rows": minimum_rows, "model.train_on": train_on})
        return contract

    return made


def hours(count: int) -> Any:
    return START + np.arange(count) * np.timedelta64(1, "h")


def at(hour: int) -> datetime:
    moment: datetime = (START + np.timedelta64(hour, "h")).item()
    return moment.replace(tzinfo=UTC)


def test_without_a_champion_the_most_recent_share_judges(make: Any) -> None:
    found = split(make(latest=1000, minimum=100, judge_share=0.25), hours(5000), None)
    assert found == Split(learn=(3750, 4750), judge=(4750, 5000), refit=(4000, 5000))
    assert found == split(make(latest=1000, minimum=100, judge_share=0.25), hours(5000), None)


def test_with_a_champion_only_rows_that_it_has_not_learned_judge(make: Any) -> None:
    found = split(make(latest=1000, minimum=100, judge_share=0.5), hours(2000), at(1599))
    # 400 rows are unseen: the later half judges, the earlier half is new to learn.
    assert found == Split(learn=(800, 1800), judge=(1800, 2000), refit=(1000, 2000))


def test_at_least_the_gates_minimum_judges(make: Any) -> None:
    found = split(make(minimum_rows=150, minimum=100, judge_share=0.1), hours(1000), at(699))
    assert isinstance(found, Split)
    assert found.judge == (850, 1000)


def test_too_few_unseen_rows_are_an_answer(make: Any) -> None:
    found = split(make(minimum_rows=150, minimum=100), hours(1000), at(900))
    assert found == TooFew("due rows that no champion has learned", 99, 150)
    assert split(make(minimum_rows=150, minimum=100), hours(1000), at(5000)) == TooFew(
        "due rows that no champion has learned", 0, 150
    )


def test_too_few_rows_to_learn_are_an_answer(make: Any) -> None:
    found = split(make(minimum_rows=100, minimum=400), hours(450), None)
    assert found == TooFew("rows to learn before those that judge", 338, 400)


def test_the_first_model_may_wait_for_more(make: Any) -> None:
    contract = make(minimum_rows=100, minimum=200, first=3000)
    assert split(contract, hours(2999), None) == TooFew("due rows for a first model", 2999, 3000)
    assert isinstance(split(contract, hours(3000), None), Split)
    assert isinstance(split(contract, hours(2000), at(1500)), Split)


def test_a_late_row_of_a_time_that_the_champion_knows_does_not_judge(make: Any) -> None:
    # Ten rows share the champion's last instant: which of them it learned can't be told, so none judges.
    times = np.sort(np.concatenate([hours(1000), np.repeat(hours(1000)[799], 9)]))
    found = split(make(minimum_rows=100, minimum=100, judge_share=0.99), times, at(799))
    assert isinstance(found, Split)
    assert (times[found.judge[0] : found.judge[1]] > np.datetime64(at(799).replace(tzinfo=None))).all()


CONTRACT = """
{contract: 1, name: c, question: q, key: k, event_time: t, task: binary,
 columns: {k: {type: integer, required: true}, t: {type: timestamp, required: true}, x: {type: number},
           y: {type: boolean}},
 label: {column: y, positive: "true", due_after: 1d}, features: {numeric: [x]},
 model: {train_on: {latest: %d, minimum: %d, judge_share: %f}},
 gate: {metric: auc, against_champion: {at_least: 0}, minimum_rows: %d}}
"""


@given(
    rows=st.integers(0, 3000),
    latest=st.integers(1, 2000),
    minimum=st.integers(1, 500),
    share=st.floats(0.01, 0.99),
    judged=st.integers(1, 500),
    seen=st.none() | st.integers(0, 3000),
)
def test_learned_rows_come_before_judging_rows_which_no_model_has_seen(
    rows: int, latest: int, minimum: int, share: float, judged: int, seen: int | None
) -> None:
    minimum = min(minimum, latest)
    contract = parse_contract(CONTRACT % (latest, minimum, share, judged))
    times = hours(rows)
    until = None if seen is None else at(seen)
    found = split(contract, times, until)
    if isinstance(found, TooFew):
        assert found.rows < found.needed
        return
    assert 0 <= found.learn[0] < found.learn[1] == found.judge[0] < found.judge[1] == found.refit[1] == rows
    assert minimum <= found.learn[1] - found.learn[0] <= latest
    assert found.judge[1] - found.judge[0] >= judged
    assert found.refit[1] - found.refit[0] <= latest
    if until is not None:
        assert (times[found.judge[0] :] > np.datetime64(until.replace(tzinfo=None))).all()
    assert Split.from_json(found.to_json()) == found
