"""What the server promises under load, and whether a measurement kept it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

CLIENTS = 8
P99_MS = 10.0
"""Milliseconds within which 99 of 100 requests are answered, with 8 clients."""
P50_RATIO = 1.6
"""At most so many times the median of an endpoint with no model, with 8 clients."""


@dataclass(frozen=True)
class Promise:
    """One promise beside what was measured; it is kept up to and at its limit."""

    promise: str
    limit: float
    measured: float
    kept: bool


def judge(compared: dict[str, Any]) -> list[Promise]:
    """The promises, by the figures of `compare`."""
    found = compared[str(CLIENTS)]
    return [
        _promise(f"p99 in ms, {CLIENTS} clients", P99_MS, found["caudal"]["p99_ms"]),
        _promise(f"p50 beside no model, {CLIENTS} clients", P50_RATIO, found["p50_ratio"]),
    ]


def as_json(promises: Sequence[Promise]) -> list[dict[str, Any]]:
    """For the file with every figure."""
    return [asdict(promise) for promise in promises]


def as_table(promises: Sequence[Promise]) -> str:
    """For people, as a Markdown table."""
    lines = ["| promise | at most | measured | |", "|---|--:|--:|---|"]
    lines += [
        f"| {one.promise} | {one.limit:g} | {one.measured:.2f} | {'pass' if one.kept else 'FAIL'} |"
        for one in promises
    ]
    return "\n".join(lines)


def _promise(name: str, limit: float, measured: float) -> Promise:
    return Promise(name, limit, measured, measured <= limit)
