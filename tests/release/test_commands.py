"""`caudal release`, `apply` and `publish` as they are called; Cloud Storage and the stacks are stood in for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from caudal.contract import Contract
from pipeline.cli.plan import apply_command
from pipeline.cli.release import command as release_command
from pipeline.cli.release import publish_command
from pipeline.release import publish as publishing
from pipeline.release import stacks as stacks_module
from tests.workflow.cloud import Buckets

DIGEST = "sha256:" + "a" * 64
UNITS = ("batch_scoring", "etl_beam", "ingest_function", "mlflow_server", "monitor", "serving", "trainer")
RELEASE = {
    "release": 1,
    "commit": "abc",
    "units": dict.fromkeys(UNITS, DIGEST),
    "contents": dict.fromkeys(UNITS, "c" * 64),
    "bases": {},
}
ARTIFACTS = "gs://caudal-dev-000000-artifacts"


@pytest.fixture
def buckets(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    """The project's buckets; release.json lies in the test's own folder."""
    held = Buckets()
    monkeypatch.setattr("caudal.backends.open_storage", lambda _: held)
    monkeypatch.setenv("CAUDAL_RELEASE", str(tmp_path / "release.json"))
    monkeypatch.chdir(repository)
    (tmp_path / "release.json").write_text(json.dumps(RELEASE))
    return held


def called(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def test_a_dry_run_against_another_commit_tells_only_what_changed(buckets: Buckets, tmp_path: Path) -> None:
    every = called(release_command, "--env", "dev", "--dry-run", "--json").output
    before = json.loads(every)
    before["units"][0]["content"] = "0" * 64
    (tmp_path / "before.json").write_text(json.dumps(before))
    changed = called(
        release_command, "--env", "dev", "--dry-run", "--json", "--against", str(tmp_path / "before.json")
    )
    assert [row["unit"] for row in json.loads(changed.output)["units"]] == [before["units"][0]["unit"]]


def test_what_is_published_can_be_fetched_as_the_release_that_runs(
    buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, Mapping[str, Any]]] = []

    def post(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        started.append((url, body))
        return {"name": "executions/1"}

    monkeypatch.setattr(publishing, "post_as_caller", post)
    assert called(publish_command, "--env", "dev").exit_code == 0
    assert {url.rsplit("/", 2)[1] for url, _ in started} == {"caudal-bank-marketing", "caudal-wallet"}
    assert {json.loads(body["argument"])["reason"] for _, body in started} == {"code"}
    (tmp_path / "release.json").unlink()
    monkeypatch.setenv("CAUDAL_RELEASE", str(tmp_path / "fetched.json"))
    (tmp_path / "fetched.json").write_text(json.dumps({**RELEASE, "commit": "other"}))
    assert called(release_command, "--env", "dev", "--deployed").exit_code == 0
    assert json.loads((tmp_path / "fetched.json").read_text()) == RELEASE


def test_publishing_without_a_start_starts_nothing(buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    def post(*_: Any) -> Mapping[str, Any]:
        raise AssertionError("nothing was to be started")

    monkeypatch.setattr(publishing, "post_as_caller", post)
    assert called(publish_command, "--env", "dev", "--no-start").exit_code == 0
    assert buckets.exists(f"{ARTIFACTS}/config/deployed/bank_marketing.json")


def test_the_configuration_alone_says_nothing_of_a_release(buckets: Buckets, bank_contract: Contract) -> None:
    told = called(publish_command, "--env", "dev", "--config-only", "--json")
    folder = json.loads(told.output)["bank_marketing"]
    assert buckets.read(f"{folder}/contract.yaml").decode() == bank_contract.text
    assert not buckets.exists(f"{ARTIFACTS}/config/deployed/bank_marketing.json")


def test_configuration_is_published_before_the_first_stack_is_applied(
    buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[bool] = []

    class Stacks:
        def __init__(self, _: Path) -> None: ...

        def plan(self) -> list[Any]:
            return []

        def apply(self) -> Any:
            published.append(any("config" in name for name in buckets.names(ARTIFACTS)))
            yield "foundation"

    monkeypatch.setattr("infra.main.synthesize", lambda *_: None)
    monkeypatch.setattr(stacks_module, "Stacks", Stacks)
    assert called(apply_command, "--env", "dev").output == "foundation: applied\n"
    assert published == [True]
    told = json.loads(called(apply_command, "--env", "dev", "--json").output)
    assert told == {"applied": ["foundation"], "digest": stacks_module.plan_digest([])}


def test_a_plan_that_changed_is_not_applied(buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stacks:
        def __init__(self, _: Path) -> None: ...

        def plan(self) -> list[stacks_module.Change]:
            return [stacks_module.Change("data", "google_x.y", ("delete",))]

        def apply(self) -> Any:
            raise AssertionError("nothing was to be applied")

    monkeypatch.setattr("infra.main.synthesize", lambda *_: None)
    monkeypatch.setattr(stacks_module, "Stacks", Stacks)
    with pytest.raises(stacks_module.PlanChanged):
        called(apply_command, "--env", "dev", "--expect", stacks_module.plan_digest([]))
