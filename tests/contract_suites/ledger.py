"""What the ledger and committed folders must do on every storage."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from caudal.errors import AlreadyExists, NotFound, PackageError, RunInProgress, UsageError
from caudal.folders import MANIFEST, FolderWriter, is_committed, open_folder
from caudal.ledger import LoadLedger, Log, Manifests, RunLock
from caudal.storage import Storage, join


def manifest(*loads: str) -> dict[str, Any]:
    """An intent to load some objects."""
    return {"loads": [{"load_id": load} for load in loads]}


class LedgerSuite:
    """Needs the fixtures `storage` and `folder`, a URI under which nothing lies."""

    def test_a_log_keeps_its_entries_in_order(self, storage: Storage, folder: str) -> None:
        log = Log(storage, folder)
        assert log.entries() == []
        assert log.head() is None

        for i in range(12):
            log.append({"i": i}, after=i)

        assert [entry["i"] for entry in log.entries()] == list(range(12))
        assert log.head() == {"i": 11}
        assert len(log) == 12
        assert [entry["i"] for entry in log.entries(after=9)] == [9, 10, 11]
        assert next(log.newest_first()) == (12, {"i": 11})
        assert [number for number, _ in log.newest_first()] == list(range(12, 0, -1))

    def test_of_two_that_append_to_the_same_log_one_must_look_again(self, storage: Storage, folder: str) -> None:
        log, other = Log(storage, folder), Log(storage, folder)
        log.append({"by": "first"}, after=0)

        with pytest.raises(AlreadyExists):
            other.append({"by": "second"}, after=0)

        assert log.entries() == [{"by": "first"}]

    def test_writers_that_look_again_lose_no_entry(self, storage: Storage, folder: str) -> None:
        def append(number: int) -> None:
            log = Log(storage, folder)
            while True:
                try:
                    return log.append({"number": number}, after=len(log))
                except AlreadyExists:
                    continue

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(append, range(12)))

        assert sorted(entry["number"] for entry in Log(storage, folder).entries()) == list(range(12))

    def test_a_manifest_is_begun_and_then_settled(self, storage: Storage, folder: str) -> None:
        ledger = LoadLedger(storage, folder)
        assert ledger.look() == Manifests(0, {}, {})

        assert ledger.begin(manifest("a", "b"), after=0) == 1
        for seen in (ledger, LoadLedger(storage, folder)):
            assert seen.look() == Manifests(1, {1: manifest("a", "b")}, {})
            assert seen.look().taken() == {"a", "b"}

        done = {**manifest("a", "b"), "rows": 3}
        assert ledger.settle(1, done) == done
        for seen in (ledger, LoadLedger(storage, folder)):
            assert seen.look() == Manifests(1, {}, {1: done})
            assert list(seen.done()) == [done]
            assert seen.look().taken() == {"a", "b"}

    def test_what_is_given_up_is_free_again_and_tells_why(self, storage: Storage, folder: str) -> None:
        ledger = LoadLedger(storage, folder)
        outcomes: list[dict[str, Any]] = [
            {"rows": 0, "abandoned": "bad rows", "refused": True},
            {"rows": 0, "abandoned": "a file was lost", "refused": False},
            {"rows": 1},
        ]
        for number, (loads, outcome) in enumerate(zip(("ab", "c", "d"), outcomes, strict=True)):
            ledger.begin(manifest(*loads), after=number)
            ledger.settle(number + 1, {**manifest(*loads), **outcome})

        known = LoadLedger(storage, folder).look()
        assert [record["loads"] for record in known.done()] == [[{"load_id": "d"}]]
        assert known.taken() == {"d"}
        assert known.refusals() == {"a": ["bad rows"], "b": ["bad rows"]}

    def test_the_first_outcome_holds(self, storage: Storage, folder: str) -> None:
        first, second = LoadLedger(storage, folder), LoadLedger(storage, folder)
        first.begin(manifest("a"), after=0)
        second.look()
        first.settle(1, {"by": "first"})

        assert second.settle(1, {"by": "second"}) == {"by": "first"}
        assert second.look().settled == {1: {"by": "first"}}

    def test_of_two_that_enter_under_one_number_one_must_look_again(self, storage: Storage, folder: str) -> None:
        first, second = LoadLedger(storage, folder), LoadLedger(storage, folder)
        assert first.look() == second.look()
        first.begin(manifest("a"), after=0)

        with pytest.raises(AlreadyExists):
            second.begin(manifest("a", "b"), after=0)

        assert second.look() == Manifests(1, {1: manifest("a")}, {})

    def test_of_many_that_enter_what_is_free_each_load_is_entered_once(
        self, storage: Storage, folder: str
    ) -> None:
        def enter(number: int) -> None:
            ledger = LoadLedger(storage, folder)
            wanted = {f"{number + i}" for i in range(3)}
            while True:
                known = ledger.look()
                free = sorted(wanted - known.taken())
                try:
                    if free:
                        ledger.begin(manifest(*free), after=known.entered)
                    return
                except AlreadyExists:
                    continue

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(enter, range(8)))

        begun = LoadLedger(storage, folder).look().begun.values()
        assert sorted(int(load["load_id"]) for record in begun for load in record["loads"]) == list(range(10))

    def test_closing_folders_changes_nothing_of_what_is_known(
        self, storage: Storage, folder: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(LoadLedger, "FOLDER", 3)
        writer, old = LoadLedger(storage, folder), LoadLedger(storage, folder)
        for number in range(8):
            writer.begin(manifest(str(number)), after=number)
            if number == 4:
                old.look()
            if number != 4:
                writer.settle(number + 1, {**manifest(str(number)), "rows": number})
        before = LoadLedger(storage, folder).look()

        LoadLedger(storage, folder).close()  # it has not looked, so it knows of no full folder
        assert storage.names(join(folder, "closed")) == []
        # The second folder holds one that is not settled, and the third is not full.
        for ledger in (writer, LoadLedger(storage, folder), writer):
            ledger.look()
            ledger.close()
            assert storage.names(join(folder, "closed")) == ["000000.json"]
            for seen in (writer, old, LoadLedger(storage, folder)):
                assert seen.look() == before

        writer.settle(5, {**manifest("4"), "rows": 4})
        writer.close()
        assert storage.names(join(folder, "closed")) == ["000000.json", "000001.json"]
        for seen in (writer, old, LoadLedger(storage, folder)):
            known = seen.look()
            assert [record["rows"] for record in known.done()] == list(range(8))
            assert known.begun == {}
            assert seen.begin(manifest("x"), after=known.entered) == 9
            storage.delete(join(folder, "000002", "000009.intent.json"))

    def test_a_ledger_of_another_form_is_not_taken_for_an_empty_one(self, storage: Storage, folder: str) -> None:
        storage.write_json(join(folder, "0123456789abcdef", "done.json"), {})

        with pytest.raises(UsageError, match="earlier version"):
            LoadLedger(storage, folder).look()

    def test_one_run_at_a_time(self, storage: Storage, folder: str) -> None:
        lock = RunLock(storage, folder, is_active=lambda execution: True)
        lock.acquire("first")

        with pytest.raises(RunInProgress, match="first"):
            lock.acquire("second")

        lock.release("first")
        lock.acquire("second")
        with pytest.raises(RunInProgress, match="second"):
            lock.acquire("first")

    def test_the_holder_may_take_its_lock_again(self, storage: Storage, folder: str) -> None:
        lock = RunLock(storage, folder, is_active=lambda execution: True)

        lock.acquire("first")
        lock.acquire("first")
        lock.release("first")
        lock.acquire("second")

    def test_the_lock_of_a_dead_run_is_taken_over_by_exactly_one(self, storage: Storage, folder: str) -> None:
        RunLock(storage, folder, is_active=lambda execution: True).acquire("dead")
        survivor = RunLock(storage, folder, is_active=lambda execution: execution != "dead")

        def take(name: str) -> str | None:
            try:
                survivor.acquire(name)
            except RunInProgress:
                return None
            return name

        with ThreadPoolExecutor(8) as pool:
            takers = [name for name in pool.map(take, [f"run {i}" for i in range(16)]) if name]

        assert len(takers) == 1
        with pytest.raises(RunInProgress, match=takers[0]):
            survivor.acquire("late")

    def test_one_that_was_thought_dead_does_not_release_its_successors_lock(
        self, storage: Storage, folder: str
    ) -> None:
        lock = RunLock(storage, folder, is_active=lambda execution: execution != "slow")
        lock.acquire("slow")
        lock.acquire("successor")

        lock.release("slow")

        with pytest.raises(RunInProgress, match="successor"):
            lock.acquire("third")

    def test_releasing_what_is_not_held_changes_nothing(self, storage: Storage, folder: str) -> None:
        lock = RunLock(storage, folder, is_active=lambda execution: True)
        lock.release("nobody")
        lock.acquire("first")
        lock.release("first")
        lock.release("first")

        assert len(Log(storage, folder)) == 2


class FolderSuite:
    """Needs the fixtures `storage` and `folder`, a URI under which nothing lies."""

    def test_a_committed_folder_is_read_as_it_was_written(self, storage: Storage, folder: str) -> None:
        writer = FolderWriter(storage, folder)
        writer.add("a.txt", b"text")
        writer.add("deep/b.json", b'{"x": 1}')
        with storage.writer(writer.reserve("large.bin")) as stream:
            stream.write(b"l" * 3_000_000)
        writer.added("large.bin")

        committed = writer.commit({"rows": 3})

        for seen in (committed, open_folder(storage, folder)):
            assert seen.facts == {"rows": 3}
            assert sorted(seen.entries) == ["a.txt", "deep/b.json", "large.bin"]
            assert seen.read("a.txt") == b"text"
            assert seen.read_json("deep/b.json") == {"x": 1}
            assert seen.read("large.bin") == b"l" * 3_000_000

    def test_a_half_written_folder_is_never_visible(self, storage: Storage, folder: str) -> None:
        writer = FolderWriter(storage, folder)
        assert not is_committed(storage, folder)
        writer.add("a.txt", b"text")

        assert not is_committed(storage, folder)
        with pytest.raises(NotFound):
            open_folder(storage, folder)

        writer.commit({})
        assert is_committed(storage, folder)

    def test_a_retry_after_a_killed_writer_does_not_see_its_files(self, storage: Storage, folder: str) -> None:
        FolderWriter(storage, folder).add("stale.txt", b"from the killed one")
        writer = FolderWriter(storage, folder)
        writer.add("a.txt", b"text")

        assert list(writer.commit({}).entries) == ["a.txt"]

    def test_the_first_of_two_writers_wins_and_both_get_its_folder(self, storage: Storage, folder: str) -> None:
        first, second = FolderWriter(storage, folder), FolderWriter(storage, folder)
        first.add("a.txt", b"text")
        second.add("a.txt", b"text")

        assert first.commit({"by": "first"}).facts == {"by": "first"}
        late = second.commit({"by": "second"})

        assert late.facts == {"by": "first"}
        assert late.read("a.txt") == b"text"
        assert len(list(storage.objects(folder))) == 2  # the manifest and one file: the loser's is gone

    def test_of_many_writers_at_once_one_wins(self, storage: Storage, folder: str) -> None:
        def write(number: int) -> int:
            writer = FolderWriter(storage, folder)
            writer.add("a.txt", str(number).encode())
            return int(writer.commit({"number": number}).read("a.txt"))

        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(write, range(8)))

        assert set(seen) == {open_folder(storage, folder).facts["number"]}

    def test_a_commit_whose_answer_was_lost_keeps_its_files(self, storage: Storage, folder: str) -> None:
        writer = FolderWriter(storage, folder)
        writer.add("a.txt", b"text")

        writer.commit({})
        again = writer.commit({})

        assert again.read("a.txt") == b"text"
        assert open_folder(storage, folder).read("a.txt") == b"text"

    def test_an_altered_file_is_refused(self, storage: Storage, folder: str) -> None:
        writer = FolderWriter(storage, folder)
        writer.add("a.txt", b"text")
        committed = writer.commit({})

        storage.write(committed.file_uri("a.txt"), b"tex2")
        with pytest.raises(PackageError, match="not the one"):
            open_folder(storage, folder).read("a.txt")

        storage.delete(committed.file_uri("a.txt"))
        with pytest.raises(PackageError, match="missing"):
            open_folder(storage, folder).read("a.txt")

    def test_a_file_that_the_folder_does_not_have_is_refused(self, storage: Storage, folder: str) -> None:
        with pytest.raises(PackageError, match=r"no file 'b.txt'"):
            FolderWriter(storage, folder).commit({}).read("b.txt")

    @pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b"{}", b'{"facts": {}, "files": {"a": {}}}'])
    def test_a_manifest_that_makes_no_sense_is_refused(
        self, storage: Storage, folder: str, manifest: bytes
    ) -> None:
        storage.write(join(folder, MANIFEST), manifest)

        with pytest.raises(PackageError, match="manifest"):
            open_folder(storage, folder)

    def test_the_manifest_names_sizes_and_hashes(self, storage: Storage, folder: str) -> None:
        writer = FolderWriter(storage, folder)
        writer.add("a.txt", b"abc")
        writer.commit({})

        (entry,) = json.loads(storage.read(join(folder, MANIFEST)))["files"].values()
        assert entry["size"] == 3
        # FIPS 180-2, appendix B.1
        assert entry["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
