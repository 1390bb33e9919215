"""The rota: which session gets the next slot of a queue. On a plain server and on a cluster, with the real scripts."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from itertools import combinations, count
from typing import Any

import pytest

from broker_config.redis_clients import async_store
from sessions.store.keys import SessionKeys, rota_key
from sessions.store.rota import Rota
from sessions.store.scripts import ScriptRunner
from sessions.store.wake_up import WakeUp
from tests.scripts.test_scripts import settings_for


class Line:
    """The rota of a queue of the test's own."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.rota = Rota(ScriptRunner(client), client)
        self.queue = f"turns.{uuid.uuid4().hex}"
        self._at = 1_000

    def wake_up(self, tenant: str, session: str, *, in_rota: bool = True) -> WakeUp:
        self._at += 1
        return WakeUp(f"{tenant}:{session}", self.queue, self._at, in_rota)

    async def join(self, tenant: str, *sessions: str) -> None:
        for session in sessions:
            await self.rota.join(self.wake_up(tenant, session))

    async def next(self, **options: Any) -> str | None:
        return await self.rota.next(self.wake_up("any", "token"), **options)

    async def take(self, count: int) -> list[str | None]:
        return [await self.next() for _ in range(count)]

    async def tenants(self, count: int) -> str:
        return "".join(str(ref).partition(":")[0] for ref in await self.take(count))

    async def keys(self) -> list[str]:
        base = rota_key(self.queue)
        return sorted([key.decode().removeprefix(base) async for key in self.client.scan_iter(f"{base}*", count=1000)])


@pytest.fixture(params=("standalone", "cluster"))
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    line = Line(async_store(settings_for(request)))
    yield line
    for key in await line.keys():
        await line.client.delete(rota_key(line.queue) + key)
    await line.client.aclose()


def many(count: int) -> list[str]:
    return [f"s{number:04}" for number in range(count)]


async def test_one_tenants_sessions_come_in_the_order_of_their_wake_ups(line: Line) -> None:
    """As in the queue without a rota; a session is in it once, and afterwards nothing is left in the store."""
    await line.join("a", "z", "m", "z", "b")
    assert await line.take(4) == ["a:z", "a:m", "a:b", None]
    assert await line.keys() == []


async def test_a_single_turn_comes_next_whatever_another_tenants_backlog(line: Line) -> None:
    """Before a turn of those that wait for longer begins."""
    await line.join("a", *many(200))
    await line.take(50)
    await line.join("b", "one")
    assert await line.next() == "b:one"
    assert await line.next() == "a:s0050"


async def test_tenants_with_backlogs_take_turns(line: Line) -> None:
    """One each, in the order in which they came."""
    for tenant in "cab":
        await line.join(tenant, *many(5))
    assert await line.tenants(9) == "cabcabcab"


async def test_weights_divide_the_slots(line: Line) -> None:
    """Four turns of one for each turn of the other; a change counts at once, also for those that wait already."""
    await line.rota.set_weights(line.queue, {"a": 4.0, "b": 0.5})
    for tenant in "abc":
        await line.join(tenant, *many(100))
    assert Counter(await line.tenants(55)) == {"a": 40, "c": 10, "b": 5}
    await line.rota.set_weights(line.queue, {})
    taken = Counter(await line.tenants(30))
    assert all(9 <= taken[tenant] <= 11 for tenant in "abc"), taken


async def test_nobody_saves_up_turns_or_gains_by_coming_back(line: Line) -> None:
    """A tenant that was away shares from now on; one that has a single session at a time is no newcomer each time."""
    await line.join("a", *many(100))
    await line.take(50)
    await line.join("b", *many(20))
    assert Counter(await line.tenants(20)) == {"a": 10, "b": 10}
    taken = ""
    for number in range(10):
        await line.join("c", f"n{number}")
        taken += await line.tenants(2)
    assert (taken.count("c"), len(taken)) == (7, 20), f"a third of the slots, and not half of them: {taken}"


async def test_ten_thousand_tenants_with_one_turn_each_come_in_the_order_of_arrival(line: Line) -> None:
    """None starves because of its name, also if others keep coming."""
    names = [f"t{number * 7919 % 300:03}" for number in range(300)]
    for name in names[:100]:
        await line.join(name, "s")
    taken = []
    for name in names[100:]:
        taken.append(await line.next())
        await line.join(name, "s")
    taken += await line.take(100)
    assert taken == [f"{name}:s" for name in names]


async def test_an_abandoned_session_comes_before_its_tenants_others_and_not_before_other_tenants(line: Line) -> None:
    """The rescue enters it: its turn had begun. One that is in the rota is named by nobody as lost."""
    await line.join("a", *many(3))
    await line.join("b", *many(3))
    assert await line.rota.join_first(f"{line.queue}.rescue", ["a:crashed", "a:s0001"], 5_000) == ["a:crashed"]
    assert await line.take(4) == ["a:crashed", "b:s0000", "a:s0000", "b:s0001"]


async def test_a_session_without_turns_costs_its_tenant_next_to_nothing(line: Line) -> None:
    """After a hundred cancelled turns a tenant's next one does not wait for a hundred turns of others."""
    await line.join("a", *many(50))
    await line.join("b", *many(50))
    found = await line.next()
    for _ in range(49):
        found = await line.next(unused=found if str(found).startswith("a:") else "")
    waiting = await line.rota.waiting(line.queue)
    assert (waiting["a"] < 5, waiting["b"] > 45) == (True, True), waiting


async def test_a_session_with_many_turns_keeps_its_slot_while_no_other_tenant_waits(line: Line) -> None:
    """Other sessions of its own tenant do not count; a turn of another tenant gets the slot at the next commit."""
    keys = SessionKeys.of("a", "long", 256)
    await line.join("a", "long", "other")
    assert await line.next() == "a:long"
    assert [await line.rota.keeps(line.queue, keys, turns) for turns in (0, 1, 1)] == [True, True, True]
    await line.join("b", "one")
    assert not await line.rota.keeps(line.queue, keys, 1)
    await line.join("a", "long")
    assert await line.take(3) == ["b:one", "a:other", "a:long"]


async def test_a_session_that_goes_on_is_charged_for_each_turn(line: Line) -> None:
    """With a weight of 3 it has three turns for each of the other tenant's, in one slot or by three wake-ups."""
    await line.rota.set_weights(line.queue, {"a": 3.0})
    keys, shares = SessionKeys.of("a", "long", 256), Counter[str]()
    await line.join("b", *many(60))
    await line.join("a", "long")
    for _ in range(60):
        ref = str(await line.next())
        shares[ref[0]] += 1
        if ref.startswith("a:"):
            turns = 0
            while await line.rota.keeps(line.queue, keys, turns):
                shares["a"] += 1
                turns = 1
            await line.join("a", "long")
    assert abs(shares["a"] - 3 * shares["b"]) <= 4, shares


async def test_a_wake_up_of_an_older_client_enters_its_session(line: Line) -> None:
    """Else it would be found only by the rescue."""
    await line.join("a", "x")
    assert await line.rota.next(line.wake_up("b", "old", in_rota=False)) == "a:x"
    assert await line.next() == "b:old"


async def test_missing_wake_ups_are_replaced_once(line: Line) -> None:
    """Of all workers that find the queue empty, one in a second; for sessions that have waited for a while."""
    await line.join("a", *many(4))
    await line.rota.join_first(line.queue, ["b:crashed"], 5_000)
    now = int((await _time(line.client)) * 1000)
    await line.rota.join(WakeUp("c:fresh", line.queue, now, in_rota=True))
    found = await line.rota.overdue(line.queue, 4)
    assert [wake_up.ref for wake_up in found] == [f"a:{session}" for session in many(4)]
    assert {(wake_up.queue, wake_up.in_rota) for wake_up in found} == {(f"{line.queue}.rescue", True)}
    assert await line.rota.overdue(line.queue, 4) == []
    await line.client.delete(f"{rota_key(line.queue)}:looked")
    found = await line.rota.overdue(line.queue, 9)
    assert {wake_up.ref for wake_up in found} == {"b:crashed", *(f"a:{session}" for session in many(4))}


@pytest.mark.parametrize("lost", [":tenants", ":served", ":waiting~a"])
async def test_whatever_is_lost_nobody_waits_for_ever(line: Line, lost: str) -> None:
    """The rescue enters again what is due, and the rota is whole."""
    await line.join("a", *many(4))
    await line.join("b", *many(4))
    await line.take(2)
    await line.client.delete(rota_key(line.queue) + lost)
    due = [f"{tenant}:{session}" for tenant in "ab" for session in many(4)[1:]]
    await line.rota.join_first(line.queue, due, 9_000)
    taken = await line.take(6)
    assert sorted(map(str, taken)) == sorted(due)
    assert await line.next() is None


async def test_every_key_expires(line: Line) -> None:
    """What is in a queue that nobody serves, too."""
    await line.join("b", "first")
    assert not await line.rota.keeps(line.queue, SessionKeys.of("a", "s0000", 256), 0)
    assert await line.client.pttl(f"{rota_key(line.queue)}:served") > 0
    await line.rota.set_weights(line.queue, {"a": 2.0})
    await line.join("a", *many(3))
    await line.join("b", *many(3))
    await line.take(2)
    await line.rota.keeps(line.queue, SessionKeys.of("a", "s0000", 256), 1)
    keys = await line.keys()
    assert keys == [":served", ":tenants", ":waiting~a", ":waiting~b", ":weights"]
    assert all([await line.client.pttl(rota_key(line.queue) + key) > 0 for key in keys])


async def test_a_deleted_session_leaves_the_rota(line: Line) -> None:
    """Its tenant's tag stays until its line is looked at."""
    await line.join("a", "gone")
    await line.join("b", "here")
    await line.rota.leave(line.queue, SessionKeys.of("a", "gone", 256))
    assert await line.take(2) == ["b:here", None]


@pytest.mark.parametrize("seed", range(4))
async def test_shares_over_any_time_differ_by_less_than_a_turn_of_each(line: Line, seed: int) -> None:
    """Tenants come and go at random. Those that wait all the time get turns by their weights, at every moment."""
    chance = random.Random(seed)
    weights = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.5}
    await line.rota.set_weights(line.queue, weights)
    always, number, taken = "acd", count(), list[str]()
    waiting: Counter[str] = Counter()

    async def joins(tenant: str) -> None:
        await line.join(tenant, f"s{next(number)}")
        waiting[tenant] += 1

    for _ in range(150):
        for tenant in (*(one for one in always if waiting[one] < 2), *chance.choices("bxyz", k=chance.randrange(2))):
            await joins(tenant)
        ref = str(await line.next())
        taken.append(ref)
        waiting[ref.partition(":")[0]] -= 1
    assert len(set(taken)) == len(taken), "one was taken twice"
    for start in range(0, 100, 7):
        part = Counter(ref.partition(":")[0] for ref in taken[start : start + 50])
        got = {tenant: part[tenant] / weights[tenant] for tenant in always}
        for one, other in combinations(always, 2):
            assert abs(got[one] - got[other]) <= 1 / weights[one] + 1 / weights[other] + 0.001, (start, part)


async def test_ten_thousand_tenants_cost_as_much_as_two(line: Line) -> None:
    """In commands that the server runs for a turn's place and its taking."""

    async def commands() -> int:
        before = await _calls(line.client)
        for number in range(10):
            await line.join("b", f"x{number}")
            await line.next()
        return await _calls(line.client) - before

    await line.join("a", *many(30))
    few = await commands()
    for number in range(500):
        await line.join(f"t{number}", "s")
    assert await commands() <= few + 5


async def _time(client: Any) -> float:
    told = await client.time()
    seconds, micros = next(iter(told.values())) if isinstance(told, dict) else told
    return int(seconds) + int(micros) / 1e6


async def _calls(client: Any) -> int:
    stats = await client.info("commandstats")
    return sum(stat["calls"] for name, stat in stats.items() if name.startswith("cmdstat_z"))
