"""Streams: many at the same time, and how long a stream's first text is on its way, from the model to the reader.

For the latter, the model sends the time at which it produces each text, by a clock that all processes of a machine
share. One stream comes after the other, so that nothing waits for a processor.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.producers import agent, chat_all, quantile
from benchmarks.report import Row
from benchmarks.rig import Rig, metered
from benchmarks.scale import ProgressCallback, Scale

TARGET = 5.0
"""Milliseconds."""
_TEXTS = 4
_PAUSE = 0.1  # longer than texts are collected for, so that each is the first one after a silence


def streams(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Streams of 100 deltas, all at the same time: as fast as they go, and at a model's pace."""
    worker = rig.worker("streams", concurrency=max(100, scale.streams))
    chat_all(rig, ["Hello, who are you?"] * 50)
    progress(f"{scale.streams} streams of 100 deltas, as fast as they go")
    # A delta of 256 characters is an event of its own; smaller ones are collected, for at most 30 ms.
    with metered(rig, worker) as fast:
        events, _ = asyncio.run(_streams(rig, scale.streams, "DELTAS 100 256 0"))
    progress(f"{scale.streams} streams of 100 deltas, 20 ms apart")
    with metered(rig, worker) as paced:
        gathered, first = asyncio.run(_streams(rig, scale.streams, "DELTAS 100 8 0.02"))
    progress("streams one after the other")
    alone = _first_text(rig, max(5, scale.samples // 5))
    worker.end()
    return [
        *alone,
        Row("streams of 100 deltas, streams/s", scale.streams / fast.wall),
        Row("streams of 100 deltas, events/s", events / fast.wall),
        Row("... CPU per event, worker, ms", fast.worker / events * 1000),
        Row(f"{scale.streams} at once, 20 ms a delta, wall, s", paced.wall, ratio=f"{paced.wall / 2:.2f} x model"),
        Row("... first text after, p50, ms", quantile(first, 0.5) * 1000),
        Row("... events/s (deltas gathered for 30 ms)", gathered / paced.wall),
    ]  # fmt: skip


async def _streams(rig: Rig, streams: int, message: str) -> tuple[int, list[float]]:
    """The number of events, and the sorted seconds to the first text of each stream."""

    async def one() -> tuple[int, float]:
        began, first, events = time.perf_counter(), 0.0, 0
        async for event in agent(rig).astream(message):
            events += 1
            if event.text and not first:
                first = time.perf_counter() - began
        return events, first

    seen = await asyncio.gather(*(one() for _ in range(streams)))
    return sum(events for events, _ in seen), sorted(first for _, first in seen)


def _first_text(rig: Rig, streams: int) -> list[Row]:
    """The delays of first texts, and of one round trip to the store, which is the least that each needs."""
    trips, first, later = [], [], []
    for _ in range(streams):
        began = time.perf_counter()
        rig.redis.ping()
        trips.append(time.perf_counter() - began)
        delays = asyncio.run(_delays(rig))
        first.append(delays[0])
        later += delays[1:]
    trip, ours = quantile(sorted(trips), 0.5) * 1000, quantile(sorted(first), 0.5) * 1000
    return [
        Row("first text of a stream, from the model to the reader, p50, ms", ours, ratio=f"{ours / trip:.0f} x a PING",
            target=f"at most {TARGET:g}", met=ours <= TARGET),
        Row("... p90, ms", quantile(sorted(first), 0.9) * 1000),
        Row("... a later text after a pause, p50, ms", quantile(sorted(later), 0.5) * 1000),
    ]  # fmt: skip


async def _delays(rig: Rig) -> list[float]:
    """Seconds from the model to the reader, for each text of one stream."""
    delays = []
    async for event in agent(rig).astream(f"CLOCK {_TEXTS} {_PAUSE}"):
        if event.text:
            delays.append(time.monotonic() - float(event.text))
    return delays
