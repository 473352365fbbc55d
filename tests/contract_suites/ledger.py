"""What the ledger and committed folders must do on every storage."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from caudal.errors import AlreadyExists, NotFound, PackageError, RunInProgress
from caudal.folders import MANIFEST, FolderWriter, is_committed, open_folder
from caudal.ledger import LoadLedger, Log, RunLock
from caudal.storage import Storage, join


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

    def test_a_load_is_begun_and_then_done(self, storage: Storage, folder: str) -> None:
        ledger = LoadLedger(storage, folder)
        assert ledger.begun() == {}
        assert list(ledger.done()) == []

        assert ledger.begin("m1", {"objects": [1]}) == {"objects": [1]}
        assert ledger.begun() == {"m1": {"objects": [1]}}

        ledger.finish("m1", {"manifest": "m1", "rows": 3})
        assert ledger.begun() == {}
        assert list(ledger.done()) == [{"manifest": "m1", "rows": 3}]

        ledger.finish("m1", {"manifest": "m1", "rows": 3})
        assert list(ledger.done()) == [{"manifest": "m1", "rows": 3}]

    def test_the_first_intent_holds(self, storage: Storage, folder: str) -> None:
        LoadLedger(storage, folder).begin("m1", {"by": "first"})

        assert LoadLedger(storage, folder).begin("m1", {"by": "second"}) == {"by": "first"}

    def test_of_many_that_begin_all_see_one_intent(self, storage: Storage, folder: str) -> None:
        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(lambda i: LoadLedger(storage, folder).begin("m1", {"by": i})["by"], range(16)))

        assert len(set(seen)) == 1

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
