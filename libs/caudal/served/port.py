"""What every reader of served predictions does. A server writes one line a prediction (docs/serving.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

MESSAGE = "prediction"
"""What a line that is a prediction says in its field `message`."""

LINE = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("key", pa.string()),
        pa.field("event_time", pa.string()),
        pa.field("at", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("prediction", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("arm", pa.string()),
        pa.field("challenger", pa.string()),
        pa.field("share", pa.float64()),
    ]
)
"""A line's fields that are read back, as they were written; one that a line does not have is null."""


@dataclass(frozen=True)
class Part:
    """Some lines.

    Attributes:
        lines: of one contract, as `LINE` says.
        broken: how many lines beside them could not be read, whatever contract they were of.
        mark: how far the log was read; a later reading may begin there.
    """

    lines: pa.RecordBatch
    broken: int
    mark: str


class ServedLines(ABC):
    """The lines of an environment's servers."""

    @abstractmethod
    def parts(self, contract: str, after: str = "") -> Iterator[Part]:
        """The contract's lines, part by part.

        A mark only saves reading: after it comes every line that was not there before it, and some may come again.
        Whoever counts lines tells them apart by their id.

        Args:
            after: the mark of an earlier part; everything is read without one.
        """


class NotKept(ServedLines):
    """Lines that went to a standard output which nobody keeps."""

    def parts(self, contract: str, after: str = "") -> Iterator[Part]:
        yield from ()
