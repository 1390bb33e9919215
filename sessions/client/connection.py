"""A process's connection to a fleet: opened when first used, given back at the process's end."""

from __future__ import annotations

import asyncio
import atexit
import time
from typing import Final

import uuid_utils

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.client.admission import refuse_unknown, refuse_webhook, webhooks_of
from sessions.client.operations import Operations
from sessions.client.portal import Portal
from sessions.client.wakeups import Dispatcher
from sessions.errors import BadRequest, StoreFull, UnknownAgent, UnknownHooks, UnknownModel, UnknownTool
from sessions.fleet.autostart import ensure_fleet, resolved
from sessions.protocol.agent import AgentConfig
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.agent_definitions import AgentDefinitions
from sessions.store.calls import CallStore
from sessions.store.catalog import Catalog
from sessions.store.deployment import check_deployment, highest_pressure
from sessions.store.events import Bell
from sessions.store.keys import SessionKeys
from sessions.store.memory import MemoryStore
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.shelter import sheltered
from sessions.store.state import StateStore
from sessions.store.turns import TurnStore

_PRESSURE_SECONDS: Final = 1.0
_FLEET_CHECK_SECONDS: Final = 2.0
_EXIT_SECONDS: Final = 1.0


class FleetConnection:
    """The store, the bell and the dispatcher of one fleet, and what the fleet can run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ring = KeyRing.of(settings)
        self.portal = Portal()
        self._opening = asyncio.Lock()
        self._opened = False
        self._fleet_checked = 0.0
        self._pressure_checked = 0.0
        atexit.register(self.portal.close, self.aclose, _EXIT_SECONDS)

    async def open(self) -> None:
        """Connect on first use; start the embedded fleet where that is wanted.

        Raises:
            BackendError: the store cannot be reached or must not be used; the message says what to do.
        """
        if not self._opened or self._fleet_check_due():
            await sheltered(self._open())

    async def _open(self) -> None:
        async with self._opening:
            if self.settings.embedded and self._fleet_check_due():
                await asyncio.get_running_loop().run_in_executor(None, ensure_fleet, self.settings)
                self._fleet_checked = time.monotonic()
            if not self._opened:
                await self._connect(resolved(self.settings))
                self._opened = True

    def _fleet_check_due(self) -> bool:
        return self.settings.embedded and time.monotonic() - self._fleet_checked > _FLEET_CHECK_SECONDS

    async def _connect(self, settings: Settings) -> None:
        store = async_store(settings, name="sessionfleet-client")
        try:
            await check_deployment(store, settings)
        except BaseException:
            await store.aclose()
            raise
        self.store = store
        self.scripts = ScriptRunner(store)
        self.turns = TurnStore(self.scripts, store, settings)
        self.state = StateStore(self.scripts, store, self.ring)
        self.records = SessionRecords(self.scripts, store, self.ring)
        self.memory = MemoryStore(
            self.scripts, store, most=settings.memory_limit, seal=self.ring.seal, open=self.ring.open
        )
        self.calls = CallStore(self.scripts, store, self.ring)
        self.definitions = AgentDefinitions(self.scripts, store, settings.partitions, self.ring)
        self.catalog = Catalog(store)
        self.bell = Bell(store, uuid_utils.uuid4().hex)
        self.dispatcher = Dispatcher(settings)
        self.operations = Operations(self.turns, self.bell, self.dispatcher.wake)

    async def aclose(self) -> None:
        """Give all connections back."""
        if self._opened:
            self._opened = False
            await self.bell.close()
            self.dispatcher.close()
            await self.store.aclose()

    def keys(self, session_id: str, tenant: str | None = None) -> SessionKeys:
        """The keys of a session, of the settings' tenant if of no other."""
        return SessionKeys.of(tenant or self.settings.tenant, session_id, self.settings.partitions)

    async def refuse_when_full(self) -> None:
        """New turns stop below maxmemory, so that those accepted have room to end (R10).

        Raises:
            StoreFull: it is reached.
        """
        if time.monotonic() - self._pressure_checked < _PRESSURE_SECONDS:
            return
        self._pressure_checked = time.monotonic()  # before the answer: a crowd asks once
        try:
            with translated():
                share = await highest_pressure(self.store)
            if share >= self.settings.memory_high_water:
                raise StoreFull(f"the store uses {share:.0%} of its maxmemory. {StoreFull.__doc__}")
        except BaseException:
            self._pressure_checked = 0.0
            raise

    async def workers(self, *, fresh: bool = False) -> list[WorkerInfo]:
        """The living workers, remembered for a few seconds."""
        return await self.catalog.workers(fresh=fresh)

    async def refuse_unknown(self, agent: AgentConfig, queue: str) -> None:
        """Refuse an agent that none of the living workers of the queue can run; with none alive, nothing is refused.

        Raises:
            UnknownTool, UnknownAgent, UnknownModel, UnknownHooks: with what they do know.
        """
        if not (agent.tools or agent.model or agent.registered or agent.hooks):
            return
        for fresh in (False, True):
            serving = [w for w in await self.workers(fresh=fresh) if queue in w.queues]
            if not serving:
                return  # nobody to ask: a worker that comes later fails the turn if it does not know better
            try:
                refuse_unknown(agent, serving, queue)
            except (UnknownTool, UnknownAgent, UnknownModel, UnknownHooks):
                if fresh:
                    raise
            else:
                return

    async def refuse_webhook(self, url: str, queue: str) -> None:
        """Refuse a webhook that no worker of the queue would send; with none alive, they will be set as we are.

        Raises:
            BadRequest: with what to set.
        """
        for fresh in (False, True):
            offers = [w.webhooks for w in await self.workers(fresh=fresh) if queue in w.queues]
            try:
                refuse_webhook(url, offers or [webhooks_of(self.settings)], queue)
            except BadRequest:
                if fresh:
                    raise
            else:
                return

    async def serving(self, keys: SessionKeys) -> tuple[str, list[WorkerInfo]]:
        """The session's queue, and the living workers that serve it."""
        with translated():
            raw = await self.store.hget(keys.meta, "queue")
        queue = raw.decode() if raw else "turns"
        return queue, [w for w in await self.workers(fresh=True) if queue in w.queues]
