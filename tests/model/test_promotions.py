"""The promotion ledger: what was live when."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from caudal.errors import UsageError
from caudal.promotions import Promotion, Promotions
from caudal.storage.files import FileStorage, file_uri


@pytest.fixture
def ledger(tmp_path: Path) -> Promotions:
    return Promotions(FileStorage(tmp_path), file_uri(tmp_path / "ledger"))


def day(number: int) -> datetime:
    return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number)


def promote(ledger: Promotions, version: str, at: int, **more: Any) -> Promotion:
    said = {
        "model_type": "xgboost",
        "package": f"file:///models/{version}",
        "by": "run",
        "reason": "first_model",
        "snapshot": "s",
        "request": f"run-{at}",
        **more,
    }
    return ledger.promote(version=version, as_of=day(at), **said)


def test_an_empty_ledger_has_no_champion(ledger: Promotions) -> None:
    assert ledger.head() is None
    assert ledger.challenger() is None
    assert ledger.live_at(day(0)) is None
    assert ledger.history() == []


def test_a_model_is_live_only_after_the_as_of_of_its_promotion(ledger: Promotions) -> None:
    promote(ledger, "a", 1)
    promote(ledger, "b", 3)
    live = {at: getattr(ledger.live_at(day(at)), "version", None) for at in range(6)}
    assert live == {0: None, 1: None, 2: "a", 3: "a", 4: "b", 5: "b"}


def test_what_is_live_is_asked_of_the_newest_entries_and_not_of_the_whole_ledger(
    ledger: Promotions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        promote(ledger, f"v{number}", number)
    promote(ledger, "tried", 10, role="challenger")
    asked: list[str] = []
    read = FileStorage.read_json
    monkeypatch.setattr(
        FileStorage, "read_json", lambda storage, uri: asked.append(uri[-11:-5]) or read(storage, uri)
    )

    head, challenger, live = ledger.head(), ledger.challenger(), ledger.live_at(day(8))

    assert head is not None
    assert challenger is not None
    assert live is not None
    assert (head.version, head.number) == ("v9", 10)
    assert (challenger.version, live.version) == ("tried", "v7")
    assert asked == ["000011", "000010"] * 2 + ["000011", "000010", "000009", "000008"]


def test_a_repeated_promotion_enters_nothing(ledger: Promotions) -> None:
    first = promote(ledger, "a", 1)
    assert promote(ledger, "a", 1) == first
    promote(ledger, "b", 2)
    assert promote(ledger, "a", 1) == first
    assert [entry.version for entry in ledger.history()] == ["a", "b"]


def test_an_entry_keeps_all_that_was_said(ledger: Promotions) -> None:
    made = promote(ledger, "a", 1, evidence={"rows": 7}, commit="c0ffee", role="champion")
    (kept,) = ledger.history()
    assert kept == made
    assert (kept.evidence, kept.commit, kept.number, kept.as_of) == ({"rows": 7}, "c0ffee", 1, day(1))


def test_a_challenger_is_not_live_and_ends_with_the_next_champion(ledger: Promotions) -> None:
    promote(ledger, "a", 1)
    promote(ledger, "b", 2, role="challenger")
    assert ledger.head() is not None
    assert ledger.head().version == "a"  # type: ignore[union-attr]
    assert ledger.challenger().version == "b"  # type: ignore[union-attr]
    assert ledger.live_at(day(5)).version == "a"  # type: ignore[union-attr]
    promote(ledger, "c", 3)
    assert ledger.challenger() is None


def test_what_stands_is_read_from_the_newest_entry_back_to_the_champions(
    ledger: Promotions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(1, 20):
        promote(ledger, f"m{at}", at)
    promote(ledger, "tried", 20, role="challenger")
    promote(ledger, "tried next", 21, role="challenger")
    read: list[str] = []
    whole = FileStorage.read_json

    def counted(storage: FileStorage, uri: str) -> Any:
        read.append(uri.rsplit("/", 1)[-1])
        return whole(storage, uri)

    monkeypatch.setattr(FileStorage, "read_json", counted)
    champion, challenger = ledger.standing()
    assert champion is not None
    assert challenger is not None
    assert (champion.version, champion.number) == ("m19", 19)
    assert (challenger.version, challenger.number) == ("tried next", 21)
    assert read == ["000021.json", "000020.json", "000019.json"]


def test_a_rollback_is_a_further_entry(ledger: Promotions) -> None:
    promote(ledger, "a", 1)
    promote(ledger, "b", 2)
    back = ledger.roll_back(as_of=day(4), by="ana", reason="complaints")
    assert (back.version, back.kind, back.evidence["left"]) == ("a", "rollback", "b")
    assert [entry.version for entry in ledger.history()] == ["a", "b", "a"]
    assert ledger.live_at(day(4)).version == "b"  # type: ignore[union-attr]
    assert ledger.live_at(day(5)).version == "a"  # type: ignore[union-attr]


def test_rolling_back_twice_goes_further_back(ledger: Promotions) -> None:
    for number, version in enumerate("abc"):
        promote(ledger, version, number)
    assert ledger.roll_back(as_of=day(4), by="x", reason="").version == "b"
    assert ledger.roll_back(as_of=day(5), by="x", reason="").version == "a"
    with pytest.raises(UsageError, match="no earlier champion"):
        ledger.roll_back(as_of=day(6), by="x", reason="")


def test_after_a_rollback_a_new_model_can_be_rolled_back_too(ledger: Promotions) -> None:
    promote(ledger, "a", 1)
    promote(ledger, "b", 2)
    ledger.roll_back(as_of=day(3), by="x", reason="")
    promote(ledger, "c", 4)
    assert ledger.roll_back(as_of=day(5), by="x", reason="").version == "a"


def test_the_first_champion_has_nothing_to_go_back_to(ledger: Promotions) -> None:
    promote(ledger, "a", 1)
    promote(ledger, "b", 2, role="challenger")
    with pytest.raises(UsageError):
        ledger.roll_back(as_of=day(3), by="x", reason="")


def test_writers_side_by_side_lose_no_entry(ledger: Promotions) -> None:
    threads = [threading.Thread(target=promote, args=(ledger, f"v{i}", i)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.version for entry in ledger.history()) == [f"v{i}" for i in range(8)]
    assert [entry.number for entry in ledger.history()] == list(range(1, 9))
