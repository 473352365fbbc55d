"""`caudal train`: the step on this machine, or as a job on Vertex AI."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import as_of_option, contract_argument, environment_options, json_option, place_options


@click.command(
    "train",
    epilog="Examples: `caudal train bank_marketing --as-of 2010-06-01`, "
    "`caudal train bank_marketing --on vertex --env dev --dry-run`.",
)
@contract_argument
@as_of_option
@place_options("Train on this machine, or as a custom job on Vertex AI.")
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
    from pipeline.cli.vertex import job_place
    from trainer.vertex import custom_job

    place = job_place(contract, env, as_of)
    config = place.config if dry_run else place.begin()
    body = custom_job(place.name, place.arguments("train", config), place.settings("vertex"))
    if dry_run:
        return {"parent": place.parent, "customJob": body}

    import json

    from google.cloud.aiplatform_v1 import JobServiceClient
    from google.cloud.aiplatform_v1.types import CustomJob

    client = JobServiceClient(client_options={"api_endpoint": place.endpoint})
    created = client.create_custom_job(parent=place.parent, custom_job=CustomJob.from_json(json.dumps(body)))
    return {"custom_job": created.name, "state": created.state.name}
