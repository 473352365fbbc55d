"""The report opens in a browser without network, and shows what it is given."""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from pipeline.report.model import Event, Figure, QualityPoint, Report, RunLine
from pipeline.report.render import render

FIRST = datetime(2023, 1, 1, tzinfo=UTC)


def month(number: int) -> datetime:
    return FIRST + timedelta(days=30 * number)


@pytest.fixture
def report() -> Report:
    quality = [
        QualityPoint(f"2023Q{i + 1}", month(3 * i), month(3 * i + 3), 100 * (i + 1),
                     Figure(0.7 + i / 100, 0.68, 0.74), Figure(0.6 - i / 100, 0.55, 0.61))
        for i in range(3)
    ]  # fmt: skip
    return Report(
        title="pay <b>ments</b>",
        question="Which payments & why?",
        citation="A. Author (2023)",
        first=FIRST,
        last=month(10),
        metric="auc",
        quality=[*quality, QualityPoint("2023Q4", month(9), month(10), 0, Figure(None), Figure(None))],
        drift={"amount": {month(2): 0.1, month(3): 0.6}, "channel": {month(3): 0.01}},
        drift_measure="psi",
        drift_threshold=0.25,
        events=[Event(month(3), "input alarm", "drift of amount 0.6"), Event(month(4), "promotion", "model abc")],
        rows={
            "landed": 100,
            "quarantined": 2,
            "lake": 98,
            "duplicates": 3,
            "rejected": 5,
            "warehouse": 90,
            "scored": 60,
        },
        runs=[RunLine("2023-01", 100, 60, ("drift of amount 0.6",), "drift", "promoted abc")],
        cards=[("auc, live model", "0.720", "60 scored rows")],
        details={"Licence": "CC BY 4.0"},
    )


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster") and value:
                self.fetched.append(value)
            assert not name.startswith("on"), (tag, name)


def test_the_page_fetches_nothing(report):
    page = render(report)
    found = _Addresses()
    found.feed(page)
    assert found.fetched == []
    assert not re.search(r"url\(|@import|<script", page)


def test_the_page_is_small_and_the_same_for_the_same_report(report):
    assert len(render(report)) < 60_000
    assert render(report) == render(report)


def test_what_a_contract_says_is_shown_as_text_never_as_markup(report):
    page = render(report)
    assert "pay &lt;b&gt;ments&lt;/b&gt;" in page
    assert "Which payments &amp; why?" in page


def test_a_period_without_a_figure_leaves_a_gap_and_no_mark(report):
    assert "2023Q4, champion" not in render(report)
    assert "2023Q3, champion: auc 0.720, 300 rows, 90 % interval 0.680 to 0.740" in render(report)


def test_a_browser_shows_every_picture_with_its_marks(report, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render(report))
    page = browser("--dump-dom", path.as_uri()).stdout
    assert page.count("<svg") == 3
    assert len(re.findall(r'class="point (?:champion|frozen)"', page)) == 6
    assert len(re.findall(r'class="cell alarm"', page)) == 1
    assert "drift of amount 0.6" in page
    assert "quarantined 2" in page


def test_on_a_phone_the_page_is_no_wider_than_the_screen(report, browser, tmp_path):
    path = tmp_path / "report.html"
    probe = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script>"
    path.write_text(render(report).replace("</body>", probe + "</body>"))
    page = browser("--window-size=500,800", "--dump-dom", path.as_uri()).stdout
    wide, screen = re.search(r"<title>(\d+) of (\d+)</title>", page).groups()
    assert int(wide) <= int(screen)


def test_the_page_is_drawn(report, browser, tmp_path):
    path, picture = tmp_path / "report.html", tmp_path / "report.png"
    path.write_text(render(report))
    browser(f"--screenshot={picture}", "--window-size=1080,1600", path.as_uri())
    content = picture.read_bytes()
    assert struct.unpack(">II", content[16:24]) == (1080, 1600)
    assert len(content) > 30_000
