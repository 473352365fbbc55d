"""Storage in the cloud: a `gs://` URI is an object in Cloud Storage."""

from __future__ import annotations

import mimetypes
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from caudal.errors import AlreadyExists, NotFound
from caudal.storage.port import Storage, StoredObject

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem

_WRITER = "caudal-writer"


class GcsStorage(Storage):
    """Objects in Cloud Storage, by the credentials of the environment (Application Default Credentials).

    It holds no connection, so it can travel to another process; gcsfs keeps one client a process.
    """

    @property
    def _files(self) -> GCSFileSystem:
        # The plain file system: gcsfs's default asks every bucket for its kind by gRPC first.
        from gcsfs.core import GCSFileSystem

        token = "anon" if os.environ.get("STORAGE_EMULATOR_HOST") else "google_default"
        return GCSFileSystem(token=token, use_listings_cache=False, consistency="md5")

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        folder = prefix.rstrip("/") + "/"
        found = self._files.find(prefix, detail=True)
        for name, facts in sorted(found.items(), key=lambda item: item[0].encode()):
            uri = f"gs://{name}"
            if uri.startswith(folder) and not name.endswith("/"):
                yield _stored(facts)

    def names(self, folder: str) -> list[str]:
        try:
            paths = self._files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        here = folder.rstrip("/") + "/"
        below = {
            f"gs://{path.rstrip('/')}".removeprefix(here) for path in paths if f"gs://{path}".startswith(here)
        }
        return sorted(below - {""})

    def describe(self, uri: str) -> StoredObject:
        return _stored(self._info(uri))

    def _info(self, uri: str) -> dict[str, Any]:
        try:
            facts = self._files.info(uri)
        except FileNotFoundError as error:
            raise _not_found(uri) from error
        if facts["type"] == "directory":
            raise _not_found(uri)
        return cast("dict[str, Any]", facts)

    @contextmanager
    def open(self, uri: str) -> Iterator[BinaryIO]:
        before = self._info(uri)["generation"]
        with self._files.open(uri, "rb") as stream:
            yield cast("BinaryIO", stream)
        # A stream fetches range after range, and gcsfs can't pin them to a generation.
        if self._info(uri)["generation"] != before:
            raise NotFound("the object was replaced while it was read", where=uri, mend="read it again")

    def read(self, uri: str) -> bytes:
        try:
            return cast("bytes", self._files.cat_file(uri))
        except FileNotFoundError as error:
            raise _not_found(uri) from error

    def read_all(self, uris: Sequence[str]) -> list[bytes | None]:
        # Not `cat`: it takes names with `*`, `?` or `[` for patterns.
        found: list[bytes | None] = []
        for answer in self._files.cat_ranges(list(uris), None, None):
            if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
                raise answer
            found.append(answer if isinstance(answer, bytes) else None)
        return found

    @contextmanager
    def writer(self, uri: str) -> Iterator[BinaryIO]:
        stream = self._files.open(uri, "wb")
        try:
            yield cast("BinaryIO", stream)
        except BaseException:
            # Closing would finish the upload: the session is given up instead, and the stream counts as closed.
            with suppress(OSError):
                stream.discard()
            stream.closed = True
            raise
        stream.close()

    def write(self, uri: str, data: bytes) -> None:
        self._files.pipe_file(uri, data, content_type=_content_type(uri))

    def create(self, uri: str, data: bytes) -> None:
        mark = uuid.uuid4().hex
        try:
            self._files.pipe_file(
                uri, data, mode="create", metadata={_WRITER: mark}, content_type=_content_type(uri)
            )
        except FileExistsError as error:
            # A request whose answer was lost is sent again, and then finds the object that it made itself.
            with suppress(NotFound):
                if self._info(uri).get("metadata", {}).get(_WRITER) == mark:
                    return
            raise AlreadyExists("this object exists already", where=uri) from error

    def exists(self, uri: str) -> bool:
        try:
            self._info(uri)
        except NotFound:
            return False
        return True

    def delete(self, uri: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(uri)


def _stored(facts: dict[str, Any]) -> StoredObject:
    bucket, name = facts["name"].split("/", 1)
    return StoredObject(
        uri=f"gs://{bucket}/{name}",
        bucket=bucket,
        name=name,
        generation=str(facts["generation"]),
        size=int(facts["size"]),
        landed_at=datetime.fromisoformat(facts["timeCreated"]),
    )


def _content_type(uri: str) -> str:
    return mimetypes.guess_type(uri)[0] or "application/octet-stream"


def _not_found(uri: str) -> NotFound:
    return NotFound("there is no such object", where=uri, mend="check the bucket and the name")
