"""Both models' losses on the same rows: scores of batches, and what a challenger said in the shadow of an answer.

While a trial lasts both score every row that arrives, and servers let the challenger score what the champion
answers. A key that has both kinds of pairs counts with what was served. The warehouse sums the losses; one row
leaves it, however many were compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caudal.event_time import happened_by
from caudal.sql import quoted
from caudal.tables import predictions_table, served_table, shadow_table, warehouse_table
from monitor.losses import exact_sum
from monitor.sequential import Sums

if TYPE_CHECKING:
    from caudal.promotions import Promotion
    from caudal.step import StepContext
    from monitor.losses import Loss


@dataclass(frozen=True)
class Paired:
    """Sums over the rows that both models scored and whose labels are due.

    Attributes:
        champion, challenger: sums of losses.
        champion_squares, challenger_squares, products: sums of their squares and of their products.
        served: how many of the rows were scored by a server.
        positives: how many of the labels are positive; None for tasks without a positive label.
        largest: no loss is above it.
    """

    rows: int
    champion: float
    challenger: float
    champion_squares: float
    challenger_squares: float
    products: float
    served: int = 0
    positives: int | None = None
    largest: float = math.inf

    @property
    def fewest(self) -> int:
        """What is held against the fewest rows that decide."""
        return self.rows

    @property
    def rarer(self) -> int | None:
        """How many labels are of the rarer class; None for tasks without a positive label."""
        return None if self.positives is None else min(self.positives, self.rows - self.positives)

    @property
    def champion_mean(self) -> float:
        return self.champion / max(self.rows, 1)

    @property
    def challenger_mean(self) -> float:
        return self.challenger / max(self.rows, 1)

    def advantage(self, margin: float) -> Sums:
        """Of (1 + margin) x the champion's loss - the challenger's, row by row."""
        weight = 1 + margin
        squares = weight**2 * self.champion_squares - 2 * weight * self.products + self.challenger_squares
        return Sums(
            self.rows,
            weight * self.champion - self.challenger,
            max(squares, 0.0),
            -self.largest,
            weight * self.largest,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "served_rows": self.served,
            "positives": self.positives,
            "champion_loss": self.champion_mean,
            "challenger_loss": self.challenger_mean,
        }


def paired_losses(context: StepContext, loss: Loss, champion: Promotion, challenger: Promotion) -> Paired:
    """The losses at this run's as-of, of rows that arrived since the challenger is on trial."""
    contract = context.contract
    predictions, shadow, served = predictions_table(contract), shadow_table(contract), served_table(contract)
    due_at = context.run.as_of - contract.label.due_after
    due, due_parameters = happened_by(contract, due_at, "label_due")
    batch = (
        "SELECT p.key, p.score AS a, p.prediction AS a_said, s.score AS b, s.prediction AS b_said, 0 AS served "
        f"FROM {predictions.sql_name} AS p JOIN {shadow.sql_name} AS s ON s.key = p.key "
        "WHERE p.model_version = @champion AND s.model_version = @challenger AND p.event_time <= @due"
    )
    # Both lines of one request have its event time.
    shadowed = (
        "SELECT c.key, c.score AS a, c.prediction AS a_said, s.score AS b, s.prediction AS b_said, 1 AS served "
        f"FROM {served.sql_name} AS c JOIN {served.sql_name} AS s "
        "ON s.key = c.key AND s.event_time = c.event_time "
        "WHERE c.arm = 'champion' AND s.arm = 'shadow' AND c.challenger = @challenger "
        "AND c.model_version = @champion AND s.model_version = @challenger "
        "AND c.as_of > @since AND c.as_of <= @as_of AND s.as_of > @since AND s.as_of <= @as_of "
        "AND c.event_time > @since AND c.event_time <= @due "
        "QUALIFY ROW_NUMBER() OVER (PARTITION BY c.key ORDER BY c.event_time, c.`at`, c.id, s.`at`, s.id) = 1"
    )
    compared = (
        f"SELECT n.served, {loss.sql('n.a', 'n.a_said')} AS a, {loss.sql('n.b', 'n.b_said')} AS b, "
        f"{loss.positive} AS y "
        f"FROM pairs AS n JOIN {warehouse_table(contract).sql_name} AS w ON w.{quoted(contract.key)} = n.key "
        f"WHERE w._first_as_of > @since AND {loss.label} IS NOT NULL AND {due}"
    )
    sums = {"a": "a", "b": "b", "aa": "a * a", "bb": "b * b", "ab": "a * b"}
    answer = context.warehouse.query(
        f"WITH batch AS ({batch}), shadowed AS ({shadowed}), "
        "found AS (SELECT * FROM batch UNION ALL SELECT * FROM shadowed), "
        "pairs AS (SELECT * FROM found WHERE TRUE "
        "QUALIFY ROW_NUMBER() OVER (PARTITION BY key ORDER BY served DESC) = 1), "
        f"compared AS ({compared}) "
        "SELECT COUNT(*) AS n, COUNTIF(served = 1) AS served, COUNTIF(y = 1) AS positives, "
        f"{', '.join(exact_sum(what, name) for name, what in sums.items())} FROM compared",
        {
            **loss.parameters,
            **due_parameters,
            "champion": champion.version,
            "challenger": challenger.version,
            "due": due_at,
            "since": challenger.as_of,
            "as_of": context.run.as_of,
        },
    )
    (values,) = answer.to_pylist()
    a, b, aa, bb, ab = (float(values[name] or 0.0) * loss.unit ** len(name) for name in sums)
    positives = int(values["positives"]) if contract.task == "binary" else None
    return Paired(int(values["n"]), a, b, aa, bb, ab, int(values["served"]), positives, loss.largest)
