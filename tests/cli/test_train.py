"""`caudal train` and `caudal tune` with `--on vertex`: the exact request, and with --dry-run nothing sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob

from caudal.errors import NotFound
from infra.release import ReleaseError
from pipeline.cli import train, tune
from pipeline.project import find_contract
from pipeline.workflow.api import ApiCall
from tests.workflow.cloud import Buckets

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Any:
    monkeypatch.chdir(repository)
    release = tmp_path / "release.json"
    release.write_text(
        json.dumps({"release": 1, "commit": "c", "units": {"trainer": DIGEST}, "contents": {"trainer": "c" * 64}})
    )
    monkeypatch.setenv("CAUDAL_RELEASE", str(release))

    def run(*arguments: str, command: Any = train.command) -> Any:
        return CliRunner().invoke(command, ["bank_marketing", *arguments], catch_exceptions=False)

    return run


def test_a_dry_run_prints_the_request_as_google_documents_it(call: Any) -> None:
    done = call("--on", "vertex", "--env", "dev", "--as-of", "2010-06-01", "--dry-run")
    said = json.loads(done.output)
    body = said["customJob"]
    method = "aiplatform.projects.locations.customJobs.create"
    ApiCall("aiplatform.v1", method, {"parent": said["parent"]}, body=body).check()
    job = CustomJob.from_json(json.dumps(body))
    container = job.job_spec.worker_pool_specs[0].container_spec
    assert container.image_uri.endswith(f"@{DIGEST}")
    arguments = list(container.args)
    assert arguments[:2] == ["train", "--config"]
    assert arguments[-1].endswith("/runs/bank_marketing/20100601T000000Z")
    assert "trainer" in job.job_spec.service_account


def test_without_an_image_it_says_how_to_build_one(
    call: Any, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setattr("infra.environments.load_release", lambda path: None)
    with pytest.raises(ReleaseError, match="nothing was built yet"):
        call("--on", "vertex", "--env", "dev", "--dry-run")


def test_a_dry_run_here_makes_no_sense(call: Any) -> None:
    done = call("--dry-run")
    assert done.exit_code == 2
    assert "--on vertex" in done.output


def test_a_search_asks_for_the_trials_of_the_contract_on_the_snapshot_of_the_run(call: Any) -> None:
    asked = ("--on", "vertex", "--env", "dev", "--as-of", "2010-06-01", "--dry-run")
    said = json.loads(call(*asked, command=tune.command).output)
    body = said["hyperparameterTuningJob"]
    method = "aiplatform.projects.locations.hyperparameterTuningJobs.create"
    ApiCall("aiplatform.v1", method, {"parent": said["parent"]}, body=body).check()
    job = HyperparameterTuningJob.from_json(json.dumps(body))
    contract = find_contract("bank_marketing")
    assert contract.model.search is not None
    assert job.max_trial_count == contract.model.search.trials
    assert {spec.parameter_id for spec in job.study_spec.parameters} == set(contract.model.search.space)
    container = job.trial_job_spec.worker_pool_specs[0].container_spec
    assert list(container.args)[:2] == ["trial", "--config"]
    assert container.args[-1].endswith("/runs/bank_marketing/20100601T000000Z")
    fewer = json.loads(call(*asked, "--trials", "1", command=tune.command).output)["hyperparameterTuningJob"]
    assert (fewer["maxTrialCount"], fewer["parallelTrialCount"]) == (1, 1)


def test_a_search_here_has_no_dry_run(call: Any) -> None:
    assert call("--dry-run", command=tune.command).exit_code == 2


sent: list[HyperparameterTuningJob] = []


class Sent:
    """Stands for Vertex AI's client."""

    def __init__(self, **_: Any) -> None: ...

    def create_custom_job(self, *, parent: str, custom_job: CustomJob) -> CustomJob:
        return CustomJob(name=f"{parent}/customJobs/1")

    def create_hyperparameter_tuning_job(
        self, *, parent: str, hyperparameter_tuning_job: HyperparameterTuningJob
    ) -> HyperparameterTuningJob:
        sent[:] = [hyperparameter_tuning_job]
        return HyperparameterTuningJob(name=f"{parent}/hyperparameterTuningJobs/1")


def test_what_is_sent_is_answered_with_the_jobs_name_and_only_a_training_begins_a_run(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = Buckets()
    monkeypatch.setattr("caudal.backends.open_storage", lambda _: buckets)
    monkeypatch.setattr("google.cloud.aiplatform_v1.JobServiceClient", Sent)
    asked = ("--on", "vertex", "--env", "dev", "--as-of", "2010-06-01")
    run = "gs://caudal-dev-000000-artifacts/runs/bank_marketing/20100601T000000Z/run.json"
    with pytest.raises(NotFound, match="no snapshot"):
        call(*asked, command=tune.command)
    buckets.write_json(f"{run.removesuffix('run.json')}snapshot.json", {"snapshot": "s"})
    searched = json.loads(call(*asked, command=tune.command).output)
    assert searched["hyperparameter_tuning_job"].endswith("/hyperparameterTuningJobs/1")
    (config,) = sent[0].trial_job_spec.worker_pool_specs[0].container_spec.args[2:3]
    assert buckets.read(f"{config}/contract.yaml").decode() == find_contract("bank_marketing").text
    assert not buckets.exists(run)
    assert json.loads(call(*asked).output)["custom_job"].endswith("/customJobs/1")
    # The release's trainer, not the one that lies here.
    assert buckets.read_json(run)["trainer"] == "c" * 16
