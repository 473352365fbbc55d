"""`caudal backfill`, as a person calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from caudal.environment import Environment
from caudal.errors import UsageError
from pipeline.cli.backfill import command
from tests.world import World, day, payments


@pytest.fixture
def world(
    small_contract: Any,
    small_contract_text: Any,
    local_environment: Environment,
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """The made-up contract in a project folder of its own."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "payments.yaml").write_text(small_contract_text())
    shutil.copytree(repository / "environments", tmp_path / "environments")
    monkeypatch.chdir(tmp_path)
    return World(small_contract(), local_environment)


def test_backfill_scores_once_what_came_before_any_model(world: World, tmp_path: Path) -> None:
    world.promote(world.arrive(payments(120, "2026-01-01"), day("2026-02-01")), day("2026-02-01"))
    options = ["payments", "--root", str(tmp_path / "root"), "--as-of", "2026-02-02", "--json"]
    first = CliRunner().invoke(command, options, catch_exceptions=False)
    assert json.loads(first.stdout)["rows"] == 120
    again = CliRunner().invoke(command, options, catch_exceptions=False)
    assert json.loads(again.stdout)["rows"] == 120  # the same act, found again
    later = CliRunner().invoke(command, [*options, "--as-of", "2026-02-03"], catch_exceptions=False)
    assert json.loads(later.stdout)["rows"] == 0
    assert len(world.predictions()) == 120


def test_backfill_with_a_version_that_is_not_live_is_refused(world: World, tmp_path: Path) -> None:
    world.promote(world.arrive(payments(120, "2026-01-01"), day("2026-02-01")), day("2026-02-01"))
    options = ["payments", "--root", str(tmp_path / "root"), "--version", "other"]
    with pytest.raises(UsageError, match="predictions are made by the live model only"):
        CliRunner().invoke(command, options, catch_exceptions=False)
    assert world.predictions() == []
