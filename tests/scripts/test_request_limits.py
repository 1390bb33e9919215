"""Limits of the gateway's callers in the store, on a plain server and on one in cluster mode."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.store.keys import limit_key
from sessions.store.request_limits import LimitStore, Refused
from sessions.store.scripts import ScriptRunner
from tests.support.servers import Server
from tests.support.waiting import await_until


class Caller:
    """A caller of the test's own."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.scripts = ScriptRunner(client)
        self.limits = LimitStore(self.scripts)
        self.base = limit_key("default", f"key:{uuid.uuid4().hex}")

    async def ask(self, request: str, *, rate: int = 0, concurrency: int = 0) -> Refused | None:
        return await self.limits.admit(self.base, request, rate, concurrency)

    async def open(self) -> set[str]:
        return {raw.decode() for raw in await self.client.zrange(f"{self.base}:open", 0, -1)}


@pytest.fixture(params=["standalone", "cluster"])
async def caller(request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    clustered = request.param == "cluster"
    server: Server = request.getfixturevalue("cluster_server" if clustered else "server")
    client = async_store(Settings(redis_url=server.url, redis_cluster=clustered))  # type: ignore[call-arg]
    yield Caller(client)
    await client.aclose()


async def test_a_minutes_requests_may_come_at_once_and_no_more(caller: Caller) -> None:
    """The next one comes when the interval between two has passed: the refusal says after how long."""
    assert [await caller.ask(f"r{n}", rate=3) for n in range(3)] == [None, None, None]
    refused = await caller.ask("r3", rate=3)
    assert refused is not None
    assert refused.limit == "rate"
    assert 15 < refused.wait <= 20
    assert "r3" not in await caller.open(), "what is refused is not open"


async def test_a_refused_request_costs_nothing(caller: Caller) -> None:
    """A retry that comes too early does not delay the time at which one may succeed."""
    await caller.ask("r0", rate=1)
    first = await caller.ask("r1", rate=1)
    for _ in range(5):
        last = await caller.ask("r1", rate=1)
    assert first is not None
    assert last is not None
    assert last.wait <= first.wait


async def test_a_request_that_is_sent_again_counts_once(caller: Caller) -> None:
    """The reply was lost, and the client of the store sends the script a second time (R1)."""
    for _ in range(3):
        assert await caller.ask("same", rate=2, concurrency=1) is None
    assert await caller.open() == {"same"}
    await caller.limits.end(caller.base, "same")
    assert await caller.ask("other", rate=2, concurrency=1) is None


async def test_open_requests_are_bounded_until_one_ends(caller: Caller) -> None:
    """Concurrency counts what is open; the end of one lets the next in."""
    assert [await caller.ask(name, concurrency=2) for name in ("a", "b")] == [None, None]
    refused = await caller.ask("c", concurrency=2)
    assert refused is not None
    assert (refused.limit, refused.wait) == ("concurrency", 1.0)
    await caller.limits.end(caller.base, "a")
    assert await caller.ask("c", concurrency=2) is None


async def test_the_next_request_does_not_meet_the_one_before(caller: Caller) -> None:
    """Though the end of that one is still on its way, perhaps on another connection: it goes along."""
    assert await caller.ask("first", concurrency=1) is None
    assert await caller.limits.admit(caller.base, "second", 0, 1, ended=["first"]) is None
    assert await caller.open() == {"second"}


async def test_a_reservation_that_nobody_renews_is_given_back(caller: Caller) -> None:
    """A gateway that was killed with kill -9 holds slots for as long as a reservation, and no longer (R7)."""
    short = LimitStore(caller.scripts, reservation=0.1)
    assert await short.admit(caller.base, "killed", 0, 1) is None

    async def let_in() -> bool:
        return await short.admit(caller.base, "next", 0, 1) is None

    await await_until(let_in, description="the reservation ran out")


async def test_a_renewed_reservation_lasts(caller: Caller) -> None:
    """A stream may stay open for longer than one reservation."""
    short = LimitStore(caller.scripts, reservation=5.0)
    assert await short.admit(caller.base, "stream", 0, 1) is None
    await caller.limits.renew(caller.base, ["stream"])
    assert await caller.client.pttl(f"{caller.base}:open") > 20_000
    refused = await short.admit(caller.base, "next", 0, 1)
    assert refused is not None
    assert refused.limit == "concurrency"


async def test_renewing_does_not_bring_back_what_was_given_back(caller: Caller) -> None:
    """The giving back may overtake a renewal that is on its way on another connection."""
    assert await caller.ask("done", concurrency=1) is None
    await caller.limits.end(caller.base, "done")
    await caller.limits.renew(caller.base, ["done"])
    assert await caller.open() == set()


async def test_no_key_of_a_caller_stays(caller: Caller) -> None:
    """Every key has a lifetime (P9)."""
    await caller.ask("a", rate=600, concurrency=2)
    names = [f"{caller.base}:rate", f"{caller.base}:open"]
    assert all([0 < await caller.client.pttl(name) <= 61_000 for name in names])


async def test_callers_do_not_share_limits(caller: Caller) -> None:
    """Neither two users of a tenant, nor the same name in two tenants, nor names that look the same when joined."""
    other = Caller(caller.client)
    await caller.ask("a", concurrency=1)
    assert await other.ask("a", concurrency=1) is None
    bases = {limit_key("a", "b:c"), limit_key("a:b", "c"), limit_key("b", "b:c"), limit_key("a", "c")}
    assert len(bases) == 4
