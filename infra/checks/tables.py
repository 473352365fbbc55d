"""Refuses a plan that would lose or forbid rows: `terraform show -json plan.bin | python -m infra.checks.tables`.

Tables follow their contracts, and only grow: a new column that may be empty is added in place. Anything else
either fails in BigQuery or makes Terraform put an empty table in the place of a full one. What is there is read
from the plan itself, so it is what is deployed and not what somebody believes to be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from caudal.errors import Problem, ProblemsFound

TABLE = "google_bigquery_table"


class TablesRefused(ProblemsFound):
    """A plan would lose or forbid rows; each problem names the backfill."""


def problems_of(plan: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the tables of a plan, as `terraform show -json` writes it."""
    found = []
    for change in plan.get("resource_changes", []):
        if change["type"] != TABLE or not change["change"].get("before"):
            continue
        before, after = change["change"]["before"], change["change"].get("after")
        name = f"{before['dataset_id']}.{before['table_id']}"
        if after is None:
            mend = "keep the contract's file, or copy the table elsewhere and destroy it by hand"
            found.append(Problem(name, "the table would be deleted with its rows", mend))
        else:
            found += _of_table(name, before, after)
    return found


def _of_table(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Problem]:
    old, new = _columns(before), _columns(after)
    for column, was in old.items():
        becomes = new.get(column)
        if becomes is None:
            mend = f"keep '{column}' in the contract; a column that is no longer filled may stay empty"
            yield Problem(name, f"the column '{column}' would be dropped", mend)
        elif was["type"] != becomes["type"]:
            sql_type = _SQL.get(becomes["type"], becomes["type"])
            yield Problem(
                name,
                f"the column '{column}' is {was['type']} and would be {becomes['type']}",
                f"add '{column}_2' to the contract beside it, deploy, and backfill it: "
                f"UPDATE `{name}` SET {column}_2 = SAFE_CAST({column} AS {sql_type}) "
                "WHERE TRUE",
            )
        elif becomes["mode"] != was["mode"] and becomes["mode"] != "NULLABLE":
            mend = "leave it optional here; the warehouse's checks can refuse rows without it"
            yield Problem(name, f"the column '{column}' would become {becomes['mode']}", mend)
    for column, becomes in new.items():
        if column not in old and becomes["mode"] == "REQUIRED":
            yield Problem(
                name,
                f"the new column '{column}' is required, and the rows that are there have none",
                f"make it optional, deploy, and backfill it: UPDATE `{name}` SET {column} = VALUE "
                f"WHERE {column} IS NULL",
            )
    if _partition(before) != _partition(after):
        mend = f"keep it, or load the data under another contract and retire `{name}`"
        yield Problem(
            name, f"its partitioning would change from {_partition(before)} to {_partition(after)}", mend
        )


# BigQuery's API and its SQL spell some types differently.
_SQL = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


def _columns(table: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    columns = json.loads(table.get("schema") or "[]")
    return {column["name"]: {"mode": "NULLABLE", **column} for column in columns}


def _partition(table: Mapping[str, Any]) -> str:
    partitioning = table.get("time_partitioning") or []
    return str(partitioning[0].get("field")) if partitioning else "none"


def main() -> int:
    """Reads a plan from standard input; returns the exit status."""
    problems = problems_of(json.load(sys.stdin))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
