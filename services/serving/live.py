"""What is live: the promotion ledger's head, looked at during requests, and the models that it names.

There is no background thread: a service in the cloud is given CPU only while it answers. A request that finds the
last look old enough starts the next one, beside the requests; nobody waits for it, unless the last look is very
old, and then not for long. A new version is loaded and warmed off the event loop, and then takes the place of the
old one in a single assignment: a request keeps the models with which it began.

Champion, challenger and published states are looked after one by one: what can't be had of one keeps nothing from
the others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from caudal.entity_state import Publications, entities
from caudal.ledger import Log
from caudal.package import open_package
from caudal.promotions import Promotion, Promotions
from serving.models import ServedModel
from serving.states import EntityStates, NoStates, SnapshotStates

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.storage import Storage
    from serving.telemetry import Telemetry

PATIENCE = 2.0
"""Seconds, from the start of a look, that requests wait for it: after them what is live answers."""

START_PATIENCE = 20.0
"""Seconds that a server waits for its first look before it listens."""

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
_NO_STATES = NoStates()

T = TypeVar("T")


@dataclass(frozen=True)
class Absence:
    """Why nothing is live.

    Attributes:
        kind: for programs.
        words: for people.
    """

    kind: str
    words: str


NOTHING_LIVE = Absence("nothing_live", "no model is live yet")
NOT_LOADED = Absence("not_loaded", "what is live could not be loaded; the server's log says why")
NOT_KNOWN = Absence("not_known", "what is live is not known yet: the ledger has not answered")


@dataclass(frozen=True)
class Live:
    """What answers requests, as of one look at the ledger.

    Attributes:
        promoted: the champion's entry.
        states: what is known of entities.
    """

    champion: ServedModel
    challenger: ServedModel | None
    promoted: Promotion
    states: EntityStates

    @property
    def models(self) -> tuple[ServedModel, ServedModel | None]:
        """Champion and challenger."""
        return self.champion, self.challenger

    @property
    def windowed(self) -> bool:
        """Whether the champion wants aggregates of entities."""
        return bool(self.champion.contract.features.windows)


class LiveModels:
    """Follows the ledger of one contract."""

    def __init__(
        self,
        contract: Contract,
        environment: Environment,
        storage: Storage,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contract = contract
        self._environment = environment
        self._storage = storage
        self._telemetry = telemetry
        self._clock = clock
        uri = environment.ledger(contract.name, "promotions")
        self._log = Log(storage, uri)
        self._promotions = Promotions(storage, uri)
        self._publications = Publications(storage, environment, contract)
        settings = environment.serving
        self._every = settings.look_every.total_seconds()
        self._wait_after = max(settings.wait_after.total_seconds(), self._every)
        self._largest_batch = settings.largest_batch
        self._live: Live | None = None
        self._absence = NOT_KNOWN
        self._looked_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._late = False
        # What the last looks found; only they touch it, one at a time.
        self._entries = -1
        self._standing: tuple[Promotion | None, Promotion | None] = (None, None)
        self._challenger_again = _Again(clock)
        self._published: _Published | None = None
        self._states_again = _Again(clock)

    @property
    def live(self) -> Live | None:
        """What is live, as far as this server knows; None while there is nothing."""
        return self._live

    @property
    def absence(self) -> Absence:
        """Why nothing is live; only while nothing is."""
        return self._absence

    async def current(self, patience: float = PATIENCE) -> Live | None:
        """What is live; starts a look at the ledger when one is due.

        Args:
            patience: seconds, from its start, that a look is waited for where it must be.
        """
        age = self._clock() - self._looked_at
        if age >= self._every:
            look = self._look_once()
            if self._live is None or age >= self._wait_after:
                await self._wait(look, patience)
        return self._live

    async def close(self) -> None:
        """Waits, not for long, for a look that is going on."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=PATIENCE)

    async def _wait(self, look: asyncio.Task[None], patience: float) -> None:
        left = self._began + patience - self._clock()
        if left > 0:
            # Unlike `wait_for`, this ends no look that takes longer.
            await asyncio.wait({look}, timeout=left)
        if not look.done() and not self._late:
            self._late = True
            self._telemetry.look_failed(TimeoutError(f"no answer within {patience:g} s; the look goes on"))

    def _look_once(self) -> asyncio.Task[None]:
        if self._task is None or self._task.done():
            self._began, self._late = self._clock(), False
            self._task = asyncio.create_task(self._look())
        return self._task

    async def _look(self) -> None:
        try:
            found = await _beside(self._read)
        except Exception as error:
            # Whatever is wrong with the ledger or a package: what was live goes on answering.
            self._telemetry.look_failed(error)
            self._absence = NOT_LOADED
        else:
            self._absence = NOTHING_LIVE
            if found is not None:
                before, self._live = self._live, found
                if before is None or before.models != found.models:
                    self._telemetry.took_up(found)
        # Counted from the end: a slow look is not followed by the next at once.
        self._looked_at = self._clock()

    def _read(self) -> Live | None:
        """What is live now, or None when nothing changed; in a thread."""
        # The ledger only grows: its length, one listing, says whether there is anything to read.
        entries = len(self._log)
        if entries != self._entries:
            self._standing = self._promotions.standing()
            self._entries = entries
        promoted, named = self._standing
        if promoted is None:
            return None
        champion = self._known(promoted) or self._load(promoted)
        live = Live(champion, self._challenger(named), promoted, self._states(champion.contract))
        return live if live != self._live else None

    def _known(self, promotion: Promotion) -> ServedModel | None:
        for model in self._live.models if self._live is not None else ():
            if model is not None and model.version == promotion.version:
                return model
        return None

    def _load(self, promotion: Promotion) -> ServedModel:
        return ServedModel(open_package(self._storage, promotion.package), self._largest_batch)

    def _challenger(self, named: Promotion | None) -> ServedModel | None:
        """The challenger, or None while it can't be loaded: that is no reason to keep an old champion."""
        if named is None:
            return None
        known = self._known(named)
        if known is not None or not self._challenger_again.due(named.version):
            return known
        try:
            return self._load(named)
        except Exception as error:
            self._telemetry.look_failed(error)
            self._challenger_again.failed(named.version)
            return None

    def _states(self, contract: Contract) -> EntityStates:
        """What is published for the contract's windows; what was, or nothing, while that can't be read."""
        wanted = {entity: (contract.columns[entity].type, *names) for entity, names in entities(contract).items()}
        if not wanted:
            return _NO_STATES
        known = self._published if self._published is not None and self._published.wanted == wanted else None
        count = -1
        try:
            count = len(self._publications)
            if (known is None or known.count != count) and self._states_again.due((wanted, count)):
                newest = self._publications.newest()
                states = _NO_STATES if newest is None else SnapshotStates(contract, newest)
                known = self._published = _Published(wanted, count, states)
        except Exception as error:
            self._telemetry.look_failed(error, "states")
            self._states_again.failed((wanted, count))
        return known.states if known is not None else _NO_STATES


@dataclass(frozen=True)
class _Published:
    """What was loaded of the publications.

    Attributes:
        wanted: the names of features by entity, after the type of the entity's key.
        count: how many publications there were.
    """

    wanted: dict[str, tuple[str, ...]]
    count: int
    states: EntityStates


class _Again:
    """When something that failed is tried again: after a pause that grows; another thing at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._what: object = None
        self._pause = 0.0
        self._at = 0.0

    def due(self, what: object) -> bool:
        return what != self._what or self._clock() >= self._at

    def failed(self, what: object) -> None:
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) if what == self._what else _FIRST_PAUSE
        self._what = what
        self._at = self._clock() + self._pause


async def _beside(work: Callable[[], T]) -> T:
    """What the work returns, done beside the event loop; a process ends without waiting for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not done.done():
            settled()

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            settled: Callable[[], None] = partial(done.set_exception, error)
        else:
            settled = partial(done.set_result, result)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, settled)

    threading.Thread(target=run, name="look", daemon=True).start()
    return await done
