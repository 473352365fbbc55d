"""MLflow follows the ledger, and a repeated step adds nothing to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from caudal.promotions import Promotions
from caudal.storage.files import FileStorage, file_uri
from caudal.tracking import Point, Tracking

AS_OF = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    folder = tmp_path_factory.mktemp("mlflow")
    return Tracking(f"sqlite:///{folder}/mlflow.db", file_uri(folder / "artifacts"))


def record(tracking: Tracking, experiment: str, key: str, **more: Any) -> str:
    return tracking.record(experiment, key, name="train", at=AS_OF, **more)


def runs(tracking: Tracking, experiment: str) -> list[Any]:
    found = tracking.client.get_experiment_by_name(experiment)
    assert found is not None
    return list(tracking.client.search_runs([found.experiment_id]))


def test_a_step_that_is_repeated_is_one_run(tracking: Tracking) -> None:
    first = record(tracking, "repeated", "k", metrics={"auc": 0.7}, parameters={"depth": 4})
    assert record(tracking, "repeated", "k", metrics={"auc": 0.7}, parameters={"depth": 4}) == first
    (run,) = runs(tracking, "repeated")
    assert run.data.metrics == {"auc": 0.7}
    assert run.data.params == {"depth": "4"}
    assert run.info.status == "FINISHED"


def test_a_run_that_was_killed_half_way_is_finished_by_the_next(tracking: Tracking) -> None:
    first = record(tracking, "killed", "k")
    tracking.client.set_terminated(first, "RUNNING")
    assert record(tracking, "killed", "k", metrics={"auc": 0.7}) == first
    (run,) = runs(tracking, "killed")
    assert (run.data.metrics, run.info.status) == ({"auc": 0.7}, "FINISHED")


def test_figures_that_are_none_are_left_out(tracking: Tracking) -> None:
    record(tracking, "figures", "k", metrics={"a": None, "b": float("nan"), "c": float("inf"), "d": 0.0})
    (run,) = runs(tracking, "figures")
    assert run.data.metrics == {"d": 0.0}


def test_a_series_keeps_its_steps_and_their_instants(tracking: Tracking) -> None:
    later = AS_OF + timedelta(days=91)
    series = {"quarter.auc": [Point(0, AS_OF, 0.7), Point(1, later, None), Point(2, later, 0.6)]}
    run_id = record(tracking, "series", "k", metrics={"auc": 0.65}, series=series)
    history = tracking.client.get_metric_history(run_id, "quarter.auc")
    moments = [(AS_OF, 0.7, 0), (later, 0.6, 2)]
    assert [(m.timestamp, m.value, m.step) for m in history] == [
        (int(at.timestamp() * 1000), value, step) for at, value, step in moments
    ]
    (run,) = runs(tracking, "series")
    assert run.data.metrics["auc"] == 0.65


def test_more_figures_than_one_call_takes_and_names_that_mlflow_refuses_are_recorded(tracking: Tracking) -> None:
    record(tracking, "many", "k", metrics={f"figure {n} %": float(n) for n in range(1100)})
    (run,) = runs(tracking, "many")
    assert len(run.data.metrics) == 1100
    assert run.data.metrics["figure 7 _"] == 7.0


def test_the_aliases_follow_the_ledger(tracking: Tracking, tmp_path: Path) -> None:
    ledger = Promotions(FileStorage(tmp_path), file_uri(tmp_path / "ledger"))

    def promote(version: str, role: Any = "champion") -> None:
        ledger.promote(
            version=version, model_type="xgboost", package=f"gs://models/{version}", as_of=AS_OF, by="run",
            reason="r", snapshot="s", role=role, request=version,
        )  # fmt: skip
        tracking.follow("bank", ledger, {"rows": "7"})
        tracking.follow("bank", ledger, {"rows": "7"})

    def aliases() -> dict[str, str]:
        client = tracking.client
        found = client.get_registered_model("bank").aliases
        return {
            alias: client.get_model_version("bank", number).tags["caudal.version"]
            for alias, number in found.items()
        }

    tracking.follow("bank", ledger)
    promote("one")
    assert aliases() == {"champion": "one"}
    promote("two", "challenger")
    assert aliases() == {"champion": "one", "challenger": "two"}
    promote("three")
    assert aliases() == {"champion": "three"}
    ledger.roll_back(as_of=AS_OF, by="x", reason="")
    tracking.follow("bank", ledger)
    assert aliases() == {"champion": "one"}
    versions = tracking.client.search_model_versions("name = 'bank'")
    assert sorted(v.tags["caudal.version"] for v in versions) == ["one", "three", "two"]
    assert {v.tags["rows"] for v in versions} == {"7"}
