"""The shared limiter of a model, on a plain server and on one in cluster mode."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker_config.redis_clients import async_store
from sessions.store.keys import FLEET
from sessions.store.model_limits import LONGEST_PAUSE, ModelLimitStore
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions.fleet import note_worker
from tests.scripts.test_scripts import PLACES, settings_for


class Limited:
    """A model of the test's own."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.scripts = ScriptRunner(client)
        self.store = ModelLimitStore(self.scripts)
        self.model = uuid.uuid4().hex
        self.key = f"{FLEET}:model:{self.model}"

    async def admit(self, turn: str) -> float | None:
        return await self.store.admit(self.model, turn)

    async def queue(self, turn: str, *, first: bool = False, patience: float = 1e6) -> float:
        return await self.store.queue(self.model, turn, first=first, patience=patience)

    async def reopened(self, seconds_ago: float) -> None:
        """The time that the provider named passed so long ago."""
        now_s, micros = await self.client.time()
        await self.client.hset(self.key, "until", int(now_s * 1000 + micros / 1000 - seconds_ago * 1000))

    async def admit_after(self, seconds: float, turn: str) -> float | None:
        """Ask for a turn so long after the time that the provider named."""
        await self.reopened(seconds)
        return await self.admit(turn)

    async def waiting(self) -> list[str]:
        return [raw.decode() for raw in await self.client.zrange(f"{self.key}:queue", 0, -1)]


@pytest.fixture(params=PLACES[:2])
async def limited(request: pytest.FixtureRequest) -> AsyncIterator[Limited]:
    client = async_store(settings_for(request))
    yield Limited(client)
    await client.aclose()


async def test_a_model_that_was_never_refused_is_free(limited: Limited) -> None:
    """Nothing is written for it."""
    assert await limited.admit("a") is None
    assert not await limited.client.exists(limited.key, f"{limited.key}:queue")


async def test_no_call_starts_before_the_time_that_the_provider_named(limited: Limited) -> None:
    """A later refusal moves it; one that names an earlier time does not."""
    await limited.store.close(limited.model, 200)
    await limited.store.close(limited.model, 5)
    wait = await limited.admit("a")
    assert wait is not None
    assert 100 < wait <= 200
    await limited.store.close(limited.model, 400)
    assert (await limited.admit("a") or 0) > 200


async def test_a_pause_without_reason_does_not_last(limited: Limited) -> None:
    """A provider's day is ten minutes: after that one call asks again."""
    await limited.store.close(limited.model, 86_400)
    assert 0 < (await limited.admit("a") or 0) <= LONGEST_PAUSE


async def test_calls_start_gradually_in_the_order_in_which_their_turns_came(limited: Limited) -> None:
    """After the pause the first one starts, after a second the next, after three seconds eight."""
    begun = asyncio.get_running_loop().time()
    await limited.store.close(limited.model, 10)
    turns = [f"t{n:02}" for n in range(20)]
    clock, starts = asyncio.get_running_loop().time, []
    for turn in turns:
        asked = clock()
        wait = await limited.queue(turn)
        starts.append((asked + wait, clock() + wait))  # at the earliest, and at the latest
    assert await limited.waiting() == turns
    assert starts[0][1] - begun >= 10
    assert starts[-1][1] - starts[0][0] > 2
    assert starts[-1][0] - starts[0][1] < 5, "log2(20) is 4.3"

    await limited.reopened(0.0)
    assert [turn for turn in reversed(turns) if not await limited.admit(turn)] == ["t00"]
    assert await limited.admit("new") != 0.0, "who did not wait comes after those who did"
    assert [turn for turn in turns if await limited.admit_after(3.0, turn) == 0.0] == turns[1:8]
    assert await limited.waiting() == turns[8:]


async def test_a_short_pause_is_followed_by_a_short_start(limited: Limited) -> None:
    """After a second's pause, a thousand calls may start within a second."""
    await limited.store.close(limited.model, 1)
    waits = [await limited.queue(f"t{n:03}") for n in range(100)]
    assert waits[-1] - waits[0] < 0.9, "a tenth of a second for each doubling"


async def test_a_further_refusal_keeps_the_places(limited: Limited) -> None:
    """Those that wait stay in order; the turn whose call was refused comes before them."""
    await limited.store.close(limited.model, 10)
    for turn in ("a", "b", "c"):
        await limited.queue(turn)
    await limited.reopened(0.0)
    assert await limited.admit("a") == 0.0
    await limited.store.close(limited.model, 10)
    await limited.queue("a", first=True)
    await limited.queue("d")
    await limited.queue("b")
    assert await limited.waiting() == ["a", "b", "c", "d"]


async def test_turns_that_do_not_come_back_hold_nobody_up_for_long(limited: Limited) -> None:
    """They were cancelled, or another model answered: five seconds after their time their places are gone."""
    await limited.store.close(limited.model, 10)
    for n in range(8):
        await limited.queue(f"gone{n}")
    await limited.queue("here")
    await limited.reopened(9.0)
    assert await limited.admit("here") == 0.0
    assert await limited.waiting() == []


async def test_a_turn_that_cannot_wait_so_long_gets_no_place(limited: Limited) -> None:
    """It fails; the ones after it do not wait for it."""
    await limited.store.close(limited.model, 10)
    assert await limited.queue("hasty", patience=3) > 9
    assert await limited.waiting() == []


async def test_workers_hear_of_it_with_their_reports(limited: Limited) -> None:
    """The reply names the models until their limiters expire; then nothing is left."""

    async def reported() -> tuple[str, ...]:
        worker = uuid.uuid4().hex
        call = note_worker((FLEET,), worker=worker, info="{}", alive_ms=1000, consumed={})
        return (await limited.scripts.run(call)).models

    assert limited.model not in await reported()
    await limited.store.close(limited.model, 10)
    assert limited.model in await reported()
    for key in (limited.key, f"{FLEET}:models"):
        assert await limited.client.pttl(key) > 0
    await limited.client.delete(limited.key)
    assert await limited.admit("a") is None
    assert limited.model not in await reported()
