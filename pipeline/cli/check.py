"""`caudal check`: a contract, and a file against it."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import contract_argument, json_option


@click.command(
    "check",
    epilog="Examples: `caudal check bank_marketing`, `caudal check bank_marketing --data FILE.csv.gz`. "
    "Exit status 2 when something is wrong.",
)
@contract_argument
@click.option(
    "--data", type=click.Path(dir_okay=False, path_type=Path), help="A file to hold against the contract."
)
@json_option
def command(contract: str, data: Path | None, as_json: bool) -> None:
    """Check CONTRACT, a name or a file; every problem is told with file, line and mend. Nothing is written."""
    from caudal.errors import ProblemsFound
    from pipeline.cli.output import show_json
    from pipeline.project import find_contract

    try:
        parsed = find_contract(contract)
        checked = None
        if data is not None:
            from pipeline.data_check import check_data

            checked = check_data(parsed, data)
    except ProblemsFound as error:
        if as_json:
            show_json({"ok": False, "problems": [vars(problem) for problem in error.problems]})
            raise SystemExit(error.exit_status) from error
        raise
    if as_json:
        show_json({"ok": True, "contract": parsed.name, "digest": parsed.digest(),
                   "data": vars(checked) if checked else None})  # fmt: skip
        return
    features = len(parsed.model_features())
    click.echo(f"{parsed.name}: the contract is sound ({len(parsed.columns)} columns, {features} features)")
    if checked is not None and data is not None:
        broken = f", {checked.broken:,} broken lines would be quarantined" if checked.broken else ""
        click.echo(f"{data.name}: {checked.rows:,} rows fit it{broken}")
