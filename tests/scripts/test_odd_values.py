"""Values that no script and no connection may stumble over, and scripts that must not fail half-way."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator

import pytest

from broker_config.settings import Settings
from sessions.errors import BackendError, InvalidState, StateConflict
from sessions.protocol.state_ops import StateOp, delete_op, increment_op, set_op, swap_op
from sessions.protocol.turn import TurnStatus
from sessions.store.sealing import KeyRing
from sessions.store.state import Effect, StateStore, ack_effect, session_scope, wide_scope
from sessions.store.transitions.leases import Effects
from sessions.store.transitions.turns import Answered, answer_call, watch_turn
from tests.scripts.test_scripts import DONE, Store
from tests.support.servers import Server


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    store = Store(Settings(redis_url=server.url, tenant=f"t{uuid.uuid4().hex[:8]}"))
    yield store
    await store.turns.delete_session(store.keys)
    await store.client.aclose()


BIG = [
    [increment_op("n", 2**62, 0), increment_op("n", 2**62, 0)],
    [set_op("n", 10**30), increment_op("n", 1, 0)],
    [increment_op("n", 10**30, 0)],
    [set_op("n", 1e308), increment_op("n", 1e308, 0)],
    [set_op("n", 10**400), increment_op("n", 1, 0)],
]


@pytest.mark.parametrize("ops", BIG)
async def test_a_number_that_grows_too_large_commits_once(store: Store, ops: list[StateOp]) -> None:
    """A commit does all or nothing: an addition that the server refuses does not leave the history behind."""
    await store.accept()
    begun = await store.begin()
    ending = dataclasses.replace(DONE, state_ops=ops)
    done = await store.leases.commit(store.keys, begun, ending, 9, go_on=False, last_ok=True)
    assert done.status is TurnStatus.SUCCEEDED
    assert await store.client.llen(store.keys.history) == 1


async def test_whole_numbers_are_exact_as_far_as_the_server_is(store: Store) -> None:
    """Beyond, they are added as fractions are; beyond the largest fraction they are refused, and nothing changes."""
    states, scope = StateStore(store.scripts, store.client, KeyRing.of(store.settings)), session_scope(store.keys)
    assert await states.write(scope, [increment_op("n", 2**62 + 1, 0), increment_op("n", 2**61, 0)]) == [
        2**62 + 1,
        2**62 + 2**61 + 1,
    ]
    assert (await states.write(scope, [increment_op("n", 2**62, 0)]))[0] == pytest.approx(2**63 + 2**61)
    with pytest.raises(InvalidState, match="too large for a number"):
        await states.write(scope, [set_op("m", 1), set_op("f", 1e308), increment_op("f", 1e308, 0)])
    assert set(await states.read(scope)) == {"n"}


async def test_long_whole_numbers_are_told_apart(store: Store) -> None:
    """The identifiers of many systems have 64 bits; a comparison as fractions would take neighbours for equal."""
    states, scope = StateStore(store.scripts, store.client, KeyRing.of(store.settings)), session_scope(store.keys)
    await states.write(scope, [set_op("id", 2**60 + 1), set_op("n", 5)])
    with pytest.raises(StateConflict):
        await states.write(scope, [swap_op("id", 2**60, 1)])
    assert await states.write(scope, [swap_op("id", 2**60 + 1, 1), swap_op("n", 5.0, 2)]) == [1, 2]


async def test_operations_are_judged_one_after_the_other(store: Store) -> None:
    """A text that the same call replaces or removes does not block it."""
    states, scope = StateStore(store.scripts, store.client, KeyRing.of(store.settings)), session_scope(store.keys)
    await states.write(scope, [set_op("n", "a text"), set_op("m", "a text")])
    ops = [set_op("n", 5), increment_op("n", 1, 0), delete_op("m"), increment_op("m", 1, 7)]
    assert await states.write(scope, ops) == [5, 6, None, 8]
    with pytest.raises(InvalidState):
        await states.write(scope, [set_op("n", "a text"), increment_op("n", 1, 0)])


async def test_an_effect_that_cannot_be_applied_does_not_block_its_session(store: Store) -> None:
    """The effect is dropped, and the session's next turn begins."""
    wide = wide_scope(store.settings.tenant, None, store.settings.partitions)
    await store.accept()
    begun = await store.begin()
    effect = Effect("x", wide, [set_op("app:n", 1e308), increment_op("app:n", 1e308, 0)]).dump().encode()
    ending = dataclasses.replace(DONE, effects=[effect])
    assert (await store.leases.commit(store.keys, begun, ending, 9, go_on=True, last_ok=True)).effects
    await store.accept()
    found = await store.leases.acquire(store.keys, "n2", last_ok=True)
    assert isinstance(found, Effects)
    states = StateStore(store.scripts, store.client, KeyRing.of(store.settings))
    await states.apply(json.loads(found.entries[0]))
    await ack_effect(store.scripts, store.keys, found.entries[0])
    assert (await store.begin("n3")).attempt == 1


async def test_a_call_that_cannot_be_sent_spoils_no_other(store: Store) -> None:
    """Calls share a pipeline: one with half of a surrogate pair in it gets its error, and its neighbours run."""
    half = asyncio.create_task(store.run(watch_turn, turn="\ud800", nonce="nonce", watch="readers", on=True))
    part = await asyncio.wait_for(store.accept(), 10)
    with pytest.raises(BackendError, match="surrogates"):
        await asyncio.wait_for(half, 10)
    assert (await store.turns.read(store.keys, part)).status is TurnStatus.QUEUED
    with pytest.raises(InvalidState):
        set_op("\ud800", 1)


async def test_what_is_left_of_a_turn_without_its_record_expires(store: Store) -> None:
    """The record was removed: its journal and events stay as long as a dead letter, and go with the session."""
    part = await store.accept()
    begun = await store.begin()
    await store.leases.record(store.keys, begun, "k", b"v", 2, []).done()
    await store.client.delete(store.keys.turn(part))
    await store.lose_lease()
    assert await store.leases.acquire(store.keys, "n2", last_ok=True) == "empty"
    for key in (store.keys.events(part), store.keys.journal(part)):
        assert await store.client.pttl(key) > 0
    await store.turns.delete_session(store.keys)
    assert await store.left() == []


async def test_a_turn_that_goes_on_under_an_older_lease_ends_its_stream(store: Store) -> None:
    """Answered while a later turn runs, then begun by that one's commit: every event has its place, also the last."""
    first, second = await store.accept(waiting_blocks=False), await store.accept()
    begun = await store.begin("n1")
    await store.leases.wait(store.keys, begun, {"k": b"{}"}, 2, b"{}")
    running = await store.begin("n2")
    assert (begun.part, running.part) == (first, second)
    answered = await store.run(answer_call, turn=first, call="k", answer=b"{}", event=b"{}")
    assert isinstance(answered, Answered)
    following = (await store.commit(running)).next
    assert following is not None
    assert following.part == first
    await store.commit(following)
    kinds = [fields[b"type"] for _, fields in await store.client.xrange(store.keys.events(first))]
    assert kinds == [b"started", b"waiting", b"answered", b"resumed", b"ended"]
