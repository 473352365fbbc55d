"""Storage on a laptop: a `file://` URI is a file."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, unquote, urlsplit

from caudal.errors import AlreadyExists, NotFound
from caudal.storage.port import Storage, StoredObject

ASIDE = ".aside-"
"""What a process that is killed while it writes a file leaves has a name that begins so."""


def file_uri(path: Path) -> str:
    """The URI of a path."""
    return "file://" + quote(path.absolute().as_posix())


def file_path(uri: str) -> Path:
    """The path of a URI."""
    return Path(unquote(urlsplit(uri).path))


class FileStorage(Storage):
    """Files below a root; names in identities are relative to it, so they don't depend on where it lies."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        # By name as Cloud Storage sorts it: paths themselves sort differently, and not alike in every Python.
        for path in sorted(file_path(prefix).rglob("*"), key=Path.as_posix):
            if path.is_file() and not path.name.startswith("."):
                with suppress(NotFound):  # deleted since it was listed
                    yield self.describe(file_uri(path))

    def names(self, folder: str) -> list[str]:
        path = file_path(folder)
        return sorted(p.name for p in path.iterdir() if p.name[:1] != ".") if path.is_dir() else []

    def describe(self, uri: str) -> StoredObject:
        path = file_path(uri)
        with self.open(uri) as stream:
            generation = hashlib.file_digest(cast("BufferedReader", stream), "sha256").hexdigest()
            status = os.fstat(stream.fileno())
        name = path.relative_to(self._root) if path.is_relative_to(self._root) else path
        landed_at = datetime.fromtimestamp(status.st_mtime, UTC)
        return StoredObject(uri, "file", name.as_posix(), generation[:32], status.st_size, landed_at)

    @contextmanager
    def open(self, uri: str) -> Iterator[BinaryIO]:
        try:
            stream = file_path(uri).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound("there is no such file", where=uri, mend="check the path") from error
        with stream:
            yield stream

    @contextmanager
    def writer(self, uri: str) -> Iterator[BinaryIO]:
        path = file_path(uri)
        with _aside(path) as aside:
            with aside.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(path)

    def create(self, uri: str, data: bytes) -> None:
        path = file_path(uri)
        with _aside(path) as aside:
            with aside.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            # A link is the one way to make a file appear whole and fail when there is one: `xb` leaves an
            # empty file when the process is killed.
            try:
                os.link(aside, path)
            except FileExistsError as error:
                raise AlreadyExists("this file exists already", where=uri) from error

    def exists(self, uri: str) -> bool:
        return file_path(uri).is_file()

    def delete(self, uri: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            file_path(uri).unlink()


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A name beside `path` that no listing shows; whatever is left of it goes when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{ASIDE}{uuid.uuid4().hex}")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)
