"""The Flex Template: what a launcher starts only submits a graph, and its description follows from the code."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.internal import apiclient

from caudal.errors import UsageError
from caudal.storage import join
from caudal.unit import CONTRACT_FILE, ENVIRONMENT_FILE, RUN_FILE
from etl_beam import main as launcher
from etl_beam import template
from etl_beam.options import EtlOptions
from etl_beam.parameters import PARAMETERS

PAID = datetime(2020, 3, 2, tzinfo=UTC)
# As the launcher passes on what the workflow's launch request says.
PRODUCTION = [
    "--runner=DataflowRunner",
    "--project=bank-prod",
    "--region=europe-west1",
    "--job_name=etl-payments-20200101t000000z",
    "--temp_location=gs://bank-prod-artifacts/dataflow/temp",
    "--staging_location=gs://bank-prod-artifacts/dataflow/staging",
    "--service_account_email=etl-beam@bank-prod.iam.gserviceaccount.com",
    "--no_use_public_ips",
    "--subnetwork=regions/europe-west1/subnetworks/workers",
    "--labels=environment=prod",
    "--labels=unit=etl-beam",
    "--num_workers=2",
    "--max_num_workers=20",
    "--machine_type=n2-standard-4",
    "--sdk_container_image=europe-west1-docker.pkg.dev/bank-prod/images/etl_beam@sha256:0123",
    "--sdk_location=container",
    "--no_auth",
]


@dataclass
class Dataflow:
    """What came to Dataflow: files for the job, and jobs."""

    staged: dict[str, bytes] = field(default_factory=dict)
    jobs: list[Any] = field(default_factory=list)


@pytest.fixture
def launched(make_world: Any, small_contract: Any) -> tuple[Any, list[str]]:
    """A world with something to transform, and the arguments of a launch in it."""
    world = make_world(small_contract())
    world.land({"a.csv": [{"payment": 1, "paid_at": PAID}]})
    context = world.context()
    config = join(world.environment.places.artifacts, "config", "0123")
    context.storage.write(join(config, CONTRACT_FILE), world.contract.text.encode())
    context.storage.write(join(config, ENVIRONMENT_FILE), world.environment.to_yaml().encode())
    context.storage.write_json(join(context.run.uri, RUN_FILE), context.run.to_json())
    return world, [f"--config={config}", f"--run={context.run.uri}"]


@pytest.fixture
def dataflow(monkeypatch: pytest.MonkeyPatch) -> Dataflow:
    """Dataflow's API up to the submission of a job."""
    seen = Dataflow()

    def stage(self: Any, place: str, name: str, stream: io.IOBase, *rest: Any) -> None:
        seen.staged[name] = stream.read()

    # The buckets that the options name are not looked at, nor is anybody's account.
    monkeypatch.setattr(GoogleCloudOptions, "_warn_if_soft_delete_policy_enabled", lambda *_: None)
    monkeypatch.setattr(apiclient, "create_storage_client", lambda *_: None)
    monkeypatch.setattr(apiclient.DataflowApplicationClient, "stage_file", stage)
    monkeypatch.setattr(
        apiclient.DataflowApplicationClient, "submit_job_description", lambda self, job: seen.jobs.append(job)
    )
    return seen


def names_of(graph: bytes) -> set[str]:
    pipeline = beam_runner_api_pb2.Pipeline.FromString(graph)
    return {transform.unique_name for transform in pipeline.components.transforms.values()}


def covered(world: Any) -> int:
    return int(world.query("SELECT COUNT(*) AS n FROM warehouse._covered")[0]["n"])


def test_a_template_launcher_gets_a_graph_and_nothing_is_committed(launched: Any, dataflow: Dataflow) -> None:
    world, arguments = launched
    assert launcher.main([*arguments, *PRODUCTION, "--template_location=gs://bank-prod-artifacts/job"]) == 0
    assert not dataflow.jobs
    graph = next(content for name, content in dataflow.staged.items() if name.endswith(".pb"))
    assert {"Read and check", "Commit"} <= names_of(graph)
    assert covered(world) == 0
    assert not world.rows()
    context = world.context()
    assert not context.storage.exists(context.run.step_uri("etl"))


def test_the_job_that_is_submitted_has_every_option_that_production_needs(
    launched: Any, dataflow: Dataflow
) -> None:
    world, arguments = launched
    launcher.submit([*arguments, *PRODUCTION])
    assert "pickled_main_session" not in dataflow.staged
    [job] = dataflow.jobs
    pool = job.proto.environment.worker_pools[0]
    assert job.proto.environment.service_account_email == "etl-beam@bank-prod.iam.gserviceaccount.com"
    assert pool.ip_configuration.name == "WORKER_IP_PRIVATE"
    assert pool.subnetwork == "regions/europe-west1/subnetworks/workers"
    assert pool.autoscaling_settings.max_num_workers == 20
    assert pool.num_workers == 2
    assert pool.machine_type == "n2-standard-4"
    assert dict(job.proto.labels) == {"environment": "prod", "unit": "etl-beam"}
    images = {image.container_image for image in pool.sdk_harness_container_images}
    assert images == {"europe-west1-docker.pkg.dev/bank-prod/images/etl_beam@sha256:0123"}
    assert covered(world) == 0


def test_the_same_arguments_run_the_whole_step_where_the_runner_is_local(launched: Any) -> None:
    world, arguments = launched
    assert launcher.main([*arguments, "--shards=2"]) == 0
    assert len(world.rows()) == 1
    context = world.context()
    assert context.storage.read_json(context.run.step_uri("etl"))["rows"]["warehouse"] == 1


def test_a_launch_after_the_commit_records_the_same_result_again(launched: Any) -> None:
    world, arguments = launched
    launcher.main(arguments)
    context = world.context()
    first = context.storage.read_json(context.run.step_uri("etl"))
    context.storage.delete(context.run.step_uri("etl"))
    launcher.main(arguments)
    assert context.storage.read_json(context.run.step_uri("etl")) == first
    assert covered(world) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--run=gs://b/runs/1"], "--config"),
        (["--config=b/config", "--run=gs://b/runs/1"], "--config"),
        (["--config=gs://b/c", "--run=gs://b/r", "--shards=0"], "--shards"),
        (["--config=gs://b/c", "--run=gs://b/r", "--shards=many"], "--shards"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_name(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launcher.main(arguments) == 2
    assert problem in capsys.readouterr().err


def test_the_template_describes_exactly_the_options_that_the_code_takes() -> None:
    described = {
        entry["name"]: entry for entry in template.container_spec("image@sha256:1")["metadata"]["parameters"]
    }
    taken = {action.dest: action for action in _parser_of(EtlOptions)._actions if action.dest != "help"}
    assert described.keys() == taken.keys()
    for name, entry in described.items():
        assert entry["helpText"] == taken[name].help
        assert entry["label"]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
@pytest.mark.parametrize("value", ["gs://bucket/x", "file:///x", "7", "4096", "0", "", "x", "gs:/x", "12345"])
def test_template_and_code_accept_the_same_values(parameter: Any, value: str) -> None:
    entries = template.container_spec("image")["metadata"]["parameters"]
    [entry] = [entry for entry in entries if entry["name"] == parameter.name]
    described = all(re.search(pattern, value) for pattern in entry["regexes"])
    try:
        parameter.check(value)
        accepted = True
    except UsageError:
        accepted = False
    assert described == accepted


def test_the_template_command_prints_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert template.main(["--image", "image@sha256:1"]) == 0
    assert json.loads(capsys.readouterr().out) == template.container_spec("image@sha256:1")


def test_the_image_has_the_version_of_beam_that_is_locked(repository: Path) -> None:
    locked = re.search(r"^apache-beam==([\d.]+)", (repository / "requirements/etl_beam.txt").read_text(), re.M)
    boot = re.search(r"beam_python3\.11_sdk:([\d.]+)", (repository / "services/etl_beam/Dockerfile").read_text())
    assert locked is not None
    assert boot is not None
    assert locked[1] == boot[1]


def _parser_of(options: Callable[..., Any]) -> Any:
    from argparse import ArgumentParser

    parser = ArgumentParser()
    options._add_argparse_args(parser)  # type: ignore[attr-defined]
    return parser
