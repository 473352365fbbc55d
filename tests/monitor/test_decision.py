"""The decision to train, as a function of facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal.contract.monitoring import Budget, Retrain
from monitor.decision import Facts, decide
from tests.world import day

NOW = day("2026-06-01")
RETRAIN = Retrain(
    on=("drift", "quality", "new_data", "code"), new_rows=1000, at_most_every="28d", at_least_every="180d"
)
CALM = Facts(
    as_of=NOW,
    champion=True,
    alarms=frozenset(),
    due_rows=5000,
    new_rows=10,
    code_changed=False,
    last_training=NOW - timedelta(days=60),
    last_attempt=NOW - timedelta(days=60),
)


def decided(retrain: Retrain = RETRAIN, **changes: Any) -> Any:
    return decide(replace(CALM, **changes), retrain, minimum_rows=2000)


def test_nothing_happens_when_nothing_asks() -> None:
    assert decided().retrain is False
    assert (decided().reasons, decided().withheld) == ((), "")


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"champion": False, "last_training": None}, ("first_model",)),
        ({"alarms": frozenset({"drift"})}, ("drift",)),
        ({"alarms": frozenset({"prediction_drift"})}, ("drift",)),
        ({"alarms": frozenset({"class_drift"})}, ("drift",)),
        ({"alarms": frozenset({"quality"})}, ("quality",)),
        ({"new_rows": 1000}, ("new_data",)),
        ({"code_changed": True}, ("code",)),
        ({"last_training": NOW - timedelta(days=180)}, ("schedule",)),
        ({"alarms": frozenset({"drift", "quality"}), "new_rows": 5000}, ("drift", "quality", "new_data")),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, tuple) else "",
)
def test_each_trigger_trains_and_says_so(changes: dict[str, Any], reasons: tuple[str, ...]) -> None:
    decision = decided(**changes)
    assert (decision.retrain, decision.reasons, decision.withheld) == (True, reasons, "")


@pytest.mark.parametrize("kind", ["missing", "unseen", "rejected", "volume", "freshness"])
def test_bad_input_is_no_reason_to_learn_from_it(kind: str) -> None:
    assert not decided(alarms=frozenset({kind})).retrain


@pytest.mark.parametrize("trigger", ["drift", "quality", "new_data", "code"])
def test_a_trigger_that_the_contract_does_not_name_is_ignored(trigger: str) -> None:
    others = tuple(t for t in RETRAIN.on if t != trigger)
    everything = {"alarms": frozenset({"drift", "quality"}), "new_rows": 5000, "code_changed": True}
    assert trigger not in decided(RETRAIN.model_copy(update={"on": others}), **everything).reasons


def test_within_the_cool_down_nothing_trains_and_the_decision_says_until_when() -> None:
    decision = decided(alarms=frozenset({"drift"}), last_attempt=NOW - timedelta(days=27))
    assert not decision.retrain
    assert decision.withheld == "drift: cool-down until 2026-06-02T00:00:00Z"
    assert decided(alarms=frozenset({"drift"}), last_attempt=NOW - timedelta(days=28)).retrain


def test_the_cool_down_counts_from_the_last_attempt_and_the_schedule_from_the_last_training() -> None:
    long_ago, lately = NOW - timedelta(days=180), NOW - timedelta(days=27)
    assert decided(last_training=long_ago, last_attempt=lately).withheld == (
        "schedule: cool-down until 2026-06-02T00:00:00Z"
    )
    assert decided(last_training=long_ago, last_attempt=NOW - timedelta(days=28)).reasons == ("schedule",)
    # The first model's trainings failed, each of them.
    first = decided(champion=False, last_training=None, last_attempt=lately)
    assert first.withheld == "first_model: cool-down until 2026-06-02T00:00:00Z"


def test_too_few_due_rows_are_waited_for() -> None:
    decision = decided(champion=False, last_training=None, due_rows=1999)
    assert (decision.retrain, decision.withheld) == (False, "first_model: 1999 of 2000 due rows")


def test_without_a_cool_down_a_refusal_still_does_not_loop() -> None:
    eager = RETRAIN.model_copy(update={"at_most_every": None})
    again = {"alarms": frozenset({"drift"}), "last_training": NOW - timedelta(days=1), "new_rows": 0}
    assert decided(eager, **again).withheld == "drift: nothing new to learn since the last training"
    assert decided(eager, **{**again, "new_rows": 1}).retrain
    assert not decided(eager, champion=False, last_training=NOW - timedelta(days=1), new_rows=0).retrain


def test_a_contract_that_says_nothing_does_not_loop_under_an_alarm_that_stands() -> None:
    """A run a day for a year, each with new rows and the alarm of the day before."""
    retrain, trained = Retrain(), list[Any]()
    for number in range(365):
        now = NOW + timedelta(days=number)
        facts = replace(
            CALM,
            as_of=now,
            alarms=frozenset({"drift"}),
            last_training=trained[-1] if trained else None,
            last_attempt=trained[-1] if trained else None,
            trainings_within_budget=sum(when > now - timedelta(days=90) for when in trained),
        )
        if decide(facts, retrain, minimum_rows=2000).retrain:
            trained.append(now)
    assert min(later - earlier for earlier, later in pairwise(trained)) == timedelta(days=7)
    most = max(sum(0 <= (b - a).days < 90 for b in trained) for a in trained)
    assert most == 12
    # It still learns, all year.
    assert NOW + timedelta(days=365) - trained[-1] < timedelta(days=30)


def test_a_used_up_budget_holds_whatever_asks() -> None:
    thrifty = RETRAIN.model_copy(update={"budget": Budget(trainings=3, within="365d")})
    asked = {"alarms": frozenset({"quality"})}
    assert decided(thrifty, **asked, trainings_within_budget=2).retrain
    held = decided(thrifty, **asked, trainings_within_budget=3)
    assert held.withheld == "quality: the budget of 3 trainings within 365d is used up"


def test_while_a_challenger_is_on_trial_nothing_trains() -> None:
    assert decided(new_rows=5000, on_trial=True).withheld == "new_data: a challenger is on trial"


@given(
    st.builds(
        Facts,
        as_of=st.just(NOW),
        champion=st.booleans(),
        alarms=st.frozensets(st.sampled_from(["drift", "quality", "missing", "volume", "prediction_drift"])),
        due_rows=st.integers(0, 4000),
        new_rows=st.integers(0, 4000),
        code_changed=st.booleans(),
        last_training=st.none() | st.integers(0, 400).map(lambda days: NOW - timedelta(days=days)),
        last_attempt=st.none() | st.integers(0, 400).map(lambda days: NOW - timedelta(days=days)),
    )
)
def test_a_training_always_has_a_reason_and_what_is_withheld_an_obstacle(facts: Facts) -> None:
    decision = decide(facts, RETRAIN, minimum_rows=2000)
    assert decision.retrain == bool(decision.reasons)
    assert not (decision.retrain and decision.withheld)
    if decision.retrain:
        assert facts.due_rows >= 2000
        assert facts.last_attempt is None or facts.last_attempt <= NOW - timedelta(days=28)
