"""Retrieval in a worker process: as one that may serve it, and as one whose turns ask for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import uuid_utils

from broker_config.settings import RETRIEVAL, Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.errors import IndexLocked
from sessions.store.catalog import Catalog
from sessions.store.events import Bell
from sessions.store.leases import LeaseStore
from sessions.store.memory import MemoryStore
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.turns import TurnStore
from sessions.store.wake_up import Publish
from workers.retrieval.parts import RetrievalParts
from workers.retrieval_role.index_claim import IndexClaim
from workers.retrieval_role.lane_janitor import LaneJanitor
from workers.retrieval_role.recall import Recaller
from workers.retrieval_role.runner import RetrievalRunner

_log = get_logger(__name__)


class RetrievalRole:
    """One per process: the claim to the index, what runs operations, and what turns are reminded by."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._claim = IndexClaim(settings)
        self.on_queue: Callable[[str], None] = lambda _: None  # told of a queue that this process begins to serve

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that this process serves now, those of turns included."""
        return self._claim.queues

    def claim(self) -> None:
        """Claim the embedded index, if the role wants it.

        Raises:
            MissingExtra, IndexLocked: the role is `retrieval`, and this process cannot serve it.
        """
        self._claim.start()

    async def connect(self, store: Any, scripts: ScriptRunner, leases: LeaseStore, publish: Publish) -> None:
        """Make what works over the process's connections.

        Raises:
            IndexLocked: the role is `retrieval`, and another home has the deployment's documents.
        """
        s = self._settings
        self._store = store
        await self._check_index()
        self._bell = Bell(store, uuid_utils.uuid4().hex)
        operations = Operations(TurnStore(scripts, store, s), self._bell, publish)
        self.ring = KeyRing.of(s)
        memories = MemoryStore(scripts, store, most=s.memory_limit, seal=self.ring.seal, open=self.ring.open)
        self._parts = RetrievalParts(s, store, self.ring, memories, operations, lambda: self._claim.lock)
        self.runner = RetrievalRunner(s, leases, self.ring, self._parts)
        self.recaller = Recaller(s, operations, memories, Catalog(store))
        self._janitor = LaneJanitor(s, store, operations, lambda: RETRIEVAL in self.queues)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on beside turns and operations, for as long as the process lives."""
        return [self._claim.take_over(self._store, self._serve), self._janitor.run()]

    async def close(self) -> None:
        """Write everything down, and let another process have the index."""
        await self._bell.close()
        await self._parts.close()
        self._claim.release()

    def _serve(self, queue: str) -> None:
        self.on_queue(queue)

    async def _check_index(self) -> None:
        """A worker that can run turns does so all the same when it may not serve retrieval."""
        try:
            await self._claim.check(self._store)
        except IndexLocked as error:
            if self._settings.role == RETRIEVAL:
                raise
            self._claim.give_up()
            _log.warning("retrieval_not_served", error=str(error))
