"""What the scripts do for webhooks: every end of a turn is reported, and a delivery that pauses lets others pass."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from broker_config.encryption_keys import new_key
from broker_config.settings import Settings
from sessions.protocol.event import EventType
from sessions.protocol.turn import Policy, TurnStatus
from sessions.store.leases import Ending, OpenTurn
from sessions.store.state import ack_effect
from sessions.store.transitions.fleet import rescue_partition
from sessions.store.transitions.leases import Closing, Effects, NothingToRun
from sessions.store.turns import TurnStore
from sessions.store.wake_up import WakeUp
from tests.scripts.test_policies import Line
from tests.support.servers import Server

URL = "https://example.org/hook"
Ends = Callable[["Told"], Awaitable[str]]


class Told(Line):
    """A mailbox of turns with webhooks."""

    async def untold(self) -> list[dict[str, str | None]]:
        return [json.loads(entry) for entry in await self.client.lrange(f"{self.keys.base}:outbox", 0, -1)]

    async def age(self, part: str, **fields: int) -> None:
        """As time does."""
        await self.client.hset(self.keys.turn(part), mapping=fields)

    async def rescue(self) -> dict[str, str]:
        await self.client.zadd(f"{self.keys.partition}:wakeups", {self.keys.ref: 1})
        return dict((await self.scripts.run(rescue_partition((self.keys.partition,), most=500))).due)

    async def later(self, begun: OpenTurn, pause: float) -> WakeUp | None:
        return await self.leases.release(self.keys, begun, "later", pause, 2, EventType.RETRYING, {})


@pytest.fixture(params=["standalone", "cluster"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Told]:
    clustered = request.param == "cluster"
    server: Server = request.getfixturevalue("cluster_server" if clustered else "server")
    line = Told(Settings(redis_url=server.url, redis_cluster=clustered))  # type: ignore[call-arg]
    yield line
    await line.turns.delete_session(line.keys)
    assert all(":op:" in key for key in await line.left())
    await line.client.aclose()


# --- every end is reported ------------------------------------------------------------------------------------


async def _succeeds(line: Told) -> str:
    part = (await line.send(webhook=URL)).part
    await line.commit(await line.begin())
    return part


async def _is_cancelled_in_line(line: Told) -> str:
    part = (await line.send(webhook=URL)).part
    await line.turns.cancel(line.keys, part)
    return part


async def _is_cancelled_while_it_pauses(line: Told) -> str:
    part = (await line.send(webhook=URL)).part
    await line.later(await line.begin(), 60.0)
    await line.turns.cancel(line.keys, part)
    await line.close(part, Closing.CANCELLED)
    return part


async def _is_cancelled_and_given_back(line: Told) -> str:
    part = (await line.send(webhook=URL)).part
    begun = await line.begin()
    await line.turns.cancel(line.keys, part)
    await line.leases.release(line.keys, begun, "handover", 0, 2, EventType.HANDED_OVER, {})
    await line.close(part, Closing.CANCELLED)
    return part


async def _is_past_its_deadline(line: Told) -> str:
    part = (await line.send(webhook=URL)).part
    await line.age(part, deadline=1)
    assert isinstance(await line.leases.acquire(line.keys, "n", last_ok=True), Effects)
    return part


async def _dies_too_often(line: Told) -> str:
    part = (await line.send(webhook=URL)).part
    for attempt in range(line.settings.max_attempts):
        await line.begin(f"n{attempt}")
        await line.lose_lease()
    await line.close(part, Closing.DEAD_LETTERED)
    return part


async def _is_not_answered(line: Told) -> str:
    part = (await line.send(webhook=URL)).part
    await line.park(await line.begin(), "c1")
    told = await line.leases.acquire(line.keys, "x", last_ok=True)
    assert isinstance(told, Effects)
    assert json.loads(told.entries[0])["kind"] == "asks"
    await ack_effect(line.scripts, line.keys, told.entries[0])
    await line.client.zadd(f"{line.keys.base}:waiting", {part: 1})
    assert line.keys.ref in await line.rescue()
    await line.close(part, Closing.UNANSWERED)
    return part


async def _makes_way(line: Told) -> str:
    part = (await line.send(webhook=URL)).part
    newer = await line.send(Policy.ROLLBACK)
    await line.turns.cancel(line.keys, newer.part)
    return part


@pytest.mark.parametrize(
    "ends",
    [
        _succeeds,
        _is_cancelled_in_line,
        _is_cancelled_while_it_pauses,
        _is_cancelled_and_given_back,
        _is_past_its_deadline,
        _dies_too_often,
        _is_not_answered,
        _makes_way,
    ],
)
async def test_however_a_turn_ends_somebody_is_to_tell_it(line: Told, ends: Ends) -> None:
    """Once, and the session stays in the index until a worker has dealt with it."""
    part = await ends(line)
    (entry,) = await line.untold()
    assert entry == {"kind": "webhook", "turn": part, "user": None}
    assert await line.score() is not None
    assert await line.turns.webhook(line.keys, part) == URL
    begun = await line.leases.acquire(line.keys, "x", last_ok=True)
    assert isinstance(begun, Effects)
    await ack_effect(line.scripts, line.keys, begun.entries[0])
    assert await line.leases.acquire(line.keys, "x", last_ok=True) is NothingToRun.EMPTY
    assert await line.score() is None


async def test_whose_the_session_was_is_said(line: Told) -> None:
    """The session may expire before the turn is reported."""
    await line.send(webhook=URL, user_id="ann")
    await line.commit(await line.begin())
    assert [entry["user"] for entry in await line.untold()] == ["ann"]


async def test_a_turn_without_a_webhook_is_nobody_s_business(line: Told) -> None:
    """Nothing is left to do when it ends."""
    await line.send()
    ended = await line.commit(await line.begin())
    assert not ended.effects
    assert await line.untold() == []


async def test_it_is_told_before_the_next_turn_begins(line: Told) -> None:
    """Also where the end came from the very script that would have begun the next one."""
    first, second = (await line.send(webhook=URL)).part, (await line.send(webhook=URL)).part
    third = (await line.send()).part
    await line.age(first, deadline=1)
    begun = await line.leases.acquire(line.keys, "n1", last_ok=True)
    assert isinstance(begun, Effects)
    assert not await line.client.exists(f"{line.keys.base}:lease")
    await ack_effect(line.scripts, line.keys, begun.entries[0])
    running = await line.begin("n2")
    assert running.part == second
    assert (await line.commit(running)).effects
    begun = await line.leases.acquire(line.keys, "n3", last_ok=True)
    assert isinstance(begun, Effects)
    await ack_effect(line.scripts, line.keys, begun.entries[0])
    assert (await line.begin("n3")).part == third


async def test_an_end_beside_a_running_turn_is_told_meanwhile(line: Told) -> None:
    """It does not wait for the other's end, and renewals of the lease do not put it off."""
    await line.send()
    running = await line.begin("n1")
    waiting = (await line.send(webhook=URL)).part
    await line.turns.cancel(line.keys, waiting)
    await line.renew(running.lease, running.part)
    score = await line.score()
    assert score is not None
    assert line.keys.ref in await line.rescue()
    begun = await line.leases.acquire(line.keys, "n2", last_ok=True)
    assert isinstance(begun, Effects)
    again = await line.begin("n1")
    assert again.lease == running.lease, "whoever holds the lease and lost a reply is told of its turn"
    await ack_effect(line.scripts, line.keys, begun.entries[0])
    assert await line.leases.acquire(line.keys, "n2", last_ok=True) is NothingToRun.BUSY
    assert (await line.commit(running)).status is TurnStatus.SUCCEEDED


async def test_a_commit_that_ends_the_next_turn_says_that_there_is_something_to_tell(line: Told) -> None:
    """The worker looks at once, and not a rescuer seconds later."""
    await line.send()
    running = await line.begin()
    late = (await line.send(webhook=URL)).part
    await line.age(late, deadline=1)
    done = await line.commit(running)
    assert done.effects
    assert [entry["turn"] for entry in await line.untold()] == [late]


async def test_an_address_is_sealed_where_there_are_keys(line: Told) -> None:
    """It may have a secret in it; also that of a message which joins a running turn opens."""
    sealed = Settings(encryption_keys=new_key("k"))  # type: ignore[arg-type]
    line.turns = TurnStore(line.scripts, line.client, sealed)
    part = (await line.send()).part
    await line.begin()
    await line.send(Policy.STEER, webhook=URL)
    assert await line.turns.webhook(line.keys, part) == URL
    assert b"example" not in await line.client.hget(line.keys.turn(part), "webhook")


async def test_a_message_that_joins_a_turn_brings_its_webhook(line: Told) -> None:
    """It applies if the turn has none; otherwise the turn's first webhook stays."""
    first = (await line.send()).part
    await line.begin()
    assert (await line.send(Policy.STEER, webhook=URL)).part == first
    assert (await line.send(Policy.STEER, webhook="https://example.org/other")).part == first
    assert await line.turns.webhook(line.keys, first) == URL


# --- a delivery that pauses -------------------------------------------------------------------------------------


async def test_one_that_pauses_lets_those_behind_it_pass(line: Told) -> None:
    """And comes back after them when its time has come; each release counts as a try."""
    first, second, third = [(await line.send()).part for _ in range(3)]
    wake = await line.later(await line.begin("n1"), 60.0)
    assert wake is not None
    assert await line.mailbox() == [second, third]
    assert (await line.begin("n2")).part == second
    await line.client.zadd(f"{line.keys.base}:later", {first: 1})
    await line.age(first, not_before=1)
    await line.rescue()
    assert await line.mailbox() == [second, third, first]
    record = await line.turns.read(line.keys, first)
    assert (record.status, record.retries, record.crashes) == (TurnStatus.QUEUED, 1, 0)


async def test_alone_it_is_looked_at_when_its_pause_is_over(line: Told) -> None:
    """Not before: nothing is woken meanwhile, and its keys stay."""
    part = (await line.send(session_ttl=1.0)).part
    begun = await line.begin("n1")
    assert await line.later(begun, 60.0) is None
    assert await line.later(begun, 60.0) is None, "sent again"
    assert (await line.turns.read(line.keys, part)).retries == 1
    assert await line.leases.acquire(line.keys, "n2", last_ok=True) is NothingToRun.EMPTY
    due = await line.client.zscore(f"{line.keys.base}:later", part)
    assert await line.score() == due
    assert await line.client.ttl(line.keys.meta) == -1
    await line.client.zadd(f"{line.keys.base}:later", {part: 1})
    await line.age(part, not_before=1)
    again = await line.begin("n3")
    assert (again.part, again.retries) == (part, 1)
    await line.leases.commit(
        line.keys, again, Ending(TurnStatus.DEAD_LETTERED, error=b'{"type":"WebhookFailed","message":"m"}'), 9,
        go_on=True, last_ok=True,
    )  # fmt: skip
    assert (await line.turns.read(line.keys, part)).status is TurnStatus.DEAD_LETTERED
    dead = await line.client.zscore(f"{line.keys.partition}:dead", f"{line.keys.ref}~{part}")
    assert dead is not None


async def test_a_deleted_session_has_none_that_pause(line: Told) -> None:
    """Deleting a session counts a paused delivery as an open turn, and removes it."""
    await line.send()
    await line.later(await line.begin("n1"), 60.0)
    assert (await line.turns.delete_session(line.keys))["open_turns"] == 1
    assert await line.left() == []
