"""A receiver of webhooks on the loopback address: it answers as a test says, and keeps what it received."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The field that identifies a repeat."""
        return self.headers["webhook-id"]

    def checked_with(self, secret: str) -> Any:
        """Its payload, as the Standard Webhooks package sees it."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Path:
    """How one path answers: these statuses in turn, then 204; `held` requests get their answer when they are let go."""

    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    let_go: threading.Event | None = None


class Receiver:
    """Paths and what came to each."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.paths: dict[str, Path] = {}
        self.received: list[Received] = []

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Where a webhook is sent."""
        return f"http://{host}:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        """What came to a path, queries aside, oldest first."""
        return [one for one in list(self.received) if one.path.partition("?")[0] == path]

    def got(self, path: str, count: int = 1) -> list[Received]:
        """Wait until so much has come to a path."""
        return wait_until(
            lambda: found if len(found := self.at(path)) >= count else None,
            description=f"{count} webhooks at {path}",
        )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = receiver.paths.get(self.path.partition("?")[0], Path())
            receiver.received.append(Received(self.path, headers, body))
            if path.let_go is not None:
                path.let_go.wait(60)
            status = path.statuses.pop(0) if path.statuses else 204
            try:
                self.send_response(status)
                for name, value in path.headers.items():
                    self.send_header(name, value)
                self.end_headers()
            except OSError:
                return  # the client no longer waits for the answer

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        for path in receiver.paths.values():
            if path.let_go is not None:
                path.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()
