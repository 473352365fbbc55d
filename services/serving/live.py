"""What is live: the promotion ledger's head, looked at during requests, and the models that it names.

There is no background thread: a service in the cloud is given CPU only while it answers. A request that finds the
last look old enough starts the next one, beside the requests; nobody waits for it, unless the last look is very
old. A new version is loaded and warmed off the event loop, and then takes the place of the old one in a single
assignment: a request keeps the models with which it began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caudal.entity_state import Publications
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
        self._seen = (-1, -1)
        self._looked_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def live(self) -> Live | None:
        """What is live, as far as this server knows; None while nothing was promoted."""
        return self._live

    async def current(self) -> Live | None:
        """What is live; starts a look at the ledger when one is due."""
        age = self._clock() - self._looked_at
        if age >= self._every:
            look = self._look_once()
            if self._live is None or age >= self._wait_after:
                await asyncio.shield(look)
        return self._live

    def _look_once(self) -> asyncio.Task[None]:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        return self._task

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(self._read)
        except Exception as error:
            # Whatever is wrong with the ledger or a package: what was live goes on answering.
            self._telemetry.look_failed(error)
        else:
            if found is not None:
                self._live = found
                self._telemetry.took_up(found)
        # Counted from the end: a slow look is not followed by the next at once.
        self._looked_at = self._clock()

    def _read(self) -> Live | None:
        """What is live now, or None when nothing changed; in a thread."""
        # The logs only grow: their lengths, one listing each, say whether there is anything to read.
        seen = (len(self._log), len(self._publications))
        if seen == self._seen:
            return None
        promoted = self._promotions.head()
        if promoted is None:
            return None
        champion = self._model(promoted)
        challenger = None
        complete = True
        try:
            named = self._promotions.challenger()
            challenger = self._model(named) if named is not None else None
        except Exception as error:
            # A challenger that can't be loaded is no reason to keep an old champion.
            self._telemetry.look_failed(error)
            complete = False
        states = self._states(champion.contract, seen[1])
        if complete:
            self._seen = seen
        live = Live(champion, challenger, promoted, states)
        return live

    def _model(self, promotion: Promotion) -> ServedModel:
        live = self._live
        for model in (live.champion, live.challenger) if live is not None else ():
            if model is not None and model.version == promotion.version:
                return model
        return ServedModel(open_package(self._storage, promotion.package), self._largest_batch)

    def _states(self, contract: Contract, publications: int) -> EntityStates:
        live = self._live
        windows = contract.features.windows
        if not windows:
            return NoStates()
        if (
            live is not None
            and publications == self._seen[1]
            and live.champion.contract.features.windows == windows
        ):
            return live.states
        newest = self._publications.newest()
        return NoStates() if newest is None else SnapshotStates(contract, newest)
