"""The ledger: records that are written once, in storage's one exclusive operation.

A `Log` is a sequence of entries 000001.json, 000002.json, ...; an entry is appended by creating the next number
exclusively, so of two writers that read the same state one must look again. Promotions are a log, and so are
the holders of a run's lock. A load has an intent, created exclusively before it starts, and a record, written
when it is done; the warehouse settles any doubt between the two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

from caudal.errors import AlreadyExists, RunInProgress
from caudal.storage import Storage, join
from caudal.storage.port import to_json

Record = dict[str, Any]


class Log:
    """An append-only sequence of records."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self._storage = storage
        self._uri = uri

    def entries(self) -> list[Record]:
        """Every entry, oldest first."""
        return [self._storage.read_json(join(self._uri, name)) for name in self._storage.names(self._uri)]

    def newest_first(self) -> Iterator[tuple[int, Record]]:
        """Every entry with its number, newest first; each is read when it is asked for."""
        names = self._storage.names(self._uri)
        for number in range(len(names), 0, -1):
            yield number, self._storage.read_json(join(self._uri, names[number - 1]))

    def __len__(self) -> int:
        return len(self._storage.names(self._uri))

    def head(self) -> Record | None:
        """The newest entry."""
        return next((entry for _, entry in self.newest_first()), None)

    def append(self, entry: Record, *, after: int) -> None:
        """Appends an entry to a log that has exactly `after` entries.

        Raises:
            AlreadyExists: somebody else appended first; read the log again.
        """
        self._storage.create(join(self._uri, f"{after + 1:06d}.json"), to_json(entry))


class LoadLedger:
    """Which manifests were begun and which are done, for one contract."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self._storage = storage
        self._uri = uri

    def begin(self, manifest_id: str, intent: Record) -> Record:
        """Records the intent to load a manifest; when there is one already, that one is returned and holds."""
        uri = join(self._uri, manifest_id, "intent.json")
        try:
            self._storage.create(uri, to_json(intent))
        except AlreadyExists:
            return cast("Record", self._storage.read_json(uri))
        return cast("Record", json.loads(to_json(intent)))

    def finish(self, manifest_id: str, record: Record) -> None:
        """Records that a manifest's rows are in the lake; the last act of a load, and repeatable."""
        self._storage.write_json(join(self._uri, manifest_id, "done.json"), record)

    def begun(self) -> dict[str, Record]:
        """Intents that have no record of being done, by manifest id."""
        return {
            name: self._storage.read_json(join(self._uri, name, "intent.json"))
            for name in self._storage.names(self._uri)
            if not self._storage.exists(join(self._uri, name, "done.json"))
            and self._storage.exists(join(self._uri, name, "intent.json"))
        }

    def done(self) -> Iterator[Record]:
        """The records of loads that are done, in the order of their ids."""
        for name in self._storage.names(self._uri):
            uri = join(self._uri, name, "done.json")
            if self._storage.exists(uri):
                yield self._storage.read_json(uri)


class RunLock:
    """One run of a contract at a time.

    The lock names the execution that holds it, and is taken over only when that execution is no longer active.
    Its holders are a log, so two that find a dead holder can't both take over.
    """

    def __init__(self, storage: Storage, uri: str, is_active: Callable[[str], bool]) -> None:
        self._log = Log(storage, uri)
        self._is_active = is_active

    def acquire(self, execution: str) -> None:
        """Takes the lock.

        Raises:
            RunInProgress: another execution holds it and is active.
        """
        count = len(self._log)
        head = self._log.head()
        held = head is not None and not head["released"] and head["execution"] != execution
        if head is not None and held and self._is_active(head["execution"]):
            raise RunInProgress(
                "another run of this contract is active",
                where=head["execution"],
                mend="wait until it ends, or stop it",
            )
        try:
            self._log.append({"execution": execution, "released": False}, after=count)
        except AlreadyExists as error:
            raise RunInProgress(
                "another run of this contract has just started", mend="wait until it ends"
            ) from error

    def release(self, execution: str) -> None:
        """Gives the lock back; nothing happens when another execution has taken it over meanwhile."""
        count = len(self._log)
        head = self._log.head()
        if head is None or head["released"] or head["execution"] != execution:
            return
        with suppress(AlreadyExists):
            self._log.append({"execution": execution, "released": True}, after=count)
