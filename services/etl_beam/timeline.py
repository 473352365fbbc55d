"""Rows of many entities on one line of integers, so that one sort and binary searches answer every window.

A row is placed at `entity * span + time`. Where that does not fit 64 bits, times are replaced by their rank: the
comparisons, and so the answers, are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

_ROOM = 1 << 62


class Timeline:
    """Rows sorted by entity and time.

    Args:
        entities: a number from 0 to below `count` for each row's entity.
        times: microseconds, in any order.
        count: how many entities there are, also among those that are asked for.
    """

    def __init__(self, entities: Integers, times: Integers, count: int) -> None:
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        self._before_first = first - 1
        self._span = last - first + 2
        self._ranks: Integers | None = None
        if count * self._span >= _ROOM:
            self._ranks = np.unique(times)
            self._span = len(self._ranks) + 1
        places = self._place(entities, times)
        self.order: Integers = np.argsort(places)
        self._sorted = places[self.order]

    def until(self, entities: Integers, times: Integers) -> Integers:
        """How many rows lie in order up to and with a moment of an entity: the difference of two is a window."""
        return np.searchsorted(self._sorted, self._place(entities, times), "right")

    def _place(self, entities: Integers, times: Integers) -> Integers:
        if self._ranks is not None:
            return entities * self._span + np.searchsorted(self._ranks, times, "right")
        # A moment outside of all rows' times must not reach into the next entity's part of the line.
        return entities * self._span + np.clip(times - self._before_first, 0, self._span - 1)
