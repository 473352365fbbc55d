"""Each prediction as one JSON line, written before it is answered.

A log sink takes the lines from standard output to BigQuery; on a laptop they go to a file. A line holds no
feature's value, and no key that the contract calls personal.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from caudal.served import MESSAGE
from caudal.serving_environment import STDOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caudal.contract import Contract
    from serving.instances import Instance


class _Line(TypedDict):
    severity: str
    message: str
    contract: str
    id: str
    key: str | None
    event_time: str
    at: str
    score: float
    prediction: str
    model_version: str
    arm: str
    challenger: str | None
    share: float
    flags: list[str]


_line = TypeAdapter(_Line).serializer


@dataclass(frozen=True)
class Tried:
    """Who was on trial when a line was written.

    Attributes:
        challenger: its version; None without one.
        share: the chance, from 0 to 1, with which the challenger was to answer the line's key.
    """

    challenger: str | None = None
    share: float = 0.0


NOBODY = Tried()


class PredictionLog:
    """Appends lines to a file descriptor, whole lines in one write."""

    def __init__(self, contract: Contract, destination: str) -> None:
        """Opens the log.

        Args:
            destination: `stdout`, or a path; folders are made.
        """
        self._contract = contract.name
        self._names_rows = not contract.columns[contract.key].personal
        self._torn = False
        if destination == STDOUT:
            self._descriptor = os.dup(sys.stdout.fileno())
        else:
            path = Path(destination)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            # Who was killed in the middle of a line must not take the next one along.
            self._torn = _ends_within_a_line(path)

    def line(
        self,
        instance: Instance,
        made: str,
        score: float,
        prediction: str,
        version: str,
        arm: str,
        tried: Tried = NOBODY,
    ) -> bytes:
        """One line.

        Args:
            made: the prediction's own id.
            arm: `champion`, `challenger`, or `shadow` for a score that nobody was answered with.
        """
        said: dict[str, Any] = {
            "severity": "INFO",
            "message": MESSAGE,
            "contract": self._contract,
            "id": made,
            # Text: a log's numbers are doubles, and an integer key may have more digits.
            "key": str(instance.key) if self._names_rows else None,
            "event_time": instance.event_time.isoformat(),
            "at": datetime.now(UTC).isoformat(),
            "score": score,
            "prediction": prediction,
            "model_version": version,
            "arm": arm,
            "challenger": tried.challenger,
            "share": tried.share,
            "flags": [f"{flag.flag}:{flag.field}" for flag in instance.flags],
        }
        return _line.to_json(said) + b"\n"

    def write(self, lines: Sequence[bytes]) -> None:
        """Writes lines; returns when the system has taken them.

        Raises:
            OSError: they could not be written, so the predictions must not be answered.
        """
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        if self._torn:
            data = b"\n" + data
        self._torn = True
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, data[written:])
        self._torn = False

    def close(self) -> None:
        """Closes the log."""
        os.close(self._descriptor)


def _ends_within_a_line(path: Path) -> bool:
    if not path.is_file():
        return False  # a pipe or a device
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 1, 0))
        return stream.read(1) not in (b"", b"\n")
