"""Ingest calls that overlap, deterministically: at each call of storage or warehouse another may go on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.errors import NotFound, RowsRefused
from caudal.ledger import LoadLedger, Manifests
from caudal.step import Run, StepContext
from caudal.storage import Storage, join
from caudal.tables import Table
from caudal.warehouse import LoadOutcome
from ingest_function.step import ingest
from tests.workflow.cloud import Buckets

HEADER = "payment,paid_at,amount,items,rate,channel,abroad,customer,refunded,disputed\n"
ROW = "{},2024-01-01T10:00:00Z,12.50,2,0.5,web,true,{},,no\n"
POISON = "the warehouse won't have me"


class Killed(BaseException):
    """The process is gone: nothing of it runs on, and nothing catches this."""


class Call(threading.Thread):
    """One call of the step, in turns: it goes on from point to point when it is told to."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.answer: dict[str, Any] | None = None
        self.error: BaseException | None = None
        self.points: list[str] = []
        self._place = place
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = False
        self.start()

    def run(self) -> None:
        self._turn.acquire()
        try:
            if not self._killed:
                self.answer = ingest(self._place.context(self))
        except BaseException as error:
            self.error = error
        self._place.over.add(self)
        self._back.release()

    def point(self, name: str) -> None:
        """Waits for the next turn; in a call that is killed it does not come."""
        if not self._killed:
            self.points.append(name)
            self._back.release()
            self._turn.acquire()
        if self._killed:
            raise Killed

    def goes_on(self, points: int | None = None) -> Call:
        """Lets it go on by so many points, or to its end."""
        while self not in self._place.over and points != 0:
            self._turn.release()
            self._back.acquire()
            points = None if points is None else points - 1
        return self

    def is_killed(self) -> None:
        self._killed = True
        self.goes_on()


class Watched:
    """A port whose calls are points."""

    def __init__(self, port: Any, call: Call) -> None:
        self._port, self._call = port, call

    def __getattr__(self, name: str) -> Any:
        whole = getattr(self._port, name)

        def watched(*arguments: Any) -> Any:
            self._call.point(name)
            return whole(*arguments)

        return watched


class WatchedStorage(Watched):
    @contextmanager
    def writer(self, uri: str) -> Iterator[BinaryIO]:
        with self._port.writer(uri) as stream:
            yield stream
            self._call.point("written")


class Warehouse:
    """A lake in memory that loads once under an id, and refuses files with a poisoned row."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.loads: dict[str, int] = {}
        self.lake: Counter[tuple[str, int]] = Counter()

    def ensure_tables(self, tables: Sequence[Table]) -> None:
        """They are there."""

    def load(
        self, table: Table, files: Sequence[str], load_id: str, between: Callable[[str], None] = lambda _: None
    ) -> LoadOutcome:
        if load_id in self.loads:
            return LoadOutcome(self.loads[load_id], repeated=True)
        between("files are read")
        rows = []
        for uri in files:
            if not self._storage.exists(uri):
                raise NotFound("there is no such file", where=uri)
            with self._storage.open(uri) as stream:
                rows += pq.read_table(stream).to_pylist()
        between("rows go in")
        if any(row["customer"] == POISON for row in rows):
            raise RowsRefused("a value is bad", where=table.sql_name)
        if load_id in self.loads:
            return LoadOutcome(self.loads[load_id], repeated=True)
        self.loads[load_id] = len(rows)
        self.lake.update((row["_source_uri"].rsplit("/", 1)[-1], row["payment"]) for row in rows)
        return LoadOutcome(len(rows), repeated=False)


class WatchedWarehouse(Watched):
    def load(self, table: Table, files: Sequence[str], load_id: str) -> LoadOutcome:
        self._call.point("load")
        outcome: LoadOutcome = self._port.load(table, files, load_id, self._call.point)
        return outcome


class Place:
    """Storage and a lake in memory, on which calls work together."""

    def __init__(self, contract: Contract, environment: Environment) -> None:
        self.contract, self.environment = contract, environment
        self.storage = Buckets()
        self.warehouse = Warehouse(self.storage)
        self.over: set[Call] = set()
        self.landed: Counter[tuple[str, int]] = Counter()

    def land(self, name: str, *payments: int, customer: str = "Ann") -> None:
        text = HEADER + "".join(ROW.format(number, customer) for number in payments)
        self.storage.write(join(self.environment.landing(self.contract.name), name), text.encode())
        if customer != POISON:
            self.landed.update((name, number) for number in payments)

    def context(self, call: Call | None = None) -> StepContext:
        as_of = datetime(2024, 1, 1, tzinfo=UTC)
        run = Run("now", self.contract.name, as_of, self.environment.runs(self.contract.name, "now"), "")
        context = StepContext(self.contract, self.environment, run)
        vars(context)["storage"] = self.storage if call is None else WatchedStorage(self.storage, call)
        vars(context)["warehouse"] = self.warehouse if call is None else WatchedWarehouse(self.warehouse, call)
        return context

    def call(self) -> Call:
        return Call(self)

    def ingest(self) -> dict[str, Any]:
        """One more call, undisturbed."""
        return ingest(self.context())

    def known(self) -> Manifests:
        return LoadLedger(self.storage, self.environment.ledger(self.contract.name, "loads")).look()

    def staged(self) -> list[str]:
        return [found.uri for found in self.storage.objects(self.environment.staging(self.contract.name))]

    def quarantined(self) -> set[str]:
        """The landed files of which a copy is in quarantine."""
        folder = self.environment.quarantine(self.contract.name)
        return {found.uri.rsplit("/", 1)[-1] for found in self.storage.objects(folder)} - {"reason.json"}
