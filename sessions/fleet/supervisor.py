"""`sessionfleet up`: keeps the server, the workers and the gateway of one home running, and stops them in order.

It runs no turn and holds no state that matters: if it is killed, the kernel tells its workers to stop, the server keeps
the data, and the next `up` cleans up.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from broker_config.embedded import EmbeddedServer, resolved
from broker_config.embedded import EmbeddedServerError as ServerError
from broker_config.redis_url import without_secrets
from broker_config.settings import RETRIEVAL, Settings
from sessions.errors import BackendError, EmbeddedServerError
from sessions.fleet.home import Fingerprint, FleetHome, FleetRecord, end_processes, fingerprint
from sessions.fleet.process import FleetProcess, Say, celery_worker, gateway_command, missing_for_retrieval
from sessions.store.activity import Activity, look

TICK = 0.1
# In addition to the time that a worker gives its turns and tools: the time Celery takes to stop.
STOP_MARGIN = 5.0
REPLACE = signal.SIGUSR1
"""Tells a fleet to stop its workers and leave the server to the next fleet."""


class Idleness:
    """Whether a deployment has had no turn for some time, as far as the observations show."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._active = time.monotonic()
        self._last: Activity | None = None

    def note(self, seen: Activity | None) -> None:
        """Record an observation; None: the store did not answer, which does not count as idle."""
        last, self._last = self._last, seen
        if seen is None or last is None or seen.open_sessions or seen.turns_done != last.turns_done:
            self._active = time.monotonic()

    @property
    def long_enough(self) -> bool:
        """Whether the fleet may stop."""
        return self._last is not None and time.monotonic() - self._active > self._limit


class Supervisor:
    """The foreground process of a fleet.

    Args:
        say: takes one line of output and its source.
        autostarted: a script started this fleet: it stops when idle, and gives up if no worker starts.
        gateway: whether the gateway runs too.
        known_as: the fingerprint of the script that started it.
    """

    def __init__(
        self,
        settings: Settings,
        say: Say,
        *,
        workers: int = 2,
        gateway: bool = False,
        autostarted: bool = False,
        known_as: Fingerprint | None = None,
    ) -> None:
        self._settings = settings
        self._say = say
        self._autostarted = autostarted
        self._fingerprint = known_as or fingerprint(settings)
        self._home = FleetHome(settings.home)
        self._server = EmbeddedServer(settings.home) if settings.embedded else None
        self._resolved = resolved(settings)
        self._output = None if autostarted else say
        self._workers = [self._worker(name, role) for name, role in _crew(workers)]
        self._gateway = [self._gateway_process()] if gateway else []
        self._grace = settings.shutdown_grace + settings.tool_grace + STOP_MARGIN
        self._stop = threading.Event()
        self._signals: list[int] = []
        self._ready = False
        self._failed = False
        self._idle = Idleness(settings.idle_shutdown)
        self.on_ready: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Run the fleet until it is told to stop; returns the exit status.

        Raises:
            FleetRunning: this home has a fleet already.
            EmbeddedServerError: the server cannot be started.
        """
        self._home.prepare()
        with self._home.held(), self._handlers():
            self._record("starting")
            try:
                self._end_leftovers()
                self._start_server()
                self._start_processes()
                self._watch()
                while self._idle.long_enough and self._called_back():
                    self._watch()
            finally:
                self._record("stopping")
                self._end_workers()
                self._end_server()
        return 1 if self._failed else 0

    def running(self) -> dict[str, int]:
        """The running workers, with their process ids."""
        return {worker.name: worker.pid for worker in self._workers if worker.pid is not None}

    @property
    def _processes(self) -> list[FleetProcess]:
        return [*self._gateway, *self._workers]

    def _worker(self, name: str, role: str) -> FleetProcess:
        settings = self._resolved.model_copy(update={"role": role})
        command = celery_worker(self._home.worker_name(name), settings.log_level)
        return FleetProcess(name, command, settings, self._home, self._output, runs_turns=role != RETRIEVAL)

    def _gateway_process(self) -> FleetProcess:
        command = gateway_command(self._home.worker_name("gateway"), self._resolved)
        return FleetProcess("gateway", command, self._resolved, self._home, self._output)

    def _start_processes(self) -> None:
        for process in self._processes:
            process.start()
            self._say("fleet", f"{process.name} is starting (pid {process.pid})")

    def _start_server(self) -> None:
        if self._server is None:
            self._say("fleet", f"store: {without_secrets(self._settings.redis_url or '')} (REDIS_URL)")
            return
        try:
            started = self._server.ensure_started()
        except ServerError as error:
            raise EmbeddedServerError(str(error)) from error
        word = "started" if started else "is already running"
        self._say("fleet", f"server {word} (pid {self._server.pid()}): {self._server.redis_url}")

    def _watch(self) -> None:
        looked = 0.0
        every = min(5.0, self._settings.idle_shutdown / 5)
        self._idle = Idleness(self._settings.idle_shutdown)
        while not self._stop.wait(TICK) and not self._failed and not self._idle.long_enough:
            self._revive()
            if not self._ready:
                self._check_ready()
            elif time.monotonic() - looked > every:
                looked = time.monotonic()
                self._revive_server()
                if self._autostarted:
                    self._idle.note(self._look())

    def _called_back(self) -> bool:
        """Stop the workers of an idle fleet, but continue if a turn was accepted while they were stopping."""
        self._say("fleet", f"no turn for {self._settings.idle_shutdown:g} s: stopping the fleet")
        self._record("stopping")
        self._end_workers()
        seen = self._look()
        if self._stop.is_set() or seen is None or not seen.open_sessions:
            return False
        self._say("fleet", "a turn came in: the fleet continues")
        self._ready = False
        self._record("starting")
        self._start_processes()
        return True

    def _revive(self) -> None:
        for process in self._processes:
            status = process.check()
            if status is not None and self._autostarted and not self._ready and process.runs_turns:
                self._say("fleet", f"{process.name} did not start ({_cause(status)}):\n{process.last_words()}")
                self._failed = True
            elif status is not None:
                self._say("fleet", f"{process.name} died ({_cause(status)}); restarting it in {process.pause:g} s")
            if process.due:
                process.start()
                self._say("fleet", f"{process.name} restarted (pid {process.pid})")

    def _revive_server(self) -> None:
        if self._server is not None and self._server.pid() is None:
            self._say("fleet", "the server died; restarting it with its data")
            try:
                self._server.ensure_started()
            except ServerError as error:  # the next round tries again
                self._say("fleet", str(error))

    def _check_ready(self) -> None:
        seen = self._look()
        ours = {(socket.gethostname(), worker.pid) for worker in self._workers if worker.runs_turns}
        if seen is not None and any((worker.host, worker.pid) in ours for worker in seen.workers):
            self._ready = True
            self._record("ready")
            self._say("fleet", "ready")
            self.on_ready()

    def _look(self) -> Activity | None:
        try:
            return asyncio.run(look(self._resolved))
        except BackendError:
            return None

    def _end_workers(self) -> None:
        running = [process for process in self._processes if not process.ended]
        if workers := sum(process not in self._gateway for process in running):
            self._say("fleet", f"stopping {workers} workers: they finish their turns or hand them over")
        for worker in running:
            worker.signal(signal.SIGTERM)
        limit = time.monotonic() + self._grace
        heard = len(self._signals)
        while any(not worker.ended for worker in running):
            if time.monotonic() > limit or len(self._signals) > heard:
                self._say("fleet", "the workers were killed; their turns continue when workers are back")
                for worker in running:
                    worker.signal(signal.SIGKILL)
                limit, heard = float("inf"), len(self._signals)
            time.sleep(0.02)

    def _end_server(self) -> None:
        # Last, so that the append-only file has everything that the workers wrote.
        if self._server is not None and REPLACE not in self._signals and self._server.stop():
            self._say("fleet", "server stopped; the data stays")

    def _end_leftovers(self) -> None:
        left = self._home.worker_processes(r"(worker-\d+|retrieval-\d+|gateway)")
        if left:
            self._say("fleet", f"stopping {len(left)} processes of a fleet that was killed")
            end_processes(left, self._grace)

    def _record(self, state: str) -> None:
        record = FleetRecord.model_validate(
            {
                "pid": os.getpid(),
                "state": state,
                "autostarted": self._autostarted,
                "embedded": self._server is not None,
                "workers": len(self._workers),
                "stop_within": self._grace,
                "fingerprint": self._fingerprint,
            }
        )
        self._home.write(record)

    @contextmanager
    def _handlers(self) -> Iterator[None]:
        def stop(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)
            self._stop.set()

        caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, REPLACE)
        before = {number: signal.signal(number, stop) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _crew(workers: int) -> list[tuple[str, str]]:
    """The worker processes of a fleet, with their roles: one of them owns the embedded index."""
    turns = [(f"worker-{number}", "turns") for number in range(1, workers + 1)]
    return [*turns, ("retrieval-1", "retrieval")] if turns and missing_for_retrieval() is None else turns


def _cause(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
