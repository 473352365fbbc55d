"""Calls that overlap, calls that are killed, and manifests that can't be loaded: each landed row once, no jam."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from caudal.environment import Environment
from caudal.errors import NotFound, TableMismatch, WarehouseUnavailable
from caudal.ledger import LoadLedger
from tests.conftest import MakeContract
from tests.ingest.overlapping import POISON, Killed, Place


@pytest.fixture
def place(small_contract: MakeContract, local_environment: Environment) -> Callable[[], Place]:
    contract = small_contract()
    return lambda: Place(contract, local_environment)


def with_two_files(place: Callable[[], Place]) -> Place:
    made = place()
    made.land("a.csv", 1, 2)
    made.land("b.csv", 3)
    return made


def points_of_a_call(place: Callable[[], Place]) -> int:
    return len(with_two_files(place).call().goes_on().points)


@pytest.mark.slow
def test_whichever_calls_overlap_and_wherever_each_row_is_in_the_lake_once(place: Callable[[], Place]) -> None:
    """The first goes so far, the second so far, then the first to its end: every pair of points."""
    points = points_of_a_call(place)
    assert points > 15
    for first_to in range(points):
        for second_to in range(points + 1):
            at = with_two_files(place)
            first, second = at.call().goes_on(first_to), at.call()
            seen_by_the_first = set(at.landed)
            at.land("c.csv", 4)  # so that the manifests differ
            second.goes_on(second_to)
            first.goes_on()

            told = (first_to, second_to, first.points, second.points)
            assert first.answer is not None, told
            assert first.answer["done"], told
            assert seen_by_the_first <= set(at.warehouse.lake), told
            second.goes_on()
            assert (first.error, second.error) == (None, None), told
            # What a call calls done is in the lake.
            assert second.answer is not None
            assert second.answer["done"], told
            assert at.warehouse.lake == at.landed, told
            assert at.ingest()["rows"] == 4
            assert at.warehouse.lake == at.landed, told
            assert at.staged() == [], told
            assert at.known().begun == {}


@pytest.mark.slow
def test_a_call_killed_anywhere_while_another_is_under_way_loses_and_doubles_nothing(
    place: Callable[[], Place],
) -> None:
    points = points_of_a_call(place)
    for killed_at in range(points + 1):
        for second_to in (0, *range(1, points, 3)):
            at = with_two_files(place)
            second = at.call().goes_on(second_to)
            at.land("c.csv", 4)
            first = at.call().goes_on(killed_at)
            first.is_killed()
            second.goes_on()

            assert second.error is None
            assert first.error is None or isinstance(first.error, Killed)
            answer = at.ingest()
            assert (answer["done"], answer["rows"]) == (True, 4)
            assert at.warehouse.lake == at.landed, (killed_at, second_to)
            assert at.known().begun == {}


@pytest.mark.slow
def test_calls_killed_one_after_another_at_every_point_end_where_one_clean_call_does(
    place: Callable[[], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadLedger, "FOLDER", 2)  # so that folders are closed on the way
    at = with_two_files(place)
    points = points_of_a_call(place)
    for killed_at in range(2 * points):
        at.land(f"{killed_at:03}.csv", 100 + killed_at)
        at.call().goes_on(killed_at).is_killed()
    answer = at.ingest()

    assert (answer["done"], answer["remaining"], answer["rows"]) == (True, 0, 3 + 2 * points)
    assert at.warehouse.lake == at.landed
    known = at.known()
    assert sorted(load["load_id"] for record in known.done() for load in record["loads"]) == sorted(known.taken())


def until_done(at: Place) -> list[dict[str, object]]:
    answers = [at.ingest()]
    while not answers[-1]["done"]:
        answers.append(at.ingest())
        assert len(answers) < 10
    return answers


def test_rows_that_the_warehouse_refuses_send_their_own_file_to_quarantine_and_the_others_to_the_lake(
    place: Callable[[], Place], caplog: pytest.LogCaptureFixture
) -> None:
    at = with_two_files(place)
    at.land("bad.csv", 8, 9, customer=POISON)
    at.land("c.csv", 4)

    last = until_done(at)[-1]

    assert at.warehouse.lake == at.landed
    assert at.quarantined() == {"bad.csv"}
    assert (last["rows"], last["files_quarantined"], last["remaining"]) == (4, 1, 0)
    refused = [record["abandoned"] for record in at.known().settled.values() if "abandoned" in record]
    assert refused == ["a value is bad"] * 2
    assert "given up" in caplog.text
    assert at.staged() == []
    # It stays so, and what lands later is not held up.
    at.land("d.csv", 5)
    assert at.ingest()["done"]
    assert at.warehouse.lake == at.landed


def test_a_refused_file_that_is_corrected_or_removed_is_no_matter_any_more(place: Callable[[], Place]) -> None:
    at = with_two_files(place)
    at.land("bad.csv", 8, customer=POISON)
    at.ingest()
    at.land("bad.csv", 8)
    until_done(at)
    assert at.warehouse.lake == at.landed
    assert at.quarantined() == set()


@pytest.mark.slow
def test_a_call_killed_anywhere_while_a_manifest_is_given_up_blocks_nothing(place: Callable[[], Place]) -> None:
    for killed_at in range(60):
        at = with_two_files(place)
        at.land("bad.csv", 8, customer=POISON)
        at.call().goes_on(killed_at).is_killed()
        until_done(at)
        assert at.warehouse.lake == at.landed, killed_at
        assert at.quarantined() == {"bad.csv"}
        assert at.known().begun == {}


@pytest.mark.slow
def test_two_calls_that_give_up_the_same_manifest_load_the_good_files_once(place: Callable[[], Place]) -> None:
    points = points_of_a_call(place)
    for first_to in range(0, points + 20, 2):
        for second_to in range(0, points + 20, 9):
            at = with_two_files(place)
            at.land("bad.csv", 8, customer=POISON)
            first, second = at.call().goes_on(first_to), at.call().goes_on(second_to)
            first.goes_on()
            second.goes_on()
            assert (first.error, second.error) == (None, None)
            until_done(at)
            assert at.warehouse.lake == at.landed, (first_to, second_to)
            assert at.quarantined() == {"bad.csv"}


def test_a_staged_file_that_was_lost_is_staged_anew(place: Callable[[], Place]) -> None:
    at = with_two_files(place)
    call = at.call()
    while call.points[-1:] != ["load"]:
        call.goes_on(1)
    call.is_killed()
    (staged, *_) = at.staged()
    at.storage.delete(staged)

    until_done(at)

    assert at.warehouse.lake == at.landed
    assert at.quarantined() == set()


def test_a_load_that_is_late_brings_nothing_of_a_manifest_that_was_given_up(place: Callable[[], Place]) -> None:
    at = with_two_files(place)
    late = at.call()
    while late.points[-1:] != ["rows go in"]:
        late.goes_on(1)
    for staged in at.staged():
        at.storage.delete(staged)

    until_done(at)
    late.goes_on()

    assert late.error is None
    assert at.warehouse.lake == at.landed
    assert at.ingest()["rows"] == 3


@pytest.mark.parametrize("error", [WarehouseUnavailable("too many requests"), RuntimeError("out of memory")])
def test_a_failure_that_says_nothing_about_the_rows_gives_nothing_up(
    place: Callable[[], Place], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    at = with_two_files(place)
    with monkeypatch.context() as patched:
        patched.setattr(at.warehouse, "load", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            at.ingest()
    assert len(at.known().begun) == 1
    assert at.ingest()["rows"] == 3
    assert len(at.known().settled) == 1


def test_a_table_that_is_not_as_the_contract_asks_is_told_and_nothing_is_given_up(
    place: Callable[[], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TableMismatch("the column 'rate' is absent", mend="deploy the data stack")

    def missing(*_: object) -> None:
        raise NotFound("there is no such table")

    at = with_two_files(place)
    with monkeypatch.context() as patched:
        patched.setattr(at.warehouse, "load", missing)
        patched.setattr(at.warehouse, "ensure_tables", refuse)
        with pytest.raises(TableMismatch, match="'rate'"):
            at.ingest()
    assert len(at.known().begun) == 1
    assert at.ingest()["done"]
    assert at.warehouse.lake == at.landed


def test_what_a_call_asks_of_storage_does_not_grow_with_the_manifests_of_the_past(
    place: Callable[[], Place],
) -> None:
    """A look: two listings, one read a closed folder, and what the last folder holds, read at once."""

    def ask(at: Place) -> list[str]:
        at.land("new.csv", 1)
        return at.call().goes_on().points

    fresh = ask(place())
    at = place()
    ledger = LoadLedger(at.storage, at.environment.ledger("payments", "loads"))
    for number in range(250):
        loads = [{"load_id": f"{number:016x}", "rows": 0, "quarantined": 0, "unreadable": None, "staged": None}]
        intent = {"manifest": f"m{number}", "run": "earlier", "loads": loads}
        ledger.settle(ledger.begin(intent, after=number), {**intent, "rows": 0})
        ledger.close()
    many = ask(at)

    assert len(many) <= 25
    assert len(many) <= len(fresh) + 5
    assert "exists" not in many
    asked: list[str] = []
    read = at.storage.read
    at.storage.read = lambda uri: asked.append(uri) or read(uri)  # type: ignore[method-assign, func-returns-value]
    done = list(LoadLedger(at.storage, at.environment.ledger("payments", "loads")).done())
    assert len(done) == 251
    assert len(asked) == 2 + 51
