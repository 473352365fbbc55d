"""Committed folders: a set of files that readers see whole or not at all.

The files are written first, below a prefix of their own; then the manifest (names, sizes, hashes) is created
exclusively at the path that the folder's identity gives. Readers follow the manifest and nothing else, so there
is no rename, on a laptop or in Cloud Storage. Two writers of one identity write equal bytes; the first manifest
wins, and the other's files are garbage that nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caudal.errors import AlreadyExists, NotFound, PackageError
from caudal.storage import Storage, join
from caudal.storage.port import to_json

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Entry:
    """One file of a committed folder: its place below the folder, size in bytes and SHA-256."""

    path: str
    size: int
    sha256: str


class CommittedFolder:
    """A folder whose manifest exists."""

    def __init__(self, storage: Storage, uri: str, manifest: Mapping[str, Any]) -> None:
        self._storage = storage
        self.uri = uri
        self.facts: Mapping[str, Any] = manifest["facts"]
        self.entries = {name: Entry(**entry) for name, entry in manifest["files"].items()}

    def file_uri(self, name: str) -> str:
        """Where a file lies.

        Raises:
            PackageError: the folder has no such file.
        """
        if name not in self.entries:
            raise PackageError(f"the folder has no file '{name}'", where=self.uri, mend="make the folder again")
        return join(self.uri, self.entries[name].path)

    def read(self, name: str) -> bytes:
        """A file's content, checked against the manifest.

        Raises:
            PackageError: the file is missing or altered.
        """
        uri = self.file_uri(name)
        entry = self.entries[name]
        try:
            data = self._storage.read(uri)
        except NotFound as error:
            raise PackageError(
                "a file that the manifest names is missing",
                where=uri,
                mend="delete the folder and make it again",
            ) from error
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise PackageError(
                "the file is not the one that the manifest names",
                where=uri,
                mend="delete the folder and make it again",
            )
        return data

    def read_json(self, name: str) -> Any:
        """A JSON file's value, checked against the manifest."""
        return json.loads(self.read(name))


class FolderWriter:
    """Files on their way into a committed folder."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self._storage = storage
        self._uri = uri
        self._attempt = uuid.uuid4().hex[:12]
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, data: bytes) -> None:
        """Adds a file from memory."""
        entry = Entry(f"{self._attempt}/{name}", len(data), hashlib.sha256(data).hexdigest())
        self._storage.write(join(self._uri, entry.path), data)
        self._entries[name] = entry

    def reserve(self, name: str) -> str:
        """The URI at which the caller writes a large file itself, before it calls `added`."""
        return join(self._uri, self._attempt, name)

    def added(self, name: str) -> None:
        """Takes up a file that was written at its reserved URI."""
        path = f"{self._attempt}/{name}"
        size = 0
        checksum = hashlib.sha256()
        with self._storage.open(join(self._uri, path)) as stream:
            while block := stream.read(1 << 20):
                size += len(block)
                checksum.update(block)
        self._entries[name] = Entry(path, size, checksum.hexdigest())

    def commit(self, facts: Mapping[str, Any]) -> CommittedFolder:
        """Makes the folder visible; when another writer was first, theirs is returned and ours is removed."""
        manifest = {
            "facts": dict(facts),
            "files": {
                name: {"path": entry.path, "size": entry.size, "sha256": entry.sha256}
                for name, entry in sorted(self._entries.items())
            },
        }
        try:
            self._storage.create(join(self._uri, MANIFEST), to_json(manifest))
        except AlreadyExists:
            winner = open_folder(self._storage, self._uri)
            # The manifest may be our own: a request whose answer was lost is sent again.
            named = {entry.path for entry in winner.entries.values()}
            for entry in self._entries.values():
                if entry.path not in named:
                    self._storage.delete(join(self._uri, entry.path))
            return winner
        return CommittedFolder(self._storage, self._uri, manifest)


def open_folder(storage: Storage, uri: str) -> CommittedFolder:
    """Opens a committed folder.

    Raises:
        NotFound: it was never committed.
        PackageError: its manifest can't be read.
    """
    data = storage.read(join(uri, MANIFEST))
    try:
        return CommittedFolder(storage, uri, json.loads(data))
    except (ValueError, KeyError, TypeError) as error:
        raise PackageError(
            "the manifest can't be read",
            where=join(uri, MANIFEST),
            mend="delete the folder and make it again",
        ) from error


def is_committed(storage: Storage, uri: str) -> bool:
    """Whether the folder's manifest exists."""
    return storage.exists(join(uri, MANIFEST))
