"""What the workflow calls: names, accounts and sizes of what the stacks deploy, and which service runs a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.steps import Step

Service = Literal["function", "template", "training", "job"]

# Long training runs on Vertex AI, where machines with accelerators are; all else of its image are Cloud Run jobs.
TRAINING_STEPS = frozenset({"train"})


def service_of(step: Step) -> Service:
    """Which Google Cloud service runs a step: Cloud Functions, Dataflow, Vertex AI or Cloud Run jobs."""
    if step.unit == "ingest_function":
        return "function"
    if step.unit == "etl_beam":
        return "template"
    return "training" if step.name in TRAINING_STEPS else "job"


def deployed_name(contract: str) -> str:
    """The object, below the artifacts' place, that says what is deployed for a contract.

    `{"config": URI, "commit": text, "units": {unit: {"image": reference, "template": URI, "digest": text}}}`; the
    digest is the one that is baked into the image. It is written last when a release is deployed and read first by
    every run, so a run keeps one version throughout.
    """
    return f"config/deployed/{contract}.json"


@dataclass(frozen=True)
class Dataflow:
    """How the Flex Template is launched.

    Attributes:
        account: e-mail of the workers' service account.
        subnetwork: `regions/<region>/subnetworks/<name>`.
        temp: `gs://` folder for temporary files.
        staging: `gs://` folder for staged files.
    """

    account: str
    subnetwork: str
    temp: str
    staging: str
    machine_type: str = "n1-standard-2"
    workers: int = 1
    max_workers: int = 4
    disk_gb: int = 30


@dataclass(frozen=True)
class Training:
    """How the Vertex AI custom job is created."""

    account: str
    machine_type: str = "n1-standard-4"
    strategy: Literal["STANDARD", "SPOT"] = "STANDARD"


@dataclass(frozen=True)
class Targets:
    """What one environment's workflow calls.

    Attributes:
        function: URI of the ingest function, also the audience of its token.
        jobs: the Cloud Run job of each unit that has one.
    """

    project: str
    region: str
    function: str
    jobs: Mapping[str, str]
    dataflow: Dataflow
    training: Training
    labels: Mapping[str, str] = field(default_factory=dict)
