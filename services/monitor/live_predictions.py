"""Which predictions tell how the champion does: those of rows that it met after it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caudal.sql import quoted
from caudal.tables import predictions_table, warehouse_table

if TYPE_CHECKING:
    from caudal.promotions import Promotion, Promotions
    from caudal.step import StepContext


@dataclass(frozen=True)
class LivePredictions:
    """What follows a SELECT in a query, up to conditions that may be added with AND; and its parameters."""

    sql: str
    parameters: dict[str, Any]


def live_predictions(context: StepContext, promotions: Promotions, champion: Promotion) -> LivePredictions:
    """The champion's own predictions, `p`, each with its row of the warehouse, `w`.

    Left out is what the champion scored as a backfill: rows that had arrived when it was trained, which it may
    have learned from.
    """
    contract = context.contract
    # A champion that was confirmed or rolled back to has more than one entry.
    lives = [e.as_of for e in promotions.history() if e.role == "champion" and e.version == champion.version]
    return LivePredictions(
        f"FROM {predictions_table(contract).sql_name} AS p JOIN {warehouse_table(contract).sql_name} AS w "
        f"ON w.{quoted(contract.key)} = p.key WHERE p.model_version = @version AND w._first_as_of > @live_since",
        {"version": champion.version, "live_since": min(lives)},
    )
