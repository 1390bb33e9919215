"""A process's connection to a fleet: opened on first use, closed when the process ends."""

from __future__ import annotations

import asyncio
import atexit
import time
from dataclasses import dataclass
from typing import Any, Final

import uuid_utils

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.client.operations import Operations
from sessions.client.portal import Portal
from sessions.client.searches import DirectSearches
from sessions.client.wakeups import Dispatcher
from sessions.fleet.autostart import ensure_fleet, resolved
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.acceptance import compact_by_default, searchable_by_default
from sessions.store.adapter_store import AdapterStore
from sessions.store.agent_definitions import AgentDefinitions
from sessions.store.approved_tools import ApprovedTools
from sessions.store.calls import CallStore
from sessions.store.catalog import Catalog
from sessions.store.channels import Channels
from sessions.store.deployment import check_deployment
from sessions.store.events import Bell
from sessions.store.files import FileStore
from sessions.store.history_store import HistoryStore
from sessions.store.keys import SessionKeys
from sessions.store.memory import MemoryStore
from sessions.store.rota import Rota
from sessions.store.schedules import ScheduleStore
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.search_exchange import SearchExchange
from sessions.store.session_index import SessionIndex
from sessions.store.session_records import SessionRecords
from sessions.store.shares import ShareStore
from sessions.store.shelter import sheltered
from sessions.store.state import StateStore
from sessions.store.submission_limits import SubmissionLimitStore
from sessions.store.turns import TurnStore
from sessions.store.usage import UsageStore

_FLEET_CHECK_SECONDS: Final = 2.0
_EXIT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Stores:
    """The fleet's store, one object for each kind of record.

    Attributes:
        redis: the connection pool itself, for single commands.
    """

    redis: Any
    scripts: ScriptRunner
    turns: TurnStore
    state: StateStore
    records: SessionRecords
    index: SessionIndex
    usage: UsageStore
    limits: SubmissionLimitStore
    history: HistoryStore
    adapters: AdapterStore
    memory: MemoryStore
    files: FileStore
    shares: ShareStore
    schedules: ScheduleStore
    calls: CallStore
    approved_tools: ApprovedTools
    definitions: AgentDefinitions
    catalog: Catalog
    rota: Rota

    @classmethod
    def on(cls, redis: Any, settings: Settings, keyring: KeyRing) -> Stores:
        """The stores on one connection pool."""
        scripts = ScriptRunner(redis)
        return cls(
            redis=redis,
            scripts=scripts,
            turns=TurnStore(scripts, redis, settings),
            state=StateStore(scripts, redis, keyring),
            records=SessionRecords(scripts, redis, keyring),
            index=SessionIndex(scripts, redis, settings),
            usage=UsageStore(scripts, redis, settings),
            limits=SubmissionLimitStore(scripts, redis, settings.partitions),
            history=HistoryStore(scripts, keyring),
            adapters=AdapterStore(
                scripts,
                keyring,
                searchable=searchable_by_default(settings),
                compact=compact_by_default(settings),
            ),
            memory=MemoryStore(
                scripts,
                redis,
                most=settings.memory_limit,
                seal=keyring.seal,
                open=keyring.open,
                digests=keyring.digests,
            ),
            files=FileStore(scripts, redis, settings, keyring),
            shares=ShareStore(scripts),
            schedules=ScheduleStore(scripts, settings),
            calls=CallStore(scripts, keyring),
            approved_tools=ApprovedTools(scripts, keyring),
            definitions=AgentDefinitions(scripts, redis, settings.partitions, keyring),
            catalog=Catalog(redis),
            rota=Rota(scripts, redis),
        )


class FleetConnection:
    """The stores, the bell and the dispatcher of one fleet. Everything but `settings` and `keyring` needs `open` first.

    Attributes:
        stores: the records; bell: wakes the waiters of this process; dispatcher: publishes wake-ups.
        operations: submits operations, and runs searches.
    """

    stores: Stores
    bell: Bell
    dispatcher: Dispatcher
    operations: Operations

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keyring = KeyRing.of(settings)
        self.portal = Portal()
        self._opening = asyncio.Lock()
        self._opened = False
        self._fleet_checked = 0.0
        atexit.register(self.portal.close, self.aclose, _EXIT_SECONDS)

    async def open(self) -> None:
        """Connect on first use; start the embedded fleet if the settings call for it.

        Raises:
            BackendError: the store cannot be reached or cannot be used; the message says what to do.
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
        redis = async_store(settings, name="sessionfleet-client")
        try:
            await check_deployment(redis, settings)
        except BaseException:
            await redis.aclose()
            raise
        self.stores = Stores.on(redis, settings, self.keyring)
        self._channels, address = Channels(redis), uuid_utils.uuid4().hex
        self.bell = Bell(self._channels, address)
        self.dispatcher = Dispatcher(settings, self.stores.rota)
        exchange = SearchExchange(self.stores.scripts, self._channels, self.keyring, address)
        direct = DirectSearches(exchange, self.stores.catalog)
        self.operations = Operations(self.stores.turns, self.bell, self.dispatcher.wake, direct)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._opened:
            self._opened = False
            await self._channels.close()
            self.dispatcher.close()
            await self.stores.redis.aclose()

    async def workers(self, *, fresh: bool = False) -> list[WorkerInfo]:
        """The running workers, cached for a few seconds."""
        return await self.stores.catalog.workers(fresh=fresh)

    async def serving(self, keys: SessionKeys) -> tuple[str, list[WorkerInfo]]:
        """The session's queue, and the running workers that serve it."""
        with translated():
            raw = await self.stores.redis.hget(keys.meta, "queue")
        queue = raw.decode() if raw else "turns"
        return queue, [w for w in await self.workers(fresh=True) if queue in w.queues]
