"""What earlier runs had: when the one before this looked, and which rows have come since."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from caudal.tables import covered_table, monitoring_table

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.step import StepContext

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""Before any run."""


def previous_as_of(context: StepContext) -> datetime:
    """The as-of of the run before this one, by what it measured; the beginning of time when there was none."""
    _, latest = _runs_before(context, "outcomes")
    return latest or BEGINNING


def first_as_of(context: StepContext) -> datetime:
    """The as-of of the contract's first run, by what it measured; this one's when there was none before."""
    earliest, _ = _runs_before(context, "inputs")
    return earliest or context.run.as_of


def _runs_before(context: StepContext, step: str) -> tuple[datetime | None, datetime | None]:
    """The as-of of the first and of the last run before this one whose step measured anything."""
    answer = context.warehouse.query(
        f"SELECT MIN(as_of) AS earliest, MAX(as_of) AS latest FROM {monitoring_table().sql_name} "
        "WHERE contract = @contract AND step = @step AND as_of < @as_of",
        {"contract": context.contract.name, "step": step, "as_of": context.run.as_of},
    )
    return answer.column("earliest")[0].as_py(), answer.column("latest")[0].as_py()


def taken_after(contract: Contract, moment: datetime, table: str = "") -> tuple[str, dict[str, str | datetime]]:
    """A condition in SQL on rows of the warehouse: a run whose as-of is after the moment took their load.

    When a file landed does not tell it: a run takes files that landed after its as-of, and may take one days late.
    Only loads of which no as-of is recorded, which is to say those taken before it was, go by their landing.

    Args:
        table: the alias of the warehouse's table, where the query has one.

    Returns:
        The condition, and the parameters that it uses.
    """
    of = f"{table}." if table else ""
    loads = f"SELECT c.load_id FROM {covered_table().sql_name} AS c WHERE c.contract = @contract AND c.as_of"
    condition = (
        f"({of}_load_id IN ({loads} > @taken_after) "
        f"OR ({of}_ingested_at > @taken_after AND {of}_load_id NOT IN ({loads} IS NOT NULL)))"
    )
    return condition, {"contract": contract.name, "taken_after": moment}
