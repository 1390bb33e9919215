"""The cost of the HTTP edge: compared with the same calls in one's own process, and as streams per core."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import time
from dataclasses import dataclass

from benchmarks.producers import agent, chat_all, latencies, quantile
from benchmarks.report import Row
from benchmarks.rig import Rig, metered
from benchmarks.scale import ProgressCallback, Scale

_HELLO = "Hello, who are you?"
_BLOCKS = 10
_numbers = itertools.count()


def http_edge(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Blocking requests and first tokens, ours and the gateway's, alternating; then paced streams on one gateway."""
    worker = rig.worker("edge", concurrency=max(100, scale.streams))
    gateway, port = rig.gateway("gateway")
    chat_all(rig, [_HELLO] * 50)
    _asked(port, 20)
    progress(f"{scale.samples} blocking requests, alone and through the gateway")
    blocking: dict[str, list[float]] = {"alone": [], "gateway": []}
    first: dict[str, list[float]] = {"alone": [], "gateway": []}
    for _ in range(_BLOCKS):
        samples = scale.samples // _BLOCKS
        blocking["alone"] += latencies(samples, lambda _: agent(rig).chat(_HELLO))
        blocking["gateway"] += _asked(port, samples)
        first["alone"] += [_first_text(rig) for _ in range(samples)]
        first["gateway"] += [asyncio.run(_stream(port, _HELLO)).first for _ in range(samples)]
    progress(f"{scale.streams} streams of 100 deltas, 20 ms apart, on one gateway")
    with metered(rig, gateway) as meter:
        seen = asyncio.run(_streams(port, scale.streams, "DELTAS 100 8 0.02"))
    rss = gateway.rss() / 1e6
    gateway.end()
    worker.end()
    return _rows(blocking, first) + _stream_rows(scale.streams, meter.wall, meter.worker, seen, rss)


def _rows(blocking: dict[str, list[float]], first: dict[str, list[float]]) -> list[Row]:
    rows = []
    for name, taken in (("POST /agent and chat()", blocking), ("first text, POST + GET events", first)):
        for share in (0.5, 0.99):
            alone, gateway = (quantile(sorted(taken[who]), share) * 1000 for who in ("alone", "gateway"))
            more = f"{gateway / alone:.2f} x without, {gateway - alone:+.1f} ms"
            rows.append(Row(f"{name}, p{share * 100:.0f}, ms", gateway, ratio=more))
    return rows


def _stream_rows(streams: int, wall: float, cpu: float, seen: list[_Seen], rss: float) -> list[Row]:
    events = sum(one.events for one in seen)
    return [
        Row(f"gateway, {streams} streams at once, wall, s", wall, ratio=f"{wall / 2:.2f} x model"),
        Row("... first text after, p50, ms", quantile(sorted(one.first for one in seen), 0.5) * 1000),
        Row("... CPU per event, gateway, ms", cpu / events * 1000),
        # The share of a core that these streams took while the model was answering, two seconds for each.
        Row("... such streams that a core carries", streams * 2.0 / cpu),
        Row("... gateway RSS, MB", rss),
    ]


@dataclass(frozen=True)
class _Seen:
    """One stream: seconds from the request to its first text, and the number of events."""

    first: float
    events: int


def _asked(port: int, count: int) -> list[float]:
    """Seconds that `POST /agent` took, one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(_: int) -> None:
        body = json.dumps({"message": _HELLO, "session_id": f"edge-{next(_numbers)}"})
        connection.request("POST", "/agent", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = response.read()
        if response.status != 200:
            raise RuntimeError(f"the gateway answered {response.status}: {said!r}")

    taken = latencies(count, ask)
    connection.close()
    return taken


def _first_text(rig: Rig) -> float:
    began = time.perf_counter()
    found = 0.0
    for event in agent(rig).stream(_HELLO):
        if event.text and not found:
            found = time.perf_counter() - began
    return found


async def _streams(port: int, streams: int, message: str) -> list[_Seen]:
    return list(await asyncio.gather(*(_stream(port, message) for _ in range(streams))))


async def _stream(port: int, message: str) -> _Seen:
    """Submit and follow, on one connection, with the minimal client for it."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"message": message, "stream": True}).encode()
    path = f"/v1/sessions/edge-{next(_numbers)}/turns"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    location = ""
    length = 0
    while (line := (await reader.readline()).decode().strip()) or not location:
        name, _, value = line.partition(": ")
        location = value if name.lower() == "location" else location
        length = int(value) if name.lower() == "content-length" else length
    await reader.readexactly(length)
    writer.write(f"GET {location}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    first, events, ended = 0.0, 0, False
    while not ended:
        line = (await reader.readline()).decode()
        if line.startswith("event: "):
            events += 1
            if "text_delta" in line and not first:
                first = time.perf_counter() - began
            ended = "ended" in line
    writer.close()
    return _Seen(first, events)
