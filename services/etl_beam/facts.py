"""What the parts of a run report about themselves; summed, it is the commit and the step's result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Facts:
    """Figures and files of a part of a run, or of the whole.

    Attributes:
        read: rows of the lake's gain.
        good: those that the contract accepts.
        rejected: how many rows have each reason.
        added: keys that the warehouse gains; in a rebuild, all that it holds.
        left: keys that leave it without a successor.
        bytes_shuffled: bytes that were handed to a shuffle.
        rows, removed, rejects: URIs of staged files: rows to write, keys to remove, refused rows.
        partitions: days whose partitions change, as ISO dates.
    """

    read: int = 0
    good: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    added: int = 0
    left: int = 0
    bytes_shuffled: int = 0
    rows: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rejects: list[str] = field(default_factory=list)
    partitions: set[str] = field(default_factory=set)

    def add(self, other: Facts) -> None:
        """Takes another part's facts up."""
        self.read += other.read
        self.good += other.good
        self.rejected += other.rejected
        self.added += other.added
        self.left += other.left
        self.bytes_shuffled += other.bytes_shuffled
        self.rows += other.rows
        self.removed += other.removed
        self.rejects += other.rejects
        self.partitions |= other.partitions

    def encode(self) -> bytes:
        return json.dumps({**vars(self), "partitions": sorted(self.partitions)}).encode()

    @staticmethod
    def total(parts: Iterable[bytes]) -> Facts:
        """The sum of encoded parts; the order of files is that of their names."""
        whole = Facts()
        for part in parts:
            values = json.loads(part)
            whole.add(
                Facts(
                    **{
                        **values,
                        "rejected": Counter(values["rejected"]),
                        "partitions": set(values["partitions"]),
                    }
                )
            )
        for files in (whole.rows, whole.removed, whole.rejects):
            files.sort()
        return whole
