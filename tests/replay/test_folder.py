"""A replay's folder: what a replay may take for its own, and remove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caudal.environment import load_environment
from caudal.errors import UsageError
from caudal.storage.files import FileStorage
from pipeline.replay.replay import STATE_FILE, Replay


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "world"


@pytest.fixture
def replay(repository: Path, bank_contract: Any, folder: Path) -> Replay:
    return of(repository, bank_contract, folder, every="month")


def of(repository: Path, contract: Any, folder: Path, every: Any) -> Replay:
    sample = repository / "data" / "bank_marketing" / "bank_marketing.csv.gz"
    environment = load_environment(repository / "environments" / "local.yaml", folder)
    return Replay(contract, environment, [sample], every)


def put(folder: Path, name: str = "warehouse/caudal.duckdb") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("somebody's")
    return path


def held(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", ["caudal.duckdb", "landing/bank_marketing/a.csv", ".git/HEAD", "readme.md"])
def test_a_folder_that_was_never_a_replays_is_left_as_it_is(
    replay: Replay, folder: Path, fresh: bool, name: str
) -> None:
    path = put(folder, name)
    with pytest.raises(UsageError, match="no replay's") as caught:
        replay.prepare(fresh=fresh)
    assert str(folder) in str(caught.value)
    assert "empty folder" in str(caught.value)
    assert held(folder) == {path.relative_to(folder).as_posix()}


@pytest.mark.parametrize("text", ["", "[]", '{"of": "somebody else"}'])
def test_a_file_of_the_same_name_makes_no_replay(replay: Replay, folder: Path, text: str) -> None:
    put(folder)
    put(folder, STATE_FILE).write_text(text)
    with pytest.raises(UsageError):
        replay.prepare(fresh=True)
    assert held(folder) == {STATE_FILE, "warehouse/caudal.duckdb"}


def test_an_empty_folder_and_one_that_is_not_there_become_a_replays(replay: Replay, folder: Path) -> None:
    assert replay.prepare(fresh=False) is False
    (folder / STATE_FILE).unlink()
    assert replay.prepare(fresh=True) is False
    assert held(folder) == {STATE_FILE}
    assert replay.prepare(fresh=False) is True


def test_what_an_earlier_replay_left_goes_when_it_starts_over_or_another_begins(
    replay: Replay, folder: Path, repository: Path, bank_contract: Any, tmp_path: Path
) -> None:
    replay.prepare(fresh=False)
    put(folder)
    assert replay.prepare(fresh=False) is True
    assert held(folder) == {STATE_FILE, "warehouse/caudal.duckdb"}
    assert replay.prepare(fresh=True) is False
    assert held(folder) == {STATE_FILE}
    elsewhere = put(tmp_path / "elsewhere")
    put(folder)
    (folder / "link").symlink_to(elsewhere.parent)
    another = of(repository, bank_contract, folder, every="week")
    assert another.prepare(fresh=False) is False
    assert held(folder) == {STATE_FILE}
    assert elsewhere.exists()


def test_a_replay_that_is_killed_while_it_writes_its_first_file_starts_again(
    replay: Replay, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", _killed)
        broken.setattr(Path, "unlink", lambda *arguments, **named: None)
        with pytest.raises(KeyboardInterrupt):
            replay.prepare(fresh=False)
    assert [name for name in held(folder) if name.startswith(".aside-")]
    assert replay.prepare(fresh=False) is False
    assert replay.prepare(fresh=False) is True


@pytest.mark.parametrize("fresh", [False, True])
def test_a_replay_that_is_killed_while_it_empties_its_folder_starts_again_and_does_not_go_on(
    replay: Replay, folder: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    replay.prepare(fresh=False)
    put(folder)
    with monkeypatch.context() as broken:
        broken.setattr("shutil.rmtree", _killed)
        with pytest.raises(KeyboardInterrupt):
            replay.prepare(fresh=True)
    assert replay.prepare(fresh=fresh) is False
    assert held(folder) == {STATE_FILE}


def test_the_state_file_is_there_before_anything_else(
    replay: Replay, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = FileStorage.writer
    monkeypatch.setattr(FileStorage, "writer", lambda self, uri: written.append(uri) or write(self, uri))
    replay.prepare(fresh=False)
    assert written == [(folder / STATE_FILE).as_uri()]


def _killed(*arguments: Any, **named: Any) -> None:
    raise KeyboardInterrupt
