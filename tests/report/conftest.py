"""A real browser, and a report to look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.report.model import DriftCell, Event, Figure, QualityPoint, Report, RunLine
from pipeline.report.render import render
from tests.serving.browser import Page, browser, find_browser

FIRST = datetime(2023, 1, 1, tzinfo=UTC)
Show = Callable[..., Page]


def month(number: int) -> datetime:
    return FIRST + timedelta(days=30 * number)


def made_report(features: int = 2, months: int = 10, **changes: object) -> Report:
    """A made-up report: so many features that drift over so many months."""
    quality = [
        QualityPoint(f"2023Q{i + 1}", month(3 * i), month(3 * i + 3), 100 * (i + 1),
                     Figure(0.7 + i / 100, 0.68, 0.74), Figure(0.6 - i / 100, 0.55, 0.61))
        for i in range(3)
    ]  # fmt: skip
    drift = {
        f"amount_mean_of_the_last_{i}_days": {month(m): DriftCell(0.1 * (m % 4), 60) for m in range(2, months)}
        for i in range(features - 2)
    }
    said: dict[str, object] = {
        "title": "pay <b>ments</b>",
        "kind": "replay",
        "question": "Which payments & why?",
        "citation": "A. Author (2023)",
        "first": FIRST,
        "last": month(months),
        "metric": "auc",
        "monitored": "auc",
        "pooled": {"champion": {"n": 600, "auc": 0.712}, "frozen": {"n": 600, "auc": 0.587}},
        "quality": [*quality, QualityPoint("2023Q4", month(9), month(10), 0, Figure(None), Figure(None))],
        "drift": {
            "amount": {month(2): DriftCell(0.1, 80), month(3): DriftCell(0.6, 80, alarm=True)},
            "channel": {month(3): DriftCell(0.9, 7, judged=False)},
            **drift,
        },
        "drift_measure": "psi",
        "drift_threshold": 0.25,
        "events": [
            Event(month(3), "input alarm", "drift of amount 0.6"),
            Event(month(4), "trial", "model abc goes on trial"),
            Event(month(5), "promotion", "model abc"),
        ],
        "rows": {
            "landed": 100, "quarantined": 2, "lake": 98, "duplicates": 3, "rejected": 5, "removed": 0,
            "warehouse": 90, "scored": 60,
        },
        "runs": [
            RunLine(
                f"2023-{m + 1:02}", 50, 1, 49, 3, 1, 0, 45, 30, {"range:amount": 2, "type:items": 1}, 12_345,
                1.5, 0.25, (0.71, 0.65), ("drift of amount 0.6",) * (m % 5), "drift",
                "promoted abc, and a reason of some length",
            )
            for m in range(months)
        ],
        "cards": [("auc, live model", "0.720", "60 scored rows"), ("retrainings", "3", "1 candidate refused")],
        "details": {"Licence": "CC BY 4.0"},
    }  # fmt: skip
    return Report(**{**said, **changes})  # type: ignore[arg-type]


@pytest.fixture
def report() -> Report:
    return made_report()


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Show]:
    """Opens a report on a screen of some width; CI must have a browser, a laptop may lack one."""
    path = find_browser()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs chromium: apt-get install chromium")
        pytest.skip("there is no chromium; install it to see the report in a browser")
    with ExitStack() as stack:

        def shown(report: Report, width: int = 1080) -> Page:
            file = tmp_path / "report.html"
            file.write_text(render(report))
            page = stack.enter_context(browser(path, tmp_path / "browser"))
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=780, deviceScaleFactor=2,
                      mobile=width < 500)  # fmt: skip
            page.open(file.as_uri())
            return page

        yield shown
