"""A primary with a replica, and a sentinel that watches them: for failovers."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.support.servers import Server, free_port, running, server_program
from tests.support.waiting import wait_until


class Pair:
    """Two servers, one of them the other's replica. Roles change by a failover."""

    def __init__(self, one: Server, two: Server) -> None:
        self.servers = [one, two]
        with two.client() as client:
            client.replicaof("127.0.0.1", one.port)
        self._in_step(two)

    def _in_step(self, replica: Server) -> None:
        def linked() -> bool:
            with contextlib.suppress(redis.RedisError), replica.client() as client:
                return bool(client.info("replication").get("master_link_status") == "up")
            return False

        wait_until(linked, description=f"the replica on port {replica.port} is in step")

    @property
    def primary(self) -> Server:
        """The server that accepts writes now."""
        return wait_until(self._primary, description="one of them is the primary")

    def _primary(self) -> Server | None:
        for server in self.servers:
            with server.client() as client:
                # During a FAILOVER both may say so; the one that hands over has not ended with it.
                replication = client.info("replication")
                if replication["role"] == "master" and replication["master_failover_state"] == "no-failover":
                    return server
        return None

    @property
    def replica(self) -> Server:
        """The other one."""
        return next(server for server in self.servers if server is not self.primary)

    @contextlib.contextmanager
    def replicated(self) -> Iterator[None]:
        """Writes wait for the end of the block, and what was acknowledged before is on the replica.

        Replication is asynchronous: without this, a replica that is promoted lacks what the primary has acknowledged
        in the last moments, which is more on a busy machine.
        """
        old, new = self.primary, self.replica
        with old.client() as client:
            client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
            try:
                wait_until(
                    lambda: _replication(new)["slave_repl_offset"] >= _replication(old)["master_repl_offset"],
                    description="the replica has it all",
                )
                yield
            finally:
                client.execute_command("CLIENT", "UNPAUSE")

    def fail_over(self) -> Server:
        """`FAILOVER TO` the replica, as a planned one is done: loses no write. Returns the new primary."""
        old, new = self.primary, self.replica
        self._in_step(new)
        with old.client() as client:
            client.execute_command("FAILOVER", "TO", "127.0.0.1", new.port)
        wait_until(lambda: self._primary() is new, description="the replica is the primary")
        return new


@contextlib.contextmanager
def pair(folder: Path, *options: str) -> Iterator[Pair]:
    """A primary and its replica, for the length of a block; `options` are those of both servers."""
    options = ("--repl-diskless-sync-delay", "0", *options)
    one, two = (Server(folder / name, options=options) for name in ("one", "two"))
    with running(one), running(two):
        yield Pair(one, two)


def _replication(server: Server) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.info("replication")
    return found


class Sentinel:
    """A sentinel process, which calls the primary `mymaster`."""

    def __init__(self, folder: Path, watched: Pair) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"sentinel://127.0.0.1:{self.port}/0?master_name=mymaster"
        self._folder = folder
        self._watched = watched
        (folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {watched.primary.port} 1\n"
            "sentinel down-after-milliseconds mymaster 2000\nsentinel failover-timeout mymaster 5000\n"
        )

    def start(self) -> Sentinel:
        """Start, and wait until it knows both servers."""
        command = [server_program(), str(self._folder / "sentinel.conf"), "--sentinel"]
        with (self._folder / "sentinel.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._knows_both, description="the sentinel knows primary and replica")
        return self

    def _knows_both(self) -> bool:
        assert self._process.poll() is None, (self._folder / "sentinel.log").read_text()[-2000:]
        with contextlib.suppress(redis.RedisError), redis.Redis(port=self.port) as client:
            replicas = client.sentinel_slaves("mymaster")
            return bool(replicas and not replicas[0]["is_sdown"] and replicas[0]["master-link-status"] == "ok")
        return False

    def fail_over(self) -> None:
        """`SENTINEL FAILOVER`, and wait until it names the other server, which accepts writes."""
        old = self._watched.primary
        with redis.Redis(port=self.port) as client:
            with self._watched.replicated():
                client.execute_command("SENTINEL", "FAILOVER", "mymaster")
                wait_until(lambda: _replication(old)["connected_slaves"] == 0, description="the replica is promoted")
            wait_until(
                lambda: client.sentinel_get_master_addr_by_name("mymaster")[1] != old.port,
                description="the sentinel names the new primary",
            )
        wait_until(lambda: self._watched.primary is not old, description="the old primary is a replica")

    @contextlib.contextmanager
    def looking_away(self) -> Iterator[None]:
        """It watches nothing within the block, and whatever is the primary afterwards.

        So it does not interfere with a `FAILOVER TO`; its own failover takes ten seconds.
        """
        with redis.Redis(port=self.port) as client:
            client.sentinel_remove("mymaster")
            yield
            client.sentinel_monitor("mymaster", "127.0.0.1", self._watched.primary.port, 1)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def sentinel(folder: Path, watched: Pair) -> Iterator[Sentinel]:
    """A sentinel for the length of a block."""
    process = Sentinel(folder, watched)
    try:
        yield process.start()
    finally:
        process.stop()
