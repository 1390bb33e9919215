"""The demo's fleet: the embedded server and workers in a temporary home, each process known by its id."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from broker_config.embedded import EmbeddedServer, resolved
from broker_config.settings import Settings
from sessions.client import fleet_info

T = TypeVar("T")
HERE = Path(__file__).resolve().parent
READY_SECONDS = 90.0


class DemoFailed(Exception):
    """Something did not happen as promised."""


def wait_for(look: Callable[[], T | None], what: str, seconds: float) -> T:
    """Poll until there is something to see."""
    until = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > until:
            raise DemoFailed(f"after {seconds:g} s still not: {what}")
        time.sleep(0.01)
    return found


class DemoFleet:
    """A server and workers. `close` stops all of them and removes the home."""

    def __init__(self, imports: str, environment: dict[str, str]) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sessionfleet-demo-"))
        self.ledger = self.home / "ledger"
        self._server = EmbeddedServer(self.home / "fleet")
        self.settings = resolved(Settings(home=self.home / "fleet"))
        self._environment = {
            **_without_settings(),
            **environment,
            "DEMO_LEDGER": str(self.ledger),
            "REDIS_URL": str(self.settings.redis_url),
            "SESSIONFLEET_BROKER_URL": str(self.settings.broker_url),
            "SESSIONFLEET_IMPORTS": imports,
        }
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def start_server(self) -> None:
        """Start the server, and wait until it answers."""
        self._server.ensure_started()

    def start_worker(self, name: str) -> None:
        """Start a worker process; `await_workers` waits until it serves."""
        command = [sys.executable, "-m", "sessions.cli.main", "worker", "--name", name]
        with (self.home / f"{name}.log").open("ab") as log:
            self._workers[name] = subprocess.Popen(
                command, cwd=HERE, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def await_workers(self) -> dict[str, Any]:
        """Wait until every running worker is in the fleet's registry; name -> its report."""

        def look() -> dict[str, Any] | None:
            for name, process in self._workers.items():
                if process.poll() is not None and process.returncode >= 0:
                    raise DemoFailed(f"{name} exited at start; its log says:\n{self._log_end(name)}")
            alive = {name for name, process in self._workers.items() if process.poll() is None}
            known = {worker_id.partition("@")[0]: info for worker_id, info in fleet_info(self.settings).items()}
            return known if alive <= known.keys() else None

        return wait_for(look, "all workers are ready", READY_SECONDS)

    def pid_of(self, worker_id: str) -> int:
        """The process id of a worker in the registry."""
        return int(fleet_info(self.settings)[worker_id].pid)

    def kill(self, pid: int) -> None:
        """kill -9 a worker of this demo, and nothing else."""
        for process in self._workers.values():
            if process.pid == pid:
                process.kill()
                process.wait()
                return
        raise DemoFailed(f"process {pid} is not a worker of this demo")

    def close(self) -> list[int]:
        """Stop what is left; returns the processes that survived, which should be none."""
        started = [process.pid for process in self._workers.values()]
        server = self._server.pid()
        for process in self._workers.values():
            process.terminate()
        for process in self._workers.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._server.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        return [pid for pid in [*started, *([server] if server else [])] if _runs(pid)]

    def _log_end(self, name: str) -> str:
        return "\n".join((self.home / f"{name}.log").read_text(errors="replace").splitlines()[-8:])


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _without_settings() -> dict[str, str]:
    """The environment without the settings of another fleet; provider keys stay."""
    other = ("SESSIONFLEET_", "REDIS_URL", "CELERY_BROKER_URL", "QDRANT_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(other)}
