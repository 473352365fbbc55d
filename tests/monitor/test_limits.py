"""Fixed bounds of live quality and of time: an alarm needs a figure beyond the bound, and more than chance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from caudal.environment import Environment
from monitor.measurements import Measurement
from monitor.quality import Judged, quality_of
from monitor.step import outcomes
from tests.world import World, day, payments

MARCH = day("2026-03-01")


def measure(
    contract: Any, labels: np.ndarray, scores: np.ndarray, validation: float = 0.0
) -> dict[str, Measurement]:
    """The figures of some labels and scores, of a model that decides at one half."""
    metrics = {"all": {contract.monitor.quality.metric: {"value": validation}}}
    package: Any = SimpleNamespace(threshold=0.5, metadata={"metrics": metrics})
    context: Any = SimpleNamespace(contract=contract)
    judged = Judged(labels, scores, len(labels), "newly due")
    return {one.measure: one for one in quality_of(context, package, judged)}


def found_of(positives: int, found: int, negatives: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which so many positives are decided positive, and no negative is."""
    labels = np.r_[np.ones(positives), np.zeros(negatives)]
    return labels, np.r_[np.full(found, 0.9), np.full(positives - found, 0.2), np.full(negatives, 0.1)]


@pytest.mark.parametrize(("positives", "found"), [(40, 18), (1000, 450), (1000, 490), (1000, 550), (60, 20)])
def test_recall_below_its_limit_is_an_alarm_where_the_binomial_interval_excludes_it(
    small_contract: Any, positives: int, found: int
) -> None:
    contract = small_contract({"monitor.quality.limits": {"recall": {"at_least": 0.5}}})
    one = measure(contract, *found_of(positives, found))["live_recall"]
    exact = binomtest(found, positives).proportion_ci(0.90)
    assert (one.value, one.threshold) == (found / positives, 0.5)
    assert one.kind == ("quality" if exact.high < 0.5 else None)
    if one.kind:
        assert one.evidence["high"] == pytest.approx(exact.high, abs=0.03)


@pytest.mark.parametrize(("shift", "alarm"), [(0.0, False), (0.08, False), (0.25, True)])
def test_scores_that_are_no_probabilities_are_an_alarm_of_calibration(
    small_contract: Any, shift: float, alarm: bool
) -> None:
    contract = small_contract({"monitor.quality.limits": {"calibration_error": {"at_most": 0.1}}})
    generator = np.random.default_rng(5)
    chance = generator.uniform(0.1, 0.7, 1500)
    one = measure(contract, (generator.random(1500) < chance).astype(np.int8), chance + shift)
    assert one["live_calibration_error"].threshold == 0.1
    assert (one["live_calibration_error"].kind == "quality") is alarm


def test_two_limits_raise_two_alarms_that_name_their_metrics(small_contract: Any) -> None:
    limits = {"recall": {"at_least": 0.6}, "f1": {"at_least": 0.7}, "precision": {"at_least": 0.5}}
    found = measure(small_contract({"monitor.quality.limits": limits}), *found_of(1000, 450))
    assert {name for name, one in found.items() if one.kind} == {"live_recall", "live_f1"}


@pytest.mark.parametrize(
    ("validation", "limit", "threshold", "alarm"),
    [
        (0.9, 0.3, 0.85, True),
        (0.9, 0.7, 0.85, True),
        (0.5, 0.7, 0.7, True),
        (0.5, 0.4, 0.45, False),
    ],
)
def test_the_metric_that_is_held_against_validation_may_have_a_limit_too(
    small_contract: Any, validation: float, limit: float, threshold: float, alarm: bool
) -> None:
    contract = small_contract(
        {"monitor.quality.metric": "accuracy", "monitor.quality.limits": {"accuracy": {"at_least": limit}}}
    )
    # An accuracy of .55, on enough rows to exclude .6.
    scores = np.r_[np.full(1100, 0.1), np.full(900, 0.9)]
    one = measure(contract, np.zeros(2000), scores, validation)["live_accuracy"]
    assert one.threshold == pytest.approx(threshold)
    assert (one.kind == "quality") is alarm


def test_a_figure_that_the_rows_can_not_give_is_held_against_nothing(small_contract: Any) -> None:
    contract = small_contract({"monitor.quality.limits": {"precision": {"at_least": 0.5}}})
    one = measure(contract, *found_of(300, 0))["live_precision"]
    assert (one.value, one.threshold, one.kind) == (None, None, None)


def test_a_limit_that_is_broken_alarms_trains_and_ends(
    small_contract: Any, local_environment: Environment
) -> None:
    limits = {"recall": {"at_least": 0.5}}
    world = World(
        small_contract(
            {
                "monitor.quality": {"metric": "auc", "limits": limits, "minimum_rows": 100},
                "model.train_on.minimum": 200,
            }
        ),
        local_environment,
    )
    start = day("2026-01-31")
    champion = world.promote(world.arrive(payments(2000, "2026-01-01"), start), start)
    told = []
    for number, score in enumerate([0.2, 0.9]):
        columns = payments(800, "2026-02-01", first_key=10_000 * (number + 1), days=20)
        as_of = day(f"2026-03-0{number + 1}")
        world.arrive(columns, as_of)
        labels = np.array(columns["disputed"]) == "yes"
        scores = np.where(labels, score, 0.1)
        world.predicted(champion, columns["payment"], columns["paid_at"], scores, as_of)
        result = outcomes(world.context(as_of))
        told.append([(a["kind"], a["measure"]) for key in ("alarms", "ended") for a in result[key]
                     if a["kind"] == "quality"])  # fmt: skip
        told.append("quality" in result["reasons"] or "quality" in result["withheld"])
    assert told == [[("quality", "live_recall")], True, [("quality", "live_recall")], False]


def test_work_that_takes_longer_than_the_contract_allows_is_an_alarm(
    small_contract: Any, local_environment: Environment
) -> None:
    world = World(small_contract({"monitor.time": {"training": "30m", "scoring": "10m"}}), local_environment)
    start = day("2026-01-31")
    world.promote(world.arrive(payments(2000, "2026-01-01"), start), start)
    told = []
    for number, seconds in enumerate([600.0, 601.0, 20.0]):
        result = outcomes(world.context(day(f"2026-03-0{number + 1}"), score={"rows": 5, "seconds": seconds}))
        told.append([(a["kind"], a["measure"], a["value"], a["threshold"], a["state"])
                     for key in ("alarms", "ended") for a in result[key] if a["kind"] == "time"])  # fmt: skip
    assert told == [
        [],
        [("time", "scoring_seconds", 601.0, 600.0, "new")],
        [("time", "scoring_seconds", 20.0, 600.0, "ended")],
    ]


@pytest.mark.parametrize(("seconds", "kinds"), [(1800.0, []), (1801.0, ["time"])])
def test_the_run_after_a_training_holds_its_time_against_the_limit(
    small_contract: Any, local_environment: Environment, seconds: float, kinds: list[str]
) -> None:
    world = World(
        small_contract({"monitor.time": {"training": "30m"}, "model.train_on.minimum": 200}), local_environment
    )
    world.arrive(payments(800, "2026-02-01", days=14), MARCH)
    context = world.context(MARCH)
    assert outcomes(context)["reasons"] == ["first_model"]
    for step, result in (("train", {"seconds": seconds}), ("validate", {"passed": False})):
        world.storage.write_json(context.run.step_uri(step), result)
    after = outcomes(world.context(day("2026-03-02")))
    assert [alarm["kind"] for alarm in after["alarms"]] == kinds
