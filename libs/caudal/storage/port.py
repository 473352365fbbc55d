"""What every storage adapter does. All paths are URIs; an object is visible whole or not at all."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from caudal.errors import NotFound


@dataclass(frozen=True)
class StoredObject:
    """One object and its generation.

    Attributes:
        bucket: the bucket; `file` on a laptop.
        name: the object's name in its bucket; on a laptop its path below the environment's root.
        generation: Cloud Storage's generation; on a laptop the hash of the content.
        size: in bytes.
        landed_at: when this generation was written.
    """

    uri: str
    bucket: str
    name: str
    generation: str
    size: int
    landed_at: datetime


class Storage(ABC):
    """Objects under URIs.

    A retry that writes the same bytes again is harmless everywhere; what must happen once is created.
    """

    @abstractmethod
    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below a folder, in the order of names; none when the folder is absent."""

    @abstractmethod
    def describe(self, uri: str) -> StoredObject:
        """One object's generation and size.

        Raises:
            NotFound: there is no such object.
        """

    @abstractmethod
    def open(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """A seekable stream to read from.

        Raises:
            NotFound: there is no such object.
        """

    @abstractmethod
    def writer(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """A stream to write to; the object appears, or is replaced, only when the block ends without error."""

    @abstractmethod
    def create(self, uri: str, data: bytes) -> None:
        """Creates an object that must not exist yet; of many callers exactly one succeeds.

        Raises:
            AlreadyExists: there is one.
        """

    @abstractmethod
    def exists(self, uri: str) -> bool:
        """Whether there is such an object."""

    @abstractmethod
    def delete(self, uri: str) -> None:
        """Deletes an object; deleting what is not there is no error."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """The names (not URIs) of what lies directly in a folder, sorted: objects and folders alike."""

    def read(self, uri: str) -> bytes:
        """A whole object.

        Raises:
            NotFound: there is no such object.
        """
        with self.open(uri) as stream:
            return stream.read()

    def read_all(self, uris: Sequence[str]) -> list[bytes | None]:
        """Whole objects in the order asked for, None where there is none; in the cloud side by side."""
        found: list[bytes | None] = [None] * len(uris)
        for index, uri in enumerate(uris):
            with suppress(NotFound):
                found[index] = self.read(uri)
        return found

    def write(self, uri: str, data: bytes) -> None:
        """Writes a whole object, replacing one that is there."""
        with self.writer(uri) as stream:
            stream.write(data)

    def read_json(self, uri: str) -> Any:
        """A JSON object's value."""
        return json.loads(self.read(uri))

    def write_json(self, uri: str, value: object) -> None:
        """Writes a value as canonical JSON."""
        self.write(uri, to_json(value))


def to_json(value: object) -> bytes:
    """The one form in which Caudal writes JSON: sorted, indented, one final newline; NaN is refused."""
    return (json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def join(uri: str, *parts: str) -> str:
    """A URI below another."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])
