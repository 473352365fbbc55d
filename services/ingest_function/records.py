"""What a reader of landed files gives: records in batches, and records that can't be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class BrokenRecord:
    """A record that can't be read.

    Attributes:
        row: its number in the file, counted from 1, the header aside.
        text: what stands there.
        reason: why it can't be read.
    """

    row: int
    text: str
    reason: str


SetAside = Callable[[BrokenRecord], None]
"""Takes broken records as they are found, which need not be the order of their numbers."""


@dataclass(frozen=True)
class RawBatch:
    """Some records of a file.

    Attributes:
        values: one column a field of the file, as text or as the file types it.
        rows: the records' numbers in the file, counted from 1, the header aside (int64).
    """

    values: pa.RecordBatch
    rows: np.ndarray[tuple[int], np.dtype[np.int64]]
