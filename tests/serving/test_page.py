"""The page at `/`, as a person with a browser meets it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from caudal.contract import Contract
from caudal.environment import Environment
from tests.serving.browser import Page, browser, find_browser
from tests.serving.made import WHEN, Served, make_model, promote, served
from tests.world import World, payments

AGE = """[data-path='["age"]']"""
KEY = """[data-path='["contact_id"]']"""
JOB = """[data-path='["job"]']"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    found = find_browser()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs chromium: apt-get install chromium")
        pytest.skip("there is no Chromium here (on Debian: apt-get install chromium)")
    with browser(found, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(page: Page, bank_server: Served) -> Page:
    page.complaints.clear()
    page.open(f"{bank_server.url}/")
    return page


def answered(page: Page, times: int) -> None:
    page.until(f"document.body.dataset.answered === '{times}'")


def test_a_person_fills_in_the_fields_and_sees_the_score_and_its_reasons(
    opened: Page, bank_server: Served
) -> None:
    opened.fill(AGE, "33")
    opened.choose(JOB, "student")
    opened.click("button")
    answered(opened, 1)
    sent = {**json.loads(opened.evaluate("body()"))}
    assert (sent["age"], sent["job"]) == (33, "student")
    said = bank_server.predict(sent, reasons=5).json()
    assert opened.text("#headline") == f"{said['prediction']} (score {said['score']:.4f})"
    shown = opened.evaluate("[...document.querySelectorAll('#reasons tr')].map(r => r.cells[0].innerText)")
    assert shown == [f"{reason['feature']} = {reason['value']}" for reason in said["reasons"]]
    widths = opened.evaluate(
        "[...document.querySelectorAll('#reasons .bar span')].map(s => s.getBoundingClientRect().width)"
    )
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 50
    assert opened.complaints == []


def test_a_value_that_is_refused_is_named_at_its_field_and_can_be_mended(opened: Page) -> None:
    opened.fill(AGE, "7")
    opened.click("button")
    answered(opened, 1)
    complaint = f"document.querySelector({json.dumps(AGE)}).closest('label').querySelector('.complaint').innerText"
    assert "greater than or equal to 16" in opened.evaluate(complaint)
    assert opened.text("#headline") == ""
    opened.fill(AGE, "71")
    opened.click("button")
    answered(opened, 2)
    assert opened.evaluate(complaint) == ""
    assert "score" in opened.text("#headline")


@pytest.mark.parametrize("typed", ["", "abc", "1e999", "<b>", "3.5"])
def test_what_is_typed_is_never_an_error_of_the_page(opened: Page, typed: str) -> None:
    opened.fill(AGE, "1")
    opened.fill(AGE, typed) if typed else opened.evaluate(f"document.querySelector({json.dumps(AGE)}).value = ''")
    opened.click("button")
    answered(opened, 1)
    assert opened.evaluate("document.querySelectorAll('.wrong').length") == 1
    # The browser tells of the answer 422 by itself.
    assert [one for one in opened.complaints if "422" not in one] == []


def test_a_key_keeps_all_its_digits(page: Page, local_environment: Environment, small_contract: Any) -> None:
    world = World(small_contract(), local_environment)
    rows = world.arrive(payments(200, "2026-01-01"), WHEN)
    promote(world.storage, world.environment, make_model(world.storage, world.environment, world.contract, rows))
    with served(world.contract, world.environment, world.storage) as server:
        page.open(f"{server.url}/")
        page.fill("""[data-path='["payment"]']""", "3999999999999999999")
        page.click("button")
        answered(page, 1)
        assert '"payment":3999999999999999999' in page.evaluate("body()")
        assert "score" in page.text("#headline")


def test_the_page_fits_a_phone_and_works_without_any_other_address(opened: Page) -> None:
    opened.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        assert opened.evaluate("document.documentElement.scrollWidth <= 360")
        loaded = opened.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert loaded == []
    finally:
        opened.call("Emulation.clearDeviceMetricsOverride")


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.paths: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        path = dict(attrs).get("data-path")
        if path is not None:
            self.paths.append(json.loads(path))


def test_the_form_has_a_field_for_everything_that_a_request_may_hold(
    bank_server: Served, bank_contract: Contract
) -> None:
    parser = _Fields()
    parser.feed(bank_server.client.get("/").text)
    features = [feature.name for feature in bank_contract.model_features()]
    assert parser.paths == [[name] for name in (bank_contract.key, bank_contract.event_time, *features)]


def test_a_contract_can_not_put_markup_into_the_page(local_environment: Environment, small_contract: Any) -> None:
    contract = small_contract(
        {"question": "<script>alert(1)</script> & more?", "columns.amount.unit": '"><img src=x onerror=alert(1)>'}
    )
    world = World(contract, local_environment)
    rows = world.arrive(payments(200, "2026-01-01"), WHEN)
    promote(world.storage, world.environment, make_model(world.storage, world.environment, contract, rows))
    with served(contract, world.environment, world.storage) as server:
        answer = server.client.get("/")
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
