"""`caudal models`: what is live, what was, what changed, and the way back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from caudal.contract import Contract, parse_contract
from caudal.environment import load_environment
from caudal.tracking import Tracking
from pipeline.cli.models import command
from tests.trainer.conftest import SETTINGS, arrive, through
from tests.world import World, day

FIRST, SECOND = day("2026-02-15"), day("2026-03-15")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, small_contract_text: Any, repository: Path) -> Path:
    """A project with two champions, one after the other."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "contracts").mkdir()
    text = small_contract_text(SETTINGS)
    (folder / "contracts" / "payments.yaml").write_text(text)
    (folder / "environments").mkdir()
    shutil.copy(repository / "environments" / "local.yaml", folder / "environments" / "local.yaml")
    contract: Contract = parse_contract(text)
    world = World(contract, load_environment(folder / "environments" / "local.yaml", folder / "root"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tracking, "record", lambda self, *arguments, **named: "not recorded")
        patch.setattr(Tracking, "follow", lambda self, *arguments, **named: None)
        arrive(world, 1600, "2026-01-05", FIRST)
        through(world.context(FIRST))
        arrive(world, 1000, "2026-02-10", SECOND, first_key=5000, seed=1, days=20)
        assert "promote" in through(world.context(SECOND))
    return folder


@pytest.fixture
def call(project: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(project)
    monkeypatch.setattr(Tracking, "follow", lambda self, *arguments, **named: None)

    def run(*arguments: str, root: Path = project / "root") -> Any:
        said = [arguments[0], "payments", *arguments[1:], "--root", str(root)]
        done = CliRunner().invoke(command, said, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.output) if "--json" in arguments else done.output

    return run


def test_models_are_listed_with_their_part(call: Any) -> None:
    found = call("list", "--json")
    assert [one["role"] for one in found] == ["former", "champion"]
    assert found[0]["trained_until"] < found[1]["trained_until"]
    assert found[1]["version"] in call("list")


def test_history_tells_what_was_live_at_any_moment(call: Any) -> None:
    first, second = call("history", "--json")
    assert (first["until"], second["until"]) == (second["as_of"], None)
    for moment, live in (("2026-02-16", first), ("2026-03-15", first), ("2026-03-16", second)):
        assert [one["version"] for one in call("history", "--at", moment, "--json")] == [live["version"]]


def test_diff_tells_what_changed(call: Any) -> None:
    one, two = (found["version"] for found in call("list", "--json"))
    found = call("diff", one, "champion", "--json")
    assert found["versions"] == [one, two]
    assert {"snapshot", "trained.until"} <= set(found["facts"])
    assert found["contract"] == []
    assert "auc" in found["metrics"]
    assert call("diff", one, one, "--json")["facts"] == {}


def test_show_prints_the_card_and_the_ledger(call: Any) -> None:
    said = call("show", "champion")
    assert "## Quality on the judging rows" in said
    assert "promotion to champion by run" in said


def test_an_unknown_version_is_told_with_a_mend(project: Path, call: Any) -> None:
    from caudal.errors import NotFound

    with pytest.raises(NotFound, match="there is no model 'zz'"):
        call("show", "zz")


def test_rollback_and_promote_are_entries_with_who_and_why(call: Any, project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "root", tmp_path / "root")
    # Packages name no place, but the ledger does: a copied root is read through its own ledger.
    for entry in (tmp_path / "root" / "artifacts" / "ledger" / "payments" / "promotions").iterdir():
        entry.write_text(entry.read_text().replace(str(project / "root"), str(tmp_path / "root")))
    first, second = call("history", "--json")
    back = call("rollback", "--reason", "complaints", "--json", root=tmp_path / "root")
    assert (back["version"], back["kind"], back["reason"]) == (first["version"], "rollback", "complaints")
    assert back["as_of"] == second["as_of"], "it holds from the next run on"
    listed = call("list", "--json", root=tmp_path / "root")
    assert [one["role"] for one in listed] == ["champion", "former"]
    again = call("promote", second["version"][:6], "--reason", "mended", "--json", root=tmp_path / "root")
    assert (again["version"], again["kind"], again["number"]) == (second["version"], "promotion", 4)
