"""`caudal train --on vertex --dry-run`: the exact request, and nothing sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.cloud.aiplatform_v1.types import CustomJob

from infra.release import ReleaseError
from pipeline.cli.train import command
from pipeline.workflow.api import ApiCall

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Any:
    monkeypatch.chdir(repository)
    release = tmp_path / "release.json"
    release.write_text(json.dumps({"release": 1, "commit": "c", "units": {"trainer": DIGEST}}))
    monkeypatch.setenv("CAUDAL_RELEASE", str(release))

    def run(*arguments: str) -> Any:
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
