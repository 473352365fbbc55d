"""Every alarm leads to a section of the runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from caudal.alarms import RUNBOOK, SEVERITY, Alarm, AlarmKind
from tests.world import day

DAY = day("2026-03-01")


def test_every_kind_of_alarm_has_its_section_and_its_severity(repository: Path) -> None:
    text = (repository / RUNBOOK).read_text()
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    for kind in get_args(AlarmKind):
        page, anchor = Alarm("payments", DAY, kind, "x", None, 1.0, 0.0, DAY).runbook.split("#")
        assert page == RUNBOOK
        assert anchor in anchors
        assert f"`{kind}`" in text
    assert set(SEVERITY) == set(get_args(AlarmKind))
