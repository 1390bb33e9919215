"""One worker process: its event loop, its connections, its heartbeat, and how it starts and stops.

Celery's threads pool gives the slots. All turns run on one long-lived loop in a thread of its own, because provider
clients are bound to the loop that made them; a slot's thread only waits for its coroutine.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import psutil
from celery import Celery

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from broker_config.version import package_version
from sessions.client.admission import webhooks_of
from sessions.client.deliveries import Deliveries
from sessions.client.wakeups import publish_wake
from sessions.errors import BackendError
from sessions.own_packages import add_working_directory
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.catalog import forget_worker, living_workers, note_worker
from sessions.store.deployment import check_deployment
from sessions.store.leases import LeaseStore
from sessions.store.scripts import ScriptRunner
from sessions.store.turns import TurnStore
from workers.engine import Engine
from workers.engine.registry import Registry
from workers.lease.heartbeat import Heartbeat
from workers.lease.held_turn import Stop
from workers.lease.losses import Losses
from workers.process.background import end_all
from workers.process.exit_deadline import ExitDeadline
from workers.process.open_work import OpenWork
from workers.process.rescuer import Rescuer
from workers.retrieval_role.extraction import FactExtraction
from workers.retrieval_role.role import RetrievalRole
from workers.teams.runner import TeamRunner
from workers.teams.tasks import TaskTurns
from workers.turns.execution import Execution
from workers.turns.runner import Drained, TurnRunner
from workers.turns.states import TurnStates
from workers.turns.webhook_delivery import WebhookDelivery

T = TypeVar("T")
Start = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]
_log = get_logger(__name__)
_SAY_EVERY: Final = 1.0
_CLEAN_UP: Final = 5.0
_EXIT_MARGIN: Final = 4.0


class TurnProcess:
    """What runs turns in this process. Made by `TurnsStep`; all its coroutines run on its loop."""

    def __init__(self, settings: Settings, app: Celery, name: str) -> None:
        self.settings = settings
        self.name = name
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sessionfleet-turns", daemon=True)
        self._consumed: dict[str, int] = {}
        self._background: list[asyncio.Task[None]] = []
        self._work = OpenWork()
        self._deadline: ExitDeadline | None = None
        self._drained: asyncio.Task[None] | None = None
        self._started = time.time()
        self._registry = Registry()
        self.retrieval = RetrievalRole(settings)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], start: Start | None = None) -> T:
        """Run a coroutine on the loop and wait for it, from another thread.

        Args:
            start: makes the task on the loop; the loop's own `create_task` by default.

        What `run_coroutine_threadsafe` makes for that, two futures and a condition, is 2 kB more for each waiting slot.
        """
        tasks: list[asyncio.Task[T]] = []
        done = threading.Lock()
        done.acquire()

        def begin() -> None:
            tasks.append((start or self._loop.create_task)(work))
            tasks[0].add_done_callback(lambda _: done.release())

        self._loop.call_soon_threadsafe(begin)
        done.acquire()
        return tasks[0].result()

    # --- start and stop ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Import the users' modules, connect, and say that this worker lives.

        Raises:
            SettingsError, BackendError, BadRequest: the worker cannot work; the message says what to do.
        """
        add_working_directory(self.settings.imports)
        os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")  # it would look through the stack at each run
        self._registry.load(self.settings.imports)
        self.retrieval.claim()
        self.call(self._connect())
        self._heartbeat.start()
        # What start-up made lives for ever: keep the collector from walking through it, it would cost half of a
        # busy worker's time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        _log.info("worker_ready", worker=self.name, queues=self.queues, tools=self._registry.tool_names)

    async def _connect(self) -> None:
        s = self.settings
        self.store = async_store(s, name="sessionfleet-worker")
        await check_deployment(self.store, s)
        self.scripts = ScriptRunner(self.store)
        self._leases = LeaseStore(self.scripts, s, self.name)
        self._heartbeat = Heartbeat(s, self._loop)
        self._engine = Engine(
            self._registry,
            default_model=s.model or "offline",
            result_limit_bytes=s.result_limit_bytes,
            delta_ms=s.delta_ms,
            delta_chars=s.delta_chars,
            thread_limit=s.concurrency,
            hooks=s.hooks,
            first_token_timeout=s.first_token_timeout,
            token_timeout=s.token_timeout,
        )
        await self.retrieval.connect(self.store, self.scripts, self._leases, self._wake)
        self._runner = self._turn_runner()
        rescuer = Rescuer(s, self.scripts, self.store, self._app, self.name, self._wake, self._run_here)
        await self._look_for_namesake()
        await note_worker(self.scripts, self._info(), {})
        for work in (self._say_alive(), rescuer.run(), *self.retrieval.background()):
            self._background.append(self._loop.create_task(work))

    async def _look_for_namesake(self) -> None:
        """Two workers of one name look like one, to people and to Celery's remote control."""
        for other in await living_workers(self.store):
            if other.id == self.name and other.host == socket.gethostname() and psutil.pid_exists(other.pid):
                hint = "give each worker of a machine a name of its own: -n NAME@%h"
                _log.warning("worker_name_taken", worker=self.name, pid=other.pid, hint=hint)

    def _turn_runner(self) -> TurnRunner:
        s = self.settings
        teams = TeamRunner(s, TaskTurns(s, self.scripts, self.store, self._wake))
        turns = TurnStore(self.scripts, self.store, s)
        facts = FactExtraction(s, turns, self.store, self._wake)
        states = TurnStates(s, self.scripts, self.store, facts, Deliveries(s, turns, self.store, self._wake))
        losses = Losses(self._leases)
        execution = Execution(
            s,
            leases=self._leases,
            states=states,
            teams=teams,
            engine=self._engine,
            retrieval=self.retrieval.runner,
            recaller=self.retrieval.recaller,
            losses=losses,
            facts=facts,
            webhooks=WebhookDelivery(s, turns),
        )
        return TurnRunner(
            s,
            leases=self._leases,
            states=states,
            teams=teams,
            execution=execution,
            losses=losses,
            heartbeat=self._heartbeat,
            wake=self._wake,
            model_of=lambda agent: self._registry.own_model(agent) or s.model or "offline",
        )

    def begin_drain(self) -> None:
        """Begin nothing more; let running turns end or hand them over. Returns at once, may be called twice."""
        if self._deadline is None:
            self._deadline = ExitDeadline(self._longest_stop, self._not_ended)
        self._loop.call_soon_threadsafe(self._start_drain)

    @property
    def _longest_stop(self) -> float:
        """Seconds after which a worker that was told to stop exits, whatever still runs."""
        s = self.settings
        return s.shutdown_grace + s.tool_grace + 2 * _CLEAN_UP + _EXIT_MARGIN

    def _not_ended(self) -> dict[str, Any]:
        return {"worker": self.name, "turns": [held.turn_id for held in self._heartbeat.held]}

    def _start_drain(self) -> None:
        if self._drained is None:
            self._runner.draining = True
            self._drained = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        """Model calls are cut short at the end of the grace period; tools, which must not end in doubt, later (R14)."""
        s = self.settings
        if await self._ended_within(s.shutdown_grace):
            return
        _log.warning("handing_over", turns=len(self._heartbeat.held))
        until = time.monotonic() + s.tool_grace
        self._stop_between_tools()
        while not await self._ended_within(0.05) and time.monotonic() < until:
            self._stop_between_tools()
        for held in self._heartbeat.held:
            held.abort(Stop.HANDOVER)
        if not await self._ended_within(_CLEAN_UP):
            await self._work.cancel(_CLEAN_UP)

    def _stop_between_tools(self) -> None:
        for held in self._heartbeat.held:
            held.state.draining = True
            if held.state.tools_running == 0 and held.stop is None:
                held.abort(Stop.HANDOVER)

    async def _ended_within(self, seconds: float) -> bool:
        """Whether all sessions' coroutines ended. A turn that gave its lease back may still write effects."""
        return await self._work.ended_within(seconds)

    def stop(self) -> None:
        """Drain, say goodbye, and give everything back."""
        self.begin_drain()
        self.call(self._finish())
        self._heartbeat.close()
        # The loop goes on until the process ends: a slot may still take a wake-up from the pool's own queue, and its
        # thread would wait for ever on a loop that stands.
        _log.info("worker_stopped", worker=self.name, turns=self._runner.turns_done)

    async def _finish(self) -> None:
        if self._drained is not None:
            await self._drained
        await end_all(self._background)
        try:
            await forget_worker(self.scripts, self.name)
        except BackendError as error:
            _log.warning("goodbye_not_said", error=str(error))
        await self.retrieval.close()
        await self.store.aclose()

    # --- work -------------------------------------------------------------------------------------------

    def run_session(self, ref: str, accepted_ms: int, queue: str) -> Drained:
        """Run a session's turns, from a slot's thread, which waits for them."""
        if accepted_ms > self._consumed.get(queue, 0):
            self._consumed[queue] = accepted_ms
        try:
            return self.call(self._run_session(ref), self._work.start)
        except asyncio.CancelledError:
            return Drained(0, "cut short")  # the worker stops, and this did not end in time

    async def _run_session(self, ref: str) -> Drained:
        if self._runner.draining:
            return Drained(0, "draining")  # the index has it: another worker rescues it within seconds
        try:
            return await self._runner.drain(ref)
        except BackendError as error:
            _log.warning("session_left", session=ref, error=str(error), hint="it is found again by a rescuer")
            return Drained(0, "store unavailable")

    def _run_here(self, ref: str, queue: str) -> bool:
        """Run a session without a wake-up, beside Celery's slots but within their number; False when all are taken.

        One of a queue that others serve is left to them.
        """
        if queue not in self.queues:
            return True
        if len(self._work) >= self.settings.concurrency:
            return False
        self._work.start(self._run_session(ref))
        return True

    def cancel(self, ref: str, part: str) -> bool:
        """Stop a turn that runs here and that a client cancelled; whether it runs here."""

        async def stop() -> bool:
            found = [h for h in self._heartbeat.held if h.keys.ref == ref and h.turn.part == part]
            for held in found:
                held.abort(Stop.CANCELLED)
            return bool(found)

        return self.call(stop())

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that this process serves now."""
        return self.retrieval.queues

    async def _wake(self, ref: str, now_ms: int, queue: str) -> bool:
        try:
            await self._loop.run_in_executor(None, publish_wake, self._app, ref, now_ms, queue)
        except Exception as error:  # noqa: BLE001 - any broker failure: the index still has the session
            _log.warning("wake_not_published", session=ref, error=repr(error))
            return False
        return True

    async def _say_alive(self) -> None:
        while True:
            await asyncio.sleep(_SAY_EVERY)
            try:
                await note_worker(self.scripts, self._info(), dict(self._consumed))
            except BackendError as error:
                _log.warning("alive_not_said", error=str(error))

    def _info(self) -> WorkerInfo:
        s, registry = self.settings, self._registry
        runner = getattr(self, "_runner", None)
        return WorkerInfo(
            id=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            queues=self.queues,
            concurrency=s.concurrency,
            running=len(self._heartbeat.held),
            turns_done=runner.turns_done if runner else 0,
            tools=registry.tool_names,
            agents=registry.agent_names,
            models=registry.model_names,
            providers=registry.providers,
            hooks=tuple(sorted(registry.hooks)),
            imports=s.imports,
            default_model=s.model or "offline",
            version=package_version(),
            webhooks=webhooks_of(s),
        )
