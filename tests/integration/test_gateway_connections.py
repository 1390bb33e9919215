"""Connections that are open for long, or too long: streams whose credential expires, slow heads and bodies."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from broker_config.settings import Settings
from sessions.client.per_process import get_client
from sessions.gateway import api_keys, body_limit, bounded_http, gatekeeper, request_limits, stall, streams
from sessions.gateway.api_key import id_in
from sessions.gateway.server import Server as Gateway
from sessions.store import request_limits as stored
from sessions.store.keys import API_KEYS, split_turn_id
from tests.support.gateway import made_key
from tests.support.http import good
from tests.support.servers import Server
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds is due at once."""
    monkeypatch.setattr(gatekeeper, "LOOK_AGAIN", 0.05)
    monkeypatch.setattr(api_keys, "REMEMBERED", 0.05)
    monkeypatch.setattr(streams, "KEEP_ALIVE", 0.1)
    monkeypatch.setattr(request_limits, "_RENEW", 0.1)
    monkeypatch.setattr(bounded_http, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(body_limit, "IDLE", 0.3)
    monkeypatch.setattr(stall, "PATIENCE", 0.3)


@contextmanager
def served(server: Server, **settings: Any) -> Iterator[str]:
    """A gateway with authentication on, in this process; its URL."""
    wanted = Settings(redis_url=server.url, gateway_auth="on", **settings)
    gateway = Gateway(wanted, "127.0.0.1", 0)
    ready = threading.Event()
    thread = threading.Thread(target=gateway.run, args=(lambda _: ready.set(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield gateway.url
    finally:
        gateway.stop()
        thread.join(20)
        client = get_client(wanted)
        client.portal.call(client.aclose())


def waiting_turn(client: httpx.Client, session: str) -> str:
    """A turn that no worker runs: its stream stays open."""
    made = client.post(f"/v1/sessions/{session}/turns", json={"message": "hi", "stream": True})
    good(made, 202)
    return str(made.headers["location"])


def client_for(url: str, key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)


def test_a_stream_ends_when_its_key_is_revoked(new_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Properly, without `ended`: its reader reconnects, and gets 401. Others' streams continue."""
    revoked, kept = made_key(new_server, user="alice"), made_key(new_server, user="alice")
    with served(new_server) as url, client_for(url, revoked) as client, client_for(url, kept) as other:
        turn = waiting_turn(client, "revoked")
        with client.stream("GET", f"{turn}/events") as stream, other.stream("GET", f"{turn}/events") as second:
            lines = stream.iter_lines()
            assert next(lines).startswith(":")
            with new_server.client() as store:
                assert store.hdel(API_KEYS, str(id_in(revoked))) == 1
            assert not [line for line in lines if line.startswith("event: ended")], "and it came to its end"
            assert len(list(itertools.islice(second.iter_lines(), 6))) == 6
        assert client.get(f"{turn}/events").status_code == 401
        assert other.get(turn).status_code == 200
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_stream_goes_on_while_nobody_can_tell(new_server: Server) -> None:
    """An outage of the store ends no stream for its credential's sake."""
    key = made_key(new_server)
    with served(new_server) as url, client_for(url, key) as client:
        turn = waiting_turn(client, "outage")
        with client.stream("GET", f"{turn}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith(":")
            with new_server.client() as store:
                store.execute_command("CLIENT", "PAUSE", "400", "ALL")
            pings = [line for line, _ in zip(lines, range(8), strict=False) if line.startswith(":")]
            assert len(pings) >= 3


def test_a_stream_keeps_its_place_for_as_long_as_it_is_open(
    new_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reservation is renewed, and given back when the reader goes."""
    monkeypatch.setattr(stored.LimitStore.__init__, "__defaults__", (2.0,))  # a busy machine renews late
    key = made_key(new_server, concurrency=1)
    with served(new_server) as url, client_for(url, key) as client, new_server.client() as store:
        made = client.post("/v1/sessions/long/turns", json={"message": "hi", "stream": True})
        wait_until(lambda: not [*store.scan_iter("sf:v1:{limit-*:open")], description="the first request is over")
        with client.stream("GET", f"{made.headers['location']}/events") as stream:
            (place,) = store.scan_iter("sf:v1:{limit-*:open")
            ends = store.pexpiretime(place)
            wait_until(lambda: store.pexpiretime(place) > ends, description="it is renewed")
            wait_until(lambda: store.pexpiretime(place) > ends + 2000, description="and again, beyond its time")
            assert client.get(made.headers["location"]).status_code == 429
            assert stream.status_code == 200
        wait_until(lambda: client.get(made.headers["location"]).status_code == 200, description="its place is free")


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_come_ends_the_connection(new_server: Server, sent: bytes) -> None:
    """Thousands of these would hold the gateway's descriptors (slowloris)."""
    with served(new_server) as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 20) as connection:
        connection.sendall(sent)
        assert connection.recv(1024) == b""


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n"),
        (b"POST /agent HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", b"x"),
        (b"POST /agent HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"5"),
    ],
)
def test_what_comes_behind_an_answer_keeps_no_connection(new_server: Server, first: bytes, more: bytes) -> None:
    """An empty line, or a piece of a body that is not read any more: sending these needs no credential."""
    with served(new_server) as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 10) as connection:
        connection.sendall(first)
        assert connection.recv(65536).startswith(b"HTTP/1.1 ")
        connection.sendall(more)
        assert b"".join(iter(lambda: connection.recv(65536), b"")).count(b"HTTP/1.1") == 0


@pytest.mark.parametrize("at_once", [True, False])
def test_a_body_is_never_taken_for_a_request(new_server: Server, at_once: bool) -> None:
    """With `Upgrade` the parser skips it: on a proxy's connection its answer would go to another client."""
    hidden = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /agent HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n"
    head %= len(hidden)
    with served(new_server) as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 10) as connection:
        connection.sendall(head + hidden if at_once else head)
        said = connection.recv(65536)
        with contextlib.suppress(OSError):
            connection.sendall(b"" if at_once else hidden)
            said += b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1") == 1


def test_who_asks_for_an_upgrade_is_answered_without(new_server: Server) -> None:
    """As clients do that would rather speak HTTP/2; the connection ends."""
    ask = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    with served(new_server) as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 10) as connection:
        connection.sendall(ask)
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in said


def test_a_body_that_does_not_come_is_408(new_server: Server) -> None:
    """The gateway answers 408 and closes the connection."""
    key = made_key(new_server)
    head = (
        f"POST /agent HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    )
    with served(new_server) as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 20) as connection:
        connection.sendall(head.encode())
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in said


def test_a_connection_that_is_kept_serves_request_after_request(new_server: Server) -> None:
    """The time for a head begins with its first byte, not with the connection's beginning; a stream has none."""
    key = made_key(new_server)
    with served(new_server) as url, client_for(url, key) as client:
        turn = waiting_turn(client, "kept")
        for _ in range(3):
            with client.stream("GET", f"{turn}/events") as stream:
                lines = stream.iter_lines()
                assert len([next(lines) for _ in range(10)]) == 10  # for longer than a head may take


def test_a_reader_that_takes_nothing_is_given_up(new_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """With its connection and the data waiting there; that is not an error of the gateway."""
    key = made_key(new_server)
    with served(new_server) as url, client_for(url, key) as client, new_server.client() as store:
        turn = waiting_turn(client, "stalled")
        part = split_turn_id(turn.rpartition("/")[2])[1]
        record = next(store.scan_iter(f"sf:v1:*:turn:{part}")).decode()
        event = {"type": "text", "data": json.dumps({"text": "x" * 500_000})}
        for number in range(1, 21):
            store.xadd(f"{record}:events", event, id=f"1-{number}")
        port = httpx.URL(url).port or 0

        def others() -> list[int]:
            return [c.raddr.port for c in psutil.Process().net_connections() if c.laddr.port == port and c.raddr]

        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", port))
            reader.sendall(f"GET {turn}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
            assert reader.recv(15) == b"HTTP/1.1 200 OK"
            mine = reader.getsockname()[1]
            wait_until(lambda: mine not in others(), description="its connection is gone", timeout=10)
            wait_until(lambda: store.hget(record, "readers") == b"", description="nobody is listed as a reader")
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
