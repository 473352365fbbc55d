"""Alarms: what the monitor raises, and how they reach the environment's destinations.

An alarm is one statement: in this contract, at this as-of, this kind of thing is wrong (with this feature). It is
delivered once. What was delivered stands in the ledger, one record a run and step; a step that is killed between
delivery and record delivers again under the same id, which the `file` destination recognises.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from caudal.errors import NotFound, UsageError
from caudal.identity import digest, format_instant

if TYPE_CHECKING:
    from caudal.environment import AlarmDestination
    from caudal.storage import Storage

AlarmKind = Literal[
    "drift",
    "class_drift",
    "missing",
    "unseen",
    "rejected",
    "volume",
    "freshness",
    "prediction_drift",
    "quality",
    "training",
]
Severity = Literal["warning", "error", "critical"]

SEVERITY: Mapping[AlarmKind, Severity] = {
    "drift": "warning",
    "class_drift": "warning",
    "prediction_drift": "warning",
    "unseen": "warning",
    "missing": "error",
    "rejected": "error",
    "volume": "error",
    "freshness": "error",
    "quality": "critical",
    "training": "error",
}
RUNBOOK = "docs/runbook.md"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
        feature: the feature concerned, if it is one.
        value: what was measured.
        threshold: what it was measured against.
        evidence: figures that let a reader judge the alarm; no values of rows, so nothing personal.
        among: the class whose rows the alarm is about, if it is one class.
    """

    contract: str
    as_of: datetime
    kind: AlarmKind
    feature: str | None
    value: float
    threshold: float
    evidence: Mapping[str, Any] = field(default_factory=dict)
    among: str | None = None

    @property
    def id(self) -> str:
        """The same for the same contract, kind, feature, class and as-of, however often it is raised."""
        about = (self.feature,) if self.among is None else (self.feature, self.among)
        return digest("alarm", self.contract, self.kind, *about, format_instant(self.as_of))[:16]

    @property
    def severity(self) -> Severity:
        return SEVERITY[self.kind]

    @property
    def runbook(self) -> str:
        """Where a reader finds what to do."""
        return f"{RUNBOOK}#{self.kind.replace('_', '-')}"

    def summary(self) -> dict[str, Any]:
        """What a step's result says of it; `among` only where it is about one class."""
        said = {
            "as_of": format_instant(self.as_of),
            "kind": self.kind,
            "feature": self.feature,
            "value": round(self.value, 6),
            "threshold": self.threshold,
        }
        return said if self.among is None else {**said, "among": self.among}

    def to_json(self) -> dict[str, Any]:
        """Everything, as destinations get it."""
        return {
            **self.summary(),
            "id": self.id,
            "contract": self.contract,
            "severity": self.severity,
            "evidence": dict(self.evidence),
            "runbook": self.runbook,
        }

    def __str__(self) -> str:
        of = f" of {self.feature}" if self.feature else ""
        among = f" among {self.among}" if self.among is not None else ""
        return (
            f"{self.contract} {format_instant(self.as_of)}: {self.kind.replace('_', ' ')}{of}{among}: "
            f"{self.value:.4g} (threshold {self.threshold:.4g}); see {self.runbook}"
        )


def deliver(
    alarms: Iterable[Alarm],
    destinations: Sequence[AlarmDestination],
    storage: Storage,
    record_uri: str,
) -> list[Alarm]:
    """Sends each alarm once to every destination.

    Args:
        record_uri: the ledger's record of what the same step of the same run has delivered.

    Returns:
        the alarms that had not been delivered before.
    """
    try:
        done = list(storage.read_json(record_uri))
    except NotFound:
        done = []
    fresh = [alarm for alarm in alarms if alarm.id not in done]
    if fresh:
        for destination in destinations:
            _send(fresh, destination)
        storage.write_json(record_uri, [*done, *(alarm.id for alarm in fresh)])
    return fresh


def _send(alarms: Sequence[Alarm], destination: AlarmDestination) -> None:
    if destination.type == "console":
        for alarm in alarms:
            print(f"ALARM {alarm.severity}: {alarm}", file=sys.stderr)
    elif destination.type == "log":
        for alarm in alarms:
            log.log(logging.WARNING if alarm.severity == "warning" else logging.ERROR, "%s", alarm)
    elif destination.type == "monitoring":
        # Cloud Logging reads a JSON line on stdout as an entry; the alert policy matches `jsonPayload.alarm.id`.
        for alarm in alarms:
            entry = {"severity": alarm.severity.upper(), "message": str(alarm), "alarm": alarm.to_json()}
            print(json.dumps(entry, sort_keys=True), flush=True)
    else:
        if not destination.path:
            raise UsageError(
                "the alarm destination 'file' has no path",
                where="environment: alarms",
                mend="add 'path', or choose another type",
            )
        _append(alarms, Path(destination.path))


def _append(alarms: Sequence[Alarm], path: Path) -> None:
    """Appends one JSON line an alarm, in one write; those that the file has already are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.dumps(alarm.to_json(), sort_keys=True) + "\n" for alarm in alarms if f'"{alarm.id}"' not in text]
    # A line that a killed process left unfinished must not swallow the next one.
    start = "\n" if text and not text.endswith("\n") else ""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(start + "".join(lines))
        stream.flush()
        os.fsync(stream.fileno())
