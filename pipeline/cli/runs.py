"""`caudal runs`: what ran, and what became of it."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import contract_argument, environment_options, json_option


@click.group("runs", epilog="Example: `caudal runs list bank_marketing`.")
def command() -> None:
    """List runs, or show what became of one."""


@command.command("list", epilog="Example: `caudal runs list bank_marketing`.")
@contract_argument
@environment_options
@json_option
def list_(contract: str, env: str, root: Path | None, as_json: bool) -> None:
    """List the runs of CONTRACT, oldest first."""
    from caudal.backends import open_storage
    from caudal.identity import format_instant
    from pipeline.cli.output import show_json, show_table
    from pipeline.project import find_contract, find_environment
    from pipeline.runs import list_runs

    environment = find_environment(env, root)
    found = list_runs(open_storage(environment), environment, find_contract(contract).name)
    if as_json:
        show_json(
            [{**run.to_json(), "status": record.status if record else "unfinished"} for run, record in found]
        )
        return
    if not found:
        click.echo(f"no run of {contract} yet: call `caudal run {contract}`")
        return
    rows = []
    for run, record in found:
        results = record.results if record else {}
        rows.append(
            (
                run.id,
                format_instant(run.as_of)[:16],
                record.status if record else "unfinished",
                results.get("ingest", {}).get("rows"),
                results.get("score", {}).get("rows"),
                len(results.get("inputs", {}).get("alarms", ()))
                + len(results.get("outcomes", {}).get("alarms", ())),
                results.get("promote", {}).get("version"),
            )
        )
    show_table(
        ("run", "as of", "status", "ingested", "scored", "alarms", "promoted"),
        rows,
        numbers=("ingested", "scored", "alarms"),
    )


@command.command(
    "show",
    epilog="Examples: `caudal runs show bank_marketing latest`, "
    "`caudal runs show bank_marketing 20100601T000000Z --json`.",
)
@contract_argument
@click.argument("run_id", metavar="RUN")
@environment_options
@json_option
def show(contract: str, run_id: str, env: str, root: Path | None, as_json: bool) -> None:
    """Show what became of one RUN of CONTRACT (the last one: `latest`)."""
    from caudal.backends import open_storage
    from caudal.errors import NotFound
    from pipeline.cli.output import show_json, show_table
    from pipeline.cli.run import brief
    from pipeline.project import find_contract, find_environment
    from pipeline.runs import list_runs

    environment = find_environment(env, root)
    found = list_runs(open_storage(environment), environment, find_contract(contract).name)
    chosen = found[-1:] if run_id == "latest" else [pair for pair in found if pair[0].id == run_id]
    if not chosen:
        raise NotFound(f"there is no run '{run_id}'", where=contract, mend=f"see `caudal runs list {contract}`")
    run, record = chosen[0]
    if as_json:
        show_json(record.to_json() if record else {"run": run.to_json(), "status": "unfinished"})
        return
    click.echo(f"run {run.id} of {run.contract}: {record.status if record else 'unfinished'} ({run.reason})")
    if record:
        show_table(
            ("step", "status", "attempts", "seconds", "result"),
            [
                (
                    name,
                    step.status,
                    step.attempts,
                    f"{step.seconds:.2f}",
                    step.error or brief(record.results.get(name, {})),
                )
                for name, step in record.steps.items()
            ],
            numbers=("attempts", "seconds"),
        )
        for name, step in record.steps.items():
            if step.trace:
                click.echo(f"\nwhere '{name}' failed:\n{step.trace}")
