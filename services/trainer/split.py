"""Which rows of a snapshot a candidate learns, which judge it, and which its refit learns. All by time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caudal.contract import Contract

TOO_FEW_ROWS = "too_few_rows"


@dataclass(frozen=True)
class Split:
    """Positions in the snapshot, which lies in the order (event time, key).

    Attributes:
        learn: the rows that the judged candidate learns.
        judge: the rows after them, which neither it nor the champion has learned.
        refit: the rows that the refit learns.
    """

    learn: tuple[int, int]
    judge: tuple[int, int]
    refit: tuple[int, int]

    def to_json(self) -> dict[str, list[int]]:
        return {"learn": list(self.learn), "judge": list(self.judge), "refit": list(self.refit)}

    @staticmethod
    def from_json(value: dict[str, list[int]]) -> Split:
        parts = {name: (bounds[0], bounds[1]) for name, bounds in value.items()}
        return Split(parts["learn"], parts["judge"], parts["refit"])


@dataclass(frozen=True)
class TooFew:
    """Why no candidate can be trained and judged, which is no fault of any model."""

    what: str
    rows: int
    needed: int

    def __str__(self) -> str:
        return f"{self.rows} {self.what}, and {self.needed} are needed"


def split(contract: Contract, event_times: NDArray[Any], seen_until: datetime | None) -> Split | TooFew:
    """Splits a snapshot.

    The rows that no champion has learned are those with a later event than all that it learned (all rows without
    a champion). Their most recent `judge_share`, and at least `gate.minimum_rows`, judge; the candidate learns the
    others and what lies before them. A row that arrived late, with an event that the champion's training covers,
    is learned but never judges.

    Args:
        event_times: the rows' instants in order, datetime64 in UTC.
        seen_until: the last event time that the champion learned.
    """
    train_on, minimum = contract.model.train_on, contract.gate.minimum_rows
    rows = len(event_times)
    latest = rows if train_on.latest is None else train_on.latest
    if seen_until is None:
        first_unseen = max(0, rows - latest)
        if rows < train_on.rows_for_first:
            return TooFew("due rows for a first model", rows, train_on.rows_for_first)
    else:
        moment = np.datetime64(seen_until.astimezone(UTC).replace(tzinfo=None))
        first_unseen = int(np.searchsorted(event_times, moment, side="right"))
    unseen = rows - first_unseen
    if unseen < minimum:
        return TooFew("due rows that no champion has learned", unseen, minimum)
    judge = rows - max(minimum, int(unseen * train_on.judge_share))
    learn = max(0, judge - latest)
    if judge - learn < train_on.minimum:
        return TooFew("rows to learn before those that judge", judge - learn, train_on.minimum)
    return Split((learn, judge), (judge, rows), (max(0, rows - latest), rows))
