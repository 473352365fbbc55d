"""Alarms: what the monitor raises, and how they reach the environment's destinations.

An alarm is one statement: in this contract, at this as-of, this kind of thing is wrong (with this feature). One
that stands from run to run is delivered when it begins, again as a reminder, and once more when it ends; the
monitor says which of these it is. What was delivered stands in the ledger, one record an as-of and step; a step
that is killed between delivery and record delivers again under the same id, which the `file` destination knows.
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

from caudal.errors import NotFound
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
    "time",
]
Severity = Literal["info", "warning", "error", "critical"]
State = Literal["new", "reminder", "standing", "ended"]

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
    "time": "warning",
}
EVENTS: frozenset[AlarmKind] = frozenset({"training"})
"""Kinds that tell of one event and not of a state: each is new, and none ends."""

RUNBOOK = "docs/runbook.md"

log = logging.getLogger(__name__)
# Whoever names the log as a destination wants every alarm, and ends are mere information. What other loggers say
# is left to CAUDAL_LOG.
log.setLevel(logging.INFO)


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
        measure: the figure's name, such as `psi` or `live_recall`.
        feature: the feature concerned, if it is one.
        value: what was measured.
        threshold: what it was measured against.
        since: the as-of at which it began.
        state: `new` when it begins, `standing` while it goes on, `reminder` when it is told again, `ended` when
            the figure is within its threshold again, or the model that it is about is not live any more.
        evidence: figures that let a reader judge the alarm; no values of rows, so nothing personal. `reason` says
            why it ended, where the figure does not.
        among: the class whose rows the alarm is about, if it is one class.
    """

    contract: str
    as_of: datetime
    kind: AlarmKind
    measure: str
    feature: str | None
    value: float
    threshold: float
    since: datetime
    state: State = "new"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    among: str | None = None

    @property
    def id(self) -> str:
        """The same for the same contract, kind, measure, feature, as-of and end, however often it is raised."""
        of = (self.contract, self.kind, self.measure, self.feature, format_instant(self.as_of))
        return digest("alarm", *of, self.state == "ended")[:16]

    @property
    def severity(self) -> Severity:
        return "info" if self.state == "ended" else SEVERITY[self.kind]

    @property
    def told(self) -> bool:
        """Whether it is delivered: a standing alarm was, and is not again."""
        return self.state != "standing"

    @property
    def runbook(self) -> str:
        """Where in the repository a reader finds what to do."""
        return f"{RUNBOOK}#{self.kind.replace('_', '-')}"

    def summary(self) -> dict[str, Any]:
        """What a step's result says of it; `among` only where it is about one class."""
        said = {
            "as_of": format_instant(self.as_of),
            "kind": self.kind,
            "measure": self.measure,
            "feature": self.feature,
            "value": round(self.value, 6),
            "threshold": self.threshold,
            "state": self.state,
            "since": format_instant(self.since),
        }
        return said if self.among is None else {**said, "among": self.among}

    def to_json(self) -> dict[str, Any]:
        """Everything, as destinations get it; `evidence_text` is for a mail, whose labels are text."""
        return {
            **self.summary(),
            "id": self.id,
            "contract": self.contract,
            "severity": self.severity,
            "evidence": dict(self.evidence),
            "evidence_text": ", ".join(f"{name} {_said(value)}" for name, value in self.evidence.items()),
            "runbook": self.runbook,
        }

    def __str__(self) -> str:
        about = f" of {self.feature}" if self.feature else ""
        if self.among is not None:
            about += f" among {self.among}"
        if self.state in ("reminder", "standing"):
            about += f" since {format_instant(self.since)}"
        if self.state == "ended":
            about += " has ended"
            if "reason" in self.evidence:
                about += f", as {self.evidence['reason']}"
        return (
            f"{self.contract} {format_instant(self.as_of)}: {self.kind.replace('_', ' ')}{about}: "
            f"{self.measure} {self.value:.4g} (threshold {self.threshold:.4g}); see {self.runbook}"
        )


def deliver(
    alarms: Iterable[Alarm],
    destinations: Sequence[AlarmDestination],
    storage: Storage,
    record_uri: str,
) -> list[Alarm]:
    """Sends each alarm once to every destination.

    Args:
        record_uri: the ledger's record of what the same step has delivered at the same as-of.

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
        _log(alarms)
    elif destination.type == "monitoring":
        # Cloud Logging reads a JSON line on stdout as an entry; alert policies match `jsonPayload.alarm`.
        for alarm in alarms:
            entry = {"severity": alarm.severity.upper(), "message": str(alarm), "alarm": alarm.to_json()}
            print(json.dumps(entry, sort_keys=True), flush=True)
    else:
        # The environment refuses a file without a path.
        _append(alarms, Path(str(destination.path)))


def _log(alarms: Sequence[Alarm]) -> None:
    """Logs alarms at the level of their severity; to standard error where nobody has set up logging."""
    handler = None if log.hasHandlers() else logging.StreamHandler()
    if handler is not None:
        log.addHandler(handler)
    try:
        for alarm in alarms:
            log.log(logging.getLevelNamesMapping()[alarm.severity.upper()], "%s", alarm)
    finally:
        if handler is not None:
            log.removeHandler(handler)


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


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_said(inner)}" for name, inner in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
