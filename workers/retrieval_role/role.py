"""Retrieval in a worker process: serving operations if its role says so, and searching on behalf of its turns."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import uuid_utils

from broker_config.settings import RETRIEVAL, Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.client.searches import DirectSearches
from sessions.errors import IndexLocked
from sessions.store.catalog import Catalog
from sessions.store.channels import Channels
from sessions.store.events import Bell
from sessions.store.leases import LeaseStore
from sessions.store.memory import MemoryStore
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.search_exchange import SearchExchange
from sessions.store.turns import TurnStore
from sessions.store.wake_up import Publish
from workers.retrieval.parts import RetrievalParts
from workers.retrieval_role.index_claim import IndexClaim
from workers.retrieval_role.lane_janitor import LaneJanitor
from workers.retrieval_role.recall import Recaller
from workers.retrieval_role.runner import RetrievalRunner
from workers.retrieval_role.search_server import SearchServer
from workers.retrieval_role.transcript_updates import TranscriptUpdates

_log = get_logger(__name__)


class RetrievalRole:
    """One per process: its claim to the index, the runner of operations, the searches, and the recall for turns."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._claim = IndexClaim(settings)
        self.on_queue_served: Callable[[str], None] = lambda _: None

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that this process serves now, including those of turns."""
        return self._claim.queues

    def claim(self) -> None:
        """Claim the embedded index, if this process's role includes retrieval.

        Raises:
            MissingExtra, IndexLocked: the role is `retrieval`, and this process cannot serve it.
        """
        self._claim.start()

    async def connect(self, store: Any, scripts: ScriptRunner, leases: LeaseStore, publish: Publish) -> None:
        """Make the parts that use the process's connections.

        Raises:
            IndexLocked: the role is `retrieval`, but the deployment's documents are in another home.
        """
        s = self._settings
        self._store = store
        await self._check_index()
        self._channels, address, keyring = Channels(store), uuid_utils.uuid4().hex, KeyRing.of(s)
        exchange, catalog = SearchExchange(scripts, self._channels, keyring, address), Catalog(store)
        operations = Operations(
            TurnStore(scripts, store, s), Bell(self._channels, address), publish, DirectSearches(exchange, catalog)
        )
        memories = MemoryStore(
            scripts, store, most=s.memory_limit, seal=keyring.seal, open=keyring.open, digests=keyring.digests
        )
        self._parts = RetrievalParts(s, store, keyring, memories, operations, lambda: self._claim.lock)
        self.runner = RetrievalRunner(s, leases, keyring, self._parts)
        self.searches = SearchServer(s, exchange, self.runner, lambda: RETRIEVAL in self.queues)
        self.recaller = Recaller(s, operations, memories, catalog)
        self.transcripts = TranscriptUpdates(s, operations)
        self._janitor = LaneJanitor(s, store, operations, lambda: RETRIEVAL in self.queues)
        if s.role != "turns":  # whether this process serves the queue or may do so later
            await self.searches.start()

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """The coroutines that run in the background for as long as the process does."""
        return [self._claim.take_over(self._store, self._serve), self._janitor.run(), self._parts.keep_tidy()]

    async def close(self) -> None:
        """Answer the running searches, write what is pending, and release the index for another process."""
        await self.searches.close()
        await self._channels.close()
        await self._parts.close()
        self._claim.release()

    def _serve(self, queue: str) -> None:
        self.on_queue_served(queue)

    async def _check_index(self) -> None:
        """Check the claimed index. If it is the wrong one, a worker that also runs turns goes on without retrieval."""
        try:
            await self._claim.check(self._store)
        except IndexLocked as error:
            if self._settings.role == RETRIEVAL:
                raise
            self._claim.give_up()
            _log.warning("retrieval_not_served", error=str(error))
