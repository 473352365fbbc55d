"""`caudal plan` and `caudal apply`: what a deployment would change, and the deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import json_option

if TYPE_CHECKING:
    from infra.environments import Deployment
    from pipeline.release.stacks import Stacks

_environment = click.option("--env", required=True, envvar="CAUDAL_ENV", help="A cloud environment, such as dev.")


def _stacks(env: str) -> tuple[Stacks, Deployment]:
    from infra.environments import load_deployment
    from infra.main import synthesize
    from pipeline.project import project_root
    from pipeline.release.stacks import Stacks

    root = project_root()
    output = root / "cdktf.out" / env
    deployment = load_deployment(env, root)
    synthesize(deployment, output)
    return Stacks(output), deployment


@click.command("plan", epilog="Examples: `caudal plan --env dev`, `caudal plan --env dev --markdown plan.md`.")
@_environment
@click.option(
    "--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the changes for a comment."
)
@click.option("--fail-on-changes", is_flag=True, help="Exit with status 3 when anything would change.")
@json_option
def plan_command(env: str, markdown: Path | None, fail_on_changes: bool, as_json: bool) -> None:
    """Synthesize every stack and tell what terraform would change; nothing is changed.

    The plan's digest, for `caudal apply --expect`, is told with it.
    """
    from pipeline.cli.output import show_json
    from pipeline.release.stacks import as_markdown, plan_digest

    changes = _stacks(env)[0].plan()
    if markdown is not None:
        markdown.write_text(as_markdown(env, changes), encoding="utf-8")
    if as_json:
        show_json({"digest": plan_digest(changes), "changes": [vars(change) for change in changes]})
    else:
        for change in changes:
            click.echo(f"{change.stack}: {change}")
        click.echo(f"{len(changes)} changes, plan {plan_digest(changes)}")
    if fail_on_changes and changes:
        raise SystemExit(3)


@click.command(
    "apply", epilog="Example: `caudal apply --env dev --expect DIGEST`, with the digest of `caudal plan`."
)
@_environment
@click.option("--expect", metavar="DIGEST", help="Apply only if the plan still is this one.")
@json_option
def apply_command(env: str, expect: str | None, as_json: bool) -> None:
    """Plan again, and apply exactly what was planned, stack by stack.

    Units start from published configuration, so contracts and the environment are published before.
    """
    from caudal.backends import open_storage
    from pipeline.cli.output import show_json
    from pipeline.release.stacks import check_expected, plan_digest
    from pipeline.runs import publish_config

    stacks, deployment = _stacks(env)
    changes = stacks.plan()
    if expect is not None:
        check_expected(changes, expect)
    if deployment.release is not None:
        for contract in deployment.contracts:
            publish_config(open_storage(deployment.environment), contract, deployment.environment)
    applied = []
    for name in stacks.apply():
        applied.append(name)
        if not as_json:
            click.echo(f"{name}: applied")
    if as_json:
        show_json({"digest": plan_digest(changes), "applied": applied})
