"""`caudal tune`: a search for parameters that ends in a proposed edit of the contract."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import as_of_option, contract_argument, environment_options, json_option, place_options

if TYPE_CHECKING:
    from caudal.contract import Contract
    from trainer.search import Trial


@click.command(
    "tune",
    epilog="Examples: `caudal tune bank_marketing --trials 5 --json`, "
    "`caudal tune bank_marketing --on vertex --env dev --dry-run`.",
)
@contract_argument
@click.option("--trials", type=click.IntRange(min=1), help="How many settings to try; default: the contract's.")
@as_of_option
@place_options("Search on this machine, or as a hyperparameter tuning job on Vertex AI.")
@environment_options
@json_option
def command(
    contract: str,
    trials: int | None,
    as_of: datetime | None,
    place: str,
    dry_run: bool,
    env: str,
    root: Path | None,
    as_json: bool,
) -> None:
    """Search the parameters of CONTRACT on its due rows.

    Nothing is changed: the best setting is shown as a diff of the contract. A search that was stopped goes on
    where it was. On Vertex AI it needs the snapshot of the same as-of, and the trials' figures are shown there.
    """
    if place == "vertex":
        from pipeline.cli.output import show_json

        show_json(_on_vertex(contract, env, as_of, trials, dry_run))
        return
    if dry_run:
        raise click.UsageError("--dry-run goes with --on vertex")
    _search_here(contract, trials, as_of, env, root, as_json)


def _search_here(
    contract: str, trials: int | None, as_of: datetime | None, env: str, root: Path | None, as_json: bool
) -> None:
    from caudal.backends import open_storage, open_warehouse
    from caudal.identity import floor_to
    from caudal.storage import join
    from caudal.tables import contract_tables
    from caudal.tracking import Tracking
    from pipeline.cli.output import show_json
    from pipeline.project import find_contract, find_environment
    from trainer.search import best, metric_name, run_search, study_id
    from trainer.snapshot import take_snapshot

    found = find_contract(contract)
    environment = find_environment(env, root)
    storage, warehouse = open_storage(environment), open_warehouse(environment)
    moment = as_of or floor_to(datetime.now(UTC), environment.schedule.every)
    with warehouse:
        warehouse.ensure_tables(contract_tables(found))
        taken = take_snapshot(
            found, environment, storage, warehouse, as_of=moment, attempt="tune", unseen_after=None
        )
    study = study_id(found, taken)
    metric = metric_name(found)
    tracking = Tracking.of(environment)

    def after_each(trial: Trial) -> None:
        tracking.record(
            f"{found.name}/tune",
            f"{study} {trial.number}",
            name=f"trial {trial.number}",
            at=moment,
            parameters=trial.values,
            metrics={metric: trial.value, **{f"fold_{i}_{metric}": v for i, v in enumerate(trial.folds)}},
            tags={"study": study, "snapshot": taken.id},
        )
        if not as_json:
            said = ", ".join(f"{name} {_short(value)}" for name, value in trial.values.items())
            click.echo(f"trial {trial.number:3d}  {metric} {trial.value:.4f}  {said}")

    uri = join(environment.places.artifacts, "tuning", found.name, study)
    done = run_search(found, taken, storage, uri, trials, after_each)
    chosen = best(found, done)
    edit = proposal(found, chosen)
    if as_json:
        show_json(
            {
                "study": study,
                "snapshot": taken.id,
                "metric": metric,
                "trials": [trial.to_json() for trial in done],
                "best": chosen.number,
                "diff": edit,
            }
        )
    elif chosen.number == 0:
        click.echo(f"\nThe contract's own parameters are the best of {len(done)}: {metric} {chosen.value:.4f}.")
    else:
        click.echo(
            f"\nTrial {chosen.number} is the best of {len(done)}: {metric} {chosen.value:.4f}, "
            f"the contract's own {done[0].value:.4f}. A proposal, not yet written:\n\n{edit}"
        )


def _on_vertex(
    contract: str, env: str, as_of: datetime | None, trials: int | None, dry_run: bool
) -> dict[str, Any]:
    """The request, or Vertex AI's answer to it."""
    from pipeline.cli.vertex import job_place
    from trainer.vertex import tuning_job

    place = job_place(contract, env, as_of)
    arguments = place.arguments("trial", place.config)
    body = tuning_job(f"{place.name}-tune", place.contract, arguments, place.settings("tune"), trials=trials)
    if dry_run:
        return {"parent": place.parent, "hyperparameterTuningJob": body}

    from caudal.backends import open_storage
    from caudal.errors import NotFound
    from caudal.storage import join
    from pipeline.runs import publish_config

    storage = open_storage(place.deployment.environment)
    if not storage.exists(join(place.run, "snapshot.json")):
        mend = "name the as-of of a run that trained: `caudal runs list` tells them"
        raise NotFound("there is no snapshot to search on", where=place.run, mend=mend)
    # The space that is searched is the contract's as it is here, whatever the run itself was given.
    publish_config(storage, place.contract, place.deployment.environment)

    import json

    from google.cloud.aiplatform_v1 import JobServiceClient
    from google.cloud.aiplatform_v1.types import HyperparameterTuningJob

    client = JobServiceClient(client_options={"api_endpoint": place.endpoint})
    job = HyperparameterTuningJob.from_json(json.dumps(body))
    created = client.create_hyperparameter_tuning_job(parent=place.parent, hyperparameter_tuning_job=job)
    return {"hyperparameter_tuning_job": created.name, "state": created.state.name}


def proposal(contract: Contract, trial: Trial) -> str:
    """The edit of the contract that a trial proposes, as a diff; empty for trial 0."""
    from pipeline.contract_edit import as_diff, with_values
    from trainer.search import own_values

    own = own_values(contract)
    changed = {name: value for name, value in trial.values.items() if value != own[name]}
    if not changed:
        return ""
    after = with_values(contract.text, ("model", "parameters"), changed)
    return as_diff(contract.text, after, f"contracts/{contract.name}.yaml")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
