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


GROWTH_MB = 10.0
"""MB by which the process may grow over the soak, once it has had both models."""


@dataclass(frozen=True)
class Promise:
    """One promise beside what was measured; it is kept up to and at its limit."""

    promise: str
    limit: float
    measured: float
    kept: bool


def judge(result: dict[str, Any]) -> list[Promise]:
    """The promises, by a measurement's figures."""
    found, change, abuse = result["compared"][str(CLIENTS)], result["change_of_model"], result["abuse"]
    return [
        _promise(f"p99 in ms, {CLIENTS} clients", P99_MS, found["caudal"]["p99_ms"]),
        _promise(f"p50 beside no model, {CLIENTS} clients", P50_RATIO, found["p50_ratio"]),
        _promise("failures during a change of model", 0, _failures(change)),
        _promise("rollbacks that were not taken up", 0, not change["rolled_back"]),
        _promise("growth over the soak in MB", GROWTH_MB, result["soak"]["growth_mb"]),
        _promise(
            "failures beside idle connections, and after them",
            0,
            _failures(abuse["while_idle"], abuse["afterwards"]),
        ),
        _promise("large bodies that were not refused", 0, abuse["large_body"]["status"] != "413"),
        _promise("servers that did not stay up", 0, not abuse["alive"]),
    ]


def all_kept(promises: Sequence[Promise]) -> bool:
    """Whether the measurement passes."""
    return all(one.kept for one in promises)


def _failures(*loads: dict[str, Any]) -> int:
    return sum(count for load in loads for count in load["failures"].values())


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
    return Promise(name, limit, float(measured), measured <= limit)
