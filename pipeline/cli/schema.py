"""`caudal schema`: the tables of a contract."""

from __future__ import annotations

import click

from pipeline.cli.options import contract_argument


@click.command("schema", epilog="Example: `caudal schema bank_marketing --table lake`.")
@contract_argument
@click.option("--table", help="Only this table, by its full name or its data set.")
@click.option("--json", is_flag=True, expose_value=False, help="Print JSON for machines; so it does without, too.")
def command(contract: str, table: str | None) -> None:
    """Print the tables of CONTRACT as JSON, with the schemas that BigQuery's API takes."""
    from caudal.errors import NotFound
    from caudal.tables import contract_tables
    from pipeline.cli.output import show_json
    from pipeline.project import find_contract

    tables = contract_tables(find_contract(contract))
    chosen = [t for t in tables if table in (None, t.sql_name, t.dataset)]
    if not chosen:
        raise NotFound(f"there is no table '{table}'", mend=f"choose of {', '.join(t.sql_name for t in tables)}")
    show_json(
        {
            t.sql_name: {
                "schema": t.bigquery_schema(),
                "time_partitioning": {"type": "DAY", "field": t.partition_by} if t.partition_by else None,
                "clustering": list(t.cluster_by),
            }
            for t in chosen
        }
    )
