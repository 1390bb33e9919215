"""Limits of tenants and users at acceptance, on a plain server and on one in cluster mode."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.client.connection import FleetConnection, Stores
from sessions.client.submission_limits import OwnLimits, SubmissionLimits
from sessions.errors import BackendError, IdempotencyConflict, RateLimited, SessionBusy
from sessions.protocol.call import CallKind, WaitingCall
from sessions.protocol.turn import Policy, TurnRequest, TurnStatus
from sessions.store.acceptance import Accepted
from sessions.store.keys import LIMITS, LIMITS_VERSION, SessionKeys, quota_key
from sessions.store.leases import Ending, LeaseStore
from sessions.store.open_turn import OpenTurn
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.submission import Submission
from sessions.store.submission_limits import EACH_USER, NO_LIMITS, Limits, OwnLimitStore, own_limits
from sessions.store.transitions.submission_limits import Admitted, Full, LookFor, admit_turn
from tests.scripts.test_scripts import PLACES, settings_for

DONE = Ending(TurnStatus.SUCCEEDED, result=b'{"text":"x"}', history_entry=b"{}\n[]", messages=2)


class Tenant:
    """A tenant of the test's own, with clients that have these settings."""

    def __init__(self, settings: Settings, client: Any) -> None:
        self.settings = settings
        self.client = client
        self.name = uuid.uuid4().hex
        self.leases = LeaseStore(ScriptRunner(client), settings.model_copy(update={"lease": 120.0}), "w1@test")
        self.stores = Stores.on(client, settings, KeyRing.of(settings))
        self.used: list[SessionKeys] = []

    def with_limits(self, **limits: int) -> SubmissionLimits:
        """A client of a process with these settings."""

        class Connection:
            settings = self.settings.model_copy(update=limits)
            stores = self.stores

            async def open(self) -> None: ...

        return SubmissionLimits(cast(FleetConnection, Connection()))

    def session(self, name: str = "") -> SessionKeys:
        keys = SessionKeys.of(self.name, name or uuid.uuid4().hex, self.settings.partitions)
        self.used.append(keys)
        return keys

    async def end(self, keys: SessionKeys) -> None:
        """A worker runs the session's turn to its end."""
        begun = await self.leases.acquire(keys, uuid.uuid4().hex, last_ok=True)
        assert isinstance(begun, OpenTurn)
        await self.leases.commit(keys, begun, DONE, 9, go_on=False, last_ok=True)

    async def park(self, keys: SessionKeys) -> None:
        """A worker runs the session's turn until it waits for an approval."""
        begun = await self.leases.acquire(keys, uuid.uuid4().hex, last_ok=True)
        assert isinstance(begun, OpenTurn)
        ask = WaitingCall(key="1:approval:c", call_id="c", tool="t", kind=CallKind.APPROVAL, place=0)
        await self.leases.wait(keys, begun, {ask.key: ask.model_dump_json().encode()}, 2, b"{}")

    async def counted(self) -> dict[str, int]:
        """How many turns each set of this tenant's has."""
        base = quota_key(self.name)
        names = [key.decode() async for key in self.client.scan_iter(f"{base}:*", count=1000)]
        return {name.removeprefix(f"{base}:"): int(await self.client.zcard(name)) for name in names}


@pytest.fixture(params=PLACES[:2])
async def tenant(request: pytest.FixtureRequest) -> AsyncIterator[Tenant]:
    settings = settings_for(request)
    tenant = Tenant(settings, async_store(settings))
    yield tenant
    for keys in tenant.used:
        await tenant.stores.turns.delete_session(keys)
    await tenant.client.aclose()


def message(**options: Any) -> Submission:
    return Submission(TurnRequest(message="hi", agent="A"), **{"queue": "turns", "timeout": 900.0, **options})


async def send(client: SubmissionLimits, keys: SessionKeys, user: str | None = None, **options: Any) -> Accepted:
    return await client.accept(keys, message(user_id=user, **options))


async def test_without_limits_nothing_is_counted(tenant: Tenant) -> None:
    """And nothing is asked: the fleet's list is read once per process, and this is the second turn."""
    client = tenant.with_limits()
    await send(client, tenant.session(), "ann")
    before = await commands(tenant)
    await send(client, tenant.session(), "ann")
    assert await commands(tenant) - before <= 1
    assert await tenant.counted() == {}


async def commands(tenant: Tenant) -> int:
    """How many scripts the server has run; other tests use other servers' slots, but not at the same time."""
    found = await tenant.client.info("commandstats")
    stats = found if "cmdstat_evalsha" in found else next((v for v in found.values() if isinstance(v, dict)), {})
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0)) + int(stats.get("cmdstat_eval", {}).get("calls", 0))


async def test_turns_of_a_minute(tenant: Tenant) -> None:
    """The error says when the next one may come; another user has turns of its own, the tenant's are all of them."""
    client = tenant.with_limits(user_turns_per_minute=2, tenant_turns_per_minute=3)
    for _ in range(2):
        await send(client, tenant.session(), "ann")
    with pytest.raises(RateLimited, match=r"'ann' has reached .* turns per minute \(2\); try again in") as hit:
        await send(client, tenant.session(), "ann")
    assert 55 < hit.value.retry_after <= 60
    await send(client, tenant.session(), "bob")
    with pytest.raises(RateLimited, match=r"tenant '.*' has reached its limit of turns per minute \(3\)"):
        await send(client, tenant.session(), "bob")
    assert await tenant.counted() == {"minute": 3, "minute~ann": 2, "minute~bob": 1}


async def test_a_refused_turn_leaves_nothing(tenant: Tenant) -> None:
    """No session, no record, no wake-up, and it does not count."""
    client, keys = tenant.with_limits(tenant_open_turns=1), tenant.session()
    await send(client, tenant.session())
    with pytest.raises(RateLimited, match=r"open turns \(1\); try again when one of them has ended"):
        await send(client, keys)
    found = [key async for key in tenant.client.scan_iter(f"*{keys.session_id}*", count=1000)]
    assert found == []
    assert await tenant.client.zscore(f"{keys.partition}:wakeups", keys.ref) is None
    assert await tenant.counted() == {"open": 1}


async def test_a_repeat_is_not_counted_twice_and_not_refused(tenant: Tenant) -> None:
    """The accepted turn is the answer, even when its limit is reached; a conflict is still a conflict."""
    client, keys = tenant.with_limits(tenant_turns_per_minute=2, tenant_open_turns=2), tenant.session()
    first = await send(client, keys, idempotency_key="k")
    assert (await send(client, keys, idempotency_key="k")).part == first.part
    assert await tenant.counted() == {"minute": 1, "open": 1}
    again = message(idempotency_key="l")
    assert {(await client.accept(keys, again)).part for _ in range(2)} == {again.part}
    repeat = await send(client, keys, idempotency_key="k")
    assert (repeat.part, repeat.duplicate) == (first.part, True)
    with pytest.raises(IdempotencyConflict):
        await client.accept(keys, replace(again, request=TurnRequest(message="else"), part=first.part[::-1]))
    assert await tenant.counted() == {"minute": 2, "open": 2}


async def test_a_turn_that_is_refused_for_another_reason_does_not_count(tenant: Tenant) -> None:
    """The session is busy: the tenant has as many turns left as before."""
    client, keys = tenant.with_limits(tenant_turns_per_minute=5, tenant_turns_in_flight=5), tenant.session()
    await send(client, keys)
    with pytest.raises(SessionBusy):
        await send(client, keys, policy=Policy.REJECT)
    assert await tenant.counted() == {"minute": 1, "flight": 1}


@pytest.mark.parametrize("limit", ["user_turns_in_flight", "user_open_turns", "tenant_turns_in_flight"])
async def test_an_end_makes_room_at_once(tenant: Tenant, limit: str) -> None:
    """Whoever ends the turn, and whatever crashes then: its record says that it has ended."""
    client, keys = tenant.with_limits(**{limit: 1}), tenant.session()
    for _ in range(3):
        await send(client, keys, "ann")
        with pytest.raises(RateLimited) as hit:
            await send(client, tenant.session(), "ann")
        assert hit.value.retry_after == 1.0
        await tenant.end(keys)


async def test_a_limit_refuses_when_all_that_it_counts_were_looked_for(tenant: Tenant) -> None:
    """Looking for the same turns again would show nothing new; turns of another limit are looked for as well."""

    async def admit(turn: str, user: str = "", *, tenant_open: int = 1, **found: Sequence[str]) -> object:
        nothing: dict[str, Sequence[str]] = {"ended": (), "missing": (), "waiting": (), "running": ()}
        call = admit_turn(
            (quota_key(tenant.name),),
            turn=turn,
            user=user,
            later=False,
            tenant_minute=0,
            tenant_flight=0,
            tenant_open=tenant_open,
            user_minute=0,
            user_flight=0,
            user_open=1,
            look=True,
            **nothing | found,
        )
        return await tenant.stores.scripts.run(call)

    assert await admit("a~1") == Admitted()
    assert await admit("b~1") == LookFor(("a~1",))
    for answer in ("running", "waiting", "missing"):
        assert await admit("b~1", **{answer: ("a~1",)}) == Full("open", "tenant")
    assert await admit("b~1", ended=("a~1",)) == Admitted()

    assert await admit("c~1", "ann", tenant_open=2) == Admitted()
    assert await admit("d~1", "ann", tenant_open=2) == LookFor(("b~1", "c~1"))
    assert await admit("d~1", "ann", tenant_open=2, ended=("b~1",)) == LookFor(("c~1",))
    assert await admit("d~1", "ann", tenant_open=2, running=("c~1",)) == Full("open", "user")


async def test_a_turn_that_waits_is_open_and_not_in_flight(tenant: Tenant) -> None:
    """For an answer, or for its time."""
    client, keys = tenant.with_limits(tenant_turns_in_flight=1, tenant_open_turns=4), tenant.session()
    await send(client, keys)
    with pytest.raises(RateLimited, match=r"turns in flight \(1\)"):
        await send(client, tenant.session())
    await tenant.park(keys)
    await send(client, tenant.session())
    for _ in range(2):
        await send(client, tenant.session(), not_before=600.0)
    with pytest.raises(RateLimited, match=r"open turns \(4\)"):
        await send(client, tenant.session(), not_before=600.0)


async def test_a_message_that_joins_a_turn_is_no_turn(tenant: Tenant) -> None:
    """It is let through when the user's turns are in flight, and counts among those of the minute."""
    client, keys = tenant.with_limits(user_turns_in_flight=1, user_turns_per_minute=3), tenant.session()
    first = await send(client, keys, "ann")
    assert isinstance(await tenant.leases.acquire(keys, "n", last_ok=True), OpenTurn)
    for _ in range(2):
        assert (await send(client, keys, "ann", policy=Policy.STEER)).part == first.part
    assert await tenant.counted() == {"flight~ann": 1, "minute~ann": 3}
    with pytest.raises(RateLimited, match=r"turns per minute \(3\)"):
        await send(client, keys, "ann", policy=Policy.STEER)


async def test_a_turn_whose_acceptance_was_lost_is_forgotten(tenant: Tenant) -> None:
    """A client that dies between the two scripts leaves a turn without a record, which counts for a minute."""
    client = tenant.with_limits(tenant_open_turns=1)
    lost, key = tenant.session(), f"{quota_key(tenant.name)}:open"
    now_s, _ = await tenant.client.time()
    await tenant.client.zadd(key, {f"{lost.ref}~{uuid.uuid4().hex}": now_s * 1000 - 50_000})
    with pytest.raises(RateLimited):
        await send(client, tenant.session())
    await tenant.client.zincrby(key, -15_000, (await tenant.client.zrange(key, 0, 0))[0])
    await send(client, tenant.session())
    assert await tenant.counted() == {"open": 1}


async def test_counts_expire(tenant: Tenant) -> None:
    """A tenant that sends nothing any more leaves nothing."""
    await send(tenant.with_limits(tenant_turns_per_minute=9, tenant_open_turns=9), tenant.session())
    base = quota_key(tenant.name)
    assert 0 < await tenant.client.pttl(f"{base}:minute") <= 60_000
    assert 0 < await tenant.client.pttl(f"{base}:open") <= 30 * 86_400_000


async def test_a_user_who_is_deleted_leaves_the_counts(tenant: Tenant) -> None:
    """The names of the user's sessions stay in no set of the user's, except those of the minute."""
    client = tenant.with_limits(user_turns_per_minute=9, user_turns_in_flight=9, user_open_turns=9)
    await send(client, tenant.session(), "an~n")
    await client.forget_user(tenant.name, "an~n")
    assert await tenant.counted() == {"minute~an%7En": 1}


async def test_many_turns_at_once_do_not_pass_a_limit_together(tenant: Tenant) -> None:
    """Of twenty that come at the same moment, as many are accepted as there may be."""
    client = tenant.with_limits(tenant_open_turns=5)
    sent = [send(client, tenant.session()) for _ in range(20)]
    done = await asyncio.gather(*sent, return_exceptions=True)
    assert sum(isinstance(one, Accepted) for one in done) == 5
    assert sum(isinstance(one, RateLimited) for one in done) == 15


async def test_sessions(tenant: Tenant) -> None:
    """A turn that would create one too many is refused; those that there are go on, and deleting one makes room."""
    client, kept = tenant.with_limits(user_sessions=2), tenant.session()
    await send(client, kept, "ann")
    gone = tenant.session()
    await send(client, gone, "ann")
    refused = tenant.session()
    with pytest.raises(RateLimited, match=r"user 'ann' has reached its limit of sessions \(2\); delete"):
        await send(client, refused, "ann")
    with pytest.raises(RateLimited):
        await client.refuse_new_session(refused, "ann")
    assert not await tenant.client.exists(refused.meta)
    await client.refuse_new_session(kept, "ann")
    await send(client, kept, "ann")
    await send(client, tenant.session(), "bob")
    await tenant.stores.turns.delete_session(gone)
    await send(client, refused, "ann")


async def test_sessions_that_are_created_at_once_count_each_other(tenant: Tenant) -> None:
    """Also in different partitions: never more than there may be."""
    client = tenant.with_limits(tenant_sessions=3)
    done = await asyncio.gather(*(send(client, tenant.session()) for _ in range(8)), return_exceptions=True)
    created = sum(isinstance(one, Accepted) for one in done)
    assert 1 <= created <= 3
    for _ in range(3 - created):
        await send(client, tenant.session())
    with pytest.raises(RateLimited, match=r"sessions \(3\)"):
        await send(client, tenant.session())


async def test_tenants_and_users_may_have_limits_of_their_own(tenant: Tenant) -> None:
    """A user's come before those of each user of the tenant, and these before the settings; 0 lifts a limit."""
    own = OwnLimitStore(tenant.client)
    odd = "an~n*: \N{SNOWMAN}"
    try:
        await own.set(tenant.name, "", Limits(minute=100))
        assert await own.set(tenant.name, "", Limits(open=7)) == Limits(minute=100, open=7)
        await own.set(tenant.name, EACH_USER, Limits(minute=1, sessions=4))
        await own.set(tenant.name, odd, Limits(minute=0))
        known = await OwnLimits(own).known()
        assert own_limits(known, tenant.name, odd) == (Limits(minute=100, open=7), Limits(minute=0, sessions=4))
        assert own_limits(known, tenant.name, "*")[1] == Limits(minute=1, sessions=4)
        assert own_limits(known, "another", "ann") == (NO_LIMITS, NO_LIMITS)

        client, keys = tenant.with_limits(user_turns_per_minute=1), tenant.session()
        for _ in range(3):
            await send(client, keys, odd)
        await send(client, tenant.session(), "ann")
        with pytest.raises(RateLimited, match="user 'ann'"):
            await send(client, tenant.session(), "ann")
    finally:
        for user in ("", EACH_USER, odd):
            assert await own.remove(tenant.name, user)
        assert not await own.remove(tenant.name, "")
        await tenant.client.delete(LIMITS, LIMITS_VERSION)


async def test_a_limit_is_never_set_without_a_new_version(tenant: Tenant) -> None:
    """Its processes would keep the copy that they have: here the connection breaks after the first command."""

    class Breaks:
        def __init__(self) -> None:
            self.written = False

        def __getattr__(self, command: str) -> Any:
            found = getattr(tenant.client, command)

            def run(*arguments: Any, **options: Any) -> Any:
                if command.startswith("h") and self.written:
                    raise ConnectionError("gone")
                self.written = self.written or command == "hset"
                return found(*arguments, **options)

            return run

    own = OwnLimitStore(tenant.client)
    try:
        before = await own.version()
        with contextlib.suppress(ConnectionError, BackendError):
            await OwnLimitStore(Breaks()).set(tenant.name, "", Limits(open=1))
        assert ((tenant.name, "") in await own.all()) == (await own.version() != before)
    finally:
        await own.remove(tenant.name, "")
        await tenant.client.delete(LIMITS, LIMITS_VERSION)
