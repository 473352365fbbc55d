"""What came of the answers that were given: the champion's arm beside the challenger's.

A key is answered by one of them, always the same, by a share that each line states. So the arms are two samples
that chance has drawn, and their rows are weighted by the chance with which they fell where they did (`contrast`).
A key counts once, with the first answer that it got during the trial. Lines from before a server knew the
challenger have no share, and belong to neither arm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caudal.event_time import happened_by
from caudal.sql import quoted
from caudal.tables import served_table, warehouse_table
from monitor.losses import exact_sum
from monitor.sequential import Arm, Sums, contrast

if TYPE_CHECKING:
    from caudal.promotions import Promotion
    from caudal.step import StepContext
    from monitor.losses import Loss

_NOBODY = Arm(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LiveArm:
    """One arm.

    Attributes:
        answered: keys that were answered.
        losses: of those of them whose labels are due.
        positives: how many of those labels are positive; None for tasks without a positive label.
    """

    answered: int = 0
    losses: Arm = _NOBODY
    positives: int | None = None

    @property
    def positive_rate(self) -> float | None:
        rows = self.losses.rows
        return self.positives / rows if self.positives is not None and rows else None

    @property
    def rarer(self) -> int | None:
        """How many of those labels are of the rarer class; None for tasks without a positive label."""
        return None if self.positives is None else min(self.positives, self.losses.rows - self.positives)

    def to_json(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "rows": self.losses.rows,
            "loss": self.losses.mean if self.losses.rows else None,
            "positive_rate": self.positive_rate,
        }


@dataclass(frozen=True)
class LiveArms:
    """Both arms.

    Attributes:
        largest: no loss is above it.
    """

    champion: LiveArm
    challenger: LiveArm
    largest: float = math.inf

    @property
    def fewest(self) -> int:
        """The smaller arm's rows: what is held against the fewest rows that decide."""
        return min(self.champion.losses.rows, self.challenger.losses.rows)

    @property
    def rarer(self) -> int | None:
        """The smaller of both arms' numbers of labels of the rarer class."""
        first, second = self.champion.rarer, self.challenger.rarer
        return None if first is None or second is None else min(first, second)

    def advantage(self, margin: float) -> Sums:
        """Of (1 + margin) x the champion's mean loss - the challenger's."""
        return contrast(self.champion.losses, self.challenger.losses, 1 + margin, self.largest)

    def to_json(self) -> dict[str, Any]:
        return {"champion": self.champion.to_json(), "challenger": self.challenger.to_json()}


def live_arms(context: StepContext, loss: Loss, champion: Promotion, challenger: Promotion) -> LiveArms | None:
    """The arms at this run's as-of; None while the challenger has answered nobody."""
    contract = context.contract
    due_at = context.run.as_of - contract.label.due_after
    due, due_parameters = happened_by(contract, due_at, "label_due")
    answered = (
        "SELECT key, event_time, score, prediction, arm, "
        "CASE WHEN arm = 'challenger' THEN share ELSE 1 - share END AS p "
        f"FROM {served_table(contract).sql_name} "
        "WHERE challenger = @challenger AND as_of > @since AND as_of <= @as_of AND event_time > @since "
        # With every key at the challenger, or none, chance decides nothing.
        "AND share > 0 AND share < 1 "
        "AND model_version = CASE WHEN arm = 'challenger' THEN @challenger ELSE @champion END "
        "AND arm IN ('champion', 'challenger') "
        "QUALIFY ROW_NUMBER() OVER (PARTITION BY key ORDER BY event_time, `at`, id) = 1"
    )
    judged = (
        f"SELECT n.key, n.p, {loss.sql('n.score', 'n.prediction')} AS x, "
        f"{loss.positive} AS y "
        f"FROM answered AS n JOIN {warehouse_table(contract).sql_name} AS w ON w.{quoted(contract.key)} = n.key "
        f"WHERE w._first_as_of > @since AND {loss.label} IS NOT NULL AND n.event_time <= @due AND {due}"
    )
    weighed = (
        "SELECT n.arm, j.y, SAFE_DIVIDE(1, j.p) AS v, SAFE_DIVIDE(j.x, j.p) AS u "
        "FROM answered AS n LEFT JOIN judged AS j ON j.key = n.key"
    )
    sums = {"v": "v", "u": "u", "vv": "v * v", "uv": "u * v", "uu": "u * u"}
    answer = context.warehouse.query(
        f"WITH answered AS ({answered}), judged AS ({judged}), weighed AS ({weighed}) "
        "SELECT arm, COUNT(*) AS answered, COUNT(v) AS n, COUNTIF(y = 1) AS positives, MAX(v) AS heaviest, "
        f"{', '.join(exact_sum(what, name) for name, what in sums.items())} FROM weighed GROUP BY arm",
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
    arms = {
        row["arm"]: LiveArm(
            int(row["answered"]),
            Arm(int(row["n"]), *_in_units(row, sums, loss.unit), float(row["heaviest"] or 0.0)),
            int(row["positives"]) if contract.task == "binary" else None,
        )
        for row in answer.to_pylist()
    }
    if "challenger" not in arms:
        return None
    nobody = LiveArm(positives=0 if contract.task == "binary" else None)
    return LiveArms(arms.get("champion", nobody), arms["challenger"], loss.largest)


def _in_units(
    row: Mapping[str, Any], sums: Iterable[str], unit: float
) -> tuple[float, float, float, float, float]:
    """The sums of a row, of which those of losses, `u`, are in the label's own unit again."""
    v, u, vv, uv, uu = (float(row[name] or 0.0) * unit ** name.count("u") for name in sums)
    return v, u, vv, uv, uu
