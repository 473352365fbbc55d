"""`caudal backfill`: predictions for what came before there was a model."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from pipeline.cli.options import as_of_option, contract_argument, environment_options, json_option


@click.command("backfill", epilog="Example: `caudal backfill bank_marketing`.")
@contract_argument
@as_of_option
@click.option("--version", help="Refuse unless this model version is the live one.")
@environment_options
@json_option
def command(
    contract: str, as_of: datetime | None, version: str | None, env: str, root: Path | None, as_json: bool
) -> None:
    """Score, with the live model, each row of CONTRACT that has no prediction.

    Those are the rows that arrived before there was any model. A prediction that was made is never made again.
    """
    from batch_scoring.step import backfill
    from caudal.backends import open_storage
    from caudal.identity import floor_to, run_id
    from caudal.step import Run, StepContext
    from caudal.tables import contract_tables
    from pipeline.cli.output import show_json
    from pipeline.project import find_contract, find_environment
    from pipeline.runs import run_lock, this_process

    found, environment = find_contract(contract), find_environment(env, root)
    moment = as_of or floor_to(datetime.now(UTC), environment.schedule.every)
    name = run_id(moment, "backfill")
    run = Run(name, found.name, moment, environment.runs(found.name, name), environment.config("none"), "backfill")
    context = StepContext(found, environment, run)
    lock = run_lock(open_storage(environment), environment, found.name)
    lock.acquire(this_process())
    try:
        with context.warehouse as warehouse:
            warehouse.ensure_tables(contract_tables(found))
            result = backfill(context, version)
    finally:
        lock.release(this_process())
    if as_json:
        show_json(result)
    else:
        click.echo(f"{result['rows']:,} rows scored by {result['model_version']}")
