"""Re-encrypting: what an old key encrypted is the new one's afterwards, wherever it is, whatever happens meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sessions.errors import SealError
from sessions.protocol.call import CallAnswer, CallKind, WaitingCall
from sessions.protocol.state_ops import set_op
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.memory import MemoryStore
from sessions.store.memory_record import Memory, new_memory_id
from sessions.store.resealing import Resealed, Resealing
from sessions.store.sealing import KeyRing
from sessions.store.state import StateStore, session_scope, wide_scope
from tests.scripts.test_scripts import OLD
from tests.scripts.test_sealed_turns import BOTH, CONFIG, ENDING, NEW, REQUEST, SECRET, Seen
from tests.support.servers import Server, running

ANSWER = CallAnswer(action="approve")


@pytest.fixture(scope="module", params=[False, True], ids=["standalone", "cluster"])
def own_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Re-encrypts a whole deployment, so the store must contain nothing else."""
    with running(Server(tmp_path_factory.mktemp("reseal"), cluster=request.param)) as started:
        yield started


@pytest.fixture
async def old(own_server: Server) -> AsyncIterator[Seen]:
    store = Seen(own_server, OLD)
    yield store
    await store.client.flushall()
    await store.client.aclose()


@pytest.fixture
async def look(own_server: Server, old: Seen) -> AsyncIterator[Any]:
    """The same session, as a process with other keys sees it."""
    made: list[Seen] = []

    def make(keys: str | None) -> Seen:
        made.append(Seen(own_server, keys, old.keys))
        return made[-1]

    yield make
    for other in made:
        await other.client.aclose()


def user(store: Seen) -> Any:
    return wide_scope("default", store.keys.session_id, store.settings.partitions)


def memories(store: Seen) -> MemoryStore:
    return MemoryStore(store.scripts, store.client, seal=store.keyring.seal, open=store.keyring.open)


async def reseal(store: Seen, session: SessionKeys | None) -> Resealed:
    return await Resealing(store.scripts, store.client, store.keyring, store.settings.partitions).run(session)


async def fill(store: Seen) -> tuple[str, str]:
    """A session with something of everything: one turn that ended, and one that waits."""
    scope, states = session_scope(store.keys), StateStore(store.scripts, store.client, store.keyring)
    await states.write(scope, [set_op("bird", SECRET), set_op("größe", 3)])
    await states.write(user(store), [set_op("user:bird", SECRET)])
    ended = (await store.send(webhook="https://example.org/hook", metadata={"note": SECRET})).part
    await store.leases.commit(store.keys, await store.begin(), ENDING, 9, go_on=False, last_ok=True)
    await store.client.delete(store.keys.outbox)
    await store.records.save_checkpoint(store.keys, {"saved": f'"{SECRET}"'}, None, None)
    await store.records.update(store.keys, None, SECRET, {"note": SECRET})
    for whose in (scope, user(store)):
        memory = Memory(id=new_memory_id(), text=SECRET, kind="long", metadata={}, created_ms=1)
        await memories(store).add(whose, memory, operation=uuid.uuid4().hex)
        stored = (await memories(store).read(whose, [memory.id]))[memory.id]
        assert await memories(store).note_vectors(whose, "tag", [(stored, b"\x01\x02")]) == 1
    lane = store.keys.lane("knowledge")
    for key in (lane.sources, lane.texts):
        await store.client.hset(key, "c/a.txt", store.keyring.seal(key, "c/a.txt", SECRET.encode()))
    waits = (await store.send()).part
    ask = WaitingCall(key="1:approval:c", call_id="c", tool="t", args={"a": SECRET}, kind=CallKind.APPROVAL)
    begun = await store.begin("n2")
    await store.leases.record(store.keys, begun, "model:1", b"1", 2, []).done()
    await store.leases.wait(store.keys, begun, {ask.key: ask.model_dump_json().encode()}, 2, b"{}")
    await store.client.set(store.keys.upload(waits), store.keyring.seal(store.keys.upload(waits), "", b"document"))
    return ended, waits


async def check(store: Seen, ended: str, waits: str) -> None:
    """All of that is read with the keys that this one has."""
    scope, states = session_scope(store.keys), StateStore(store.scripts, store.client, store.keyring)
    assert await states.read(scope) == {"bird": SECRET, "größe": 3, "saved": SECRET}
    assert await states.read(user(store)) == {"user:bird": SECRET}
    record = await store.turns.read(store.keys, ended)
    assert (record.status, record.result) == (TurnStatus.SUCCEEDED, ENDING.result)
    assert (await store.turns.read(store.keys, ended)).metadata == {"note": SECRET}
    assert await store.turns.webhook(store.keys, ended) == "https://example.org/hook"
    assert SECRET in (await store.history.entries(store.keys, None, 0, -1))[0].messages.decode()
    info = await store.records.info(store.keys)
    assert info is not None
    assert (info.title, info.metadata) == (SECRET, {"note": SECRET})
    saved = await store.records.checkpoint(store.keys)
    assert (saved.state, saved.agents["A"]["instructions"]) == ({"bird": SECRET, "größe": 3, "saved": SECRET}, SECRET)
    for whose in (scope, user(store)):
        (memory_id,) = await store.client.hkeys(f"{whose.base}:memory")
        memory = (await memories(store).read(whose, [memory_id.decode()], tag="tag"))[memory_id.decode()]
        assert (memory.memory.text, memory.vector) == (SECRET, b"\x01\x02")
    lane = store.keys.lane("knowledge")
    for key in (lane.sources, lane.texts):
        assert store.keyring.open(key, "c/a.txt", await store.client.hget(key, "c/a.txt")) == SECRET.encode()
    assert [call.args for call in await store.calls.pending(store.keys, waits)] == [{"a": SECRET}]
    upload = store.keys.upload(waits)
    assert store.keyring.open(upload, "", await store.client.get(upload)) == b"document"


async def test_afterwards_the_old_key_is_not_needed(old: Seen, look: Any) -> None:
    """Everything of a session, its lanes and its user; a second pass finds nothing to do. Expiry is unchanged."""
    ended, waits = await fill(old)
    await old.client.pexpire(old.keys.turn(ended), 100_000)
    both, new = look(BOTH), look(NEW)
    with pytest.raises(SealError, match="'old'"):
        await new.history.entries(new.keys, None, 0, -1)
    done = await reseal(both, old.keys)
    assert done.values > 15
    assert done.closed == {}
    with pytest.raises(SealError):
        await check(new, ended, waits)  # the user's records do not belong to a session
    assert (await reseal(both, None)).values >= 3
    await check(new, ended, waits)
    for session in (old.keys, None):
        assert (await reseal(both, session)).values == 0
    assert 0 < await old.client.pttl(old.keys.turn(ended)) <= 100_000
    await new.calls.answer(new.keys, waits, "c", ANSWER)
    again = await new.begin("n3")
    assert (again.unreadable, again.request, again.agent, again.journal["model:1"]) == (None, REQUEST, CONFIG, b"1")
    restored = await new.records.restore_checkpoint(new.keys, 1, None)
    assert restored.state["bird"] == SECRET


async def test_what_was_stored_before_there_were_keys_is_sealed(old: Seen, look: Any) -> None:
    """History, state, agents and memories; turns in the clear stay so until they expire, for scripts read in them."""
    bare = look(None)
    ended, waits = await fill(bare)
    await reseal(old, old.keys)
    await reseal(old, None)
    for key in (old.keys.history, old.keys.state, old.keys.agents, f"{old.keys.base}:memory", old.keys.meta):
        assert SECRET.encode() not in await old.client.dump(key)
    await check(old, ended, waits)
    assert (await old.turns.request(old.keys, ended)).message == SECRET


async def test_what_changed_meanwhile_stays(old: Seen, look: Any) -> None:
    """Another writer set a value between the read and the swap: that value counts."""
    both = look(BOTH)
    scope, states = session_scope(old.keys), StateStore(old.scripts, old.client, old.keyring)
    await states.write(scope, [set_op("a", 1), set_op("b", 1)])
    run = both.scripts.run

    async def overtaken(*args: Any) -> Any:
        await states.write(scope, [set_op("a", 2)])
        return await run(*args)

    both.scripts.run = overtaken
    assert (await reseal(both, old.keys)).values == 1
    assert await StateStore(both.scripts, both.client, both.keyring).read(scope) == {"a": 2, "b": 1}


async def test_what_does_not_open_is_named(old: Seen, look: Any) -> None:
    """With the reason, for each key: the values stay as they are."""
    await fill(old)
    new = look(NEW)
    await new.client.hset(new.keys.state, "new", new.keyring.seal(new.keys.state, "new", b"1"))
    done = await reseal(new, old.keys)
    assert done.values == 0
    assert {old.keys.history, old.keys.state, old.keys.agents} <= done.closed.keys()
    assert all("'old'" in why for why in done.closed.values())


def test_a_ring_knows_what_its_first_key_sealed() -> None:
    """A key is recognised by its whole id, not by a prefix of it."""
    one, longer = KeyRing({"k": bytes(32)}), KeyRing({"k1": bytes(32)})
    assert one.current(one.seal("a", "b", b"c"))
    assert not one.current(longer.seal("a", "b", b"c"))
    assert not one.current(b"c")
