"""The scripts of memory, on a plain server and on one in cluster mode (which refuses keys of another slot)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from broker_config.celery_app import FleetApp
from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import BadRequest, SessionOwnerError, StoreFull
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.leases import Ending, LeaseStore
from sessions.store.memory import MemoryStore
from sessions.store.memory_places import MemoryScope
from sessions.store.memory_record import Memory, new_memory_id
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from sessions.store.state import session_scope, wide_scope
from sessions.store.submission import Submission
from sessions.store.transitions.records import Removed, remove_memory, write_memory
from sessions.store.turns import TurnStore
from tests.support.servers import Server

TAG = "a1b2"
KEYS = ("memory", "memory:log", "memory:vectors", "memory:texts")


def memory(text: str = "", **fields: Any) -> Memory:
    """With a text of its own, unless one is given: the same text is kept once."""
    new_id = new_memory_id()
    text = text or f"likes tea {new_id}"
    return Memory(**{"id": new_id, "text": text, "kind": "long", "metadata": {}, "created_ms": 1, **fields})


class Store:
    """Memories of one session of the test's own, and of one user."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.client = async_store(settings)
        self.scripts = ScriptRunner(self.client)
        self.memory = MemoryStore(self.scripts, self.client, **options)
        self.turns = TurnStore(self.scripts, self.client, settings)
        self.records = SessionRecords(self.scripts, self.client, KeyRing.of(settings))
        self.keys = SessionKeys.of("default", uuid.uuid4().hex, settings.partitions)
        self.session = session_scope(self.keys)
        self.user = wide_scope("default", uuid.uuid4().hex, settings.partitions)

    async def send_remove(self, operation: str, *ids: str) -> Any:
        scope = self.session
        call = remove_memory(
            (scope.base, scope.partition),
            operation=operation,
            scope=scope.kind,
            user=None,
            remembered_ms=60_000,
            ids=ids,
        )
        return await self.scripts.run(call)

    async def vector(self, scope: MemoryScope, one: Memory, tag: str = TAG) -> bytes | None:
        return (await self.memory.read(scope, [one.id], tag=tag))[one.id].vector

    async def note(self, scope: MemoryScope, one: Memory, vector: bytes = b"\x01\x02") -> int:
        stored = (await self.memory.read(scope, [one.id]))[one.id]
        return await self.memory.note_vectors(scope, TAG, [(stored, vector)])

    async def lifetimes(self) -> list[int]:
        return [await self.client.pexpiretime(f"{self.keys.base}:{name}") for name in ("meta", *KEYS)]

    async def left(self, scope: MemoryScope) -> list[str]:
        return sorted([key.decode() async for key in self.client.scan_iter(f"{scope.base}*", count=1000)])


@pytest.fixture(params=["standalone", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    clustered = request.param == "cluster"
    server: Server = request.getfixturevalue("cluster_server" if clustered else "server")
    store = Store(Settings(redis_url=server.url, redis_cluster=clustered), most=3)  # type: ignore[call-arg]
    yield store
    await store.turns.delete_session(store.keys)
    await store.memory.clear(store.user)
    await store.client.aclose()


async def test_memories_are_added_read_replaced_and_removed(store: Store) -> None:
    """For a session and for a user; ids come newest first; replacing keeps the place, and drops the old vector."""
    for scope in (store.session, store.user):
        one, two = memory("likes tea"), memory("lives in Rome", kind="short", metadata={"a": [1, "ü"]})
        for each in (one, two):
            await store.memory.add(scope, each)
        assert await store.memory.ids(scope) == [two.id, one.id]
        assert await store.memory.get(scope, two.id) == two
        assert await store.note(scope, one) == 1
        changed = memory("likes coffee", id=one.id)
        await store.memory.add(scope, changed)
        assert await store.memory.get(scope, one.id) == changed
        assert await store.vector(scope, changed) is None
        assert await store.memory.remove(scope, [two.id, "no such id"]) == 1
        assert await store.memory.ids(scope) == [one.id]
        assert await store.memory.get(scope, two.id) is None


async def test_each_script_may_be_sent_again(store: Store) -> None:
    """A reply that was lost: nothing is added, removed or cleared twice, whatever came in between."""
    one, two = memory("one"), memory("two")
    for _ in range(2):
        await store.memory.add(store.session, one, operation="first")
    assert (await store.client.xlen(f"{store.session.base}:memory:log")) == 1
    assert [await store.send_remove("second", one.id) for _ in range(2)] == [Removed(1), Removed(1)]
    await store.memory.add(store.session, one, operation="first")
    assert await store.memory.ids(store.session) == [], "the addition that was sent again brought back what was removed"
    await store.memory.add(store.session, two)
    assert await store.send_remove("third") == Removed(1)
    await store.memory.add(store.session, one, operation="fourth")
    assert await store.send_remove("third") == Removed(1)
    assert await store.memory.ids(store.session) == [one.id]
    for _ in range(2):
        assert await store.note(store.session, one) == 1


async def test_a_session_s_memories_are_its_owner_s(store: Store) -> None:
    """The first named user owns the session; another one neither adds nor removes."""
    one = memory()
    await store.memory.add(store.session, one, user_id="ann")
    info = await store.records.info(store.keys)
    assert info is not None
    assert info.user_id == "ann"
    for work in (
        store.memory.add(store.session, memory(), user_id="eve"),
        store.memory.remove(store.session, [one.id], user_id="eve"),
        store.memory.clear(store.session, user_id="eve"),
    ):
        with pytest.raises(SessionOwnerError):
            await work
    assert await store.memory.ids(store.session) == [one.id]


async def test_a_scope_takes_so_many_and_no_more(store: Store) -> None:
    """The next one is refused with what to do; replacing one is still possible."""
    kept = [memory(str(n)) for n in range(3)]
    for each in kept:
        await store.memory.add(store.user, each)
    with pytest.raises(BadRequest, match=r"3 memories.*delete_memory"):
        await store.memory.add(store.user, memory())
    await store.memory.add(store.user, memory("new", id=kept[0].id))
    assert len(await store.memory.ids(store.user)) == 3


async def test_the_log_tells_what_changed(store: Store) -> None:
    """After a mark, each changed id once; nothing after the newest one."""
    assert await store.memory.mark(store.user) is None
    one, two = memory(), memory()
    await store.memory.add(store.user, one)
    mark = await store.memory.mark(store.user)
    await store.memory.add(store.user, two)
    await store.memory.remove(store.user, [one.id])
    await store.memory.add(store.user, two)
    changes = await store.memory.changes(store.user, mark)
    assert changes is not None
    assert list(changes.ids) == [two.id, one.id]
    behind = await store.memory.changes(store.user, changes.mark)
    assert behind is not None
    assert (list(behind.ids), behind.mark) == ([], changes.mark)


async def test_a_log_that_was_cut_or_begun_anew_is_told(store: Store) -> None:
    """Then a copy must be read again: also if the scope was emptied and filled again, perhaps by another user."""
    one = memory()
    await store.memory.add(store.user, one)
    mark = await store.memory.mark(store.user)
    await store.memory.remove(store.user, [one.id])
    assert await store.memory.changes(store.user, mark) is None
    assert await store.memory.changes(store.user, None) is not None
    await store.memory.add(store.user, memory())
    assert await store.memory.changes(store.user, mark) is None
    assert await store.memory.changes(store.user, None) is None
    two = memory()
    mark = await store.memory.mark(store.user)
    for _ in range(1_200):
        store.scripts.start(
            write_memory(
                (store.user.base, store.user.partition),
                operation=uuid.uuid4().hex,
                scope="wide",
                user=None,
                session_ttl_ms=None,
                remembered_ms=1_000,
                id=two.id,
                memory=two.dump(),
                most=3,
                same=(),
            )
        )
    await store.memory.add(store.user, two)
    assert await store.memory.changes(store.user, mark) is None
    assert await store.client.xlen(f"{store.user.base}:memory:log") <= 1_200


async def test_vectors_are_noted_for_what_was_embedded(store: Store) -> None:
    """Not for a memory that was replaced or removed meanwhile, and under the model that made them."""
    one, two, three = memory("one"), memory("two"), memory("three")
    for each in (one, two, three):
        await store.memory.add(store.session, each)
    read = await store.memory.read(store.session, [one.id, two.id, three.id])
    await store.memory.add(store.session, memory("other", id=two.id))
    await store.memory.remove(store.session, [three.id])
    assert await store.memory.note_vectors(store.session, TAG, [(read[m.id], b"a:b") for m in (one, two, three)]) == 1
    assert await store.vector(store.session, one) == b"a:b"
    assert await store.vector(store.session, one, tag="other") is None
    assert await store.client.hkeys(f"{store.session.base}:memory:vectors") == [one.id.encode()]


async def test_memories_expire_with_their_session(store: Store) -> None:
    """One expiry on all keys; a vector that is noted later joins it and does not prolong it; a new memory does."""
    one = memory()
    await store.memory.add(store.session, one, ttl=1_000.0)
    first = (await store.lifetimes())[0]
    assert await store.note(store.session, one) == 1
    assert await store.lifetimes() == [first] * (1 + len(KEYS))
    await store.memory.add(store.session, memory(), ttl=2_000.0)
    later = await store.lifetimes()
    assert later == [later[0]] * (1 + len(KEYS))
    assert later[0] > first


async def test_nothing_expires_while_a_turn_is_open(store: Store) -> None:
    """Neither existing memories nor those added meanwhile; the turn's end sets one expiry on all (R3)."""
    await store.memory.add(store.session, memory("before"), ttl=1_000.0)
    await store.turns.accept(store.keys, Submission(TurnRequest(message="hi"), queue="turns", timeout=900.0))
    one = memory("meanwhile")
    await store.memory.add(store.session, one)
    await store.note(store.session, one)
    assert await store.lifetimes() == [-1] * (1 + len(KEYS))
    leases = LeaseStore(store.scripts, store.settings.model_copy(update={"lease": 120.0}), "w1@test")
    begun = await leases.acquire(store.keys, "n1", last_ok=True)
    assert isinstance(begun, OpenTurn)
    ending = Ending(TurnStatus.SUCCEEDED, result=b"{}", history_entry=b"{}\n[]", messages=2)
    await leases.commit(store.keys, begun, ending, 9, go_on=False, last_ok=True)
    ended = await store.lifetimes()
    assert ended == [ended[0]] * (1 + len(KEYS))
    assert ended[0] > 0


async def test_deleting_a_session_counts_and_removes_its_memories(store: Store) -> None:
    """Not a key is left but the marks of operations, which expire; nor when a user's last memory goes."""
    for scope in (store.session, store.user):
        one = memory()
        await store.memory.add(scope, one)
        await store.note(scope, one)
    assert (await store.turns.delete_session(store.keys))["memories"] == 1
    assert await store.memory.remove(store.user, await store.memory.ids(store.user)) == 1
    for scope in (store.session, store.user):
        assert [key for key in await store.left(scope) if ":op:" not in key] == []
        for key in await store.left(scope):
            assert await store.client.ttl(key) > 0


async def test_a_checkpoint_notes_where_memory_stood(store: Store) -> None:
    """Their number, and the version of the scope; nothing if there were none."""
    await store.records.save_checkpoint(store.keys, {}, None, None)
    await store.memory.add(store.session, memory())
    await store.records.save_checkpoint(store.keys, {}, None, None)
    bare, full = [await store.records.checkpoint(store.keys, number) for number in (1, 2)]
    mark = await store.memory.mark(store.session)
    assert mark is not None
    assert (bare.memories, bare.memory_version) == (0, None)
    assert (full.memories, full.memory_version) == (1, mark.entry.decode())


async def test_a_copy_becomes_part_of_the_new_session(store: Store) -> None:
    """Memories and vectors, sealed for their new place; what is changed in one is not in the other."""

    def seal(key: str, field: str, value: bytes) -> bytes:
        return f"{key}|{field}|".encode() + value[::-1]

    def unseal(key: str, field: str, value: bytes) -> bytes:
        place = f"{key}|{field}|".encode()
        assert value.startswith(place), "sealed for another place"
        return value.removeprefix(place)[::-1]

    sealing = MemoryStore(store.scripts, store.client, seal=seal, open=unseal)
    one, two = memory("secret"), memory("other")
    for each in (one, two):
        await sealing.add(store.session, each)
    stored = (await sealing.read(store.session, [one.id]))[one.id]
    await sealing.note_vectors(store.session, TAG, [(stored, b"\x00:\x01")])
    assert b"secret" not in await store.client.hget(f"{store.session.base}:memory", one.id)
    keys = SessionKeys.of("default", uuid.uuid4().hex, store.settings.partitions)
    forked = session_scope(keys)
    await sealing.copies.copy(store.session, forked, "c1", 60)
    assert 0 < await store.client.ttl(f"{forked.base}:memory:copy:c1") <= 60
    await store.records.create(
        keys, [], user_id=None, queue="turns", ttl=None, messages=0, state={}, agents={}, origin="x", copy="c1"
    )
    await sealing.clear(store.session)
    found = await sealing.read(forked, await sealing.ids(forked), tag=TAG)
    assert {m.memory.text: m.vector for m in found.values()} == {"secret": b"\x00:\x01", "other": None}
    assert await sealing.mark(forked) is not None
    assert await store.client.ttl(f"{forked.base}:memory") == -1
    assert await sealing.add(forked, memory("secret")) == one.id
    assert (await store.turns.delete_session(keys))["memories"] == 2
    assert [key for key in await store.left(forked) if ":op:" not in key] == []


async def test_a_full_store_refuses_memories_reads_them_and_lets_them_go(new_server: Server) -> None:
    """Adding is refused at maxmemory and changes nothing; removing is what makes room.

    Redis 7.0 refuses even reads inside a MULTI then, newer servers do not.
    """
    store = Store(Settings(redis_url=new_server.url))
    one = memory()
    await store.memory.add(store.session, one)
    with new_server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
    with pytest.raises(StoreFull):
        await store.memory.add(store.session, memory())
    with pytest.raises(StoreFull):
        await store.note(store.session, one)
    assert await store.memory.get(store.session, one.id) == one
    assert await store.vector(store.session, one) is None
    assert await store.records.raw_parts(store.keys) == ([], {}, {})
    with FleetApp("test", store.settings, set_as_current=False).connection_for_read() as connection:
        assert connection.default_channel._size("turns") == 0
    assert await store.memory.remove(store.session, [one.id]) == 1
    await store.client.aclose()


# --- the same content, and changes -----------------------------------------------------------------------------------


async def test_the_same_content_is_kept_once(store: Store) -> None:
    """Whatever its case and spacing; it is as new as the last time it was said. Other kinds and metadata are others."""
    one = memory("likes tea", created_ms=5)
    assert await store.memory.add(store.user, one) == one.id
    assert await store.memory.add(store.user, memory(" Likes  TEA", created_ms=9)) == one.id
    kept = await store.memory.get(store.user, one.id)
    assert kept is not None
    assert (kept.text, kept.created_ms, kept.updated_ms, kept.version) == ("likes tea", 5, 9, 2)
    other = memory("likes tea", metadata={"of": "ann"})
    assert await store.memory.add(store.user, other) == other.id
    assert await store.memory.add(store.session, memory("likes tea")) != one.id
    await store.memory.remove(store.user, [one.id])
    again = memory("likes tea")
    assert await store.memory.add(store.user, again) == again.id


async def test_the_same_content_has_room_in_a_full_scope(store: Store) -> None:
    """Saying again what is known adds nothing."""
    for text in ("one", "two", "three"):
        await store.memory.add(store.user, memory(text))
    await store.memory.add(store.user, memory("two"))
    with pytest.raises(BadRequest, match="the limit is 3"):
        await store.memory.add(store.user, memory("four"))


async def test_many_additions_of_one_text_at_once_are_one_memory(store: Store) -> None:
    """The script decides, not the clients."""
    ids = await asyncio.gather(*(store.memory.add(store.user, memory("likes tea")) for _ in range(8)))
    assert len(set(ids)) == 1
    assert await store.memory.ids(store.user) == ids[:1]


async def test_changes_at_once_are_all_made(store: Store) -> None:
    """Each is made to what the one before left: none is lost, and the version counts them."""
    one = memory("likes tea")
    await store.memory.add(store.user, one)

    def adding(name: str) -> Any:
        return lambda m: replace(m, metadata={**m.metadata, name: 1}, version=m.version + 1)

    await asyncio.gather(*(store.memory.change(store.user, one.id, adding(f"n{n}")) for n in range(6)))
    changed = await store.memory.get(store.user, one.id)
    assert changed is not None
    assert (len(changed.metadata), changed.version) == (6, 7)


async def test_a_change_that_is_repeated_is_made_once(store: Store) -> None:
    """As after a worker was killed: the same operation changes nothing, whatever has happened in between."""
    one = memory("likes tea")
    await store.memory.add(store.session, one)
    await store.note(store.session, one)

    def to(text: str) -> Any:
        return lambda m: replace(m, text=text, version=m.version + 1)

    await store.memory.change(store.session, one.id, to("likes coffee"), operation="op-1")
    assert await store.vector(store.session, one) is None
    await store.memory.change(store.session, one.id, to("likes milk"), operation="op-2")
    await store.memory.change(store.session, one.id, to("likes coffee"), operation="op-1")
    kept = await store.memory.get(store.session, one.id)
    assert kept is not None
    assert (kept.text, kept.version) == ("likes milk", 3)
    assert await store.memory.change(store.session, new_memory_id(), to("x")) is None
    await store.memory.add(store.session, memory(), user_id="ann")
    with pytest.raises(SessionOwnerError):
        await store.memory.change(store.session, one.id, to("x"), user_id="eve")


async def test_a_change_of_metadata_keeps_the_vector(store: Store) -> None:
    """It is that of the text."""
    one = memory("likes tea")
    await store.memory.add(store.user, one)
    await store.note(store.user, one)
    await store.memory.change(store.user, one.id, lambda m: replace(m, metadata={"a": 1}))
    assert await store.vector(store.user, one) == b"\x01\x02"
    await store.memory.change(store.user, one.id, lambda m: replace(m, text="likes milk"))
    assert await store.memory.add(store.user, memory("likes milk", metadata={"a": 1})) == one.id
    fresh = memory("likes tea")
    assert await store.memory.add(store.user, fresh) == fresh.id
