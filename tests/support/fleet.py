"""Real worker processes on a real server, and a ledger of what models and tools did."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from broker_config.settings import Settings
from sessions import Session
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.errors import StoreUnavailable
from sessions.protocol.worker_info import WorkerInfo
from tests.support import preloaded
from tests.support.real_qdrant import server_settings
from tests.support.servers import Server
from tests.support.waiting import PROGRAM_START, wait_until

ROOT = Path(__file__).parents[2]


class Worker:
    """One worker process. `env` are further settings of its environment; `anew` starts a new interpreter for it."""

    def __init__(self, fleet: Fleet, name: str, env: dict[str, str], *, anew: bool = False) -> None:
        self.name = name
        self.log_path = fleet.folder / f"{name}.log"
        self._start = preloaded.start_anew if anew else preloaded.start
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SESSIONFLEET_", "OPENAI_"))},
            "REDIS_URL": fleet.server.url,
            "SESSIONFLEET_IMPORTS": "tests.support.doubles",
            "SESSIONFLEET_MODEL": "double",
            "SESSIONFLEET_HOME": str(fleet.folder / "home"),
            "SF_TEST_LEDGER": str(fleet.ledger_path),
            "PYTHONPATH": str(ROOT),
            **server_settings(),
            **fleet.env,
            **env,
        }
        self.process: preloaded.Program | subprocess.Popen[bytes] | None = None

    def start(self) -> Worker:
        """Start the process; `Fleet.ready` waits until it serves."""
        command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "workers", "worker", "-n", f"{self.name}@%h"]
        with self.log_path.open("ab") as log:
            self.process = self._start(command, env=self._env, cwd=ROOT, stdout=log, stderr=log)
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def terminate(self, timeout: float = 60.0) -> None:
        """A warm shutdown; waits for it."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        self.process.wait(timeout)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None


class Fleet:
    """A server, some workers, and a client's settings for them."""

    def __init__(self, folder: Path, server: Server, env: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.server = server
        self.env = env or {}
        self.ledger_path = folder / "ledger.jsonl"
        self.workers: list[Worker] = []
        options = {
            key.removeprefix("SESSIONFLEET_").lower(): value
            for key, value in self.env.items()
            if key.startswith("SESSIONFLEET_")
        }
        self.settings = Settings(redis_url=server.url, **options)  # type: ignore[arg-type]

    def reach(self, url: str) -> None:
        """Have clients and workers use another address of the server, from now on."""
        self.env["REDIS_URL"] = url
        self.settings = self.settings.model_copy(update={"redis_url": url})

    def start(self, name: str, *, anew: bool = False, **env: str) -> Worker:
        """Start another worker, without waiting until it is ready; `anew` is for tests of what a worker loads."""
        worker = Worker(self, name, env, anew=anew).start()
        self.workers.append(worker)
        return worker

    def ready(self, count: int | None = None, timeout: float = PROGRAM_START) -> list[WorkerInfo]:
        """Wait until this many workers (default: all running ones) are registered."""
        wanted = count if count is not None else sum(w.alive for w in self.workers)

        def look() -> list[WorkerInfo] | None:
            for worker in self.workers:
                if worker.process is not None and worker.process.poll() not in (None, 0, -9):
                    raise AssertionError(f"worker {worker.name} ended: {worker.log[-3000:]}")
            names = {w.name for w in self.workers if w.alive}
            try:
                registered = self.registered()
            except StoreUnavailable:  # on a busy machine it answers late
                return None
            found = [i for i in registered if i.id.partition("@")[0] in names]
            return found if len(found) >= wanted else None

        return wait_until(look, description=f"{wanted} workers are registered", timeout=timeout)

    def registered(self) -> list[WorkerInfo]:
        """The workers that are registered in the store."""

        async def look() -> list[WorkerInfo]:
            await self.client.open()
            return await self.client.connection.workers(fresh=True)

        return self.client.portal.call(look())

    @property
    def client(self) -> FleetClient:
        """The client of this process for this fleet."""
        return get_client(self.settings)

    def session(self, session_id: str | None = None, **options: Any) -> Session:
        """A session of this fleet."""
        return Session(session_id, settings=self.settings, **options)

    def ledger(self, kind: str | None = None, **what: Any) -> list[dict[str, Any]]:
        """The lines of the ledger, oldest first."""
        if not self.ledger_path.exists():
            return []
        whole = self.ledger_path.read_text().rpartition("\n")[0]  # the last line may be in the middle of its write
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if kind in (None, line["kind"]) and what.items() <= line.items()]

    def noted(self, kind: str, count: int = 1, timeout: float = 40.0, **what: Any) -> list[dict[str, Any]]:
        """Wait until the ledger has this many such lines."""
        return wait_until(
            lambda: found if len(found := self.ledger(kind, **what)) >= count else None,
            description=f"{count} x {kind} {what} in the ledger",
            timeout=timeout,
        )

    def worker_of_pid(self, pid: int) -> Worker:
        """The worker with this process id."""
        return next(w for w in self.workers if w.pid == pid)

    def close(self) -> None:
        """End all workers, and the client of this process."""
        for worker in self.workers:
            if worker.alive:
                worker.signal(signal.SIGCONT)
                worker.signal(signal.SIGKILL)
        for worker in self.workers:
            if worker.process is not None:
                worker.process.wait()
        self.client.portal.call(self.client.aclose())


@contextlib.contextmanager
def running_fleet(
    folder: Path,
    server: Server,
    env: dict[str, str] | None = None,
    workers: tuple[str, ...] | Mapping[str, dict[str, str]] = ("one",),
) -> Iterator[Fleet]:
    """A fleet whose workers are ready when the block begins, and stopped after it.

    Args:
        folder: the folder for logs and data.
        server: the store.
        env: settings of all workers, and of the client.
        workers: the workers' names; as a mapping, with further settings of each.
    """
    fleet = Fleet(folder, server, env)
    own = workers if isinstance(workers, Mapping) else {name: {} for name in workers}
    try:
        for name in workers:
            fleet.start(name, **own[name])
        fleet.ready()
        yield fleet
    finally:
        fleet.close()


def keys_without_ttl(server: Server) -> list[str]:
    """Sessionfleet's keys that neither expire nor are listed as permanent (docs/keys.md).

    Those of sessions with open turns are left out: other tests may have left a turn that waits for an answer.
    """
    permanent = (
        *(":meta", ":history", ":segments", ":turns", ":agents", ":state", ":checkpoints"),
        *(":memory", ":memory:log", ":memory:vectors", ":sources", ":texts", ":lanes"),
        *(":schedules", ":schedules:state", ":schedules:due", ":shares", ":left", ":branches", ":files", ":expiring"),
        *(
            ":fence",
            ":wakeups",
            "{fleet}:partitions",
            "{fleet}:index",
            "{fleet}:budgets",
            "{fleet}:budgets:version",
            "{fleet}:indexed",
            "{fleet}:segments",
            "{fleet}:apikeys",
            "{fleet}:apikeys:used",
            "{fleet}:limits",
            "{fleet}:limits:version",
        ),
    )
    with server.client() as client:
        names = [raw.decode() for raw in client.scan_iter("sf:v1:*", count=1000)]
        # The indexes of sessions, while there are any; files that a turn has used.
        listed = (":used~", ":made~", ":hidden~", ":shared~", ":file:")
        lasting = [
            name
            for name in names
            if not name.endswith(permanent) and not any(part in name for part in listed) and client.ttl(name) == -1
        ]
        metas = [name for name in names if name.endswith(":meta")] if lasting else []
        is_open = tuple(f"{meta.removesuffix(':meta')}:" for meta in metas if int(client.hget(meta, "open") or 0) > 0)
    asking = tuple(f"{base.split('}')[0]}}}:asking~" for base in is_open)
    return sorted(name for name in lasting if not name.startswith((*is_open, *asking)))


def now() -> float:
    """Seconds, for measuring."""
    return time.monotonic()
