"""The ledger: records that are written once, in storage's one exclusive operation.

A `Log` is a sequence of entries 000001.json, 000002.json, ...; an entry is appended by creating the next number
exclusively, so of two writers that read the same state one must look again. Promotions are a log, and so are
the holders of a run's lock. Loads are one too: each has an intent, entered before it starts, and an outcome; the
warehouse settles any doubt between the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from caudal.errors import AlreadyExists, NotFound, RunInProgress, UsageError
from caudal.storage import Storage, join
from caudal.storage.port import to_json

Record = dict[str, Any]


def _read(storage: Storage, uris: Sequence[str]) -> list[Any]:
    """JSON objects that a listing has just named."""
    found = []
    for uri, data in zip(uris, storage.read_all(uris) if uris else (), strict=True):
        if data is None:
            raise NotFound("a record of the ledger has gone", where=uri, mend="restore it: none is ever deleted")
        found.append(json.loads(data))
    return found


class Log:
    """An append-only sequence of records."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self._storage = storage
        self._uri = uri

    def entries(self, after: int = 0) -> list[Record]:
        """The entries that follow the first `after`, oldest first."""
        names = self._storage.names(self._uri)[after:]
        return _read(self._storage, [join(self._uri, name) for name in names])

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


@dataclass(frozen=True)
class Manifests:
    """The manifests of one contract at one look, by their numbers.

    Attributes:
        entered: how many there are.
        begun: intents that are not settled.
        settled: intents with what became of them: `rows` in the lake, or `abandoned`, the reason.
    """

    entered: int
    begun: Mapping[int, Record]
    settled: Mapping[int, Record]

    def done(self) -> Iterator[Record]:
        """The manifests whose rows are in the lake, oldest first."""
        return (record for record in self.settled.values() if "abandoned" not in record)

    def taken(self) -> set[str]:
        """Ids of the loads that are in the lake, or on their way."""
        return {load["load_id"] for record in chain(self.done(), self.begun.values()) for load in record["loads"]}

    def refusals(self) -> dict[str, list[str]]:
        """Of each load that was in a refused manifest: the reasons, oldest first."""
        found: dict[str, list[str]] = {}
        for record in self.settled.values():
            for load in record["loads"] if record.get("refused") else ():
                found.setdefault(load["load_id"], []).append(record["abandoned"])
        return found


class LoadLedger:
    """The manifests of one contract: a log of intents, each settled once.

        <uri>/000000/000001.intent.json     what is to be loaded, created exclusively under the next number
        <uri>/000000/000001.outcome.json    the same with what became of it, created exclusively
        <uri>/closed/000000.json            the outcomes of a full folder, in one object

    Who enters an intent has read all before it, so no load is in two that hold: of two that read the same, one
    must look again. Nothing is ever changed or deleted. Readers take a closed folder from its one object, so a
    look costs two listings, one read a closed folder, and what the last folder holds.
    """

    FOLDER = 100
    """Manifests in a folder."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self._storage = storage
        self._uri = uri
        self._closed: int | None = None
        self._intents: dict[int, Record] = {}
        self._settled: dict[int, Record] = {}

    def look(self) -> Manifests:
        """Reads what has come since this object last looked.

        Raises:
            UsageError: what lies there is not in this form.
        """
        if self._closed is None:
            self._closed = self._read_closed()
        unsettled = (number for number in self._intents if number not in self._settled)
        folder = self._folder(min(unsettled, default=len(self._intents) + 1))
        while self._read_open(folder) == self.FOLDER:
            folder += 1
        if not self._intents:
            self._refuse_another_form()
        begun = {number: intent for number, intent in self._intents.items() if number not in self._settled}
        return Manifests(len(self._intents), begun, dict(sorted(self._settled.items())))

    def begin(self, intent: Record, *, after: int) -> int:
        """Enters the intent to load a manifest, when `after` are entered; returns its number.

        Raises:
            AlreadyExists: somebody else entered one first; look again.
        """
        number = after + 1
        self._storage.create(self._name(number, "intent"), to_json(intent))
        self._intents[number] = intent
        return number

    def settle(self, number: int, record: Record) -> Record:
        """Records what became of a manifest, the last act of a load; the first record holds, and is returned."""
        uri = self._name(number, "outcome")
        try:
            self._storage.create(uri, to_json(record))
        except AlreadyExists:
            record = self._storage.read_json(uri)
        self._settled[number] = record
        return record

    def close(self) -> None:
        """Writes the one object of each full folder whose manifests are all settled; repeatable."""
        self._closed = self._read_closed() if self._closed is None else self._closed
        while True:
            first = self._closed * self.FOLDER + 1
            numbers = range(first, first + self.FOLDER)
            if any(number not in self._settled for number in numbers):
                return
            outcomes = to_json([self._settled[number] for number in numbers])
            with suppress(AlreadyExists):
                self._storage.create(self._closed_name(self._closed), outcomes)
            self._closed += 1

    def done(self) -> Iterator[Record]:
        """The records of manifests whose rows are in the lake, oldest first."""
        return self.look().done()

    def _read_closed(self) -> int:
        """Reads the closed folders, and counts them: one is closed after another."""
        count = len(self._storage.names(join(self._uri, "closed")))
        folders = _read(self._storage, [self._closed_name(folder) for folder in range(count)])
        self._settled = dict(enumerate(chain.from_iterable(folders), start=1))
        self._intents = dict(self._settled)
        return count

    def _read_open(self, folder: int) -> int:
        """Reads what is new in a folder; returns how many intents it holds."""
        names = self._storage.names(join(self._uri, f"{folder:06d}"))
        kinds: dict[str, list[int]] = {"intent": [], "outcome": []}
        for name in names:
            number, kind, _ = name.split(".")
            kinds[kind].append(int(number))
        settled = [number for number in kinds["outcome"] if number not in self._settled]
        known = {*self._intents, *kinds["outcome"]}
        begun = [number for number in kinds["intent"] if number not in known]
        wanted = [self._name(n, "outcome") for n in settled] + [self._name(n, "intent") for n in begun]
        records = _read(self._storage, wanted)
        self._settled.update(zip(settled, records, strict=False))
        self._intents.update(zip([*settled, *begun], records, strict=True))
        return len(kinds["intent"])

    def _refuse_another_form(self) -> None:
        # Taken for an empty ledger, it would have everything loaded a second time.
        strange = [n for n in self._storage.names(self._uri) if not re.fullmatch("[0-9]{6}|closed", n)]
        if strange:
            raise UsageError(
                f"the ledger of loads was written by an earlier version: it holds {strange[0]}",
                where=self._uri,
                mend="start over with a new root, or go on with the version that wrote it",
            )

    def _folder(self, number: int) -> int:
        return (number - 1) // self.FOLDER

    def _name(self, number: int, kind: str) -> str:
        return join(self._uri, f"{self._folder(number):06d}", f"{number:06d}.{kind}.json")

    def _closed_name(self, folder: int) -> str:
        return join(self._uri, "closed", f"{folder:06d}.json")


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
