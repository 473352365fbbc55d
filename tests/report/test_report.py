"""The report opens in a browser without network, on a phone and on paper, and shows what it is given."""

from __future__ import annotations

import base64
import re
import struct
from collections import defaultdict
from html.parser import HTMLParser
from typing import Any

import pytest

from docs.picture import SIZE, take
from pipeline.report.model import Event, Figure, QualityPoint, RunLine
from pipeline.report.render import render
from tests.serving.browser import find_browser

from .conftest import made_report, month

SMALLEST_TEXT = 11.0
"""CSS pixels, as they appear: what a person with good eyes reads on a phone."""


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster") and value:
                self.fetched.append(value)
            assert not name.startswith("on"), (tag, name)


def table(page: str, name: str) -> list[list[str]]:
    """The body of a table of the page, as text."""
    (found,) = re.findall(rf'<table id="{name}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
    ]


def test_the_page_fetches_nothing(report):
    page = render(report)
    found = _Addresses()
    found.feed(page)
    assert found.fetched == []
    assert not re.search(r"url\(|@import|<script", page)


def test_the_page_is_small_and_the_same_for_the_same_report(report):
    assert len(render(report)) < 60_000
    assert render(report) == render(report)


def test_years_of_daily_runs_still_make_a_page_that_a_phone_can_open():
    many = made_report(features=60, months=400)
    assert len(render(many)) < 2_000_000


def test_what_a_contract_says_is_shown_as_text_never_as_markup(report):
    page = render(report)
    assert "pay &lt;b&gt;ments&lt;/b&gt;" in page
    assert "Which payments &amp; why?" in page


def test_a_period_without_a_figure_leaves_a_gap_and_no_mark(report):
    assert "2023Q4, champion" not in render(report)
    assert "2023Q3, champion: auc 0.720, 300 rows, 90 % interval 0.680 to 0.740" in render(report)


def test_every_figure_with_its_interval_stands_in_a_table(report):
    rows = table(render(report), "quarters")
    assert rows[0] == ["2023Q1", "100", "0.700 0.680 to 0.740", "0.600 0.550 to 0.610"]
    assert rows[3] == ["2023Q4", "0", "- -", "- -"]
    assert table(render(report), "pooled") == [["live", "600", "0.712"], ["never retrained", "600", "0.587"]]


def test_rows_by_fate_time_and_reasons_stand_in_tables(report):
    page = render(report)
    assert table(page, "rows")[0] == [
        "2023-01", "50", "1", "49", "3", "1", "0", "45", "12.3 kB", "30", "0.25", "1.50",
    ]  # fmt: skip
    assert table(page, "reasons") == [["range:amount", "20", "10"], ["type:items", "10", "10"]]


def test_without_a_frozen_model_nothing_is_compared(report):
    quality = [QualityPoint("2023Q1", month(0), month(3), 5, Figure(0.7, 0.6, 0.8))]
    page = render(made_report(pooled={"champion": {"n": 5, "auc": 0.7}}, quality=quality, kind="environment"))
    assert "never retrained" not in page
    assert table(page, "quarters") == [["2023Q1", "5", "0.700 0.600 to 0.800"]]


def test_a_single_run_with_nothing_yet_is_a_page(report):
    page = render(
        made_report(
            pooled={"champion": {"n": 0, "auc": None}}, quality=[], drift={}, events=[], months=1, last=month(1),
            runs=[RunLine("2023-01")],
        )
    )  # fmt: skip
    assert "No scored row has a label that is due yet" in page
    assert "Drift by feature" not in page
    assert "No row was refused" in page


def test_each_event_is_drawn_in_its_own_lane(report):
    lanes = ("arrival alarm", "input alarm", "prediction alarm", "quality alarm", "time alarm", "training",
             "failed training", "refused", "trial", "promotion")  # fmt: skip
    page = render(made_report(events=[Event(month(n), lane, "x") for n, lane in enumerate(lanes)]))
    heights = re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)" r="5.3" class="event ([\w-]+)"', page)
    assert [name for _, name in heights] == [lane.replace(" ", "-") for lane in lanes]
    assert len({height for height, _ in heights}) == len(lanes)


def test_what_too_few_rows_say_is_told_apart_from_an_alarm(report):
    page = render(report)
    assert page.count('class="cell alarm"') == page.count('class="cell unjudged"') == 2  # wide and narrow
    assert "psi 0.900, 7 rows, too few to judge" in page
    assert [row[0] for row in table(page, "drift")] == ["amount"]


def test_a_browser_shows_every_picture_with_its_marks(report, show):
    page = show(report)
    drawn = "[...document.querySelectorAll('svg')].filter(one => one.getBoundingClientRect().height > 0)"
    assert page.evaluate(f"{drawn}.length") == 2
    assert page.evaluate(f"{drawn}[0].querySelectorAll('.point').length") == 6
    assert page.evaluate("document.getElementById('flow').innerText").splitlines()[:2] == [
        "landed 100",
        "lake 98, quarantined 2",
    ]
    assert page.complaints == []


SIZES = """
[...document.querySelectorAll('svg text, td, th, p, span, footer, #flow div')]
  .filter(one => one.textContent.trim() && one.getBoundingClientRect().height > 0)
  .map(one => {
    const size = parseFloat(getComputedStyle(one).fontSize);
    const svg = one.closest('svg');
    return size * (svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1);
  })
"""


@pytest.mark.parametrize("width", [360, 414, 768, 1080])
def test_on_every_screen_nothing_overflows_sideways_and_text_is_legible(show, width):
    page = show(made_report(features=6), width)
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Only a table may be wider than the screen, and it scrolls within its own box.
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll table, svg') && "
        "one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML.slice(0, 80))"
    )
    assert wide == []
    sizes = page.evaluate(SIZES)
    assert len(sizes) > 100
    assert min(sizes) >= SMALLEST_TEXT


@pytest.mark.parametrize("width", [360, 1080])
def test_no_label_of_a_picture_is_cut_off(show, width):
    page = show(made_report(features=40), width)
    cut = page.evaluate(
        "[...document.querySelectorAll('svg text')].filter(one => { const t = one.getBoundingClientRect(), "
        "s = one.closest('svg').getBoundingClientRect(); return s.height > 0 && (t.left < s.left - 1 || "
        "t.right > s.right + 1 || t.bottom > s.bottom + 1); }).map(one => one.textContent)"
    )
    assert cut == []


MARKS = """
[...document.querySelectorAll('.chart svg.wide, #flow, #quarters, #pooled')].forEach((one, number) => {
  ['top', 'bottom'].forEach(end => {
    const mark = document.createElement('a');
    mark.href = `https://mark.invalid/${number}-${end}`;
    mark.textContent = '.';
    mark.style.cssText = 'display: block; height: 1px; font-size: 1px; line-height: 1px';
    const whole = one.closest('section');
    end === 'top' ? whole.prepend(mark) : whole.append(mark);
  });
})
"""


def pages_of_marks(pdf: bytes) -> dict[str, set[int]]:
    """By the number of a thing that was marked, the pages on which its top and its bottom are printed."""
    objects = dict(re.findall(rb"(?:^|\n)(\d+) 0 obj\n(.*?)endobj", pdf, re.DOTALL))
    found: dict[str, set[int]] = defaultdict(set)
    ends = []
    for number, content in objects.items():
        if b"/Type /Page\n" not in content:
            continue
        for annotation in re.findall(rb"(\d+) 0 R", re.search(rb"/Annots \[(.*?)\]", content, re.DOTALL)[1] if
                                     b"/Annots" in content else b""):  # fmt: skip
            for thing, end in re.findall(rb"mark\.invalid/(\d+)-(top|bottom)", objects[annotation]):
                found[thing.decode()].add(int(number))
                ends.append((thing, end))
    assert len(set(ends)) == 2 * len(found)
    return found


def printed(page: Any) -> bytes:
    answer = page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
    return base64.b64decode(answer["data"])


@pytest.mark.parametrize("features", [6, 70])
def test_on_paper_no_picture_is_split_across_pages(show, features):
    page = show(made_report(features=features, months=40))
    page.evaluate(MARKS)
    marks = pages_of_marks(printed(page))
    # The timeline, the maps of at most 32 features each, the flow and two tables.
    assert len(marks) == 1 + -(-features // 32) + 3
    assert {thing: len(pages) for thing, pages in marks.items()} == dict.fromkeys(marks, 1)


def test_on_paper_nothing_is_cut_at_the_right_and_text_is_legible(show):
    page = show(made_report(features=40, months=40))
    paper = round((210 - 24) / 25.4 * 96)  # the width of A4 between its margins, in CSS pixels
    page.call("Emulation.setEmulatedMedia", media="print")
    page.call("Emulation.setDeviceMetricsOverride", width=paper, height=1000, deviceScaleFactor=1, mobile=False)
    beyond = page.evaluate(
        "[...document.querySelectorAll('body *')]"
        ".filter(one => one.getBoundingClientRect().right > innerWidth + 1)"
        ".map(one => one.outerHTML.slice(0, 80))"
    )
    assert beyond == []
    assert min(page.evaluate(SIZES)) >= 10.5  # 8 points


def test_the_readme_s_picture_is_a_small_one_of_the_report_s_top(tmp_path, show):
    picture, report = tmp_path / "picture.png", tmp_path / "report.html"
    show(made_report(features=13, months=31))
    browser = find_browser()
    assert browser is not None
    take(report, picture, browser)
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == SIZE
    assert 30_000 < len(content) < 400_000


def test_paper_is_white_whatever_the_screen(show):
    page = show(made_report())
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    colour = "getComputedStyle(document.body).backgroundColor"
    page.call("Emulation.setEmulatedMedia", media="screen", features=dark)
    assert page.evaluate(colour) == "rgb(18, 24, 30)"
    page.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
