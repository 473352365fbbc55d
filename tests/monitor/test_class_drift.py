"""Drift within a class: what positives look like once their labels are due, beside those of training."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.errors import InvalidContract
from caudal.package import ModelPackage
from caudal.promotions import Promotions
from monitor.step import outcomes
from tests.world import World, day, payments

FEBRUARY, MARCH = day("2026-02-01"), day("2026-03-01")
SECTION = {"measure": "kolmogorov_smirnov", "threshold": 0.25, "minimum_rows": 100, "window": "7d"}


@pytest.fixture
def contract(small_contract: Any) -> Contract:
    return small_contract(
        {"monitor.class_drift": SECTION, "model.train_on.minimum": 200, "retrain.new_rows": 100_000}
    )


@pytest.fixture
def world(contract: Contract, local_environment: Environment) -> World:
    """A champion since February that learned from 4,000 payments of January."""
    made = World(contract, local_environment)
    made.training = made.arrive(payments(4000, "2026-01-01"), FEBRUARY)  # type: ignore[attr-defined]
    made.promote(made.training, FEBRUARY)  # type: ignore[attr-defined]
    return made


def february(world: World, **changes: Any) -> pa.Table:
    """Payments of February, 28 days long; `changes` take the place of columns."""
    return world.arrive(payments(2800, "2026-02-01", first_key=10_000, seed=7, **changes), MARCH)


def small_when_disputed() -> dict[str, Any]:
    """Disputed payments of 1 to 5 instead of the large ones, and the others as ever."""
    columns = payments(2800, "2026-02-01", first_key=10_000, seed=7)
    disputed = np.array([value == "yes" for value in columns["disputed"]])
    small = np.random.default_rng(3).uniform(1, 5, len(disputed)).round(2)
    hit = disputed & (np.random.default_rng(4).random(len(disputed)) < 0.5)
    return {"amount": np.where(hit, small, np.array(columns["amount"]))}


def among(world: World, as_of: datetime) -> dict[str, dict[str, Any]]:
    """What was measured among the positive class, by measure and feature."""
    rows = world.rows(
        "SELECT measure, feature, value, threshold, `rows`, alarm FROM monitoring.measurements "
        "WHERE as_of = @as_of AND step = 'outcomes' AND feature IS NOT NULL",
        as_of=as_of,
    )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        assert row["measure"].startswith("among_yes_")
        found.setdefault(row["measure"].removeprefix("among_yes_"), {})[row["feature"]] = row
    return found


def due_and_disputed(world: World, table: pa.Table, as_of: datetime, window: timedelta) -> np.ndarray:
    """The positions of disputed rows whose label became due within the window before the as-of."""
    label, delay = table.column("disputed").to_pylist(), timedelta(days=7)
    times = table.column("paid_at").to_pylist()
    return np.array(
        [
            one == "yes" and as_of - window - delay < at <= as_of - delay
            for one, at in zip(label, times, strict=True)
        ]
    )


def test_the_distance_is_that_of_the_raw_rows_of_the_class_that_became_due(world: World) -> None:
    # Arrived a day after their events, so that the event's time alone tells when a label became due.
    for number in range(28):
        start = FEBRUARY + timedelta(days=number)
        rows = payments(100, f"{start:%Y-%m-%d}", first_key=10_000 + 1000 * number, seed=number, days=1)
        if number >= 10:
            rows["amount"] = [value / 2 for value in rows["amount"]]
        world.arrive(rows, start + timedelta(days=1))
    outcomes(world.context(MARCH))
    table = world.warehouse.query("SELECT * FROM warehouse.payments WHERE payment >= 10000")
    chosen = due_and_disputed(world, table, MARCH, timedelta(days=7))
    live = np.array([float(value) for value in table.column("amount").to_pylist()])[chosen]
    training = world.training  # type: ignore[attr-defined]
    positive = np.array([value == "yes" for value in training.column("disputed").to_pylist()])
    learned = np.array([float(value) for value in training.column("amount").to_pylist()])[positive]
    measured = among(world, MARCH)
    assert measured["kolmogorov_smirnov"]["amount"]["rows"] == len(live) > 100
    # On ten bins of the class the distance can only be a little smaller than on the raw values.
    raw = stats.ks_2samp(learned, live).statistic
    assert raw - 0.1 < measured["kolmogorov_smirnov"]["amount"]["value"] <= raw
    edges = np.unique(np.quantile(learned, np.arange(1, 10) / 10, method="inverted_cdf"))
    at_edges = [abs(np.mean(learned < edge) - np.mean(live < edge)) for edge in edges]
    assert measured["kolmogorov_smirnov"]["amount"]["value"] == pytest.approx(max(at_edges))
    channels = [np.array(t.column("channel").to_pylist()) for t in (training, table)]
    shares = [Counter(channels[0][positive]), Counter(channels[1][chosen])]
    gone = [abs(shares[0][c] / positive.sum() - shares[1][c] / chosen.sum()) for c in ("web", "app", "desk")]
    assert measured["kolmogorov_smirnov"]["channel"]["value"] == pytest.approx(sum(gone) / 2)


def test_a_change_of_positives_that_all_rows_hide_is_named_and_trains(world: World) -> None:
    february(world, **small_when_disputed())
    result = outcomes(world.context(MARCH))
    (alarm,) = [one for one in result["alarms"] if one["kind"] == "class_drift"]
    assert (alarm["feature"], alarm["among"]) == ("amount", "yes")
    assert alarm["value"] > alarm["threshold"] == 0.25
    assert "drift" in result["reasons"]
    (path,) = [one.path for one in world.environment.alarms if one.type == "file"]
    (line,) = [json.loads(text) for text in Path(path or "").read_text().splitlines() if "class_drift" in text]
    assert (line["among"], line["runbook"]) == ("yes", "docs/runbook.md#class-drift")
    assert line["evidence"]["rows"] > 100


def test_positives_like_those_of_training_raise_no_alarm(world: World) -> None:
    february(world)
    result = outcomes(world.context(MARCH))
    assert [one for one in result["alarms"] if one["kind"] == "class_drift"] == []
    assert set(among(world, MARCH)["kolmogorov_smirnov"]) == {"amount", "items", "rate", "channel", "abroad"}


def test_what_is_not_due_yet_says_nothing(world: World) -> None:
    times = np.datetime64("2026-02-23", "us") + np.arange(2800) * np.timedelta64(180, "s")
    february(world, paid_at=times, **small_when_disputed())
    assert [one["kind"] for one in outcomes(world.context(MARCH))["alarms"]].count("class_drift") == 0
    assert among(world, MARCH) == {}


def test_a_label_that_comes_late_counts_when_it_comes(world: World) -> None:
    columns = payments(1000, "2026-01-05", first_key=90_000, seed=11, days=5)
    # Two months after its event, and within the window by its arrival.
    world.arrive({**columns, "amount": [2.0] * 1000}, MARCH)
    kinds = [(one["kind"], one["feature"]) for one in outcomes(world.context(MARCH))["alarms"]]
    assert ("class_drift", "amount") in kinds
    later = MARCH + timedelta(days=8)
    outcomes(world.context(later))
    assert among(world, later) == {}


@pytest.mark.parametrize("landed", [timedelta(hours=2), timedelta(days=-5)])
def test_without_a_window_a_late_label_is_judged_by_one_run_whenever_its_file_landed(
    world: World, small_contract: Any, landed: timedelta
) -> None:
    section = {name: value for name, value in SECTION.items() if name != "window"}
    world.contract = small_contract(
        {"monitor.class_drift": section, "model.train_on.minimum": 200, "retrain.new_rows": 100_000}
    )
    outcomes(world.context(MARCH - timedelta(days=1)))
    columns = payments(1000, "2026-01-05", first_key=90_000, seed=11, days=5)
    world.arrive(columns, MARCH, landed=MARCH + landed)
    outcomes(world.context(MARCH))
    disputed = sum(label == "yes" for label in columns["disputed"])
    assert among(world, MARCH)["kolmogorov_smirnov"]["amount"]["rows"] == disputed
    later = MARCH + timedelta(days=1)
    outcomes(world.context(later))
    assert among(world, later) == {}


def test_too_few_positives_are_measured_and_not_judged(world: World) -> None:
    columns = payments(200, "2026-02-15", first_key=10_000, seed=7, days=6)
    world.arrive({**columns, "amount": [2.0] * 200}, MARCH)
    assert outcomes(world.context(MARCH))["alarms"] == []
    measured = among(world, MARCH)["kolmogorov_smirnov"]["amount"]
    assert measured["rows"] < 100
    assert measured["value"] > 0.5
    assert measured["threshold"] is None


def test_too_few_positives_in_training_are_no_yardstick(
    contract: Contract, local_environment: Environment
) -> None:
    world = World(contract, local_environment)
    # Some four hundred of them are disputed: enough to be judged, not to judge by.
    world.promote(world.arrive(payments(1000, "2026-01-01"), FEBRUARY), FEBRUARY)
    february(world, amount=[2.0] * 2800)
    kinds = {one["kind"] for one in outcomes(world.context(MARCH))["alarms"]}
    assert "class_drift" not in kinds
    assert among(world, MARCH)["kolmogorov_smirnov"]["amount"]["value"] > 0.5


def test_a_repeated_step_measures_and_alarms_once(world: World) -> None:
    february(world, **small_when_disputed())
    first = outcomes(world.context(MARCH))
    rows = world.rows("SELECT COUNT(*) AS n FROM monitoring.measurements")
    assert outcomes(world.context(MARCH))["alarms"] == first["alarms"]
    assert world.rows("SELECT COUNT(*) AS n FROM monitoring.measurements") == rows


def test_a_champion_whose_package_knows_no_classes_is_monitored_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ModelPackage.profile.func  # type: ignore[attr-defined]
    old = property(lambda self: {part: of for part, of in whole(self).items() if part != "classes"})
    monkeypatch.setattr(ModelPackage, "profile", old)
    rows = february(world, **small_when_disputed())
    champion = Promotions(world.storage, world.environment.ledger("payments", "promotions")).head()
    assert champion is not None
    world.predicted(champion, rows.column("payment"), rows.column("paid_at"), [0.99] * rows.num_rows, MARCH)
    result = outcomes(world.context(MARCH))
    assert [one["kind"] for one in result["alarms"]] == ["prediction_drift"]
    assert among(world, MARCH) == {}


def test_without_the_section_nothing_is_measured(world: World, small_contract: Any) -> None:
    world.contract = small_contract({"model.train_on.minimum": 200, "retrain.new_rows": 100_000})
    february(world, **small_when_disputed())
    outcomes(world.context(MARCH))
    assert among(world, MARCH) == {}


def test_without_a_window_each_label_is_judged_by_one_run(world: World, small_contract: Any) -> None:
    section = {name: value for name, value in SECTION.items() if name != "window"}
    world.contract = small_contract(
        {"monitor.class_drift": section, "model.train_on.minimum": 200, "retrain.new_rows": 100_000}
    )
    for number in range(28):
        start = FEBRUARY + timedelta(days=number)
        rows = payments(100, f"{start:%Y-%m-%d}", first_key=10_000 + 1000 * number, seed=number, days=1)
        world.arrive(rows, start + timedelta(days=1))
    first, second = MARCH - timedelta(days=10), MARCH
    outcomes(world.context(first))
    outcomes(world.context(second))
    table = world.warehouse.query("SELECT * FROM warehouse.payments WHERE payment >= 10000")
    expected = due_and_disputed(world, table, second, second - first).sum()
    assert among(world, second)["kolmogorov_smirnov"]["amount"]["rows"] == expected


def test_each_of_several_classes_is_looked_at_and_named(
    small_contract: Any, local_environment: Environment
) -> None:
    contract = small_contract(
        {
            "columns.disputed": {"type": "category", "values": ["yes", "no", "later"]},
            "label": {"column": "disputed", "due_after": "7d"},
            "task": "multiclass",
            "monitor.class_drift": SECTION,
            "model.train_on.minimum": 200,
        }
    )
    from monitor.class_drift import class_drift

    world = World(contract, local_environment)
    labels = np.random.default_rng(1).choice(["yes", "no", "later"], 4000)
    training = world.arrive(payments(4000, "2026-01-01", disputed=labels), FEBRUARY)
    package = _with_profile(contract, training)
    live = np.random.default_rng(2).choice(["yes", "no", "later"], 2800)
    amount = np.array(payments(2800, "2026-02-01", seed=7)["amount"])
    february(world, disputed=live, amount=np.where(live == "later", 2.0, amount))
    measured, tested = class_drift(world.context(MARCH), package)
    assert {one.among for one in measured} == {"yes", "no", "later"}
    loud = [(t.measurement.among, t.measurement.feature) for t in tested if t.exceeds and t.p_value < 1e-6]
    assert loud == [("later", "amount")]


def _with_profile(contract: Contract, training: pa.Table) -> Any:
    """As much of a package as the monitor reads of it."""
    from types import SimpleNamespace

    from caudal.identity import format_instant
    from caudal.labels import encode_labels
    from caudal.profile import profile

    times = training.column("paid_at").to_pylist()
    return SimpleNamespace(
        profile=profile(contract, training, labels=encode_labels(contract, training)),
        metadata={"trained": {"from": format_instant(min(times)), "until": format_instant(max(times))}},
    )


def test_a_regression_has_no_classes(small_contract: Any) -> None:
    with pytest.raises(InvalidContract, match="a regression has no classes"):
        small_contract(
            {
                "label": {"column": "refunded", "due_after": "7d"},
                "never": {},
                "task": "regression",
                "gate.metric": "rmse",
                "monitor.class_drift": SECTION,
            }
        )
