"""The Cloud Storage adapter passes the suites that files pass."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from caudal.errors import AlreadyExists, NotFound
from caudal.storage import Storage, join
from caudal.storage.gcs import GcsStorage
from tests.contract_suites.ledger import FolderSuite, LedgerSuite
from tests.contract_suites.storage import StorageSuite


class TestGcsStorage(StorageSuite):
    pass


class TestLedgerOnGcs(LedgerSuite):
    pass


class TestFoldersOnGcs(FolderSuite):
    pass


def test_a_generation_is_cloud_storages_own(storage: Storage, folder: str) -> None:
    storage.write(join(folder, "x"), b"1")
    first = storage.describe(join(folder, "x"))
    storage.write(join(folder, "x"), b"1")
    second = storage.describe(join(folder, "x"))

    assert first.bucket == "caudal-tests"
    assert first.name == join(folder, "x").removeprefix("gs://caudal-tests/")
    assert int(second.generation) > int(first.generation)
    assert first.landed_at <= second.landed_at <= datetime.now(UTC)


def test_an_object_that_changes_while_it_is_read_is_no_good_read(storage: Storage, folder: str) -> None:
    storage.write(join(folder, "x"), b"first")

    def read_slowly() -> None:
        with storage.open(join(folder, "x")) as stream:
            stream.read(1)
            storage.write(join(folder, "x"), b"other")

    with pytest.raises(NotFound, match="replaced"):
        read_slowly()


def test_a_create_whose_answer_was_lost_is_still_ours(
    storage: Storage, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gcsfs.core import GCSFileSystem

    send = GCSFileSystem.pipe_file

    def answer_is_lost(files: Any, *arguments: Any, **named: Any) -> Any:
        send(files, *arguments, **named)
        return send(files, *arguments, **named)  # gcsfs sends the request again

    monkeypatch.setattr(GCSFileSystem, "pipe_file", answer_is_lost)

    storage.create(join(folder, "x"), b"mine")
    with pytest.raises(AlreadyExists):
        storage.create(join(folder, "x"), b"mine")


@pytest.mark.parametrize("act", ["write", "create"])
def test_json_says_that_it_is_json(storage: Storage, folder: str, act: str) -> None:
    getattr(storage, act)(join(folder, "x.json"), b"{}")

    assert isinstance(storage, GcsStorage)
    assert storage._info(join(folder, "x.json"))["contentType"] == "application/json"


def test_without_an_emulator_only_real_credentials_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr("gcsfs.core.GCSFileSystem", lambda **named: seen.update(named))

    GcsStorage()._files  # noqa: B018

    assert seen["token"] == "google_default"
