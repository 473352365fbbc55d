"""The inputs step: what comes in beside what the champion was trained on."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caudal.environment import Environment
from caudal.package import ModelPackage
from caudal.tracking import Tracking
from monitor.step import inputs
from tests.world import World, day, payments

FEBRUARY, MARCH, APRIL = day("2026-02-01"), day("2026-03-01"), day("2026-04-01")


@pytest.fixture
def trained(world: World) -> World:
    world.promote(world.arrive(payments(2000, "2026-01-01"), FEBRUARY), FEBRUARY)
    return world


def arrive(world: World, count: int = 800, **changes: Any) -> None:
    world.arrive(payments(count, "2026-02-01", first_key=10_000, seed=7, **changes), MARCH)


def kinds(result: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(alarm["kind"], alarm["feature"]) for alarm in result["alarms"]]


def measured(world: World, measure: str) -> dict[str | None, float]:
    rows = world.rows("SELECT feature, value FROM monitoring.measurements WHERE measure = @m", m=measure)
    return {row["feature"]: row["value"] for row in rows}


def test_rows_like_those_of_training_raise_no_alarm(trained: World) -> None:
    arrive(trained)
    result = inputs(trained.context(MARCH))
    assert result["alarms"] == []
    assert result["measures"]["rows_arrived"] == 800
    assert max(measured(trained, "psi").values()) < 0.05


def test_drift_is_named_by_feature(trained: World) -> None:
    arrive(trained, amount=np.full(800, 260.0), channel=np.array(["desk", "app"] * 400))
    result = inputs(trained.context(MARCH))
    assert kinds(result) == [("drift", "amount"), ("drift", "channel")]
    alarm = result["alarms"][0]
    assert set(alarm) == {"as_of", "kind", "measure", "feature", "value", "threshold", "state", "since"}
    assert alarm["value"] > alarm["threshold"] == 0.25


def test_fewer_rows_than_the_minimum_are_measured_and_not_judged(trained: World) -> None:
    arrive(trained, 99, amount=np.full(99, 260.0))
    result = inputs(trained.context(MARCH))
    assert result["alarms"] == []
    assert measured(trained, "psi")["amount"] > 1


def test_the_drift_of_too_few_rows_reaches_mlflow_too_since_the_report_draws_it(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: dict[str, float] = {}
    monkeypatch.setattr(Tracking, "record", lambda self, *arguments, **named: recorded.update(named["metrics"]))
    arrive(trained, 99, amount=np.full(99, 260.0))
    inputs(trained.context(MARCH))
    drift = measured(trained, "psi")
    assert {name: value for name, value in recorded.items() if name.startswith("psi.")} == {
        f"psi.{feature}": value for feature, value in drift.items()
    }
    assert "jensen_shannon.amount" not in recorded


def test_few_rows_raise_no_alarm_by_their_noise(trained: World) -> None:
    for month in range(30):
        rows = payments(100, "2026-02-01", first_key=10_000 + 1000 * month, seed=100 + month)
        trained.arrive(rows, day(f"2026-04-{month + 1:02d}"))
        assert inputs(trained.context(day(f"2026-04-{month + 1:02d}")))["alarms"] == []


def test_missing_values_are_an_alarm_of_their_own(trained: World) -> None:
    rates: list[float | None] = [None if i % 5 == 0 else 0.0 for i in range(800)]
    normal = payments(800, "2026-02-01", seed=7)["rate"]
    arrive(trained, rate=[None if gone is None else value for gone, value in zip(rates, normal, strict=True)])
    result = inputs(trained.context(MARCH))
    assert kinds(result) == [("missing", "rate")]
    assert result["alarms"][0]["value"] == pytest.approx(0.2)
    assert result["alarms"][0]["threshold"] == pytest.approx(0.05)


def test_values_that_training_never_saw_are_an_alarm(trained: World) -> None:
    normal = payments(800, "2026-02-01", seed=7)["amount"]
    arrive(trained, amount=[value + 5000 if i % 10 == 0 else value for i, value in enumerate(normal)])
    assert ("unseen", "amount") in kinds(inputs(trained.context(MARCH)))
    assert measured(trained, "unseen_share")["amount"] == pytest.approx(0.1, abs=0.01)


def test_a_feature_without_any_value_says_nothing_of_what_is_new(trained: World) -> None:
    normal = payments(800, "2026-02-01", seed=7)["amount"]
    arrive(trained, amount=[value + 5000 for value in normal])
    assert ("unseen", "amount") in kinds(inputs(trained.context(MARCH)))
    trained.arrive(payments(800, "2026-03-01", first_key=50_000, days=7, amount=[None] * 800), day("2026-03-08"))
    result = inputs(trained.context(day("2026-03-08")))
    assert kinds(result) == [("missing", "amount")]
    assert result["ended"] == []


def test_rows_that_leave_a_value_which_filled_every_bin_are_drift(world: World) -> None:
    zeros = np.where(np.arange(2000) % 12 == 0, 0.5, 0.0)
    world.promote(world.arrive(payments(2000, "2026-01-01", rate=zeros), FEBRUARY), FEBRUARY)
    arrive(world, rate=np.where(np.arange(800) % 12 == 5, 0.25, 0.0))
    assert inputs(world.context(MARCH))["alarms"] == []
    most = np.where(np.arange(800) % 5 < 3, 0.25, 0.0)
    world.arrive(payments(800, "2026-03-01", first_key=50_000, seed=9, days=7, rate=most), day("2026-03-08"))
    assert kinds(inputs(world.context(day("2026-03-08")))) == [("drift", "rate")]


def test_a_package_from_before_is_monitored_by_the_edges_that_it_has(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ModelPackage.profile.func  # type: ignore[attr-defined]
    rate = {"kind": "numeric", "edges": [0.0], "counts": [0, 2000], "missing": 0, "min": 0.0, "max": 1.0}

    def old(self: ModelPackage) -> dict[str, Any]:
        made = whole(self)
        return {**made, "features": {**made["features"], "rate": rate}}

    monkeypatch.setattr(ModelPackage, "profile", property(old))
    arrive(trained, rate=np.where(np.arange(800) % 5 < 3, 0.25, 0.0))
    assert inputs(trained.context(MARCH))["alarms"] == []
    assert measured(trained, "psi")["rate"] < 0.01


def test_without_a_champion_volume_and_freshness_are_still_watched(world: World) -> None:
    arrive(world)
    result = inputs(world.context(MARCH))
    assert result["model_version"] is None
    assert result["measures"]["rows_arrived"] == 800
    assert result["measures"]["newest_event_age_days"] == pytest.approx(0.035, abs=1e-3)


def test_an_empty_run_is_measured(trained: World) -> None:
    result = inputs(trained.context(MARCH))
    assert result["alarms"] == []
    assert result["measures"]["rows_arrived"] == 0


def test_the_run_before_is_not_looked_at_again_unless_the_window_says_so(
    small_contract: Any, local_environment: Environment, trained: World
) -> None:
    arrive(trained, amount=np.full(800, 260.0))
    inputs(trained.context(MARCH))
    trained.arrive(payments(800, "2026-03-01", first_key=50_000, seed=9, days=7), day("2026-03-08"))
    assert inputs(trained.context(day("2026-03-08")))["alarms"] == []
    trained.contract = small_contract({"monitor.drift.minimum_rows": 100, "monitor.drift.window": "14d"})
    assert kinds(inputs(trained.context(day("2026-03-08"), "wide"))) == [("drift", "amount")]


def test_stale_data_is_an_alarm(small_contract: Any, local_environment: Environment) -> None:
    world = World(small_contract({"monitor.fresh_within": "2d"}), local_environment)
    arrive(world)
    assert inputs(world.context(day("2026-03-02")))["alarms"] == []
    (alarm,) = inputs(world.context(day("2026-03-04")))["alarms"]
    assert (alarm["kind"], alarm["threshold"]) == ("freshness", 2)
    assert alarm["value"] == pytest.approx(3.035, abs=1e-3)


def test_one_event_of_the_far_future_hides_no_stale_data(
    small_contract: Any, local_environment: Environment
) -> None:
    world = World(small_contract({"monitor.fresh_within": "2d"}), local_environment)
    arrive(world)
    world.arrive(payments(1, "2099-12-31", first_key=90_000), MARCH)
    assert inputs(world.context(MARCH))["alarms"] == []
    assert measured(world, "future_share")[None] == pytest.approx(1 / 801)
    result = inputs(world.context(day("2026-03-04")))
    assert kinds(result) == [("freshness", None)]
    assert result["measures"]["newest_event_age_days"] == pytest.approx(3.035, abs=1e-3)


def test_many_events_of_the_future_are_an_alarm_and_those_of_the_running_period_are_none(
    small_contract: Any, local_environment: Environment
) -> None:
    world = World(small_contract({"monitor.rejected.allowed_share": 0.02}), local_environment)
    arrive(world, 780)
    # A run takes what landed until it starts, and a local one starts once a day.
    world.arrive(payments(100, "2026-03-01", first_key=80_000, days=2), MARCH)
    world.arrive(payments(20, "2026-03-04", first_key=90_000), MARCH)
    (alarm,) = inputs(world.context(MARCH))["alarms"]
    assert (alarm["kind"], alarm["measure"], alarm["threshold"]) == ("rejected", "future_share", 0.02)
    assert alarm["value"] == pytest.approx(20 / 900, abs=1e-6)
    world.arrive(payments(100, "2026-03-01", first_key=95_000, days=1), day("2026-03-02"))
    after = inputs(world.context(day("2026-03-02")))
    assert after["alarms"] == []
    assert [(one["kind"], one["value"]) for one in after["ended"]] == [("rejected", 0)]


def test_an_event_day_is_of_the_future_by_the_contracts_time_zone(
    small_contract: Any, local_environment: Environment
) -> None:
    contract = small_contract(
        {"columns.paid_at": {"type": "date", "required": True}, "time_zone": "Pacific/Auckland"}
    )
    world = World(contract, local_environment)
    columns = payments(4, "2026-03-01")
    days = ["2026-02-28", "2026-03-01", "2026-03-03", "2026-03-04"]
    world.arrive({**columns, "paid_at": pa.array([date.fromisoformat(one) for one in days])}, MARCH)
    # Midnight UTC of 1 March is 13:00 in Auckland: 3 March begins there within two days, 4 March does not.
    assert inputs(world.context(MARCH))["measures"]["future_share"] == 0.25
    assert measured(world, "newest_event_age_days")[None] == pytest.approx(13 / 24)


def test_where_nothing_ever_came_freshness_counts_from_the_first_run(
    small_contract: Any, local_environment: Environment
) -> None:
    world = World(small_contract({"monitor.fresh_within": "2d"}), local_environment)
    ages = []
    for number in range(1, 6):
        result = inputs(world.context(day(f"2026-03-0{number}")))
        ages.append((result["measures"]["newest_event_age_days"], kinds(result)))
    late = [("freshness", None)]
    assert ages == [(0, []), (1, []), (2, []), (3, late), (4, late)]
    world.arrive(payments(100, "2026-03-05", days=1), day("2026-03-06"))
    result = inputs(world.context(day("2026-03-06")))
    assert (result["alarms"], [one["kind"] for one in result["ended"]]) == ([], ["freshness"])


def test_where_nothing_ever_came_and_nothing_is_awaited_no_age_is_measured(world: World) -> None:
    assert "newest_event_age_days" not in inputs(world.context(MARCH))["measures"]


def test_the_volume_is_held_against_the_median_of_the_runs_before(
    small_contract: Any, local_environment: Environment
) -> None:
    world = World(small_contract({"monitor.volume": {"at_least": 0.5, "at_most": 3}}), local_environment)
    alarms = []
    for number, count in enumerate([100, 110, 90, 100, 10, 105, 900]):
        as_of = day(f"2026-03-{number + 1:02d}")
        world.arrive(payments(count, "2026-02-01", first_key=10_000 * number), as_of)
        alarms.append([(a["kind"], a["value"], a["threshold"]) for a in inputs(world.context(as_of))["alarms"]])
    assert alarms == [[], [], [], [], [("volume", 10, 50)], [], [("volume", 900, 300)]]


def test_what_is_usual_is_told_by_runs_that_brought_rows(
    small_contract: Any, local_environment: Environment
) -> None:
    world = World(small_contract({"monitor.volume": {"at_most": 3, "of_last": 4}}), local_environment)
    alarms = []
    for number, count in enumerate([100, 0, 0, 110, 0, 90, 0, 290, 0, 320]):
        as_of = day(f"2026-03-{number + 1:02d}")
        if count:
            world.arrive(payments(count, "2026-02-01", first_key=10_000 * number), as_of)
        alarms += [(a["value"], a["threshold"]) for a in inputs(world.context(as_of))["alarms"]]
    assert alarms == [(320, 3 * 105)]


def test_refused_rows_are_an_alarm_with_their_reasons(trained: World) -> None:
    arrive(trained)
    etl = {"rows": {"read": 990, "rejected": 19}, "rejected": {"out_of_range:amount": 19}}
    context = trained.context(MARCH, etl=etl, ingest={"quarantined": 10})
    (alarm,) = inputs(context)["alarms"]
    assert (alarm["kind"], alarm["feature"], alarm["value"]) == ("rejected", None, 0.029)
    (line,) = alarm_file(trained)
    assert line["evidence"]["reasons"] == {"out_of_range:amount": 19}
    assert line["evidence"]["quarantined"] == 10


def test_a_file_that_can_not_be_read_is_an_alarm_of_its_own_in_every_run_that_meets_one(trained: World) -> None:
    told = []
    for number, files in enumerate([1, 2, 0, 1]):
        ingest = {"rows": 0, "quarantined": 0, "files_quarantined": files, "loads": 3}
        result = inputs(trained.context(day(f"2026-03-0{number + 1}"), ingest=ingest))
        told.append([(one["kind"], one["value"], one["threshold"], one["state"]) for one in result["alarms"]])
        assert result["ended"] == []
    assert told == [
        [("rejected", 1, 0, "new")],
        [("rejected", 2, 0, "new")],
        [],
        [("rejected", 1, 0, "new")],
    ]
    lines = alarm_file(trained)
    assert [line["measure"] for line in lines] == ["files_quarantined"] * 3
    assert lines[0]["evidence"]["landed_files"] == 3


def test_a_repeated_step_measures_and_alarms_once(trained: World) -> None:
    arrive(trained, amount=np.full(800, 260.0))
    first = inputs(trained.context(MARCH))
    rows = trained.rows("SELECT COUNT(*) AS n FROM monitoring.measurements")
    assert inputs(trained.context(MARCH)) == first
    assert trained.rows("SELECT COUNT(*) AS n FROM monitoring.measurements") == rows
    assert len(alarm_file(trained)) == len(first["alarms"]) == 1


def test_a_promotion_of_this_very_as_of_does_not_change_the_yardstick(trained: World) -> None:
    arrive(trained, amount=np.full(800, 260.0))
    before = inputs(trained.context(MARCH))
    rows = trained.arrive(payments(500, "2026-02-01", first_key=90_000, amount=np.full(500, 260.0)), APRIL)
    trained.promote(rows, MARCH)
    assert inputs(trained.context(MARCH)) == before


def test_no_value_of_a_row_leaves_the_warehouse(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(trained)
    returned = []
    query = type(trained.warehouse).query

    def watched(self: Any, *arguments: Any) -> Any:
        answer = query(self, *arguments)
        returned.append(answer.num_rows)
        return answer

    monkeypatch.setattr(type(trained.warehouse), "query", watched)
    inputs(trained.context(MARCH))
    # One row of counts; of alarms that stood before there is none.
    assert set(returned) == {0, 1}


def test_the_measurements_say_which_of_them_are_alarms(trained: World) -> None:
    arrive(trained, amount=np.full(800, 260.0))
    inputs(trained.context(MARCH))
    rows = trained.rows("SELECT * FROM monitoring.measurements WHERE alarm")
    assert [(r["contract"], r["step"], r["measure"], r["feature"]) for r in rows] == [
        ("payments", "inputs", "psi", "amount")
    ]
    assert rows[0]["as_of"] == MARCH


def alarm_file(world: World) -> list[dict[str, Any]]:
    (path,) = [d.path for d in world.environment.alarms if d.type == "file"]
    return [json.loads(line) for line in Path(path or "").read_text().splitlines()]
