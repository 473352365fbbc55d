"""`caudal report`: what the runs of an environment amounted to, as one page."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import contract_argument, environment_options, json_option


@click.command(
    "report",
    epilog="Examples: `caudal report bank_marketing`, `caudal report bank_marketing --env prod --out prod.html`, "
    "`caudal report bank_marketing --root .caudal/replay/bank_marketing --json`.",
)
@contract_argument
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page's file; default: CONTRACT-report.html in the folder in which one works. With --json no page is "
    "written unless it is named.",
)
@environment_options
@json_option
def command(contract: str, out: Path | None, env: str, root: Path | None, as_json: bool) -> None:
    """Report on every run of CONTRACT that is over.

    One HTML file that opens without network, on a phone and on paper: quality on the labels that are due, alarms,
    trainings, trials and promotions, drift by feature, rows by fate and reason, run by run. The figures are kept
    in MLflow too; the same figures are one run there, however often they are reported.
    """
    from caudal.backends import open_storage, open_warehouse
    from caudal.errors import UsageError
    from caudal.storage.files import FileStorage, file_uri
    from caudal.tracking import Tracking
    from pipeline.cli.output import show_json
    from pipeline.project import find_contract, find_environment, relative
    from pipeline.report.build import environment_report
    from pipeline.report.render import render
    from pipeline.report.tracked import track

    parsed, environment = find_contract(contract), find_environment(env, root)
    page = out or (None if as_json else Path(f"{parsed.name}-report.html"))
    if page is not None and not page.absolute().parent.is_dir():
        raise UsageError("there is no such folder", where=str(page.parent), mend="make it, or name another --out")
    storage, warehouse = open_storage(environment), open_warehouse(environment)
    reported = environment_report(parsed, environment, storage, warehouse)
    if page is not None:
        FileStorage(page.parent).write(file_uri(page), render(reported.report).encode())
    track(reported, Tracking.of(environment))
    if as_json:
        show_json(reported.summary)
    elif page is not None:
        size = page.stat().st_size
        click.echo(f"{relative(page.absolute())}: {len(reported.report.runs)} runs, {size / 1000:,.0f} kB")
