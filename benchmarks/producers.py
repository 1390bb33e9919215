"""How the one producer process sends turns: ours from asyncio, like an async web backend; Celery's from threads.

Celery has no asyncio API, so eight threads publish and one collects the results; that is its fastest way here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.doubles import INSTRUCTIONS
from benchmarks.rig import Rig
from sessions import Agent, Session

_PUBLISHERS = 8
_names = itertools.count()


def agent(rig: Rig, session_id: str | None = None) -> Agent:
    """An agent in a session of its own."""
    session = Session(session_id or f"bench-{next(_names)}", settings=rig.settings)
    return session.Agent("bench", instructions=INSTRUCTIONS)


async def _chat_all(rig: Rig, messages: Sequence[str], at_once: int) -> None:
    places = asyncio.Semaphore(at_once)

    async def one(message: str) -> None:
        async with places:
            await agent(rig).achat(message)

    await asyncio.gather(*(one(message) for message in messages))


def chat_all(rig: Rig, messages: Sequence[str], at_once: int = 400) -> None:
    """One session and one `achat` for each message, this many at a time, from one event loop."""
    asyncio.run(_chat_all(rig, messages, at_once))


def celery_all(calls: Sequence[tuple[Any, tuple[Any, ...]]]) -> None:
    """`delay` from eight threads, then `get` one after the other."""
    with ThreadPoolExecutor(_PUBLISHERS) as threads:
        for result in list(threads.map(lambda call: call[0].delay(*call[1]), calls)):
            result.get(timeout=120)


def latencies(count: int, call: Callable[[int], object]) -> list[float]:
    """Seconds of each of this many calls, one after the other."""
    taken = []
    for number in range(count):
        began = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - began)
    return sorted(taken)


def quantile(taken: Sequence[float], share: float) -> float:
    """A quantile of sorted values."""
    return taken[min(len(taken) - 1, int(len(taken) * share))]
