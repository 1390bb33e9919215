"""What adapters write, script by script: on one server and on a cluster, and re-encrypted."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Literal

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import SessionOwnerError
from sessions.protocol.state_ops import set_op
from sessions.store.adapter_store import AdapterStore, HistoryChange, Reader
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys, new_turn_part
from sessions.store.resealing import Resealing
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.state import Effect, StateStore, wide_scope
from sessions.store.transitions.records import Wrote
from sessions.store.transitions.shared import Moved
from tests.support.servers import Server

OLD = f"old:{base64.b64encode(bytes(range(32))).decode()}"
NEW = f"new:{base64.b64encode(bytes(range(32, 64))).decode()}"


class Opened:
    """An adapter's store on a server, with some encryption keys."""

    def __init__(self, server: Server, keys: str | None, *, clustered: bool = False, session: str = "") -> None:
        self.settings = Settings(redis_url=server.url, redis_cluster=clustered, encryption_keys=keys)  # type: ignore[arg-type]
        self.client = async_store(self.settings, name="test")
        self.scripts = ScriptRunner(self.client)
        self.keyring = KeyRing.of(self.settings)
        self.store = AdapterStore(self.scripts, self.keyring)
        self.states = StateStore(self.scripts, self.client, self.keyring)
        self.keys = SessionKeys.of("default", session or uuid.uuid4().hex, self.settings.partitions)

    def reader(self, user: str | None = None) -> Reader:
        return Reader(self.keys, user, "test")

    async def write(self, change: HistoryChange, user: str | None = None, operation: str | None = None) -> Any:
        return await self.store.write(
            self.reader(user), change, queue="turns", ttl=None, operation=operation or uuid.uuid4().hex
        )


def entry(text: str) -> HistoryEntry:
    messages = f'[{{"kind":"request","parts":[{{"part_kind":"user-prompt","content":"{text}"}}]}}]'.encode()
    return HistoryEntry(new_turn_part(), "A", 1, 1, messages, adapter="test", native=f'["{text}"]'.encode())


@pytest.fixture(params=["standalone", "cluster"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    clustered = request.param == "cluster"
    server: Server = request.getfixturevalue("cluster_server" if clustered else "server")
    found = Opened(server, OLD, clustered=clustered)
    yield found
    await found.client.aclose()


async def test_a_change_is_written_once_and_only_on_what_it_was_decided_on(opened: Opened) -> None:
    """The revision names the history; a repeated operation gets the same reply; all of a change is written, or none."""
    first = await opened.write(HistoryChange("", [entry("one")], title="one", record={"usage": 1}), operation="o1")
    assert isinstance(first, Wrote)
    again = await opened.write(HistoryChange("", [entry("one")], title="one"), operation="o1")
    assert again == first
    assert isinstance(await opened.write(HistoryChange("", [entry("x")])), Moved)
    change = HistoryChange(first.revision, [entry("two"), entry("three")], 0, messages_cut=1, ops=[set_op("a", 1)])
    second = await opened.write(change)
    assert isinstance(second, Wrote)
    assert isinstance(await opened.write(change), Moved)
    seen = await opened.store.read(opened.reader(), with_state=True)
    assert [each.native for each in seen.entries] == [b'["two"]', b'["three"]']
    assert (seen.revision, seen.length, seen.record, seen.state) == (second.revision, 2, {"usage": 1}, {"a": 1})
    assert seen.recorded == first.revision
    counts = await opened.client.hmget(opened.keys.meta, "turns", "messages")
    assert counts == [b"2", b"2"]
    await opened.store.clear(opened.reader())
    empty = await opened.store.read(opened.reader())
    assert (empty.exists, empty.length, empty.record) == (True, 0, None)
    assert empty.revision not in (first.revision, second.revision)


@pytest.mark.parametrize("leave", ["drop", "branch"])
async def test_an_entry_without_messages_leaves_the_history(opened: Opened, leave: Literal["drop", "branch"]) -> None:
    """Lua writes the negative of nothing as -0, which is no integer to Redis 7."""
    record = replace(entry("a reasoning item"), messages=b"[]", count=0)
    first = await opened.write(HistoryChange("", [record]))
    assert isinstance(first, Wrote)
    change = HistoryChange(first.revision, at=0, leave=leave, replaced=record.turn, messages_cut=0)
    assert isinstance(await opened.write(change), Wrote)
    seen = await opened.store.read(opened.reader())
    assert seen.length == 0
    assert await opened.client.hget(opened.keys.meta, "messages") == b"0"


async def test_state_of_other_slots_is_applied_once(opened: Opened) -> None:
    """By the writer, or by whoever looks next; work of other kinds in the outbox is left to a worker."""
    user = uuid.uuid4().hex
    scope = wide_scope("default", user, opened.settings.partitions)
    effects = [Effect(f"{user}:{n}", scope, [set_op("user:n", n)]) for n in range(3)]
    await opened.write(HistoryChange("", [entry("one")], effects=effects), user)
    assert await opened.states.read(scope) == {}
    webhook = b'{"kind":"webhook","turn":"t"}'
    await opened.client.rpush(opened.keys.outbox, webhook)
    for _ in range(2):
        await opened.store.apply_effects(opened.keys, opened.states)
        assert await opened.states.read(scope) == {"user:n": 2}
    assert await opened.client.lrange(opened.keys.outbox, 0, -1) == [webhook]


async def test_only_who_may_writes(opened: Opened) -> None:
    """The first user owns the session."""
    wrote = await opened.write(HistoryChange("", [entry("one")]), "ada")
    assert isinstance(wrote, Wrote)
    with pytest.raises(SessionOwnerError):
        await opened.write(HistoryChange(wrote.revision, [entry("two")]), "bob")
    with pytest.raises(SessionOwnerError):
        await opened.store.read(opened.reader("bob"))
    with pytest.raises(SessionOwnerError):
        await opened.store.clear(opened.reader("bob"))
    assert (await opened.store.read(opened.reader("ada"))).length == 1


async def test_everything_is_encrypted_again_with_a_new_key(server: Server) -> None:
    """Entries with their native line, and what the library keeps besides them."""
    old = Opened(server, OLD)
    await old.write(HistoryChange("", [entry("one")], record={"usage": 1}))
    both = Opened(server, f"{NEW},{OLD}", session=old.keys.session_id)
    await Resealing(both.scripts, both.client, both.keyring, both.settings.partitions).run(both.keys)
    new = Opened(server, NEW, session=old.keys.session_id)
    seen = await new.store.read(new.reader())
    assert ([each.native for each in seen.entries], seen.record) == ([b'["one"]'], {"usage": 1})
    for each in (old, both, new):
        await each.client.aclose()
