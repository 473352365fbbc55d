"""Requests to Vertex AI: the training job, and the search as a hyperparameter tuning job.

The same builder serves `caudal train --on vertex`, `caudal tune --on vertex` and the workflow, whose values are
expressions that become known when it runs. A job's arguments are those of `python -m trainer` anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from caudal.errors import UsageError

if TYPE_CHECKING:
    from caudal.contract import Contract

Strategy = Literal["STANDARD", "SPOT"]


@dataclass(frozen=True)
class JobSettings:
    """Where and how a job runs.

    Attributes:
        image: the trainer's image.
        account: e-mail of the service account.
        output: `gs://` folder below which Vertex sets AIP_MODEL_DIR and its siblings.
        timeout_seconds: after which the job has failed; Vertex's own limit would be seven days.
    """

    image: str
    account: str
    output: str
    timeout_seconds: int
    machine_type: str = "n2-standard-4"
    strategy: Strategy = "STANDARD"
    labels: Mapping[str, str] = field(default_factory=dict)


def custom_job(name: str, arguments: Sequence[str], settings: JobSettings) -> dict[str, Any]:
    """The body of `projects.locations.customJobs.create`.

    Args:
        arguments: of `python -m trainer`.
    """
    return {
        "displayName": name,
        "labels": dict(settings.labels),
        "jobSpec": _job_spec(arguments, settings),
    }


def tuning_job(
    name: str,
    contract: Contract,
    arguments: Sequence[str],
    settings: JobSettings,
    parallel: int = 2,
    trials: int | None = None,
) -> dict[str, Any]:
    """The body of `projects.locations.hyperparameterTuningJobs.create` for the contract's search.

    Each trial gets its parameters as further arguments, `--max_depth=4`, and reports the contract's metric.

    Args:
        trials: how many settings to try; by default the contract's.

    Raises:
        UsageError: the contract has no search.
    """
    from google.cloud.aiplatform_v1.types import HyperparameterTuningJob

    search = contract.model.search
    if search is None:
        raise UsageError(
            "the contract has no search", where=contract.where("model"), mend="add model.search with a space"
        )
    from caudal.metrics import sign
    from trainer.search import parameter_specs

    metric, most = search.metric or contract.gate.metric, trials or search.trials
    body = {
        "displayName": name,
        "labels": dict(settings.labels),
        "maxTrialCount": most,
        "parallelTrialCount": min(parallel, most),
        "studySpec": {
            "metrics": [{"metricId": metric, "goal": "MAXIMIZE" if sign(metric) > 0 else "MINIMIZE"}],
            "parameters": parameter_specs(search),
        },
        "trialJobSpec": _job_spec(arguments, settings),
    }
    # The client library's own type refuses a field that is misspelt or of a wrong type.
    HyperparameterTuningJob.from_json(json.dumps(body))
    return body


def _job_spec(arguments: Sequence[str], settings: JobSettings) -> dict[str, Any]:
    return {
        "serviceAccount": settings.account,
        "baseOutputDirectory": {"outputUriPrefix": settings.output},
        "scheduling": {"timeout": f"{settings.timeout_seconds}s", "strategy": settings.strategy},
        "workerPoolSpecs": [
            {
                "replicaCount": "1",
                "machineSpec": {"machineType": settings.machine_type},
                "containerSpec": {"imageUri": settings.image, "args": list(arguments)},
            }
        ],
    }
