"""The environment: typed, resolved, and refused with a line where it is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from caudal.backends import open_storage, open_warehouse, storage_for
from caudal.environment import Environment, load_environment, parse_environment
from caudal.errors import InvalidEnvironment, UsageError
from caudal.storage.files import FileStorage
from caudal.storage.gcs import GcsStorage
from caudal.warehouse.duckdb import DuckDBWarehouse
from caudal.yaml_document import write_document
from tests.conftest import REPOSITORY

LOCAL: dict[str, Any] = {
    "environment": 1,
    "name": "local",
    "root": "somewhere",
    "places": {name: f"file://{{root}}/{name}" for name in ("landing", "artifacts", "models")},
    "warehouse": "duckdb:{root}/caudal.duckdb",
    "tracking": "sqlite:///{root}/mlflow.db",
    "alarms": [{"type": "file", "path": "{root}/alarms.ndjson"}],
}


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "environments").glob("*.yaml")))
def test_the_shipped_environments_are_valid_and_read_back(repository: Path, name: str) -> None:
    environment = load_environment(repository / "environments" / f"{name}.yaml")

    again = parse_environment(environment.to_yaml())

    assert environment.name == name
    assert again.to_yaml() == environment.to_yaml()


def test_everything_lies_below_the_root(tmp_path: Path, repository: Path) -> None:
    root = tmp_path / "a root"
    environment = load_environment(repository / "environments" / "local.yaml", root=root)

    assert environment.root_path == root
    assert environment.landing("x") == f"file://{tmp_path}/a%20root/landing/x"
    assert environment.warehouse == f"duckdb:{root}/caudal.duckdb"
    assert "{root}" not in environment.to_yaml()


def test_a_relative_root_is_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert parse_environment(write_document(LOCAL)).root_path == tmp_path / "somewhere"


def test_places_in_the_environment_are_apart(local_environment: Environment) -> None:
    one = local_environment
    makers = [one.landing, one.ledger, one.runs, one.staging, one.quarantine, one.snapshots, one.candidates]
    places = [*(make("c") for make in makers), one.packages("c", "xgboost"), one.config("digest")]

    assert len(set(places)) == len(places)
    assert not any(a != b and b.startswith(f"{a}/") for a in places for b in places)
    assert one.ledger("c", "loads") == f"{one.ledger('c')}/loads"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"warehous": "x"}, "unknown key 'warehous'"),
        ({"warehouse": "sqlite:x"}, "'warehouse'"),
        ({"alarms": []}, "'alarms'"),
        ({"alarms": [{"type": "file"}]}, "has no path"),
        ({"alarms": [{"type": "file", "path": ""}]}, "'alarms.0.path'"),
        ({"name": "Local!"}, "'name'"),
        ({"root": ""}, "no root"),
        ({"places": {**LOCAL["places"], "models": "s3://models"}}, "file:// or gs://"),
        ({"places": {**LOCAL["places"], "models": "gs://models"}}, "different storages"),
        ({"ingest": {"budget_time": "soon"}}, "length of time"),
        ({"etl": {"shards": 0}}, "greater than 0"),
    ],
)
def test_what_can_not_be_meant_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidEnvironment) as caught:
        parse_environment(write_document({**LOCAL, **changes}), "local.yaml")

    assert what in str(caught.value)
    assert all(problem.where.startswith("local.yaml:") and problem.mend for problem in caught.value.problems)


def test_workers_in_the_cloud_share_no_folder_to_spill_into(repository: Path) -> None:
    text = (repository / "environments" / "dev.yaml").read_text()
    line = text[: text.index("etl:")].count("\n") + 1

    with pytest.raises(InvalidEnvironment) as caught:
        parse_environment(text.replace("{shards: 8}", "{shards: 8, spill: /tmp/spill}"), "dev.yaml")

    (problem,) = caught.value.problems
    assert (problem.where, problem.mend) == (f"dev.yaml:{line}", "leave it out")


def test_an_environment_in_a_cloud_whose_alarms_reach_nobody_is_refused(repository: Path) -> None:
    text = (repository / "environments" / "dev.yaml").read_text()
    line = text[: text.index("alarms:")].count("\n") + 1

    with pytest.raises(InvalidEnvironment) as caught:
        parse_environment(text.replace("type: monitoring", "type: console"), "dev.yaml")

    (problem,) = caught.value.problems
    assert problem.where == f"dev.yaml:{line}"
    assert "no alarm would reach anybody" in problem.what
    assert problem.mend == "add {type: monitoring}"


def test_in_a_cloud_other_destinations_may_stand_beside_monitoring(repository: Path) -> None:
    text = (repository / "environments" / "dev.yaml").read_text()

    environment = parse_environment(text.replace("{type: monitoring}", "{type: log}, {type: monitoring}"))

    assert [destination.type for destination in environment.alarms] == ["log", "monitoring"]


def test_a_file_for_alarms_without_a_path_is_told_with_line_and_mend(repository: Path) -> None:
    text = (repository / "environments" / "local.yaml").read_text()
    entry = '{type: file, path: "{root}/alarms.ndjson"}'
    line = text[: text.index(entry)].count("\n") + 1

    with pytest.raises(InvalidEnvironment) as caught:
        parse_environment(text.replace(entry, "{type: file}"), "local.yaml")

    (problem,) = caught.value.problems
    assert problem.where == f"local.yaml:{line}"
    assert "has no path" in problem.what
    assert problem.mend == "add 'path', or choose another type"


def test_an_environment_that_is_not_there_is_told_with_those_that_are(repository: Path) -> None:
    with pytest.raises(InvalidEnvironment, match="no such environment") as caught:
        load_environment(repository / "environments" / "lokal.yaml")

    assert "local" in caught.value.mend


def test_defaults_are_parsed_like_what_is_written() -> None:
    environment = parse_environment(write_document(LOCAL))

    assert environment.ingest.budget_time == timedelta(minutes=20)
    assert environment.schedule.every == timedelta(days=1)


def test_the_uri_chooses_the_adapter(local_environment: Environment, tmp_path: Path) -> None:
    assert isinstance(open_storage(local_environment), FileStorage)
    assert isinstance(open_warehouse(local_environment), DuckDBWarehouse)
    assert isinstance(storage_for("gs://bucket/x"), GcsStorage)
    with pytest.raises(UsageError, match="s3"):
        storage_for("s3://bucket/x")
