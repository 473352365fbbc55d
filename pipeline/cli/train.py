"""`caudal train`: the step on this machine, or as a job on Vertex AI."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import as_of_option, contract_argument, environment_options, json_option

if TYPE_CHECKING:
    from infra.environments import Deployment
    from trainer.vertex import JobSettings


@click.command(
    "train",
    epilog="Examples: `caudal train bank_marketing --as-of 2010-06-01`, "
    "`caudal train bank_marketing --on vertex --env dev --dry-run`.",
)
@contract_argument
@as_of_option
@click.option(
    "--on",
    "place",
    type=click.Choice(["here", "vertex"]),
    default="here",
    show_default=True,
    help="Train on this machine, or as a custom job on Vertex AI.",
)
@click.option("--dry-run", is_flag=True, help="With --on vertex: print the request, and send nothing.")
@environment_options
@json_option
def command(
    contract: str,
    as_of: datetime | None,
    place: str,
    dry_run: bool,
    env: str,
    root: Path | None,
    as_json: bool,
) -> None:
    """Train a candidate of CONTRACT. It needs the snapshot of the same as-of."""
    from pipeline.cli.output import show_json
    from pipeline.cli.run import begin, brief
    from pipeline.local_executor import LocalExecutor

    if place == "vertex":
        show_json(_on_vertex(contract, env, as_of, dry_run))
        return
    if dry_run:
        raise click.UsageError("--dry-run goes with --on vertex")
    run = begin(contract, env, root, as_of)
    result = LocalExecutor().execute_step(run, "train")
    if as_json:
        show_json(result)
    else:
        click.echo(f"train of run {run.id}: {brief(result)}")


def _on_vertex(contract: str, env: str, as_of: datetime | None, dry_run: bool) -> dict[str, Any]:
    """The request, or Vertex AI's answer to it."""
    from caudal.identity import floor_to, run_id
    from infra.environments import load_deployment
    from pipeline.project import find_contract, project_root
    from pipeline.runs import config_uri
    from pipeline.steps import BY_NAME
    from trainer.vertex import custom_job

    deployment = load_deployment(env, project_root())
    found, environment = find_contract(contract), deployment.environment
    moment = as_of or floor_to(datetime.now(UTC), environment.schedule.every)
    name = run_id(moment)
    run_uri, config = environment.runs(found.name, name), config_uri(found, environment)
    if not dry_run:
        from caudal.backends import open_storage
        from pipeline.runs import begin_run

        run = begin_run(open_storage(environment), found, environment, moment)
        run_uri, config = run.uri, run.config
    settings = _settings(deployment, run_uri, BY_NAME["train"].timeout_minutes * 60)
    arguments = ["train", "--config", config, "--run", run_uri]
    job_name = f"{found.name}-{name}".lower().replace("_", "-")
    body = custom_job(job_name, arguments, settings)
    parent = f"projects/{deployment.names.project}/locations/{deployment.names.region}"
    return {"parent": parent, "customJob": body} if dry_run else _send(parent, body, deployment.names.region)


def _settings(deployment: Deployment, run_uri: str, timeout_seconds: int) -> JobSettings:
    from infra.release import ReleaseError
    from infra.targets import targets
    from trainer.vertex import JobSettings

    if deployment.release is None:
        raise ReleaseError(
            "no image of the trainer is known: nothing was built yet",
            where="release.json",
            mend=f"build it: caudal release --env {deployment.name} --unit trainer",
        )
    training = targets(deployment).training
    return JobSettings(
        image=deployment.names.image("trainer", deployment.release.digest("trainer")),
        account=training.account,
        output=f"{run_uri}/vertex",
        timeout_seconds=timeout_seconds,
        machine_type=training.machine_type,
        strategy=training.strategy,
        labels=targets(deployment).labels,
    )


def _send(parent: str, body: dict[str, Any], region: str) -> dict[str, Any]:
    import json

    from google.cloud.aiplatform_v1 import JobServiceClient
    from google.cloud.aiplatform_v1.types import CustomJob

    client = JobServiceClient(client_options={"api_endpoint": f"{region}-aiplatform.googleapis.com"})
    created = client.create_custom_job(parent=parent, custom_job=CustomJob.from_json(json.dumps(body)))
    return {"custom_job": created.name, "state": created.state.name}
