"""Sealed state: what a change comes to is decided by its client, and is what the scripts would have made of it."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import InvalidState, SealError, SessionOwnerError, StateConflict
from sessions.protocol.state_ops import StateOp, delete_op, increment_op, set_op, swap_op
from sessions.protocol.turn import TurnStatus
from sessions.store.keys import SessionKeys
from sessions.store.leases import Ending
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.state import Effect, StateScope, StateStore, session_scope, wide_scope
from tests.scripts.test_scripts import DONE, OLD, Store
from tests.support.servers import Server

NEW = f"new:{base64.b64encode(bytes(range(32, 64))).decode()}"
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(-1e15, 1e15, allow_nan=False).filter(lambda number: number == 0 or abs(number) > 1e-9),
    st.sampled_from([0.1, 0.2, 1e300, 1.5, -1.5, 9 * 10**18, 1e308]),
)
OPS = st.one_of(
    st.builds(set_op, st.sampled_from("ab"), st.one_of(NUMBERS, st.text(max_size=3), st.just([1]))),
    st.builds(delete_op, st.sampled_from("ab")),
    st.builds(increment_op, st.sampled_from("ab"), NUMBERS, NUMBERS),
    st.builds(swap_op, st.sampled_from("ab"), st.one_of(st.none(), NUMBERS), st.one_of(NUMBERS, st.booleans())),
)


def with_keys(server: Server, keys: str | None, *, clustered: bool = False) -> Settings:
    return Settings(redis_url=server.url, redis_cluster=clustered, encryption_keys=keys)  # type: ignore[arg-type]


@pytest.fixture(params=["standalone", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    clustered = request.param == "cluster"
    server: Server = request.getfixturevalue("cluster_server" if clustered else "server")
    store = Store(with_keys(server, OLD, clustered=clustered))
    yield store
    await store.turns.delete_session(store.keys)
    await store.client.aclose()


def states_of(store: Store, keys: str | None = OLD) -> StateStore:
    keyring = KeyRing.of(store.settings.model_copy(update={"encryption_keys": with_keys_only(keys)}))
    return StateStore(store.scripts, store.client, keyring)


def with_keys_only(keys: str | None) -> Any:
    return Settings(encryption_keys=keys).encryption_keys  # type: ignore[arg-type]


async def stored(store: Store) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = await store.client.hgetall(store.keys.state)
    return found


async def outcome(states: StateStore, scope: StateScope, ops: list[StateOp]) -> tuple[Any, Any]:
    """The reply to a write, or why it was refused; and the values afterwards."""
    try:
        answer: Any = await states.write(scope, ops)
    except (InvalidState, StateConflict) as error:
        answer = type(error), str(error).split(" is ")[0]
    return answer, await states.read(scope)


def alike(one: Any, other: Any) -> bool:
    """Equal, but for the last digits of fractions, which the server adds with more of them."""
    if isinstance(one, float) or isinstance(other, float):
        return isinstance(other, int | float) and bool(other == pytest.approx(one, rel=1e-12, abs=1e-16))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, int) and not isinstance(one, bool) and abs(one) > 10**18:
        return isinstance(other, int | float) and bool(other == pytest.approx(one, rel=1e-12))
    return type(one) is type(other) and bool(one == other)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.lists(OPS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_sealed_state_is_what_open_state_is(server: Server, rounds: list[list[StateOp]]) -> None:
    """The same answers, refusals and values, whatever is done to it."""

    async def both() -> None:
        client = async_store(with_keys(server, None))
        scripts = ScriptRunner(client)
        scopes = [session_scope(SessionKeys.of("default", uuid.uuid4().hex, 256)) for _ in range(2)]
        stores = [StateStore(scripts, client, KeyRing.of(with_keys(server, keys))) for keys in (None, OLD)]
        try:
            for ops in rounds:
                plain, sealed = [
                    await outcome(states, scope, ops) for states, scope in zip(stores, scopes, strict=True)
                ]
                assert alike(plain, sealed), (ops, plain, sealed)
        finally:
            for scope in scopes:
                await client.delete(scope.key, f"{scope.base}:meta")
            await client.aclose()

    asyncio.run(both())


async def test_nothing_of_it_is_to_be_read(store: Store) -> None:
    """Neither the values nor the reply to a repeated operation; names of fields are visible."""
    states, scope = states_of(store), session_scope(store.keys)
    done = await states.write(scope, [set_op("a", "Quetzal"), increment_op("n", 4711, 0)])
    assert done == ["Quetzal", 4711]
    for key in await store.left():
        dumped = await store.client.dump(key)
        assert b"Quetzal" not in dumped
        assert b"4711" not in dumped
    assert all(KeyRing.sealed(value) for value in (await stored(store)).values())
    assert sorted(await stored(store)) == [b"a", b"n"]


async def test_eight_writers_lose_nothing(store: Store) -> None:
    """Each adds to the same number, and swaps the same value, alternating with the others."""
    scope = session_scope(store.keys)
    clients = [async_store(store.settings) for _ in range(8)]
    writers = [StateStore(ScriptRunner(client), client, KeyRing.of(store.settings)) for client in clients]

    async def add(states: StateStore) -> None:
        for _ in range(15):
            await states.write(scope, [increment_op("n", 1, 0), set_op("last", "x")])

    await asyncio.gather(*(add(states) for states in writers))
    assert await states_of(store).get(scope, "n", None) == 120

    async def swap(states: StateStore) -> int:
        won = 0
        while (seen := await states.get(scope, "turn", 0)) < 40:
            try:
                await states.write(scope, [swap_op("turn", seen or None, seen + 1)])
                won += 1
            except StateConflict:
                continue
        return won

    assert sum(await asyncio.gather(*(swap(states) for states in writers))) == 40
    for client in clients:
        await client.aclose()


async def test_a_turn_adds_to_what_others_change_meanwhile(store: Store) -> None:
    """The commit is refused while a number is another than the one it was decided on; nothing is lost or done twice."""
    states, scope, turns = states_of(store), session_scope(store.keys), 10
    for _ in range(turns):
        await store.accept()
    ending = dataclasses.replace(DONE, state_ops=[increment_op("n", 1, 0), set_op("s", "x"), increment_op("f", 0.5, 0)])
    stop = asyncio.Event()
    added = 0

    async def beside() -> None:
        nonlocal added
        while not stop.is_set():
            await states.write(scope, [increment_op("n", 1, 0)])
            added += 1

    other = asyncio.create_task(beside())
    begun: Any = await store.begin()
    for _ in range(turns):
        committed = await store.leases.commit(store.keys, begun, ending, 9, go_on=True, last_ok=True)
        again = await store.leases.commit(store.keys, begun, ending, 9, go_on=True, last_ok=True)
        assert (committed.status, again.status) == (TurnStatus.SUCCEEDED, TurnStatus.SUCCEEDED)
        begun = committed.next
    stop.set()
    await other
    assert await states.read(scope) == {"n": turns + added, "s": "x", "f": turns / 2}
    assert await store.client.llen(store.keys.history) == turns


async def test_a_change_of_a_turn_that_cannot_be_done_is_left_out(store: Store) -> None:
    """Another writer replaced a number with a text: the turn's other changes are made."""
    states, scope = states_of(store), session_scope(store.keys)
    await states.write(scope, [set_op("n", "a text")])
    await store.accept()
    changes = [increment_op("n", 1, 0), increment_op("m", 1, 5), delete_op("gone"), set_op("x", 1), delete_op("x")]
    ending = dataclasses.replace(DONE, state_ops=[*changes, increment_op("m", 1, 0)])
    await store.leases.commit(store.keys, await store.begin(), ending, 9, go_on=True, last_ok=True)
    assert await states.read(scope) == {"n": "a text", "m": 7}


async def test_an_effect_is_applied_once_in_its_own_slot(store: Store) -> None:
    """It is applied once, however many workers try, and however often."""
    name = uuid.uuid4().hex
    wide, states = wide_scope("default", name, store.settings.partitions), states_of(store)
    effect = json.loads(Effect(name, wide, [increment_op("user:n", 1, 0), set_op("user:s", "x")]).dump())
    await asyncio.gather(*(states.apply(effect) for _ in range(8)))
    await states.write(wide, [increment_op("user:n", 1, 0)])
    await states.apply(effect)
    assert await states.read(wide) == {"user:n": 2, "user:s": "x"}
    async for key in store.client.scan_iter(f"{wide.base}*", count=1000):
        await store.client.delete(key)


async def test_whose_state_it_is_comes_first(store: Store) -> None:
    """A refusal quotes the value, so another user does not get it."""
    states, scope = states_of(store), session_scope(store.keys)
    await states.write(scope, [set_op("s", "secret")], user_id="ann")
    for op in (swap_op("s", 1, 2), increment_op("s", 1, 0), set_op("s", 1)):
        with pytest.raises(SessionOwnerError):
            await states.write(scope, [op], user_id="bob")


async def test_keys_are_missed_by_name(store: Store) -> None:
    """By a client that has none, or others; one that has both reads and changes what the old one sealed."""
    scope = session_scope(store.keys)
    await states_of(store, None).write(scope, [set_op("before", 1)])
    await states_of(store).write(scope, [set_op("n", 1), increment_op("before", 1, 0)])
    for keys in (None, NEW):
        bare = states_of(store, keys)
        for op in (increment_op("n", 1, 0), swap_op("n", 1, 2)):
            with pytest.raises(SealError, match="'old'"):
                await bare.write(scope, [op])
        with pytest.raises(SealError, match="'old'"):
            await bare.read(scope)
    both = states_of(store, f"{NEW},{OLD}")
    assert await both.write(scope, [increment_op("n", 1, 0)]) == [2]
    assert await both.read(scope) == {"n": 2, "before": 2}
    assert [value[5:8] for _, value in sorted((await stored(store)).items())] == [b"old", b"new"]


async def test_a_value_that_was_moved_is_refused(store: Store) -> None:
    """A sealed value does not open in another field or in another session."""
    scope = session_scope(store.keys)
    await states_of(store).write(scope, [set_op("a", 1)])
    (value,) = (await stored(store)).values()
    await store.client.hset(scope.key, "b", value)
    with pytest.raises(SealError, match="moved"):
        await states_of(store).read(scope)


async def test_the_ending_of_a_cancelled_turn_changes_nothing(store: Store) -> None:
    """State changes that were journaled before the cancellation are not made."""
    part = await store.accept()
    begun = await store.begin()
    await store.turns.cancel(store.keys, part)
    ending = Ending(TurnStatus.SUCCEEDED, state_ops=[increment_op("n", 1, 0)])
    committed = await store.leases.commit(store.keys, begun, ending, 9, go_on=False, last_ok=True)
    assert committed.status is TurnStatus.CANCELLED
    assert await states_of(store).read(session_scope(store.keys)) == {}
