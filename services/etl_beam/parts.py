"""How parts of tables cross a shuffle: as they are, or as places in a file.

The runner of a cluster keeps a shuffle on disks. Beam's in-memory runner keeps it in the process, and copies it
from hand to hand. Where the environment names a folder (`etl.spill`), a bundle writes its parts into one file
there, and only their places are shuffled: Hohpe and Woolf's claim check (Enterprise Integration Patterns, 2003).

At 1.75 million wallet rows that takes 140 MB of memory and a seventh of the CPU time off.
"""

from __future__ import annotations

import json
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from etl_beam.shuffle import decode, encode

if TYPE_CHECKING:
    import pyarrow as pa

    from caudal.step import StepContext


class Parts(ABC):
    """Sends parts of tables in one transform, and takes them in the next."""

    @abstractmethod
    def send(self, table: pa.Table) -> tuple[bytes, int]:
        """What is shuffled in the table's stead, and how many bytes the part has."""

    @abstractmethod
    def take(self, sent: Iterable[bytes]) -> pa.Table:
        """All parts of a shard as one table."""

    @abstractmethod
    def close(self) -> None:
        """Ends a bundle: from here on others can take what it has sent."""


class InlineParts(Parts):
    """The bytes themselves are shuffled, compressed: whoever carries them copies them and sends them far.

    Against LZ4, at 1.75 million wallet rows, Zstandard took 37 % fewer bytes and no more CPU time.
    """

    def send(self, table: pa.Table) -> tuple[bytes, int]:
        part = encode(table, "zstd").to_pybytes()
        return part, len(part)

    def take(self, sent: Iterable[bytes]) -> pa.Table:
        return decode(sent)

    def close(self) -> None:
        """Nothing is open."""


class SpilledParts(Parts):
    """The bytes lie in files of a folder, one a bundle; a place is (file, offset, length) as JSON.

    They are not compressed: that would cost more than to write them. A bundle that is tried again writes another
    file, and nobody is told the places in the first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._stream: BinaryIO | None = None
        self._end = 0

    def send(self, table: pa.Table) -> tuple[bytes, int]:
        if self._stream is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._name, self._end = uuid.uuid4().hex, 0
            self._stream = (self._folder / self._name).open("xb")
        part = encode(table)
        self._stream.write(part)
        place = json.dumps([self._name, self._end, part.size]).encode()
        self._end += part.size
        return place, part.size

    def take(self, sent: Iterable[bytes]) -> pa.Table:
        return decode(self._read(sent))

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read(self, sent: Iterable[bytes]) -> Iterator[bytes]:
        streams: dict[str, BinaryIO] = {}
        try:
            for place in sent:
                name, offset, length = json.loads(place)
                if name not in streams:
                    streams[name] = (self._folder / name).open("rb", buffering=0)
                streams[name].seek(offset)
                yield streams[name].read(length)
        finally:
            for stream in streams.values():
                stream.close()


def spill_folder(context: StepContext) -> Path | None:
    """Where a contract's parts are spilled; None where they are shuffled themselves."""
    folder = context.environment.etl.spill
    return Path(folder) / context.contract.name if folder else None


@contextmanager
def spilling(context: StepContext) -> Iterator[None]:
    """Whatever is spilled within the block is gone afterwards, and so is what a killed run left.

    A contract has one run at a time.
    """
    folder = spill_folder(context)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
