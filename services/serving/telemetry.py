"""Metrics for Prometheus, and structured logs for people. Neither holds a value from a request."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from serving.instances import Flag
    from serving.live import Live

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SCORES = tuple(i / 10 for i in range(1, 11))

logger = logging.getLogger("serving")


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the fields that Cloud Logging knows.

    Of an exception it keeps the type and the places it passed through, not its words: those may quote a request.
    """

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "severity": record.levelname,
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            said["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            said["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(said)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sends every log line to standard error, as JSON; standard output is the predictions' alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class Telemetry:
    """What a server counts and tells. Each server has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        made = self.registry
        self._requests = Counter("caudal_requests", "Requests.", ["route", "status"], registry=made)
        self._seconds = Histogram(
            "caudal_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=made
        )
        self._predictions = Counter("caudal_predictions", "Rows scored.", ["model_version", "arm"], registry=made)
        self._scores = Histogram("caudal_score", "Scores.", ["model_version"], buckets=_SCORES, registry=made)
        self._flags = Counter("caudal_flags", "Rows scored with doubt.", ["field", "flag"], registry=made)
        self._refused = Counter(
            "caudal_refused_fields", "Fields that were refused.", ["field", "kind"], registry=made
        )
        self._failures = Counter("caudal_failures", "What went wrong, by part.", ["part"], registry=made)
        self._live = Gauge("caudal_model_live", "1 for what is live.", ["model_version", "role"], registry=made)
        self.in_flight = Gauge("caudal_requests_in_flight", "Requests being worked on.", registry=made)
        self._routes: dict[str, tuple[Histogram, dict[int, Counter]]] = {}
        self._arms: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def page(self) -> bytes:
        """Every metric, in Prometheus' text format."""
        return generate_latest(self.registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        histogram, counters = self._routes.get(route) or self._routes.setdefault(
            route, (self._seconds.labels(route), {})
        )
        counter = counters.get(status) or counters.setdefault(status, self._requests.labels(route, str(status)))
        counter.inc()
        histogram.observe(seconds)
        if status >= 500:
            logger.error("answered %d", status, extra={"facts": {"route": route, "status": status}})

    def predicted(self, version: str, arm: str, score: float) -> None:
        """A row was scored."""
        pair = (version, arm)
        counter, histogram = self._arms.get(pair) or self._arms.setdefault(
            pair, (self._predictions.labels(version, arm), self._scores.labels(version))
        )
        counter.inc()
        histogram.observe(score)

    def flagged(self, flags: Sequence[Flag]) -> None:
        """A row was scored with doubt."""
        for flag in flags:
            self._flags.labels(flag.field, flag.flag).inc()

    def refused(self, problems: Sequence[Mapping[str, Any]], known: frozenset[str]) -> None:
        """A request was refused; fields that the contract does not know count as one."""
        tally: Tally[tuple[str, str]] = Tally()
        for problem in problems:
            named = next((part for part in problem["loc"] if part in known), "other")
            tally[str(named), problem["type"]] += 1
        for (named, kind), count in tally.items():
            self._refused.labels(named, kind).inc(count)

    def failed(self, part: str, message: str) -> None:
        """Something went wrong that the caller does not see, or sees without its reason."""
        self._failures.labels(part).inc()
        logger.exception(message, extra={"facts": {"part": part}})

    def look_failed(self, error: Exception, part: str = "ledger") -> None:
        """What is live could not be read or loaded. Such errors speak of files, never of requests.

        Args:
            part: `ledger` for the ledger and the models it names, `states` for what is published of entities.
        """
        self._failures.labels(part).inc()
        logger.error("what is live could not be read: %s", error, extra={"facts": {"part": part}})

    def took_up(self, live: Live) -> None:
        """Other models are live."""
        versions = {"champion": live.champion.version}
        if live.challenger is not None:
            versions["challenger"] = live.challenger.version
        self._live.clear()
        for role, version in versions.items():
            self._live.labels(version, role).set(1)
        logger.info("took up %s", live.champion.version, extra={"facts": {"live": versions}})
