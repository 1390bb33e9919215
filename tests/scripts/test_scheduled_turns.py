"""Turns that begin later (`not_before`): when they take their place, and what a policy does to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from sessions.errors import SessionBusy
from sessions.protocol.turn import Policy, TurnStatus
from sessions.store.transitions.fleet import rescue_partition
from sessions.store.transitions.leases import NothingToRun
from tests.scripts.test_policies import Line
from tests.scripts.test_scripts import PLACES, settings_for

HOUR = 3600.0
QUEUED, CANCELLED = TurnStatus.QUEUED, TurnStatus.CANCELLED


class Schedule(Line):
    """A session's line, and the turns that are not in it yet."""

    async def later(self) -> dict[str, float]:
        found = await self.client.zrange(f"{self.keys.base}:later", 0, -1, withscores=True)
        return {part.decode(): float(due) for part, due in found}

    async def reach(self, *parts: str) -> None:
        """As time does: these turns are due now, one after the other."""
        for at, part in enumerate(parts, 1):
            await self.client.zadd(f"{self.keys.base}:later", {part: at})
        await self.client.zadd(f"{self.keys.partition}:wakeups", {self.keys.ref: 1})

    async def look(self) -> tuple[tuple[str, str], ...]:
        """As a rescuer does; the wake-ups to publish for this session."""
        looked = await self.scripts.run(rescue_partition((self.keys.partition,), most=100))
        return tuple((ref, queue) for ref, queue, *_ in looked.due if ref == self.keys.ref)


@pytest.fixture(params=PLACES)
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Schedule]:
    line = Schedule(settings_for(request))
    yield line
    await line.turns.delete_session(line.keys)
    assert all(":op:" in key for key in await line.left())
    await line.client.aclose()


async def test_a_scheduled_turn_is_accepted_now_and_begins_later(line: Schedule) -> None:
    """It has a record and no place in the mailbox; the index holds its time, and its deadline counts from then."""
    sent = await line.send(not_before=HOUR)
    assert sent.wake_up is None
    record = await line.turns.read(line.keys, sent.part)
    due = record.not_before_ms
    assert due is not None
    assert (record.status, due - record.accepted_ms, record.deadline_ms - due) == (QUEUED, 3_600_000, 900_000)
    assert (await line.mailbox(), await line.later(), await line.score()) == ([], {sent.part: due}, due)
    assert await line.leases.acquire(line.keys, "n", last_ok=True) is NothingToRun.EMPTY
    await line.reach(sent.part)
    assert await line.look() == ((line.keys.ref, "turns.rescue"),)
    assert (await line.begin()).part == sent.part
    assert (await line.turns.read(line.keys, sent.part)).not_before_ms == due


async def test_a_datetime_is_a_moment_of_the_stores_clock(line: Schedule) -> None:
    """The script compares it with the store's time; one in the past begins at once."""
    at = datetime.now(UTC) + timedelta(days=2)
    part = (await line.send(not_before=at)).part
    assert (await line.turns.read(line.keys, part)).not_before_ms == int(at.timestamp() * 1000)
    past = await line.send(not_before=datetime.now(UTC) - timedelta(hours=1))
    assert past.wake_up
    assert (await line.begin()).part == past.part
    assert (await line.turns.read(line.keys, past.part)).not_before_ms is None


async def test_it_does_not_hold_up_other_messages_and_takes_its_place_when_due(line: Schedule) -> None:
    """A message sent meanwhile runs at once. When it is due it comes behind those that wait, before later ones."""
    late, later = [(await line.send(not_before=wait)).part for wait in (HOUR, 2 * HOUR)]
    first = await line.send()
    assert first.wake_up
    begun = await line.begin()
    assert begun.part == first.part
    second = (await line.send()).part
    await line.reach(late, later)
    third = (await line.send()).part
    assert await line.mailbox() == [first.part, second, late, later, third]
    assert await line.later() == {}


async def test_a_turn_that_is_due_while_another_runs_is_next_without_a_wake_up(line: Schedule) -> None:
    """The worker that has the lease drains the mailbox."""
    scheduled = (await line.send(not_before=HOUR)).part
    await line.send()
    begun = await line.begin()
    await line.reach(scheduled)
    assert await line.look() == ()
    done = await line.commit(begun)
    assert done.next is not None
    assert done.next.part == scheduled


async def test_cancelling_it_leaves_nothing_due(line: Schedule) -> None:
    """It ends at once, and the session leaves the index."""
    part = (await line.send(not_before=HOUR)).part
    assert (await line.turns.cancel(line.keys, part))[0] is CANCELLED
    assert (await line.later(), await line.score()) == ({}, None)


async def test_its_idempotency_key_is_kept_until_it_ran(line: Schedule) -> None:
    """A repeat returns the same turn, whatever its time; sending the script again accepts nothing new."""
    part = (await line.send(not_before=HOUR, idempotency_key="k")).part
    repeat = await line.send(not_before=HOUR + 5, idempotency_key="k")
    assert (repeat.part, repeat.duplicate) == (part, True)
    again = await line.send(not_before=HOUR, part=part)
    assert again.part == part
    assert list(await line.later()) == [part]


@pytest.mark.parametrize("policy", [Policy.INTERRUPT, Policy.ROLLBACK])
async def test_a_policy_leaves_turns_that_are_not_due(line: Schedule, policy: Policy) -> None:
    """An interrupt clears the line. What is scheduled is not in it; what is due already is."""
    due, scheduled = [(await line.send(not_before=HOUR)).part for _ in range(2)]
    await line.reach(due)
    await line.send(policy)
    assert await line.statuses(due, scheduled) == [CANCELLED, QUEUED]


async def test_a_session_with_scheduled_turns_is_not_busy(line: Schedule) -> None:
    """`reject` counts the turns that wait or run, not those of later; a due one counts."""
    scheduled = (await line.send(not_before=HOUR)).part
    first = await line.send(Policy.REJECT)
    with pytest.raises(SessionBusy):
        await line.send(Policy.REJECT)
    begun = await line.begin()
    assert begun.part == first.part
    await line.commit(begun)
    await line.reach(scheduled)
    with pytest.raises(SessionBusy):
        await line.send(Policy.REJECT)


async def test_scheduled_turns_count_towards_the_mailbox_limit(line: Schedule) -> None:
    """All open turns do, so that storage stays bounded."""
    await line.send(not_before=HOUR, mailbox_limit=1)
    with pytest.raises(SessionBusy, match="scheduled"):
        await line.send(mailbox_limit=1)


async def test_a_session_with_a_scheduled_turn_does_not_expire(line: Schedule) -> None:
    """Its keys have no expiry until the turn has ended."""
    scheduled = (await line.send(not_before=HOUR, session_ttl=60.0)).part
    await line.send()
    await line.commit(await line.begin())
    assert await line.client.pttl(line.keys.meta) == -1
    assert await line.client.pttl(line.keys.turn(scheduled)) == -1
    await line.turns.cancel(line.keys, scheduled)
    assert 0 < await line.client.pttl(line.keys.meta) <= 60_000


async def test_deleting_the_session_deletes_it(line: Schedule) -> None:
    """It is counted among the open turns; the fixture checks that no key is left."""
    await line.send(not_before=HOUR)
    assert (await line.turns.delete_session(line.keys))["open_turns"] == 1
