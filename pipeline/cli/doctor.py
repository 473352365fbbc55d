"""`caudal doctor`: what a deployment lacks, with mends."""

from __future__ import annotations

import click

from pipeline.cli.options import json_option

_SIGNS = {"ok": "ok", "warning": "warning", "failed": "FAILED", "unknown": "unknown"}


@click.command("doctor", epilog="Example: `caudal doctor --env dev`. Exit status 1 when a deployment would fail.")
@click.option("--env", required=True, envvar="CAUDAL_ENV", help="A cloud environment, such as dev.")
@json_option
def command(env: str, as_json: bool) -> None:
    """Look at tools, credentials, project, billing, APIs, service agents, quotas, state and images.

    Nothing is changed. Every finding that is not ok names its mend.
    """
    import infra.cdk  # noqa: F401 - before any import of CDKTF
    from infra.environments import load_deployment
    from infra.stacks import bootstrap, foundation
    from pipeline.cli.output import show_json
    from pipeline.doctor import checks
    from pipeline.doctor.google import Client
    from pipeline.project import project_root
    from pipeline.release.commands import run_quietly

    deployment = load_deployment(env, project_root())
    apis = sorted({f"{api}.googleapis.com" for api in (*bootstrap.APIS, *foundation.APIS)})
    digests = dict(deployment.release.units) if deployment.release else None
    around = checks.Surroundings(deployment.names, Client(), run_quietly, apis, digests)
    found = []
    for finding in checks.examine(around):
        found.append(finding)
        if not as_json:
            click.echo(f"{_SIGNS[finding.status]:8} {finding.check}: {finding.what}")
            if finding.mend:
                click.echo(f"{'':8}   mend: {finding.mend}")
    if as_json:
        show_json(checks.as_json(found))
    raise SystemExit(checks.worst(found))
