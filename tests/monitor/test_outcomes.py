"""The outcomes step: live quality with the labels now due, prediction drift, and the decision to train."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

from caudal.environment import Environment
from caudal.promotions import Promotion
from caudal.step import StepContext
from caudal.tracking import Tracking
from monitor.step import inputs, outcomes
from monitor.trainings import Recipe
from tests.world import World, day, payments

FEBRUARY, MARCH = day("2026-02-01"), day("2026-03-01")
DUE = timedelta(days=7)


@pytest.fixture
def trained(world: World) -> World:
    """A champion since February, by the recipe that is current, with an AUC of .8 in its validation."""
    rows = world.arrive(payments(2000, "2026-01-01"), FEBRUARY)
    recipe = Recipe.current(world.context(FEBRUARY))
    labels = np.array([label == "yes" for label in rows.column("disputed").to_pylist()])
    world.champion = world.promote(  # type: ignore[attr-defined]
        rows, FEBRUARY, metrics={"auc": 0.8}, unit=recipe.trainer, scores=_scores(labels, 0.3, seed=1)
    )
    return world


def live(world: World, count: int, *, quality: float, as_of: datetime = MARCH, start: str = "2026-02-01",
         first_key: int = 10_000, seed: int = 3, promotion: Promotion | None = None, days: int = 28,
         ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Rows that arrived while the champion was live, with predictions of a chosen quality (0 is none)."""
    columns = payments(count, start, first_key=first_key, seed=seed, days=days)
    labels = np.array([label == "yes" for label in columns["disputed"]])
    scores = _scores(labels, quality, seed)
    world.arrive(columns, as_of)
    world.predicted(
        promotion or world.champion,  # type: ignore[attr-defined]
        columns["payment"],
        columns["paid_at"],
        scores,
        as_of,
    )
    return labels, scores


def started(world: World, as_of: datetime, reason: str) -> StepContext:
    """What a step of a run that was started for a reason is given."""
    context = world.context(as_of)
    return replace(context, run=replace(context.run, reason=reason))


def refused(world: World, as_of: datetime, request: str | None = None) -> None:
    """The training that the run of an as-of asked for comes to a verdict, and the candidate is refused."""
    context = world.context(as_of, request)
    for step, result in {"train": {"seconds": 2.5}, "validate": {"passed": False}}.items():
        world.storage.write_json(context.run.step_uri(step), result)


def _scores(labels: np.ndarray, quality: float, seed: int) -> np.ndarray:
    return quality * labels + (1 - quality) * np.random.default_rng(seed).random(len(labels))


def measured(world: World) -> dict[str, Any]:
    rows = world.rows(
        "SELECT measure, value, threshold, `rows` FROM monitoring.measurements WHERE step = 'outcomes'"
    )
    return {row["measure"]: row for row in rows}


def test_live_figures_are_those_of_the_due_labels(trained: World) -> None:
    labels, scores = live(trained, 800, quality=0.3)
    result = outcomes(trained.context(MARCH))
    # 28 days of payments by 1 March; those of the last seven days are not due.
    due = 601
    found = measured(trained)
    labels, scores = labels[:due], scores[:due]
    assert found["live_auc"]["rows"] == due
    assert found["live_auc"]["value"] == pytest.approx(sklearn.roc_auc_score(labels, scores))
    assert found["live_average_precision"]["value"] == pytest.approx(
        sklearn.average_precision_score(labels, scores)
    )
    assert found["live_log_loss"]["value"] == pytest.approx(
        sklearn.log_loss(labels, scores.clip(1e-15, 1 - 1e-15))
    )
    for name in ("accuracy", "precision", "recall", "f1"):
        expected = getattr(sklearn, name if name == "f1" else f"{name}_score", sklearn.f1_score)(
            labels, scores >= 0.5
        )
        assert found[f"live_{name}"]["value"] == pytest.approx(expected)
    assert result["measures"]["labels_newly_due"] == due
    assert result["quality"] == {
        "metric": "auc",
        "value": round(sklearn.roc_auc_score(labels, scores), 6),
        "threshold": pytest.approx(0.75),
        "rows": due,
        "window": "newly due",
    }


def test_quality_near_the_validation_figure_is_no_alarm(trained: World) -> None:
    labels, scores = live(trained, 800, quality=0.3)
    assert sklearn.roc_auc_score(labels, scores) > 0.78
    assert [a for a in outcomes(trained.context(MARCH))["alarms"] if a["kind"] == "quality"] == []


def test_a_clear_loss_of_quality_is_an_alarm_and_trains(trained: World) -> None:
    live(trained, 800, quality=0.0)
    result = outcomes(trained.context(MARCH))
    (alarm,) = [a for a in result["alarms"] if a["kind"] == "quality"]
    assert alarm["threshold"] == pytest.approx(0.75)
    assert alarm["value"] < 0.6
    assert (result["retrain"], "quality" in result["reasons"]) == (True, True)


def test_a_bad_champion_after_a_bad_one_is_told_and_that_the_first_is_gone(trained: World) -> None:
    live(trained, 800, quality=0.0)
    assert [a["state"] for a in outcomes(trained.context(MARCH))["alarms"] if a["kind"] == "quality"] == ["new"]
    rows = trained.arrive(payments(1000, "2026-01-01", first_key=600_000, seed=9), FEBRUARY)
    second = trained.promote(rows, MARCH, metrics={"auc": 0.8})
    april = day("2026-04-01")
    live(trained, 800, quality=0.0, as_of=april, start="2026-03-02", first_key=700_000, promotion=second)
    found = outcomes(trained.context(april))
    for told, state in ((found["alarms"], "new"), (found["ended"], "ended")):
        assert [a["state"] for a in told if a["measure"] == "live_auc"] == [state]


def test_a_loss_that_chance_explains_is_no_alarm(trained: World) -> None:
    # About 100 due rows: an AUC a little below the threshold is within the interval of .8.
    for seed in range(40):
        labels, scores = live(trained, 134, quality=0.21, seed=seed, first_key=20_000 + 1000 * seed)
        value = sklearn.roc_auc_score(labels[:101], scores[:101])
        if 0.70 < value < 0.75:
            break
        trained.champion = trained.promote(  # type: ignore[attr-defined]
            trained.arrive(payments(300 + seed, "2026-01-01", first_key=500_000 + 1000 * seed), FEBRUARY),
            FEBRUARY, metrics={"auc": 0.8},
        )  # fmt: skip
    else:
        pytest.fail("no sample of the kind that this test is about")
    result = outcomes(trained.context(MARCH))
    assert measured(trained)["live_auc"]["value"] < measured(trained)["live_auc"]["threshold"]
    assert [a for a in result["alarms"] if a["kind"] == "quality"] == []


def test_too_few_due_labels_give_no_verdict(trained: World) -> None:
    live(trained, 120, quality=0.0)
    result = outcomes(trained.context(MARCH))
    assert [a for a in result["alarms"] if a["kind"] == "quality"] == []
    assert "live_auc" not in measured(trained)
    assert result["measures"]["labels_newly_due"] == 91


def test_when_few_labels_are_new_the_champions_latest_due_ones_are_judged(trained: World) -> None:
    live(trained, 800, quality=0.3)
    outcomes(trained.context(MARCH))
    later = day("2026-03-03")
    live(trained, 10, quality=0.0, as_of=later, start="2026-02-23", first_key=90_000, days=1)
    result = outcomes(trained.context(later))
    assert result["measures"]["labels_newly_due"] < 100
    row = [
        r
        for r in trained.rows(
            "SELECT as_of, value, `rows` FROM monitoring.measurements WHERE measure = 'live_auc'"
        )
        if r["as_of"] == later
    ]
    assert row[0]["rows"] == 100


def test_what_was_scored_as_a_backfill_tells_nothing_about_quality(trained: World) -> None:
    columns = payments(500, "2026-01-01", first_key=40_000)
    trained.arrive(columns, FEBRUARY)
    champion = trained.champion  # type: ignore[attr-defined]
    trained.predicted(champion, columns["payment"], columns["paid_at"], np.zeros(500), MARCH)
    assert outcomes(trained.context(MARCH))["measures"]["labels_newly_due"] == 0


def test_what_was_scored_as_a_backfill_is_no_drift_of_predictions(trained: World) -> None:
    columns = payments(800, "2026-01-01", first_key=40_000)
    trained.arrive(columns, FEBRUARY)
    champion = trained.champion  # type: ignore[attr-defined]
    trained.predicted(champion, columns["payment"], columns["paid_at"], np.full(800, 0.99), MARCH)
    outcomes(trained.context(MARCH))
    assert "prediction_psi" not in measured(trained)
    live(trained, 300, quality=0.3)
    later = outcomes(trained.context(MARCH, "with live ones"))
    assert [a for a in later["alarms"] if a["kind"] == "prediction_drift"] == []
    assert measured(trained)["prediction_psi"]["rows"] == 300


def test_scores_that_moved_are_prediction_drift_and_no_quality_alarm(trained: World) -> None:
    columns = payments(800, "2026-02-01", first_key=10_000, seed=3)
    trained.arrive({**columns, "disputed": [None] * 800}, MARCH)
    champion = trained.champion  # type: ignore[attr-defined]
    trained.predicted(champion, columns["payment"], columns["paid_at"], np.full(800, 0.99), MARCH)
    result = outcomes(trained.context(MARCH))
    assert [a["kind"] for a in result["alarms"]] == ["prediction_drift"]
    assert result["reasons"] == ["drift"]


def test_drift_found_by_inputs_trains(trained: World) -> None:
    live(trained, 800, quality=0.3)
    alarm = {"as_of": "2026-03-01T00:00:00Z", "kind": "drift", "feature": "amount", "value": 1, "threshold": 0.25}
    assert outcomes(trained.context(MARCH, inputs={"alarms": [alarm]}))["reasons"] == ["drift"]
    missing = {**alarm, "kind": "missing"}
    assert outcomes(trained.context(MARCH, "other", inputs={"alarms": [missing]}))["retrain"] is False


def test_the_first_model_waits_for_enough_due_labels(world: World) -> None:
    world.arrive(payments(400, "2026-01-01", days=28), FEBRUARY)
    early = outcomes(world.context(day("2026-01-16")))
    assert (early["retrain"], early["withheld"]) == (False, "first_model: 115 of 200 due rows")
    result = outcomes(world.context(FEBRUARY))
    assert (result["retrain"], result["reasons"], result["due_rows"]) == (True, ["first_model"], 343)


def test_after_an_attempt_the_cool_down_holds_whatever_became_of_it(
    small_contract: Any, local_environment: Environment
) -> None:
    world = World(
        small_contract({"model.train_on.minimum": 200, "retrain.at_most_every": "28d"}), local_environment
    )
    world.arrive(payments(400, "2026-01-01"), FEBRUARY)
    assert outcomes(world.context(FEBRUARY))["retrain"]
    world.arrive(payments(400, "2026-02-01", first_key=1000), day("2026-02-20"))
    # The training was refused or failed: there is still no champion.
    held = outcomes(world.context(day("2026-02-20")))
    assert held["withheld"] == "first_model: cool-down until 2026-03-01T00:00:00Z"
    assert outcomes(world.context(MARCH))["retrain"]


def test_a_repeated_step_decides_the_same_and_measures_once(trained: World) -> None:
    live(trained, 800, quality=0.0)
    first = outcomes(trained.context(MARCH))
    rows = trained.rows("SELECT COUNT(*) AS n FROM monitoring.measurements")
    trained.promote(trained.arrive(payments(300, "2026-02-01", first_key=70_000), MARCH), MARCH)
    again = outcomes(trained.context(MARCH))
    assert (again["retrain"], again["reasons"], again["alarms"]) == (True, first["reasons"], first["alarms"])
    assert trained.rows("SELECT COUNT(*) AS n FROM monitoring.measurements") == rows
    assert trained.storage.names(trained.environment.ledger("payments", "trainings")) == ["20260301T000000Z.json"]


def test_a_change_of_the_trainers_code_trains_once_and_a_refusal_does_not_loop(trained: World) -> None:
    live(trained, 800, quality=0.3)
    assert outcomes(trained.context(day("2026-02-27")))["retrain"] is False
    trained.trainer = "a new trainer"
    assert outcomes(trained.context(MARCH))["reasons"] == ["code"]
    refused(trained, MARCH)
    # The champion is still the old one.
    after = outcomes(trained.context(day("2026-03-02")))
    assert (after["retrain"], after["withheld"]) == (False, "")


def test_what_a_failed_training_was_for_asks_again_after_the_cool_down(
    trained: World, small_contract: Any
) -> None:
    trained.contract = small_contract(
        {"model.train_on.minimum": 200, "retrain.new_rows": 800, "retrain.at_most_every": "7d"}
    )
    live(trained, 800, quality=0.3)
    trained.trainer = "a new trainer"
    asked = outcomes(trained.context(MARCH))
    assert (asked["reasons"], asked["new_rows"]) == (["new_data", "code"], 285 + 601)
    # Its run died before the verdict.
    held = outcomes(trained.context(day("2026-03-07")))
    assert held["withheld"] == "new_data, code: cool-down until 2026-03-08T00:00:00Z"
    again = outcomes(trained.context(day("2026-03-08")))
    assert (again["reasons"], again["new_rows"]) == (["new_data", "code"], 285 + 800)
    refused(trained, day("2026-03-08"))
    after = outcomes(trained.context(day("2026-03-15")))
    assert (after["retrain"], after["withheld"], after["new_rows"]) == (False, "", 0)


def test_failed_trainings_use_up_the_budget(trained: World, small_contract: Any) -> None:
    trained.contract = small_contract(
        {"model.train_on.minimum": 200, "retrain.new_rows": 10_000, "retrain.at_most_every": None,
         "retrain.budget": {"trainings": 2, "within": "30d"}}
    )  # fmt: skip
    trained.trainer = "a trainer that always fails"
    decided = [outcomes(trained.context(MARCH + timedelta(days=number)))["retrain"] for number in range(4)]
    assert decided == [True, True, False, False]


def test_the_schedule_counts_from_the_last_training_that_did_not_fail(trained: World, small_contract: Any) -> None:
    trained.contract = small_contract(
        {"model.train_on.minimum": 200, "retrain.at_least_every": "60d", "retrain.new_rows": 10_000,
         "retrain.at_most_every": None}
    )  # fmt: skip
    trained.arrive(payments(100, "2026-02-01", first_key=50_000), MARCH)
    first, second, third = day("2026-04-02"), day("2026-04-03"), day("2026-04-04")
    assert outcomes(trained.context(first))["reasons"] == ["schedule"]
    assert outcomes(trained.context(second))["reasons"] == ["schedule"]
    refused(trained, second)
    assert outcomes(trained.context(third))["reasons"] == []


def test_a_change_of_code_that_was_withheld_is_taken_up_by_a_later_scheduled_run(
    trained: World, small_contract: Any
) -> None:
    trained.contract = small_contract(
        {"model.train_on.minimum": 200, "retrain.new_rows": 10_000, "retrain.at_most_every": "28d"}
    )
    live(trained, 800, quality=0.3)
    trained.trainer = "a new trainer"
    held = outcomes(started(trained, day("2026-02-20"), "code"))
    assert (held["retrain"], held["withheld"]) == (False, "code: cool-down until 2026-03-01T00:00:00Z")
    assert outcomes(started(trained, MARCH, "schedule"))["reasons"] == ["code"]
    refused(trained, MARCH)
    # And by one run alone.
    assert outcomes(started(trained, day("2026-03-29"), "schedule"))["retrain"] is False


def test_a_deployment_that_leaves_the_trainer_as_it_was_does_not_train(trained: World) -> None:
    live(trained, 800, quality=0.3)
    after = outcomes(started(trained, MARCH, "code"))
    assert (after["retrain"], after["withheld"]) == (False, "")


def test_the_monitors_own_code_is_not_taken_for_the_trainers(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(trained, 800, quality=0.3)
    monkeypatch.setenv("CAUDAL_UNIT_DIGEST", "the monitor's own")
    assert outcomes(trained.context(MARCH))["retrain"] is False
    trained.trainer = ""
    assert outcomes(trained.context(MARCH, "nobody said which"))["retrain"] is False


def test_a_change_of_the_contracts_model_trains(trained: World, small_contract: Any) -> None:
    live(trained, 800, quality=0.3)
    trained.contract = small_contract(
        {"model.parameters": {"max_depth": 3}, "model.train_on.minimum": 200, "retrain.new_rows": 10_000}
    )
    # A champion of a contract that then changed: any run finds it, whatever started it.
    assert outcomes(started(trained, MARCH, "schedule"))["reasons"] == ["code"]


def test_new_labels_are_counted_since_the_last_training(trained: World, small_contract: Any) -> None:
    live(trained, 800, quality=0.3)
    # Of January's the last 4 of 28 days were not due at the champion's training, nor was any of February's.
    result = outcomes(trained.context(MARCH))
    assert result["new_rows"] == 285 + 601
    trained.contract = small_contract({"model.train_on.minimum": 200, "retrain.new_rows": 800})
    assert outcomes(trained.context(MARCH, "eager"))["reasons"] == ["new_data"]
    refused(trained, MARCH, "eager")
    assert outcomes(trained.context(day("2026-03-08"), "later"))["new_rows"] == 199


def test_a_label_that_comes_late_is_new(trained: World) -> None:
    live(trained, 800, quality=0.3)
    outcomes(trained.context(MARCH))
    columns = payments(50, "2026-01-05", first_key=80_000, days=5)
    trained.arrive(columns, day("2026-03-02"))
    assert outcomes(trained.context(day("2026-03-02")))["new_rows"] >= 50


@pytest.mark.parametrize("landed", [timedelta(hours=2), timedelta(days=-5)])
def test_a_label_is_new_and_newly_due_for_one_run_whenever_its_file_landed(
    trained: World, landed: timedelta
) -> None:
    before, first, second = day("2026-02-27"), day("2026-02-28"), MARCH
    champion: Promotion = trained.champion  # type: ignore[attr-defined]
    # Scored when they came without labels, which a second file brings once they are long due.
    columns = payments(300, "2026-02-05", first_key=50_000, days=1)
    trained.predicted(champion, columns["payment"], columns["paid_at"], np.full(300, 0.5), before)
    outcomes(trained.context(before))
    trained.arrive(columns, first, landed=first + landed, first_as_of=before)
    measures = outcomes(trained.context(first))["measures"]
    assert (measures["labels_newly_due"], measures["due_rows"]) == (300, 2000 + 300)
    assert outcomes(trained.context(second))["measures"]["labels_newly_due"] == 0


def test_after_a_training_nothing_of_what_it_had_asks_for_another(trained: World, small_contract: Any) -> None:
    trained.contract = small_contract({"model.train_on.minimum": 200, "retrain.new_rows": 300})
    first = day("2026-02-28")
    # The file landed at two, the run started at five, and looks from midnight.
    trained.arrive(payments(300, "2026-02-05", first_key=50_000, days=1), first, landed=first + timedelta(hours=2))
    assert outcomes(trained.context(first))["reasons"] == ["new_data"]
    refused(trained, first)
    after = outcomes(trained.context(MARCH))
    assert (after["new_rows"], after["retrain"]) == (0, False)


def test_the_schedule_trains_at_the_latest(trained: World, small_contract: Any) -> None:
    trained.contract = small_contract(
        {"model.train_on.minimum": 200, "retrain.at_least_every": "60d", "retrain.new_rows": 10_000}
    )
    assert outcomes(trained.context(day("2026-04-01")))["retrain"] is False
    assert outcomes(trained.context(day("2026-04-02")))["reasons"] == ["schedule"]


def test_a_training_that_failed_is_an_alarm_once_and_leaves_the_champion(
    trained: World, small_contract: Any
) -> None:
    trained.contract = small_contract({"model.train_on.minimum": 200, "retrain.at_most_every": "7d"})
    live(trained, 800, quality=0.0)
    assert outcomes(trained.context(MARCH))["retrain"]
    # Its run came to no verdict.
    after = outcomes(trained.context(day("2026-03-02")))
    assert [a["kind"] for a in after["alarms"] if a["kind"] == "training"] == ["training"]
    assert after["last_training"]["fate"] == "failed"
    assert after["model_version"] == trained.champion.version  # type: ignore[attr-defined]
    later = outcomes(trained.context(day("2026-03-03")))
    assert [a["kind"] for a in later["alarms"] if a["kind"] == "training"] == []
    assert later["last_training"]["fate"] == "failed"


@pytest.mark.parametrize(
    ("results", "fate"),
    [
        ({"train": {"seconds": 2.5}, "validate": {"passed": False}}, "refused"),
        ({"train": {"seconds": 2.5}, "validate": {"passed": True}, "promote": {"version": "x"}}, "promoted"),
        ({"train": {"seconds": 2.5}, "validate": {"passed": True}}, "failed"),
        ({"train": {"seconds": 2.5}}, "failed"),
    ],
)
def test_the_run_of_the_last_training_tells_its_fate(trained: World, results: dict[str, Any], fate: str) -> None:
    live(trained, 800, quality=0.0)
    context = trained.context(MARCH)
    assert outcomes(context)["retrain"]
    for step, result in results.items():
        trained.storage.write_json(context.run.step_uri(step), result)
    after = outcomes(trained.context(day("2026-03-02")))
    assert (after["last_training"]["fate"], after["last_training"]["seconds"]) == (fate, 2.5)
    assert after["measures"]["training_seconds"] == 2.5


def test_the_budget_counts_attempts_of_its_stretch_of_time(trained: World, small_contract: Any) -> None:
    trained.contract = small_contract(
        {
            "model.train_on.minimum": 200,
            "retrain.new_rows": 50,
            "retrain.budget": {"trainings": 2, "within": "30d"},
        }
    )
    decided = []
    for number, as_of in enumerate(["2026-02-08", "2026-02-15", "2026-02-22", "2026-03-15"]):
        rows = payments(100, "2026-01-20", first_key=200_000 + 1000 * number, days=2)
        trained.arrive(rows, day(as_of))
        decided.append(outcomes(trained.context(day(as_of)))["retrain"])
    assert decided == [True, True, False, True]


def test_the_time_that_scoring_took_is_measured(trained: World) -> None:
    result = outcomes(trained.context(MARCH, score={"rows": 800, "seconds": 0.25}))
    assert result["measures"]["scoring_seconds"] == 0.25
    assert measured(trained)["scoring_seconds"]["rows"] == 800


def test_what_the_steps_found_and_decided_reaches_mlflow_once(mlflow: None, trained: World) -> None:
    live(trained, 800, quality=0.0)
    for _ in range(2):
        found = inputs(trained.context(MARCH))
        decided = outcomes(trained.context(MARCH, inputs=found))
    client = Tracking.of(trained.environment).client
    runs = client.search_runs([client.get_experiment_by_name("payments/monitor").experiment_id])
    first, second = sorted(runs, key=lambda run: run.data.tags["step"])
    assert first.data.metrics["rows_arrived"] == 800
    assert "psi.amount" in first.data.metrics
    assert second.data.tags["reasons"] == ", ".join(decided["reasons"])
    assert second.data.metrics["live_auc"] == pytest.approx(measured(trained)["live_auc"]["value"])
