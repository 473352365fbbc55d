"""`make bench-serve` says whether the server keeps what is promised of it."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.serve import __main__ as bench
from benchmarks.serve import promises

# Figures of 64 clients are never within the limits, and bind nobody.
KEPT: dict[str, Any] = {
    "compared": {
        "8": {"caudal": {"p99_ms": 2.3}, "p50_ratio": 1.5},
        "64": {"caudal": {"p99_ms": 99.0}, "p50_ratio": 9.9},
    },
    "change_of_model": {"failures": {}, "rolled_back": True},
    "soak": {"growth_mb": 0.3},
    "abuse": {
        "large_body": {"status": "413"},
        "while_idle": {"failures": {}},
        "afterwards": {"failures": {}},
        "alive": True,
    },
}


def measured(path: str = "", value: Any = None) -> dict[str, Any]:
    """A measurement that keeps every promise, but for one figure."""
    result = copy.deepcopy(KEPT)
    if path:
        *parents, last = path.split(".")
        inner = result
        for name in parents:
            inner = inner[name]
        inner[last] = value
    return result


BROKEN = [
    ("compared.8.caudal.p99_ms", 10.1),
    ("compared.8.p50_ratio", 1.61),
    ("change_of_model.failures", {"status 503": 2, "connection lost": 1}),
    ("change_of_model.rolled_back", False),
    ("soak.growth_mb", 10.1),
    ("abuse.while_idle.failures", {"status 503": 1}),
    ("abuse.afterwards.failures", {"connection lost": 1}),
    ("abuse.large_body.status", "200"),
    ("abuse.alive", False),
]


@pytest.mark.parametrize(
    ("path", "value"),
    [("", None), ("compared.8.caudal.p99_ms", 10.0), ("compared.8.p50_ratio", 1.6), ("soak.growth_mb", 10.0)],
)
def test_a_promise_is_kept_up_to_its_limit(path: str, value: Any) -> None:
    judged = promises.judge(measured(path, value))
    assert promises.all_kept(judged)
    assert "FAIL" not in promises.as_table(judged)


@pytest.mark.parametrize(("path", "value"), BROKEN)
def test_each_figure_beyond_its_limit_breaks_one_promise(path: str, value: Any) -> None:
    judged = promises.judge(measured(path, value))
    assert [one.kept for one in judged].count(False) == 1
    assert [one["kept"] for one in promises.as_json(judged)] == [one.kept for one in judged]
    words = [line.rsplit("|", 2)[1].strip() for line in promises.as_table(judged).splitlines()[2:]]
    assert words == ["pass" if one.kept else "FAIL" for one in judged]


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [("", None, 0), ("change_of_model.rolled_back", False, 1), ("abuse.alive", False, 1)],
)
def test_with_check_a_broken_promise_is_the_commands_status(
    path: str, value: Any, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextmanager
    def running(_: Any) -> Any:
        yield ()

    result = {**measured(path, value), "others": {}, "machine": {}}
    monkeypatch.setattr(bench, "prepare", lambda *_: type("Bench", (), {"contract": None, "second": None}))
    monkeypatch.setattr(bench, "running", running)
    monkeypatch.setattr(bench.uvloop, "run", lambda measuring: measuring.close() or result)
    monkeypatch.setattr(bench, "monitor_cost", lambda *_: [])
    monkeypatch.setattr(bench, "table", lambda _: "")
    arguments = ["--root", str(tmp_path), "--out", str(tmp_path / "serve.json")]
    assert CliRunner().invoke(bench.main, [*arguments, "--check"]).exit_code == status
    assert CliRunner().invoke(bench.main, arguments).exit_code == 0


def test_the_limits_are_those_that_the_page_tells(repository: Any) -> None:
    page = " ".join((repository / "docs" / "serving.md").read_text().split())
    told = f"with {promises.CLIENTS} clients a p99 of at most {promises.P99_MS:g} ms, and a p50 of at most"
    assert f"{told} {promises.P50_RATIO:g} times that of the endpoint with no model" in page
    assert f"grows by at most {promises.GROWTH_MB:g} MB" in page
