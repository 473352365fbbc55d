"""`make bench-serve` says whether the server keeps what is promised of it."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.serve import promises


def measured(p99_ms: float, p50_ratio: float) -> dict[str, Any]:
    """Figures of 8 clients; those of 64 are never within the limits."""
    slow = {"caudal": {"p99_ms": 99.0}, "p50_ratio": 9.9}
    return {"8": {"caudal": {"p99_ms": p99_ms}, "p50_ratio": p50_ratio}, "64": slow}


@pytest.mark.parametrize(
    ("p99_ms", "p50_ratio", "kept"),
    [(2.3, 1.5, [True, True]), (10.0, 1.6, [True, True]), (10.1, 1.5, [False, True]), (2.3, 1.61, [True, False])],
)
def test_a_promise_is_kept_up_to_its_limit(p99_ms: float, p50_ratio: float, kept: list[bool]) -> None:
    judged = promises.judge(measured(p99_ms, p50_ratio))
    assert [one.kept for one in judged] == kept
    assert [one["kept"] for one in promises.as_json(judged)] == kept
    words = [line.rsplit("|", 2)[1].strip() for line in promises.as_table(judged).splitlines()[2:]]
    assert words == ["pass" if one else "FAIL" for one in kept]


def test_the_limits_are_those_that_the_page_tells(repository: Any) -> None:
    page = " ".join((repository / "docs" / "serving.md").read_text().split())
    told = f"with {promises.CLIENTS} clients a p99 of at most {promises.P99_MS:g} ms, and a p50 of at most"
    assert f"{told} {promises.P50_RATIO:g} times that of the endpoint with no model" in page
