"""A real gateway in a separate process: `sessionfleet gateway` on a free port, on a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from sessions.gateway.api_key import digest_of, new_key
from sessions.store.api_keys import ApiKeyRecord
from sessions.store.keys import API_KEYS
from tests.support import preloaded
from tests.support.fleet import ROOT
from tests.support.servers import Server, free_port
from tests.support.waiting import PROGRAM_START, wait_until

ALLOWED_PAGE = "https://app.example.org"
"""The one origin whose pages may call `secured_gateway`."""


class GatewayProcess:
    """One gateway. `options` are further words of its command, `env` further settings of its environment."""

    def __init__(self, server: Server, folder: Path, *options: str, **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / f"gateway-{self.port}.log"
        self._options = options
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SESSIONFLEET_")},
            "REDIS_URL": server.url,
            "SESSIONFLEET_HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
            **env,
        }
        self.process: preloaded.Program | None = None

    def start(self) -> GatewayProcess:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "sessions.cli.main", "gateway", "--port", str(self.port), *self._options]
        with self.log_path.open("ab") as log:
            self.process = preloaded.start(command, env=self.env, cwd=ROOT, stdout=log, stderr=log)
        wait_until(self._answers, description="the gateway answers", timeout=PROGRAM_START)
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has printed and logged so far."""
        return self.log_path.read_text(errors="replace")

    def client(self, key: str | None = None, **options: object) -> httpx.Client:
        """A client for it, with this credential if any; close it."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False, **options)  # type: ignore[arg-type]

    def kill(self) -> None:
        """kill -9, as a crash does."""
        os.kill(self.pid, signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """End it as a person does, if it runs."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the gateway ended: {self.log[-3000:]}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        return False


@contextlib.contextmanager
def running_gateway(server: Server, folder: Path, *options: str, **env: str) -> Iterator[GatewayProcess]:
    """A gateway, for the duration of the block."""
    gateway = GatewayProcess(server, folder, *options, **env)
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def made_key(server: Server, **options: Any) -> str:
    """An API key in the store, as `sessionfleet keys api create` makes one; tenant `default`, to read and write."""
    key_id, key = new_key()
    fields = {"tenant": "default", "rights": ("read", "write"), "created_ms": int(time.time() * 1000), **options}
    record = ApiKeyRecord(id=key_id, digest=digest_of(key), **fields)
    with server.client() as client:
        assert client.hsetnx(API_KEYS, key_id, record.model_dump_json(exclude_defaults=True))
    return key


def ask(gateway: GatewayProcess, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
    """One request on a separate connection, with this credential if any."""
    with gateway.client(key) as client:
        return client.request(method, path, **options)


def answer_to(gateway: GatewayProcess, request: bytes) -> bytes:
    """What comes back for these very bytes, up to the connection's end."""
    with socket.create_connection(("127.0.0.1", gateway.port), 20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def a_session() -> str:
    """An id that no other test has."""
    return f"s-{uuid.uuid4().hex}"
