"""`caudal serve`: the server of a contract, on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import contract_argument, environment_options


@click.command("serve", epilog="Example: `caudal serve bank_marketing --port 8080`, then http://127.0.0.1:8080.")
@contract_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@environment_options
def command(contract: str, host: str, port: int, env: str, root: Path | None) -> None:
    """Serve the live model of CONTRACT: a page, an API, and metrics. Ctrl-C ends it."""
    from caudal.backends import open_storage
    from caudal.promotions import Promotions
    from pipeline.project import find_contract, find_environment
    from serving.server import bind, serve

    found = find_contract(contract)
    environment = find_environment(env, root)
    storage = open_storage(environment)
    socket = bind(host, port)
    click.echo(f"{found.name}: http://{host}:{socket.getsockname()[1]} (Ctrl-C ends it)", err=True)
    click.echo(f"predictions: {environment.serving.prediction_log}", err=True)
    if Promotions(storage, environment.ledger(found.name, "promotions")).head() is None:
        click.echo(f"no model is live yet: `caudal run {found.name}` makes one; the server waits for it", err=True)
    serve(found, environment, storage, socket)
