"""The basis of a benchmark: its own server, worker processes, and meters for time, CPU and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import psutil
import redis

from broker_config.embedded import find_binary
from broker_config.settings import Settings
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.protocol.worker_info import WorkerInfo

ROOT = Path(__file__).parents[1]
T = TypeVar("T")


def wait_until(look: Callable[[], T], what: str, timeout: float = 60.0) -> T:
    """Poll until something is true; returns it."""
    until = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > until:
            raise TimeoutError(f"after {timeout:g} s still not: {what}")
        time.sleep(0.02)
    return found


class Process:
    """A program in the background, with its log in a file. `start` is a class attribute for tests to replace."""

    start: ClassVar[Callable[..., Any]] = subprocess.Popen

    def __init__(self, command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self._popen = self.start(command, env=env, cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.pid: int = self._popen.pid
        self._seen = psutil.Process(self.pid)

    @property
    def alive(self) -> bool:
        return bool(self._popen.poll() is None)

    def cpu(self) -> float:
        """CPU seconds so far, user and system."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Resident memory, bytes."""
        return int(self._seen.memory_info().rss)

    def end(self, number: int = signal.SIGTERM, patience: float = 20.0) -> None:
        """Send a signal and wait; kill -9 those that do not exit."""
        if self.alive:
            os.kill(self.pid, number)
        try:
            self._popen.wait(patience)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


class Rig:
    """One server, and the workers that a scenario starts on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.settings = Settings(redis_url=self.url)  # type: ignore[call-arg]
        self._processes: list[Process] = []
        binary = find_binary()
        self.server_name = str(binary)
        self.server = self._start([
            str(binary.path), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
        ], "server")  # fmt: skip
        self.redis = redis.Redis(port=self.port)
        wait_until(self._answers, "the server answers")

    @property
    def client(self) -> FleetClient:
        """This process's client: the one producer."""
        return get_client(self.settings)

    def worker(self, name: str, concurrency: int = 100, **env: str) -> Process:
        """One of our workers as `sessionfleet worker` starts it: default settings, the benchmark's models, ready."""
        ours = {
            "SESSIONFLEET_IMPORTS": "benchmarks.doubles",
            "SESSIONFLEET_MODEL": "instant",
            "SESSIONFLEET_HOME": str(self.home),
            "REDIS_URL": self.url,
        }
        process = self._worker(["workers"], name, "-c", str(concurrency), env=ours | env)
        wait_until(lambda: self._lives(process), f"worker {name} serves; its log is {process.log}")
        return process

    def usual_worker(self, name: str, concurrency: int = 100) -> Process:
        """A worker of the usual recipe: plain Celery, threads pool, default options."""
        env = {"USUAL_RECIPE_URL": self.url}
        program = ["celery", "-A", "benchmarks.usual_recipe", "worker", "-P", "threads"]
        process = self._worker(program, name, "-c", str(concurrency), env=env)
        wait_until(lambda: b" ready." in process.log.read_bytes(), f"worker {name} serves; its log is {process.log}")
        return process

    def gateway(self, name: str) -> tuple[Process, int]:
        """A gateway as `sessionfleet gateway` starts it, and its port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "sessions.cli.main", "gateway", "--port", str(port)]
        plain = {k: v for k, v in os.environ.items() if not k.startswith("SESSIONFLEET_")}
        env = {**plain, "PYTHONPATH": str(ROOT), "REDIS_URL": self.url, "SESSIONFLEET_HOME": str(self.home)}
        process = self._start(command, name, env)
        wait_until(lambda: process.alive and _listens(port), f"the gateway serves; its log is {process.log}")
        return process, port

    def close(self) -> None:
        """Stop everything."""
        with contextlib.suppress(Exception):
            self.client.portal.call(self.client.aclose(), timeout=5)
        self.redis.close()
        for process in self._processes[1:]:
            process.end(signal.SIGKILL)
        self.server.end()

    def _worker(self, program: list[str], name: str, *options: str, env: dict[str, str]) -> Process:
        command = [sys.executable, "-m", *program, "-n", f"{name}@%h", "--loglevel", "INFO", *options]
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("SESSIONFLEET_", "CELERY_"))}
        return self._start(command, name, {**plain, "PYTHONPATH": str(ROOT), **env})

    def _start(self, command: list[str], name: str, env: dict[str, str] | None = None) -> Process:
        process = Process(command, self.folder / f"{name}.log", env)
        self._processes.append(process)
        return process

    def _lives(self, process: Process) -> bool:
        if not process.alive:
            raise RuntimeError(f"the worker ended: {process.log.read_text()[-2000:]}")

        async def look() -> list[WorkerInfo]:
            await self.client.open()
            return await self.client.connection.workers(fresh=True)

        return any(info.pid == process.pid for info in self.client.portal.call(look()))

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError, redis.BusyLoadingError):
            return bool(self.redis.ping())
        return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@dataclass
class Meter:
    """The cost of a stretch of work: wall seconds, and CPU seconds of this process, the worker and the server."""

    wall: float = 0.0
    client: float = 0.0
    worker: float = 0.0
    server: float = 0.0

    def add(self, other: Meter) -> None:
        """Add another stretch."""
        self.wall += other.wall
        self.client += other.client
        self.worker += other.worker
        self.server += other.server


@contextlib.contextmanager
def metered(rig: Rig, worker: Process | None) -> Iterator[Meter]:
    """Meter the block; the meter is filled at its end."""
    meter, wall, client = Meter(), time.perf_counter(), time.process_time()
    server, working = rig.server.cpu(), worker.cpu() if worker else 0.0
    yield meter
    meter.wall, meter.client = time.perf_counter() - wall, time.process_time() - client
    meter.server, meter.worker = rig.server.cpu() - server, (worker.cpu() if worker else 0.0) - working


@dataclass
class PeakMemory:
    """The largest resident memory of a process while the block ran, bytes."""

    process: Process
    peak: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> PeakMemory:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self.process.rss())
            if self._done.wait(0.05):
                return
