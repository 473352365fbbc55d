"""How commands speak: tables for people, JSON for machines, errors with a mend."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from caudal.errors import CaudalError


def console(*, stderr: bool = False) -> Console:
    """A console that leaves colours out where they can't be shown or are not wanted (NO_COLOR)."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def show_json(value: object) -> None:
    """Prints a value as JSON."""
    click.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str))


def show_error(error: CaudalError) -> None:
    """Prints an error to standard error."""
    coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    click.secho("error: ", err=True, nl=False, fg="red" if coloured else None, bold=coloured)
    click.echo(str(error), err=True)


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, numbers: Sequence[str] = ()
) -> None:
    """Prints a table that fits the screen; columns named in `numbers` are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console().print(table)
