"""What every storage adapter must do."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from caudal.errors import AlreadyExists, NotFound
from caudal.storage import Storage, join


def create_and_tell(storage: Storage, uri: str, mark: str) -> str | None:
    """Tries to create an object; returns the mark when this caller was the one (used by threads and processes)."""
    try:
        storage.create(uri, mark.encode())
    except AlreadyExists:
        return None
    return mark


def _create_into(results: multiprocessing.Queue[str | None], storage: Storage, uri: str, mark: str) -> None:
    results.put(create_and_tell(storage, uri, mark))


class StorageSuite:
    """Needs the fixtures `storage` and `folder`, a URI under which nothing lies."""

    def test_what_is_written_is_read(self, storage: Storage, folder: str) -> None:
        uri = join(folder, "a/b.bin")

        storage.write(uri, b"\x00\xffbytes")

        assert storage.read(uri) == b"\x00\xffbytes"
        assert storage.exists(uri)

    def test_an_empty_object_is_an_object(self, storage: Storage, folder: str) -> None:
        storage.write(join(folder, "empty"), b"")

        assert storage.read(join(folder, "empty")) == b""
        assert [found.size for found in storage.objects(folder)] == [0]

    def test_an_object_larger_than_a_block_is_whole(self, storage: Storage, folder: str) -> None:
        data = bytes(range(256)) * 40_000

        with storage.writer(join(folder, "large")) as stream:
            for start in range(0, len(data), 1_000_000):
                stream.write(data[start : start + 1_000_000])

        assert storage.read(join(folder, "large")) == data

    def test_a_stream_can_seek(self, storage: Storage, folder: str) -> None:
        storage.write(join(folder, "x"), b"0123456789")

        with storage.open(join(folder, "x")) as stream:
            assert stream.seek(-3, 2) == 7
            assert stream.read() == b"789"
            stream.seek(2)
            assert stream.read(2) == b"23"

    def test_writing_again_replaces(self, storage: Storage, folder: str) -> None:
        storage.write(join(folder, "x"), b"a longer first")
        storage.write(join(folder, "x"), b"second")

        assert storage.read(join(folder, "x")) == b"second"

    def test_a_write_that_fails_leaves_nothing(self, storage: Storage, folder: str) -> None:
        def half_a_write() -> None:
            with storage.writer(join(folder, "x")) as stream:
                stream.write(b"half")
                raise KeyError("on the way")

        with pytest.raises(KeyError):
            half_a_write()

        assert not storage.exists(join(folder, "x"))
        assert list(storage.objects(folder)) == []

    def test_a_write_that_fails_leaves_the_old_object(self, storage: Storage, folder: str) -> None:
        storage.write(join(folder, "x"), b"good")

        def half_a_write() -> None:
            with storage.writer(join(folder, "x")) as stream:
                stream.write(b"half" * 2_000_000)
                raise KeyError("on the way")

        with pytest.raises(KeyError):
            half_a_write()

        assert storage.read(join(folder, "x")) == b"good"

    def test_an_object_is_not_visible_before_its_writer_is_done(self, storage: Storage, folder: str) -> None:
        with storage.writer(join(folder, "x")) as stream:
            stream.write(b"half")
            assert not storage.exists(join(folder, "x"))
            assert storage.names(folder) == []
            assert list(storage.objects(folder)) == []

    def test_creating_what_exists_is_refused_and_changes_nothing(self, storage: Storage, folder: str) -> None:
        storage.create(join(folder, "x"), b"first")

        with pytest.raises(AlreadyExists):
            storage.create(join(folder, "x"), b"second")
        with pytest.raises(AlreadyExists):
            storage.create(join(folder, "x"), b"first")

        assert storage.read(join(folder, "x")) == b"first"

    def test_of_many_threads_one_creates(self, storage: Storage, folder: str) -> None:
        uri = join(folder, "lock")

        with ThreadPoolExecutor(16) as pool:
            told = list(pool.map(lambda i: create_and_tell(storage, uri, f"thread {i}"), range(32)))

        winners = [mark for mark in told if mark]
        assert len(winners) == 1
        assert storage.read(uri).decode() == winners[0]

    def test_of_many_processes_one_creates(self, storage: Storage, folder: str) -> None:
        uri = join(folder, "lock")
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        processes = [
            context.Process(target=_create_into, args=(results, storage, uri, f"process {i}")) for i in range(4)
        ]

        for process in processes:
            process.start()
        told = [results.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()

        winners = [mark for mark in told if mark]
        assert len(winners) == 1
        assert storage.read(uri).decode() == winners[0]

    def test_what_was_deleted_can_be_created_again(self, storage: Storage, folder: str) -> None:
        storage.create(join(folder, "x"), b"1")
        storage.delete(join(folder, "x"))

        assert not storage.exists(join(folder, "x"))
        storage.create(join(folder, "x"), b"2")
        assert storage.read(join(folder, "x")) == b"2"

    def test_deleting_what_is_not_there_is_no_error(self, storage: Storage, folder: str) -> None:
        storage.delete(join(folder, "nothing"))

    def test_what_is_not_there_is_not_found(self, storage: Storage, folder: str) -> None:
        storage.write(join(folder, "x/y"), b"1")

        for name in ("nothing", "x", "x/y/z"):
            uri = join(folder, name)
            assert not storage.exists(uri)
            with pytest.raises(NotFound, match=name):
                storage.read(uri)
            with pytest.raises(NotFound, match=name):
                storage.describe(uri)

    def test_objects_come_in_the_order_of_their_names(self, storage: Storage, folder: str) -> None:
        names = ["b", "a/z", "a/b/c", "a-b", "a.b", "B", "a/B", "ä", "a b"]
        for name in names:
            storage.write(join(folder, name), name.encode())

        found = list(storage.objects(folder))

        assert [storage.read(item.uri).decode() for item in found] == sorted(names, key=str.encode)
        assert [item.name for item in found] == sorted((item.name for item in found), key=str.encode)

    def test_a_folder_does_not_hold_what_only_begins_like_it(self, storage: Storage, folder: str) -> None:
        storage.write(join(folder, "run/x"), b"1")
        storage.write(join(folder, "run2/x"), b"1")
        storage.write(join(folder, "run.json"), b"1")

        assert [item.uri for item in storage.objects(join(folder, "run"))] == [join(folder, "run/x")]
        assert storage.names(join(folder, "run")) == ["x"]

    def test_names_are_those_of_objects_and_folders_directly_below(self, storage: Storage, folder: str) -> None:
        for name in ("b/1/2", "a", "b/2", "c.json"):
            storage.write(join(folder, name), b"1")

        assert storage.names(folder) == ["a", "b", "c.json"]
        assert storage.names(join(folder, "b")) == ["1", "2"]

    def test_a_folder_that_is_not_there_is_empty(self, storage: Storage, folder: str) -> None:
        assert storage.names(join(folder, "nothing")) == []
        assert list(storage.objects(join(folder, "nothing"))) == []

    def test_a_listing_sees_what_was_just_written_and_deleted(self, storage: Storage, folder: str) -> None:
        assert storage.names(folder) == []
        storage.write(join(folder, "x"), b"1")
        assert storage.names(folder) == ["x"]
        storage.create(join(folder, "y"), b"1")
        assert storage.names(folder) == ["x", "y"]
        storage.delete(join(folder, "x"))
        assert storage.names(folder) == ["y"]

    def test_another_content_is_another_generation(self, storage: Storage, folder: str) -> None:
        uri = join(folder, "x")
        storage.write(uri, b"one")
        first = storage.describe(uri)
        storage.write(uri, b"other")
        second = storage.describe(uri)

        assert first.generation != second.generation
        assert (first.bucket, first.name) == (second.bucket, second.name)
        assert (first.size, second.size) == (3, 5)
        assert storage.describe(uri) == second

    def test_a_listing_describes_like_describe(self, storage: Storage, folder: str) -> None:
        storage.write(join(folder, "x"), b"one")

        assert list(storage.objects(folder)) == [storage.describe(join(folder, "x"))]

    def test_an_object_knows_when_it_landed(self, storage: Storage, folder: str) -> None:
        before = datetime.now(UTC) - timedelta(seconds=5)
        storage.write(join(folder, "x"), b"1")
        landed = storage.describe(join(folder, "x")).landed_at

        assert landed.tzinfo is not None
        assert before <= landed <= datetime.now(UTC) + timedelta(seconds=5)

    def test_many_objects_are_read_in_the_order_asked_for(self, storage: Storage, folder: str) -> None:
        for number in range(40):
            storage.write(join(folder, f"{number} [{number}]*"), str(number).encode())
        asked = [join(folder, f"{number} [{number}]*") for number in (7, 39, 40, 0, 7)]

        assert storage.read_all(asked) == [b"7", b"39", None, b"0", b"7"]
        assert storage.read_all([]) == []

    def test_json_keeps_its_values_and_has_one_form(self, storage: Storage, folder: str) -> None:
        storage.write_json(join(folder, "x"), {"b": [1, 2.5, None, "ä"], "a": True})

        assert storage.read_json(join(folder, "x")) == {"a": True, "b": [1, 2.5, None, "ä"]}
        assert storage.read(join(folder, "x")).startswith(b'{\n  "a": true')
        with pytest.raises(ValueError, match="JSON"):
            storage.write_json(join(folder, "y"), float("nan"))
        assert not storage.exists(join(folder, "y"))
