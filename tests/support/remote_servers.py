"""Servers for remote sessions: an agent's server with scripted replies, and a proxy in front of the gateway."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class RecordedRequest:
    """A request as it was received; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """A reply. With `breaks`, the connection is closed instead. `before` is called first."""

    body: object = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False
    before: Callable[[], object] = lambda: None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written one after the other

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.handle(self, RecordedRequest(self.command, self.path, headers, body))  # type: ignore[attr-defined]

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""

    def send(self, reply: Reply) -> None:
        """Write an answer, or hang up."""
        reply.before()
        if reply.breaks:
            self.hang_up()
            return
        text = isinstance(reply.body, str)
        raw = str(reply.body).encode() if text else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        kind = {"Content-Type": "text/plain" if text else "application/json", **reply.headers}
        for name, value in {**kind, "Content-Length": str(len(raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def hang_up(self) -> None:
        """The connection breaks."""
        self.close_connection = True
        self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, handle: Callable[[_Handler, RecordedRequest], None], port: int, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.handle = handle
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        """A client that refuses our certificate, or disconnects, is part of a test."""


@contextmanager
def _running(
    handle: Callable[[_Handler, RecordedRequest], None], port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    server = _Server(handle, port, tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class AgentServer:
    """An agent's server with `replies` by method and path; of a list, each is used once, and the last one repeats."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply | list[Reply]] = {"HEAD /agent": Reply(status=405)}
        self.asked: list[RecordedRequest] = []
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/agent"

    def sent_bodies(self) -> list[Any]:
        """The bodies of the messages."""
        return [asked.json for asked in self.asked if asked.method == "POST"]

    def handle(self, handler: _Handler, asked: RecordedRequest) -> None:
        self.asked.append(asked)
        reply = self.replies.get(f"{asked.method} {asked.path}", Reply("nothing here", 404))
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        handler.send(reply)


@contextmanager
def agent_server(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[AgentServer]:
    """Run one until the block ends."""
    agent = AgentServer()
    with _running(agent.handle, port, tls) as agent.port:
        agent.scheme = "http" if tls is None else "https"
        yield agent


class FaultyProxy:
    """Forwards requests to a server. Each of the `faults` is used by one request whose method and path begin with it.

    A fault is a Reply that is sent without asking the server; `"lose"`, for a response that is lost after the server
    has handled the request; or the number of lines of the response that are forwarded before the connection breaks.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.faults: list[tuple[str, Reply | str | int]] = []
        self.asked: list[RecordedRequest] = []
        self._upstream = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/agent"

    def count(self, begins: str) -> int:
        """How many requests began with this method and path."""
        return sum(f"{asked.method} {asked.path}".startswith(begins) for asked in self.asked)

    def handle(self, handler: _Handler, asked: RecordedRequest) -> None:
        self.asked.append(asked)
        fault = self._fault(f"{asked.method} {asked.path}")
        if isinstance(fault, Reply):
            handler.send(fault)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=60)
        try:
            headers = {name: value for name, value in asked.headers.items() if name not in ("host", "connection")}
            upstream.request(asked.method, asked.path, asked.body or None, headers)
            response = upstream.getresponse()
            if fault == "lose":
                response.read()
                handler.hang_up()
                return
            self._pass(handler, response, fault)
        finally:
            upstream.close()

    def _pass(self, handler: _Handler, response: http.client.HTTPResponse, lines: object) -> None:
        handler.close_connection = True
        handler.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        left = lines if isinstance(lines, int) else None
        while (line := response.readline()) and (left is None or left > 0):
            handler.wfile.write(line)
            left = None if left is None else left - 1

    def _fault(self, request: str) -> Reply | str | int | None:
        for place, (begins, fault) in enumerate(self.faults):
            if request.startswith(begins):
                del self.faults[place]
                return fault
        return None


@contextmanager
def faulty_proxy(port: int) -> Iterator[FaultyProxy]:
    """A proxy for the server on a port, until the block ends."""
    proxy = FaultyProxy(port)
    with _running(proxy.handle) as own:
        proxy.port = own
        yield proxy
