"""Planning and applying stacks, with the real terraform and its built-in resource, which needs no provider."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.release.stacks import Change, PlanChanged, Stacks, as_markdown, check_expected, plan_digest


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Three stacks as CDKTF writes them, the last in need of the first."""
    if shutil.which("terraform") is None:
        reason = "terraform is not there: install it to plan stacks"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    needs: dict[str, list[str]] = {"zone": ["area"], "area": [], "bootstrap": []}
    for name in needs:
        folder = tmp_path / "stacks" / name
        folder.mkdir(parents=True)
        set_input(tmp_path, name, "first")
    stacks = {name: {"dependencies": n, "workingDirectory": f"stacks/{name}"} for name, n in needs.items()}
    (tmp_path / "manifest.json").write_text(json.dumps({"stacks": stacks}))
    return tmp_path


def set_input(output: Path, stack: str, value: str) -> None:
    resource: dict[str, Any] = {"resource": {"terraform_data": {"thing": {"input": value}}}}
    (output / "stacks" / stack / "cdk.tf.json").write_text(json.dumps(resource))


def test_stacks_are_planned_and_applied_after_those_that_they_need(output: Path) -> None:
    stacks = Stacks(output)
    changes = stacks.plan()
    assert [str(change) for change in changes] == ["+ terraform_data.thing"] * 2
    assert list(stacks.apply()) == ["area", "zone"]
    assert stacks.plan() == []


def test_what_a_person_applies_is_left_alone(output: Path) -> None:
    Stacks(output).plan()
    assert not (output / "stacks" / "bootstrap" / ".terraform").exists()
    assert not (output / "stacks" / "bootstrap" / "plan.tfplan").exists()


def test_a_plan_that_is_not_the_reviewed_one_is_refused(output: Path) -> None:
    stacks = Stacks(output)
    reviewed = plan_digest(stacks.plan())
    check_expected(stacks.plan(), reviewed)
    list(stacks.apply())
    set_input(output, "zone", "second")
    changes = stacks.plan()
    assert [str(change) for change in changes] == ["~ terraform_data.thing"]
    with pytest.raises(PlanChanged, match=reviewed):
        check_expected(changes, reviewed)


def test_a_comment_shows_addresses_and_actions_and_no_values() -> None:
    changes = [Change("area", "google_x.y", ("create",)), Change("zone", "google_x.z", ("delete", "create"))]
    shown = as_markdown("dev", changes)
    assert "2 changes in 2 stacks" in shown
    assert "+ google_x.y" in shown
    assert "-/+ google_x.z" in shown
    assert plan_digest(changes) in shown
    assert as_markdown("dev", []) == "### dev: no changes\n"
