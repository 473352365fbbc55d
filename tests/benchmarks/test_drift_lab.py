"""The drift laboratory's bookkeeping: what counts as a false alarm, and what as found."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from benchmarks.drift import __main__ as lab
from tests.world import day

CHANGE = day("2026-03-01")


def week(number: int, **distances: float) -> tuple[datetime, dict[str, dict[str, float]]]:
    """One week's figures: distances by feature; a distance above .1 is taken for proven."""
    chance = {feature: 1e-9 if value > 0.1 else 0.5 for feature, value in distances.items()}
    return day("2026-02-01") + timedelta(weeks=number), {"psi": distances, "p_value": chance}


def test_an_alarm_needs_distance_and_proof() -> None:
    figures = {"psi": {"a": 0.3, "b": 0.3, "c": 0.2}, "p_value": {"a": 1e-6, "b": 0.2, "c": 1e-6}}
    assert lab.alarms(figures, "psi") == ("a",)


def test_alarms_before_the_change_are_false_and_the_first_after_it_is_the_finding() -> None:
    weeks = dict([week(1, a=0.0, b=0.3), week(3, a=0.0, b=0.0), week(5, a=0.0, b=0.0), week(6, a=0.4, b=0.0)])
    found = lab.find(weeks, "psi", CHANGE)
    assert found == lab.Finding(weeks=2, false_alarms=1, delay=14, named=("a",))


def test_what_is_never_found_says_so() -> None:
    assert lab.find(dict([week(5, a=0.0)]), "psi", CHANGE).delay is None


def test_without_a_change_every_alarm_is_false() -> None:
    found = lab.find(dict([week(1, a=0.3), week(9, a=0.3, b=0.4)]), "psi", None)
    assert (found.weeks, found.false_alarms, found.delay) == (2, 3, None)


def test_the_page_holds_the_table_and_links_to_the_decision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab, "table", lambda: "| a table |")
    monkeypatch.setattr("sys.argv", ["drift"])
    assert lab.main() == 0
    assert capsys.readouterr().out == "| a table |\n"
    assert "| a table |" in lab.page("| a table |")
