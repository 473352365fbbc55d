"""Requests to Vertex AI, held against Google's discovery document and its client library's types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob

from caudal.errors import UsageError
from pipeline.steps import BY_NAME
from pipeline.workflow.api import ApiCall
from pipeline.workflow.services import _create_training
from tests.workflow.test_executors import TARGETS
from trainer.vertex import JobSettings, custom_job, tuning_job

SETTINGS = JobSettings(
    image="europe-west1-docker.pkg.dev/p/units/trainer@sha256:" + "0" * 64,
    account="trainer@p.iam.gserviceaccount.com",
    output="gs://artifacts/runs/payments/r/vertex",
    timeout_seconds=7200,
    strategy="SPOT",
    labels={"environment": "dev"},
)
ARGUMENTS = ["train", "--config", "gs://a/config/c", "--run", "gs://a/runs/payments/r"]
PLACE = {"parent": "projects/p/locations/europe-west1"}


def test_a_training_job_is_as_google_documents_it() -> None:
    body = custom_job("payments-r", ARGUMENTS, SETTINGS)
    ApiCall("aiplatform.v1", "aiplatform.projects.locations.customJobs.create", PLACE, body=body).check()
    job = CustomJob.from_json(json.dumps(body))
    (pool,) = job.job_spec.worker_pool_specs
    assert list(pool.container_spec.args) == ARGUMENTS
    assert job.job_spec.scheduling.timeout.total_seconds() == 7200
    assert job.job_spec.base_output_directory.output_uri_prefix == SETTINGS.output


def test_the_workflows_request_is_built_by_the_same_code() -> None:
    call = _create_training(BY_NAME["train"], TARGETS)
    call.check()
    spec = call.body["jobSpec"]
    assert set(spec) == set(custom_job("n", ARGUMENTS, SETTINGS)["jobSpec"])
    assert spec["workerPoolSpecs"][0]["containerSpec"]["args"][0] == ARGUMENTS[0]
    assert spec["scheduling"]["timeout"] == f"{BY_NAME['train'].timeout_minutes * 60}s"


SPACE = {
    "max_depth": [2, 6],
    "learning_rate": [0.02, 0.3],
    "grow_policy": ["depthwise", "lossguide"],
    "subsample": [0.6, 0.8, 1.0],
}


def test_the_search_as_a_tuning_job_is_as_google_documents_it(small_contract: Any) -> None:
    contract = small_contract({"model.search": {"space": SPACE, "trials": 20, "metric": "log_loss"}})
    body = tuning_job("payments-tune", contract, ["trial", *ARGUMENTS[1:]], SETTINGS, parallel=4)
    place = "aiplatform.projects.locations.hyperparameterTuningJobs.create"
    ApiCall("aiplatform.v1", place, PLACE, body=body).check()
    job = HyperparameterTuningJob.from_json(json.dumps(body))
    assert (job.max_trial_count, job.parallel_trial_count) == (20, 4)
    assert job.study_spec.metrics[0].goal.name == "MINIMIZE"
    specs = {spec.parameter_id: spec for spec in job.study_spec.parameters}
    assert (specs["max_depth"].integer_value_spec.min_value, specs["max_depth"].integer_value_spec.max_value) == (
        2,
        6,
    )
    assert specs["learning_rate"].scale_type.name == "UNIT_LOG_SCALE"
    assert specs["learning_rate"].double_value_spec.max_value == 0.3
    assert list(specs["grow_policy"].categorical_value_spec.values) == ["depthwise", "lossguide"]
    assert list(specs["subsample"].discrete_value_spec.values) == [0.6, 0.8, 1.0]


def test_a_contract_without_a_search_is_told_so(small_contract: Any) -> None:
    with pytest.raises(UsageError, match="no search"):
        tuning_job("n", small_contract(), ARGUMENTS, SETTINGS)
