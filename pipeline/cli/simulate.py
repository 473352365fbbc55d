"""`caudal simulate`: landed files of a simulated data set, any number of rows."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import json_option

if TYPE_CHECKING:
    from data.wallet.files import LandedFile
    from data.wallet.simulator import Simulation

_INJECT = """A lasting change from a day (counted from 0) on: KIND@DAY or KIND@DAY:STRENGTH. Kinds: amounts
(all grow, by 2), fraud (a kind that was not there before), merchants (half of all move to a few terminals)."""
_DIRT = """A defect: KIND or KIND=SHARE. Kinds: nulls, types, range, duplicates, late, unknown (a column that the
contract does not know), all."""


@click.command(
    "simulate", epilog="Example: `caudal simulate wallet --rows 100000 --out landing/wallet --dirt all`."
)
@click.argument("name", metavar="NAME", type=click.Choice(["wallet"]))
@click.option(
    "--rows", type=click.IntRange(min=1), default=1_750_000, show_default=True, help="About how many rows."
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where the files land.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="How files are written.",
)
@click.option(
    "--every",
    type=click.Choice(["day", "week"]),
    default="day",
    show_default=True,
    help="How much of the time one file holds.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other rows.")
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2018-04-01",
    show_default=True,
    metavar="DATE",
    help="The first day.",
)
@click.option(
    "--days",
    type=click.IntRange(min=1, max=36_500),
    help="How many days. Default: 183, or fewer below about 35,000 rows.",
)
@click.option("--inject", multiple=True, metavar="KIND@DAY", help=_INJECT)
@click.option("--dirt", multiple=True, metavar="KIND", help=_DIRT)
@json_option
def command(
    name: str,
    rows: int,
    folder: Path,
    file_format: str,
    every: str,
    seed: int,
    start: datetime,
    days: int | None,
    inject: tuple[str, ...],
    dirt: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write the simulated data set NAME as files that land day by day.

    Customers and terminals grow with the number of rows; the days and the share of fraud stay. Equal options give
    equal files. A file's time of change is the moment at which it would have landed.
    """
    from data.wallet.dirt import Dirt
    from data.wallet.files import write_files
    from data.wallet.simulator import Injection, Simulation

    try:
        injections = tuple(Injection.parse(text) for text in inject)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--inject") from error
    try:
        # The last word on a kind holds.
        defects = tuple({d.kind: d for text in dirt for d in Dirt.parse(text)}.values())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--dirt") from error
    simulation = Simulation(rows, seed, start.date(), days or 0, injections)
    for injection in injections:
        if injection.day >= simulation.days:
            raise click.BadParameter(
                f"day {injection.day} is after the last day, {simulation.days - 1}", param_hint="--inject"
            )
    every_days = 7 if every == "week" else 1
    written = write_files(simulation, folder, "csv" if file_format == "csv" else "parquet", every_days, defects)
    _show(name, folder, simulation, _with_progress(written, simulation, quiet=as_json), as_json)


def _with_progress(written: Any, simulation: Simulation, *, quiet: bool) -> list[LandedFile]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipeline.cli.output import console

    files: list[LandedFile] = []
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("simulating", total=simulation.days)
        for file in written:
            files.append(file)
            progress.update(task, completed=file.days[1] + 1)
    return files


def _show(name: str, folder: Path, simulation: Simulation, files: list[LandedFile], as_json: bool) -> None:
    from datetime import timedelta

    from pipeline.cli.output import show_json, show_table

    rows = sum(file.rows for file in files)
    said: dict[str, Any] = {
        "name": name,
        "folder": str(folder),
        "seed": simulation.seed,
        "first_day": simulation.start.isoformat(),
        "last_day": (simulation.start + timedelta(days=simulation.days - 1)).isoformat(),
        "days": simulation.days,
        "customers": simulation.population.customers,
        "terminals": simulation.population.terminals,
        "rows": rows,
        "frauds": sum(file.frauds for file in files),
        "files": len(files),
        "bytes": sum(file.size for file in files),
    }
    if as_json:
        show_json(said)
        return
    show_table(
        ("", name),
        [
            ("rows", f"{rows:,}"),
            ("fraud", f"{said['frauds']:,} ({said['frauds'] / max(rows, 1):.2%})"),
            ("days", f"{simulation.days} ({said['first_day']} to {said['last_day']})"),
            ("customers", f"{said['customers']:,}"),
            ("terminals", f"{said['terminals']:,}"),
            ("files", f"{len(files):,} ({said['bytes'] / 1e6:,.1f} MB) in {folder}"),
        ],
        numbers=(),
    )
