"""A report of an environment: from run records, measurements, predictions and the ledger; MLflow has the same."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from caudal.alarms import AlarmKind
from caudal.backends import open_storage, open_warehouse
from caudal.environment import Environment, load_environment
from caudal.errors import NotFound
from caudal.promotions import Promotion, Promotions
from caudal.tracking import Tracking
from monitor.measurements import Measurement, record
from pipeline.report.build import Reported, environment_report
from pipeline.report.events import LANE_OF_ALARM, ledger_events, verdict_text
from pipeline.report.render import render
from pipeline.report.tracked import track
from pipeline.runs import RECORD_FILE, RunRecord, StepRecord, begin_run
from tests.conftest import REPOSITORY
from tests.report.test_report import table
from tests.world import World, day, payments

FEBRUARY, MARCH, APRIL, MAY = (day(f"2026-0{month}-01") for month in (2, 3, 4, 5))
CHALLENGED = {"challenger": "c" * 16, "champion": "b" * 16}


def alarm(kind: str, feature: str | None = None) -> dict[str, Any]:
    return {"as_of": "2026-04-01T00:00:00Z", "kind": kind, "feature": feature, "value": 0.5, "threshold": 0.25}


def over(world: World, as_of: Any, **results: Any) -> None:
    """Leaves a run that is over, as an executor does."""
    run = begin_run(world.storage, world.contract, world.environment, as_of)
    steps = {name: StepRecord("succeeded", 1, 0.5) for name in results}
    world.storage.write_json(f"{run.uri}/{RECORD_FILE}", RunRecord(run, "succeeded", steps, results).to_json())


def etl(read: int, rejected: dict[str, int], duplicates: int, shuffled: int) -> dict[str, Any]:
    refused = sum(rejected.values())
    rows = {
        "read": read,
        "rejected": refused,
        "duplicates": duplicates,
        "removed": 0,
        "warehouse": read - refused - duplicates,
    }
    return {"rows": rows, "rejected": rejected, "bytes_shuffled": shuffled}


def made(contract: Any, root: Path) -> World:
    """Three runs: the first promotes a model, the others score; alarms of many kinds in the last."""
    world = World(contract, load_environment(REPOSITORY / "environments" / "local.yaml", root=root))
    training = world.arrive(payments(400, "2026-01-01"), FEBRUARY)
    first = world.promote(training, FEBRUARY)
    for number, (start, as_of) in enumerate([("2026-02-01", MARCH), ("2026-03-01", APRIL)], start=1):
        rows = payments(300, start, first_key=1000 * number, seed=number, days=31 if number == 2 else 28)
        arrived = world.arrive(rows, as_of)
        scores = np.random.default_rng(number).random(300) * 0.5 + 0.4 * (
            np.asarray(arrived["disputed"].to_pylist()) == "yes"
        )
        world.predicted(first, rows["payment"], rows["paid_at"], scores, as_of)
        record(
            world.context(as_of), "inputs", first.version,
            [
                Measurement("psi", 0.6, 300, "amount", 0.25, "drift"),
                Measurement("psi", 0.3, 7, "channel"),
                Measurement("psi_of_another_kind", 0.9, 300, "amount"),
            ],
        )  # fmt: skip
    over(
        world, FEBRUARY,
        ingest={"rows": 410, "quarantined": 3, "files_quarantined": 1},
        etl=etl(410, {"range:amount": 6, "type:items": 1}, 3, 5000),
        outcomes={"alarms": [], "retrain": True, "reasons": ["first_model"]},
        train={"seconds": 2.5}, validate={"passed": True}, promote={"version": first.version, "role": "champion"},
    )  # fmt: skip
    over(
        world, MARCH,
        ingest={"rows": 300, "quarantined": 0}, etl=etl(300, {}, 0, 700), score={"rows": 300, "seconds": 0.75},
        outcomes={"alarms": [], "retrain": True, "reasons": ["new_data"],
                  "quality": {"metric": "auc", "value": 0.71, "threshold": 0.65}},
        train={"seconds": 3.5}, validate={"passed": False, "reason": "auc is lower"},
    )  # fmt: skip
    over(
        world, APRIL,
        ingest={"rows": 302, "quarantined": 0}, etl=etl(302, {"range:amount": 2}, 0, 800),
        score={"rows": 300, "seconds": 0.5},
        inputs={"alarms": [alarm("drift", "amount"), alarm("volume"), alarm("freshness")]},
        outcomes={"alarms": [alarm("quality"), alarm("training")], "retrain": False, "reasons": []},
    )  # fmt: skip
    return world


@pytest.fixture(scope="module")
def world(small_contract: Any, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world that its tests only look at."""
    return made(small_contract(), tmp_path_factory.mktemp("world"))


@pytest.fixture
def own_world(small_contract: Any, tmp_path: Path) -> World:
    """A world that a test changes."""
    return made(small_contract(), tmp_path / "root")


@pytest.fixture(scope="module")
def found(world: World) -> Reported:
    return reported(world)


def reported(world: World) -> Reported:
    return environment_report(world.contract, world.environment, world.storage, world.warehouse)


def due_rows(world: World) -> list[dict[str, Any]]:
    """What an independent query says of the rows whose labels are due at the last run."""
    rows = world.rows(
        "SELECT w.disputed = 'yes' AS label, p.score, p.event_time FROM predictions.payments AS p "
        "JOIN warehouse.payments AS w ON w.payment = p.key"
    )
    return [row for row in rows if row["event_time"] <= APRIL - timedelta(days=7)]


def test_the_quality_is_that_of_the_rows_whose_labels_are_due(world: World, found: Reported) -> None:
    rows = due_rows(world)
    assert 500 < len(rows) < 600
    label, score = [row["label"] for row in rows], [row["score"] for row in rows]
    champion = found.summary["pooled"]["champion"]
    assert champion["n"] == len(rows)
    assert champion["auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-6)
    assert champion["log_loss"] == pytest.approx(log_loss(label, score), abs=1e-6)
    assert "frozen" not in found.summary["pooled"]
    (quarter,) = found.report.quality
    assert (quarter.label, quarter.rows) == ("2026Q1", len(rows))
    assert quarter.champion.value == pytest.approx(champion["auc"], abs=1e-6)
    assert quarter.champion.low < quarter.champion.value < quarter.champion.high


def test_rows_are_told_by_run_fate_and_reason(found: Reported) -> None:
    summary = found.summary
    assert [one["rows"]["landed"] for one in summary["by_run"]] == [413, 300, 302]
    assert [one["rows"]["duplicates"] for one in summary["by_run"]] == [3, 0, 0]
    assert [one["bytes_shuffled"] for one in summary["by_run"]] == [5000, 700, 800]
    assert summary["by_run"][0]["rejected_by_reason"] == {"range:amount": 6, "type:items": 1}
    assert summary["rejected_by_reason"] == {"range:amount": 8, "type:items": 1}
    assert summary["rows"]["landed"] == 1015
    page = render(found.report)
    assert table(page, "rows")[0] == [
        "2026-02-01", "413", "3", "410", "7", "3", "0", "400", "5.0 kB", "0", "", "2.50",
    ]  # fmt: skip
    assert table(page, "reasons") == [["range:amount", "8", "2"], ["type:items", "1", "1"]]


def test_the_time_of_each_training_and_scoring_is_told(found: Reported) -> None:
    assert [run.training_seconds for run in found.report.runs] == [2.5, 3.5, None]
    assert [run.scoring_seconds for run in found.report.runs] == [None, 0.75, 0.5]
    assert [one["training"] for one in found.summary["seconds_by_run"]] == [2.5, 3.5, None]


def test_each_kind_of_alarm_has_a_lane_and_what_came_in_is_told_apart(found: Reported) -> None:
    assert set(get_args(AlarmKind)) <= set(LANE_OF_ALARM)
    last = {event.lane: event.said for event in found.report.events if event.at == APRIL}
    assert last == {
        "arrival alarm": "volume 0.5, freshness 0.5",
        "input alarm": "drift of amount 0.5",
        "quality alarm": "quality 0.5",
        "failed training": "training 0.5",
    }


def test_drift_is_what_the_monitor_measured_and_too_few_rows_are_told_apart(found: Reported) -> None:
    drift = found.report.drift
    assert list(drift) == ["amount", "channel"]
    assert [(cell.value, cell.alarm, cell.judged) for cell in drift["amount"].values()] == [(0.6, True, True)] * 2
    assert [(cell.value, cell.alarm, cell.judged) for cell in drift["channel"].values()] == [
        (0.3, False, False)
    ] * 2


def promotion(version: str, as_of: Any, **more: Any) -> Promotion:
    said = {
        "id": "i",
        "model_type": "xgboost",
        "package": "",
        "at": as_of,
        "by": "run",
        "reason": "",
        "snapshot": "",
    }
    return Promotion(version=version * 16, as_of=as_of, **{**said, **more})


@pytest.mark.parametrize(("winner", "ended"), [("c", "promoted"), ("b", "dropped")])
def test_a_trial_is_told_from_its_beginning_to_its_end(winner: str, ended: str) -> None:
    history = [
        promotion("b", FEBRUARY),
        promotion("c", MARCH, role="challenger"),
        promotion(winner, MAY, evidence={**CHALLENGED, "verdict": "promote", "reason": "proven"}),
    ]
    events = [(event.at, event.lane, event.said) for event in ledger_events(history)]
    assert (MARCH, "trial", "model cccccccc goes on trial") in events
    assert (MAY, "trial", f"model cccccccc: {ended}, proven") in events
    # A champion that is confirmed is not promoted once more.
    lives = [at for at, lane, _ in events if lane == "promotion"]
    assert lives == [FEBRUARY, MAY] if winner == "c" else [FEBRUARY]


def test_a_rollback_is_a_promotion_and_says_so(own_world: World) -> None:
    ledger = Promotions(own_world.storage, own_world.environment.ledger("payments", "promotions"))
    own_world.promote(own_world.arrive(payments(300, "2026-04-01", first_key=9000), MAY), MAY)
    ledger.roll_back(as_of=MAY, by="a person", reason="r")
    told = [event.said for event in reported(own_world).report.events if event.lane == "promotion"]
    assert told[-1].startswith("rolled back to model")
    assert reported(own_world).summary["promotions"] == 3


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({}, ""),
        ({"validate": {"passed": False, "reason": "worse"}}, "refused: worse"),
        ({"validate": {"passed": True}}, "passed"),
        ({"validate": {"passed": True}, "promote": {"version": "abc", "role": "challenger"}}, "on trial abc"),
        ({"outcomes": {"trial": {"verdict": "drop", "reason": "worse"}}}, "challenger dropped: worse"),
        ({"outcomes": {"trial": {"verdict": "go on", "reason": "few"}}}, ""),
    ],
)  # fmt: skip
def test_the_verdict_of_a_run_is_told_in_words(results: dict[str, Any], said: str) -> None:
    assert verdict_text(results) == said


def test_with_no_run_that_is_over_it_says_so_and_leaves_nothing(
    small_contract: Any, local_environment: Environment, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="no run of payments is over") as raised:
        environment_report(
            small_contract(), local_environment, open_storage(local_environment), open_warehouse(local_environment)
        )
    assert "`caudal run payments`" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_failed_is_told_with_its_step(own_world: World) -> None:
    run = begin_run(own_world.storage, own_world.contract, own_world.environment, MAY)
    steps = {"ingest": StepRecord("succeeded", 1, 0.1), "etl": StepRecord("failed", 3, 0.1, "no room")}
    results = {"ingest": {"rows": 5, "quarantined": 0}}
    own_world.storage.write_json(f"{run.uri}/{RECORD_FILE}", RunRecord(run, "failed", steps, results).to_json())
    assert reported(own_world).report.runs[-1].verdict == "the run failed at etl"
    assert reported(own_world).report.runs[-1].bytes_shuffled is None


def test_mlflow_shows_the_report_figure_by_figure(world: World, found: Reported) -> None:
    tracking = Tracking.of(world.environment)
    run_id = track(found, tracking)
    report, client = found.report, tracking.client
    told = client.get_run(run_id).data.metrics
    expected = {f"{model}.{name}": v for model, pooled in report.pooled.items() for name, v in pooled.items()}
    expected |= {f"rows.{fate}": rows for fate, rows in report.rows.items()}
    expected |= {f"rejected.{reason}": rows for reason, (rows, _) in report.reasons().items()}
    expected |= {"runs": 3, "retrainings": 1, "candidates_refused": 1, "promotions": 1, "alarms": 5,
                 "files_quarantined": 1, "bytes_shuffled": 6500,
                 "trials.begun": 0, "trials.promoted": 0, "trials.dropped": 0}  # fmt: skip
    assert {name: value for name, value in told.items() if not name.startswith("quarter.")} == expected
    for step, point in enumerate(report.quality):
        for name, value in (
            ("", point.champion.value),
            (".low", point.champion.low),
            (".high", point.champion.high),
        ):
            history = {m.step: m.value for m in client.get_metric_history(run_id, f"quarter.champion.auc{name}")}
            assert history[step] == value
    # What the page prints is the same figure, rounded.
    (quarter,) = table(render(report), "quarters")
    assert quarter[2].split()[0] == f"{told['quarter.champion.auc']:.3f}"


def test_the_same_figures_are_one_run_in_mlflow_and_other_figures_another(own_world: World) -> None:
    tracking = Tracking.of(own_world.environment)
    first = track(reported(own_world), tracking)
    assert track(reported(own_world), tracking) == first
    over(own_world, MAY, ingest={"rows": 1, "quarantined": 0})
    second = track(reported(own_world), tracking)
    assert second != first
    experiment = tracking.client.get_experiment_by_name("payments/reports")
    found = tracking.client.search_runs([experiment.experiment_id])
    assert {run.info.run_id for run in found} == {first, second}
