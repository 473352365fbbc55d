"""Each prediction as one JSON line, written before it is answered.

A log sink takes the lines from standard output to BigQuery; on a laptop they go to a file. A line holds no
feature's value, and no key that the contract calls personal.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caudal.contract import Contract
    from serving.instances import Instance

STDOUT = "stdout"


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
    flags: list[str]


_line = TypeAdapter(_Line).serializer


class PredictionLog:
    """Appends lines to a file descriptor, whole lines in one write."""

    def __init__(self, contract: Contract, destination: str) -> None:
        """Opens the log.

        Args:
            destination: `stdout`, or a path; folders are made.
        """
        self._contract = contract.name
        self._names_rows = not contract.columns[contract.key].personal
        if destination == STDOUT:
            self._descriptor = os.dup(sys.stdout.fileno())
        else:
            path = Path(destination)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def line(self, instance: Instance, made: str, score: float, prediction: str, version: str, arm: str) -> bytes:
        """One line.

        Args:
            made: the prediction's own id.
            arm: `champion`, `challenger`, or `shadow` for a score that nobody was answered with.
        """
        said: dict[str, Any] = {
            "severity": "INFO",
            "message": "prediction",
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
            "flags": [f"{flag.flag}:{flag.field}" for flag in instance.flags],
        }
        return _line.to_json(said) + b"\n"

    def write(self, lines: Sequence[bytes]) -> None:
        """Writes lines; returns when the system has taken them.

        Raises:
            OSError: they could not be written, so the predictions must not be answered.
        """
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, data[written:])

    def close(self) -> None:
        """Closes the log."""
        os.close(self._descriptor)
