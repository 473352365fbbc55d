"""`caudal cost`: what a month of an environment costs, before it is deployed."""

from __future__ import annotations

import click

from pipeline.cli.options import json_option


@click.command("cost", epilog="Example: `caudal cost --env dev`.")
@click.option("--env", required=True, envvar="CAUDAL_ENV", help="A cloud environment, such as dev.")
@click.option("--markdown", is_flag=True, help="Print a table for a pull request's comment.")
@json_option
def command(env: str, markdown: bool, as_json: bool) -> None:
    """Estimate a month in USD, idle and running, from the stacks, the schedules and infra/cost/prices.yaml.

    Exits with status 1 when the estimate is above the environment's limits.
    """
    from infra.cost.report import as_json as to_json
    from infra.cost.report import as_markdown, estimate_environment
    from pipeline.cli.output import show_json, show_table
    from pipeline.project import project_root

    found = estimate_environment(env, project_root())
    if as_json:
        show_json(to_json(found))
    elif markdown:
        click.echo(as_markdown(found))
    else:
        rows = [(item.what, f"{item.idle:.2f}", f"{item.running:.2f}", item.how) for item in found.items]
        rows.append(
            ("a month in USD", f"{found.idle:.2f}", f"{found.running:.2f}", "running holds the idle month")
        )
        show_table(["", "idle", "adds", "reckoned from"], rows, numbers=["idle", "adds"], title=f"caudal {env}")
        if found.unsourced:
            click.echo("Prices without a source, to be checked against https://cloud.google.com/skus:")
            for name, why in found.unsourced.items():
                click.echo(f"  unsourced: {name} ({why})")
    for line in found.exceeded:
        click.echo(f"error: {line}", err=True)
    if found.exceeded:
        raise SystemExit(1)
