"""Options that many commands share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click


class Instant(click.ParamType[datetime]):
    """A date or an ISO instant; a naive one is UTC."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        from caudal.identity import parse_instant

        if isinstance(value, datetime):
            return value
        try:
            return parse_instant(value)
        except (ValueError, OverflowError):
            self.fail(
                f"'{value}' is not a date or an instant such as 2010-06-01 or 2010-06-01T06:00:00Z", param, ctx
            )


def environment_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--env` and `--root`."""
    root = click.option(
        "--root",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="CAUDAL_ROOT",
        help="The folder of a local environment, instead of the one that its file names.",
    )
    name = click.option("--env", default="local", show_default=True, envvar="CAUDAL_ENV", help="The environment.")
    return name(root(function))


def place_options(on: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--on`, with its help, and `--dry-run`."""
    place = click.option(
        "--on", "place", type=click.Choice(["here", "vertex"]), default="here", show_default=True, help=on
    )
    dry_run = click.option(
        "--dry-run", is_flag=True, help="With --on vertex: print the request, and send nothing."
    )
    return lambda function: place(dry_run(function))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
contract_argument = click.argument("contract", metavar="CONTRACT")
as_of_option = click.option(
    "--as-of", type=Instant(), help="The instant to look from; default: now, floored to the schedule."
)
