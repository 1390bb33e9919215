"""The indexes by which sessions are listed: what is in them, and pages of them, on each kind of server."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker_config.settings import Settings
from sessions.errors import NotFound
from sessions.protocol.state_ops import StateOp
from sessions.store.keys import IndexKind, SessionKeys, partition_key, session_index
from sessions.store.sealing import KeyRing
from sessions.store.session_index import IndexRange, Position, SessionIndex
from sessions.store.session_info import SessionInfo
from sessions.store.session_records import SessionRecords
from sessions.store.state import StateStore, session_scope
from sessions.store.transitions.fleet import rescue_partition
from sessions.store.transitions.indexes import Gone, index_session
from tests.scripts.test_scripts import PLACES, Store, settings_for

BIRTH = 1_700_000_000_000


class Lists(Store):
    """A store with a tenant of the test's own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        keyring = KeyRing.of(settings)
        self.tenant = f"t{uuid.uuid4().hex[:12]}"
        self.index = SessionIndex(self.scripts, self.client, settings)
        self.records = SessionRecords(self.scripts, self.client, keyring)
        self.state = StateStore(self.scripts, self.client, keyring)
        self.use("first")

    def keys_of(self, name: str) -> SessionKeys:
        return SessionKeys.of(self.tenant, name, self.settings.partitions)

    def use(self, name: str) -> SessionKeys:
        """The session that the other methods are about from now on."""
        self.keys = self.keys_of(name)
        return self.keys

    async def run_turn(self, **options: Any) -> None:
        await self.accept(**options)
        await self.commit(await self.begin())

    async def positions(self, user: str | None = None, kind: IndexKind = "used") -> list[Position]:
        return [entry.position for entry in await self.index.read(IndexRange(kind, self.tenant, user), 1000)]

    async def listed(self, user: str | None = None, kind: IndexKind = "used") -> list[str]:
        return [entry.name for entry in await self.positions(user, kind)]

    async def page(self, after: Position | None, size: int, least: int | None = None) -> list[Position]:
        wanted = IndexRange("used", self.tenant, None, after, least)
        return [entry.position for entry in await self.index.read(wanted, size)]

    async def info(self) -> SessionInfo:
        found = await self.records.info(self.keys)
        assert found is not None
        return found

    async def expiring(self) -> list[str]:
        members = await self.client.zrange(f"{self.keys.partition}:expiring", 0, -1)
        return [m.decode() for m in members if m.decode().startswith(f"{self.keys.ref}~")]

    async def expire(self) -> None:
        """As time does."""
        for name in ("meta", "history", "turns", "agents", "state"):
            await self.client.delete(f"{self.keys.base}:{name}")
        for member in await self.expiring():
            await self.client.zadd(f"{self.keys.partition}:expiring", {member: 1})

    async def rescue(self) -> None:
        partitions = [partition_key(number) for number in range(self.settings.partitions)]
        await asyncio.gather(*(self.scripts.run(rescue_partition((each,), most=500)) for each in partitions))


@pytest.fixture(params=PLACES)
async def lists(request: pytest.FixtureRequest) -> AsyncIterator[Lists]:
    lists = Lists(settings_for(request))
    yield lists
    for name in await lists.listed() + await lists.listed(kind="hidden"):
        await lists.turns.delete_session(lists.keys_of(name))
    await lists.client.aclose()


async def test_each_use_puts_a_session_first(lists: Lists) -> None:
    """Turns, their ends, and state; each session is in the list of its tenant and of its user."""
    for name, user in (("a", "ann"), ("b", "ann"), ("c", None)):
        lists.use(name)
        await lists.accept(user_id=user)
        await asyncio.sleep(0.002)
    assert await lists.listed() == ["c", "b", "a"]
    assert await lists.listed("ann") == ["b", "a"]
    lists.use("a")
    await lists.commit(await lists.begin())
    assert await lists.listed() == ["a", "c", "b"]
    assert await lists.listed("ann") == ["a", "b"]
    await asyncio.sleep(0.002)
    await lists.state.write(session_scope(lists.use("b")), [StateOp("set", "x", "1")], user_id="ann")
    assert await lists.listed("ann") == ["b", "a"]
    assert await lists.listed("ann", "made") == ["b", "a"]
    assert await lists.listed(kind="made") == ["c", "b", "a"]


async def test_a_user_who_claims_a_session_finds_it(lists: Lists) -> None:
    """Created without a user, and used by one later."""
    await lists.accept()
    assert await lists.listed("ann") == []
    await lists.accept(user_id="ann")
    assert await lists.listed("ann") == await lists.listed("ann", "made") == await lists.listed() == ["first"]


@pytest.mark.parametrize("user", ["a~b", "~", "ann:x", "é{1}", "a b%", "..", "@._-~"])
async def test_names_of_users_are_the_same_for_scripts_and_clients(lists: Lists, user: str) -> None:
    """A user's index has one name, whatever the user's id has in it."""
    await lists.accept(user_id=user)
    assert await lists.listed(user) == ["first"]


async def test_lanes_and_the_sessions_of_tasks_are_not_listed(lists: Lists) -> None:
    """Those of tasks can still be found, to be deleted with their user."""
    home = lists.use("shown")
    await lists.accept(user_id="ann")
    lists.keys = home.lane("search")
    await lists.accept(user_id="ann")
    lists.use("team-1")
    await lists.run_turn(user_id="ann", hidden=True)
    assert await lists.listed() == await lists.listed("ann") == ["shown"]
    assert await lists.listed("ann", "hidden") == ["team-1"]
    await lists.turns.delete_session(lists.keys)
    assert await lists.listed("ann", "hidden") == []


async def test_a_deleted_session_leaves_every_list(lists: Lists) -> None:
    """And no key of an index stays if it was the last one."""
    await lists.run_turn(user_id="ann", session_ttl=60.0)
    assert len(await lists.expiring()) == 2
    await lists.turns.delete_session(lists.keys)
    assert await lists.listed() == await lists.listed("ann") == await lists.expiring() == []
    assert [key async for key in lists.client.scan_iter(f"*~{lists.tenant}*")] == []


async def test_an_expired_session_leaves_the_lists(lists: Lists) -> None:
    """A rescuer removes it; a session of another user that has its id by then stays."""
    for name in ("gone", "taken", "kept"):
        lists.use(name)
        await lists.run_turn(user_id="ann", session_ttl=60.0)
    for name in ("gone", "taken"):
        lists.use(name)
        await lists.expire()
    await lists.accept(user_id="bob")
    await lists.rescue()
    assert sorted(await lists.listed()) == ["kept", "taken"]
    assert await lists.listed("ann") == ["kept"]
    assert await lists.listed("bob") == ["taken"]


async def test_nothing_leaves_a_list_while_a_turn_is_open(lists: Lists) -> None:
    """As nothing of the session expires."""
    await lists.run_turn(user_id="ann", session_ttl=60.0)
    assert len(await lists.expiring()) == 2
    await lists.accept(user_id="ann")
    assert await lists.expiring() == []
    await lists.commit(await lists.begin())
    await lists.rescue()
    assert (await lists.listed("ann"), len(await lists.expiring())) == (["first"], 2)


@pytest.mark.parametrize("spread", [1, 5, 1000])
async def test_pages_have_every_session_once(lists: Lists, spread: int) -> None:
    """In order, for any size of page, with any number of sessions that have the same time."""
    chance, index, wanted = random.Random(spread), session_index("used", lists.tenant), list[Position]()
    for number in range(300):
        each = Position(BIRTH + chance.randrange(spread), f"s{number}-{chance.randrange(10**6)}")
        wanted.append(each)
        await lists.client.zadd(f"{lists.keys_of(each.name).partition}:{index}", {each.name: each.score})
    wanted.sort(reverse=True)
    for size in (7, 50, 299, 300, 301):
        found, after = list[Position](), None
        while page := await lists.page(after, size):
            assert len(page) == min(size, 300 - len(found))
            found, after = found + page, page[-1]
        assert found == wanted
    least = wanted[100].score
    assert await lists.page(None, 1000, least) == [each for each in wanted if each.score >= least]
    for number in range(lists.settings.partitions):
        await lists.client.delete(f"{partition_key(number)}:{index}")


async def test_sessions_from_before_there_were_indexes_are_added(lists: Lists) -> None:
    """With the time of their last use as far as it is known, and once, however often it is done."""
    ann = lists.use("old")
    await lists.run_turn(user_id="ann", session_ttl=60.0)
    used = int(await lists.client.hget(ann.meta, "used"))
    await lists.client.hdel(ann.meta, "used", "title")
    kinds: tuple[IndexKind, ...] = ("used", "made")
    names = [session_index(kind, lists.tenant, user) for kind in kinds for user in (None, "ann")]
    for name in (*names, "expiring"):
        await lists.client.delete(f"{ann.partition}:{name}")
    for _ in range(2):
        await lists.run(index_session, title=b"Hello", hidden=False)
    assert await lists.positions("ann") == await lists.positions() == [Position(used, "old")]
    info = await lists.info()
    assert (info.title, info.user_id, info.turns) == ("Hello", "ann", 1)
    assert len(await lists.expiring()) == 2
    lists.use("never")
    assert isinstance(await lists.run(index_session, title=b"", hidden=False), Gone)


async def test_titles_and_metadata(lists: Lists) -> None:
    """The first message is the title; an update merges metadata, and may be made at the same time as others."""
    await lists.accept()
    first = await lists.info()
    assert (first.title, first.metadata, first.open_turns) == ("hi", {}, 1)
    await lists.records.update(lists.keys, None, "Trip", {"folder": "work", "pinned": True})
    await lists.records.update(lists.keys, None, None, {"folder": None, "n": 2})
    await lists.accept()
    changed = await lists.info()
    assert (changed.title, changed.metadata) == ("Trip", {"pinned": True, "n": 2})
    await asyncio.gather(*(lists.records.update(lists.keys, None, None, {f"k{n}": n}) for n in range(5)))
    assert (await lists.info()).metadata == {"pinned": True, "n": 2, **{f"k{n}": n for n in range(5)}}
    if KeyRing.of(lists.settings).ids:
        raw = await lists.client.hmget(lists.keys.meta, "title", "metadata")
        assert all(KeyRing.sealed(value) for value in raw)
    lists.use("nothing")
    with pytest.raises(NotFound):
        await lists.records.update(lists.keys, None, "x", {})
