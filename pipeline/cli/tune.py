"""`caudal tune`: a search for parameters that ends in a proposed edit of the contract."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import as_of_option, contract_argument, environment_options, json_option

if TYPE_CHECKING:
    from caudal.contract import Contract
    from trainer.search import Trial


@click.command(
    "tune", epilog="Examples: `caudal tune bank_marketing`, `caudal tune bank_marketing --trials 5 --json`."
)
@contract_argument
@click.option("--trials", type=click.IntRange(min=1), help="How many settings to try; default: the contract's.")
@as_of_option
@environment_options
@json_option
def command(
    contract: str, trials: int | None, as_of: datetime | None, env: str, root: Path | None, as_json: bool
) -> None:
    """Search the parameters of CONTRACT on its due rows.

    Nothing is changed: the best setting is shown as a diff of the contract. A search that was stopped goes on
    where it was.
    """
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
