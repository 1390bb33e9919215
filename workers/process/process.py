"""One worker process: its event loop, its connections, and how it starts and stops.

Celery's threads pool provides the slots. All turns run on one long-lived event loop in a thread of its own, because
the clients of model providers are bound to the loop that created them. A slot's thread only waits for its coroutine.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from celery import Celery

from broker_config.celery_options import RESCUE_SUFFIX
from broker_config.prices import parse_prices
from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from broker_config.version import package_version
from sessions.client.admission_checks import webhooks_of
from sessions.client.archiving import Archiving
from sessions.client.connection import Stores
from sessions.client.deliveries import Deliveries
from sessions.own_packages import add_working_directory
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.budgets import BudgetStore
from sessions.store.calls import CallStore
from sessions.store.deployment import check_deployment
from sessions.store.files import FileStore
from sessions.store.leases import LeaseStore
from sessions.store.model_limits import ModelLimitStore
from sessions.store.rota import Rota
from sessions.store.schedules import ScheduleStore
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.turns import TurnStore
from sessions.store.wake_up import WakeUp
from workers.engine import Engine
from workers.engine.prices import PriceList
from workers.engine.registry import Registry
from workers.lease.heartbeat import Heartbeat
from workers.lease.held_turn import StopReason
from workers.lease.lost_leases import LostLeases
from workers.process.background import end_all
from workers.process.exit_deadline import ExitDeadline
from workers.process.open_work import OpenWork
from workers.process.presence import Presence
from workers.process.rescuer import Rescuer
from workers.process.rota_runner import RotaRunner
from workers.process.session_indexing import SessionIndexing
from workers.process.shutdown import Shutdown, longest_stop
from workers.process.tenant_weights import TenantWeights
from workers.process.ticks import Ticks
from workers.process.wake_ups import WakeUps
from workers.retrieval_role.extraction import FactExtraction
from workers.retrieval_role.role import RetrievalRole
from workers.teams.runner import TeamRunner
from workers.teams.tasks import TaskTurns
from workers.turns.archive_writer import ArchiveWriter
from workers.turns.budgets import Budgets
from workers.turns.compaction import Compaction
from workers.turns.model_limits import ModelLimiter
from workers.turns.packing import HistoryPacking
from workers.turns.parts import TurnParts
from workers.turns.runner import SessionRun, TurnRunner
from workers.turns.states import TurnStates
from workers.turns.titles import TitleWriting
from workers.turns.webhook_delivery import WebhookDelivery

T = TypeVar("T")
TaskFactory = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]
_log = get_logger(__name__)


class TurnProcess:
    """What runs turns in this process. Made by `TurnsStep`; all its coroutines run on its loop."""

    def __init__(self, settings: Settings, app: Celery, name: str) -> None:
        self.settings = settings
        self.name = name
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sessionfleet-turns", daemon=True)
        self._background: list[asyncio.Task[None]] = []
        self._work = OpenWork()
        self._exit_deadline: ExitDeadline | None = None
        self._shutdown: Shutdown | None = None
        self._started = time.time()
        self._registry = Registry()
        self.retrieval = RetrievalRole(settings)
        self._thread.start()

    # --- running sessions -------------------------------------------------------------------------------

    def run_next(self, wake_up: WakeUp) -> tuple[str, SessionRun]:
        """Run the turns of the session that is next, and say which. Called on a slot's thread, which waits for them."""
        self._presence.consumed(wake_up.queue, wake_up.accepted_ms)
        try:
            return self.call(self._rota_runner.run(wake_up), self._work.start)
        except asyncio.CancelledError:
            return wake_up.ref, SessionRun(0, "cut short")  # the worker stops, and the turns did not end in time

    def call(self, work: Coroutine[Any, Any, T], create_task: TaskFactory | None = None) -> T:
        """Run a coroutine on the loop and wait for it, from another thread.

        Args:
            create_task: makes the task, on the loop's thread; the loop's own `create_task` by default.

        `asyncio.run_coroutine_threadsafe` would need two futures and a condition, 2 kB more for each waiting slot.
        """
        tasks: list[asyncio.Task[T]] = []
        done = threading.Lock()
        done.acquire()

        def start() -> None:
            tasks.append((create_task or self._loop.create_task)(work))
            tasks[0].add_done_callback(lambda _: done.release())

        self._loop.call_soon_threadsafe(start)
        done.acquire()
        return tasks[0].result()

    def cancel(self, ref: str, part: str) -> bool:
        """Stop a turn that a client has cancelled. Returns whether it runs in this process."""

        async def stop() -> bool:
            found = [held for held in self._heartbeat.held if held.keys.ref == ref and held.turn.part == part]
            for held in found:
                held.stop(StopReason.CANCELLED)
            return bool(found)

        return self.call(stop())

    def _run_here(self, wake_up: WakeUp) -> bool:
        """Act on a wake-up without Celery, next to its slots but within their number. False if all are taken.

        Those of queues that this process does not serve are left to the workers that do.
        """
        if wake_up.queue.removesuffix(RESCUE_SUFFIX) not in self.queues:
            return True
        if len(self._work) >= self.settings.concurrency:
            return False
        self._work.start(self._rota_runner.run(wake_up))
        return True

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that this process serves now."""
        return self.retrieval.queues

    # --- start ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Import the users' modules, connect, and announce this worker.

        Raises:
            SettingsError, BackendError, BadRequest: the worker cannot work; the message says what to do.
        """
        add_working_directory(self.settings.imports)
        os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")  # it would inspect the stack at each run
        self._registry.load(self.settings.imports)
        self.retrieval.claim()
        self.call(self._connect())
        self._heartbeat.start()
        # Objects made at start-up stay alive until the end. If the garbage collector kept walking through them, it
        # would take half of a busy worker's time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        _log.info("worker_ready", worker=self.name, queues=self.queues, tools=self._registry.tool_names)

    async def _connect(self) -> None:
        """Connect to the store, make the parts that run turns, and join the fleet."""
        s = self.settings
        self._store = async_store(s, name="sessionfleet-worker")
        await check_deployment(self._store, s)
        self._scripts = ScriptRunner(self._store)
        self._rota = Rota(self._scripts, self._store)
        self._publish = WakeUps(self._app, self._rota).publish
        self._leases = LeaseStore(self._scripts, s, self.name)
        self._heartbeat = Heartbeat(s, self._loop)
        await self.retrieval.connect(self._store, self._scripts, self._leases, self._publish)
        self._model_limits = ModelLimiter(ModelLimitStore(self._scripts))
        self._prices = PriceList(parse_prices(s.prices))
        self._budgets = Budgets(s, BudgetStore(self._scripts, self._store), self._scripts, self._prices)
        await self._budgets.refresh()
        self._runner = TurnRunner(self._turn_parts())
        self._rota_runner = RotaRunner(self._rota, self._runner, s.partitions)
        stop_starting = (self._runner.start_no_more, self.retrieval.searches.stop_taking)
        self._shutdown = Shutdown(s, self._heartbeat, self._work, stop_starting)
        self._presence = Presence(self._scripts, self._store, self._info, self._model_limits.learn)
        await self._presence.announce()
        self._ticks = Ticks(ScheduleStore(self._scripts, s), s.partitions, self._publish)
        rescuer = Rescuer(
            s, self._scripts, self._rota, self._app, self.name, self._publish, self._run_here, self._ticks.act
        )
        indexing = SessionIndexing(s, self._store, self._scripts, self.name)
        weights = TenantWeights(self._store, self._rota, lambda: self.queues)
        for work in (
            self._presence.run(),
            self._budgets.run(),
            rescuer.run(),
            indexing.run(),
            weights.run(),
            *self.retrieval.background(),
        ):
            self._background.append(self._loop.create_task(work))

    def _turn_parts(self) -> TurnParts:
        s, scripts, store, publish = self.settings, self._scripts, self._store, self._publish
        turns = TurnStore(scripts, store, s)
        self._archive = ArchiveWriter(s, Stores.on(store, s, KeyRing.of(s)))
        facts = FactExtraction(s, turns, store, publish)
        titles, engine = TitleWriting(s, turns, scripts, store, publish), self._engine()
        compaction = Compaction(s, turns, scripts, engine, publish)
        return TurnParts(
            settings=s,
            leases=self._leases,
            heartbeat=self._heartbeat,
            lost_leases=LostLeases(self._leases),
            engine=engine,
            states=TurnStates(
                s,
                scripts,
                store,
                facts,
                Deliveries(s, turns, CallStore(scripts, KeyRing.of(s)), store, publish),
                titles,
                Archiving(s, turns, store, publish),
                self.retrieval.transcripts,
                compaction,
            ),
            files=FileStore(scripts, store, s, KeyRing.of(s)),
            recaller=self.retrieval.recaller,
            facts=facts,
            titles=titles,
            compaction=compaction,
            teams=TeamRunner(s, TaskTurns(s, scripts, store, publish)),
            retrieval=self.retrieval.runner,
            webhooks=WebhookDelivery(s, turns),
            archive=self._archive,
            model_limits=self._model_limits,
            budgets=self._budgets,
            rota=self._rota,
            packing=HistoryPacking(s, scripts),
            publish=publish,
            model_of=lambda agent: self._registry.own_model(agent) or s.model or "offline",
        )

    def _engine(self) -> Engine:
        s = self.settings
        return Engine(
            self._registry,
            default_model=s.model or "offline",
            result_limit_bytes=s.result_limit_bytes,
            delta_ms=s.delta_ms,
            delta_chars=s.delta_chars,
            thread_limit=s.concurrency,
            hooks=s.hooks,
            first_token_timeout=s.first_token_timeout,
            token_timeout=s.token_timeout,
            file_turns=s.file_turns,
            prompt_cache=s.prompt_cache,
            history_tokens=s.history_tokens,
            result_bytes=s.history_result_bytes,
            prices=self._prices,
        )

    def _info(self) -> WorkerInfo:
        s, registry = self.settings, self._registry
        return WorkerInfo(
            id=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            queues=self.queues,
            concurrency=s.concurrency,
            running=len(self._heartbeat.held) + self.retrieval.searches.running,
            turns_done=self._runner.turns_done + self.retrieval.searches.answered,
            tools=registry.tool_names,
            agents=registry.agent_names,
            models=registry.model_names,
            providers=registry.providers,
            hooks=tuple(sorted(registry.hooks)),
            imports=s.imports,
            default_model=s.model or "offline",
            version=package_version(),
            webhooks=webhooks_of(s),
            searches=self.retrieval.searches.address,
        )

    # --- stop -------------------------------------------------------------------------------------------

    def begin_drain(self) -> None:
        """Start no turn any more, and let running ones end or hand them over. Returns at once; may be called twice."""
        if self._exit_deadline is None:
            self._exit_deadline = ExitDeadline(longest_stop(self.settings), self._unfinished)
        if self._shutdown is not None:  # else it has not connected yet, and nothing runs
            self._loop.call_soon_threadsafe(self._shutdown.begin)

    def stop(self) -> None:
        """Drain, leave the fleet, and close the connections."""
        self.begin_drain()
        self.call(self._finish())
        self._heartbeat.close()
        # The loop keeps running until the process ends. A slot may still take a wake-up from the pool's own queue, and
        # on a stopped loop its thread would wait for ever.
        _log.info("worker_stopped", worker=self.name, turns=self._runner.turns_done)

    async def _finish(self) -> None:
        if self._shutdown is not None:
            await self._shutdown.finished()
        await end_all(self._background)
        await self._ticks.close()
        await self._presence.leave()
        await self.retrieval.close()
        await self._archive.close()
        await self._store.aclose()

    def _unfinished(self) -> dict[str, Any]:
        return {"worker": self.name, "turns": [held.turn_id for held in self._heartbeat.held]}
