"""The index of sessions with a turn that waits for an answer, on each kind of server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from sessions.protocol.turn import Policy
from sessions.store.keys import SessionKeys
from sessions.store.session_index import IndexRange, SessionIndex
from sessions.store.transitions.leases import Closing
from tests.scripts.test_policies import Line
from tests.scripts.test_scripts import PLACES, settings_for


class Asking(Line):
    """A session of a tenant of the test's own."""

    def own(self) -> None:
        self.keys = SessionKeys.of(f"t{uuid.uuid4().hex[:12]}", "s", self.settings.partitions)

    async def listed(self, user: str | None = None) -> list[str]:
        """The sessions that a user, or the tenant, finds in the inbox."""
        index = SessionIndex(self.scripts, self.client, self.settings)
        return [entry.position.name for entry in await index.read(IndexRange("asking", self.keys.tenant, user), 10)]

    async def wait(self, nonce: str, *calls: str, **options: object) -> str:
        """A turn that waits for calls; returns its part."""
        part = (await self.send(**options)).part  # type: ignore[arg-type]
        await self.park(await self.begin(nonce), *calls)
        return part


@pytest.fixture(params=PLACES)
async def asking(request: pytest.FixtureRequest) -> AsyncIterator[Asking]:
    made = Asking(settings_for(request))
    made.own()
    yield made
    await made.turns.delete_session(made.keys)
    left = [key async for key in made.client.scan_iter(f"*:asking~{made.keys.tenant}*", count=1000)]
    assert left == []
    await made.client.aclose()


async def test_a_session_is_listed_while_one_of_its_turns_waits(asking: Asking) -> None:
    """For its tenant and its owner, until the last answer to the last turn."""
    first = await asking.wait("n1", "c1", "c2", user_id="ann", waiting_blocks=False)
    second = await asking.wait("n2", "d1", user_id="ann", waiting_blocks=False)
    assert await asking.listed() == await asking.listed("ann") == ["s"]
    assert await asking.listed("bob") == []
    await asking.answer(first, "c1")
    await asking.answer(first, "c2")
    assert await asking.listed("ann") == ["s"]
    await asking.answer(second, "d1")
    assert await asking.listed() == await asking.listed("ann") == []


async def test_a_user_who_claims_a_session_finds_what_it_waits_for(asking: Asking) -> None:
    """The turn began to wait when the session had no owner."""
    await asking.wait("n1", "c1")
    assert (await asking.listed(), await asking.listed("ann")) == (["s"], [])
    await asking.send(user_id="ann")
    assert await asking.listed("ann") == ["s"]


async def test_a_turn_that_ends_while_it_waits_leaves_the_list(asking: Asking) -> None:
    """Cancelled, interrupted, out of time, or deleted with its session."""
    part = await asking.wait("n1", "c1")
    await asking.turns.cancel(asking.keys, part)
    assert await asking.listed() == []
    await asking.close(part, Closing.CANCELLED, "n2")
    part = await asking.wait("n3", "c1")
    await asking.send(Policy.INTERRUPT)
    assert await asking.listed() == []
    await asking.turns.delete_session(asking.keys)
    await asking.wait("n4", "c1")
    await asking.turns.delete_session(asking.keys)
    assert await asking.listed() == []


async def test_a_turn_that_nobody_answers_leaves_the_list(asking: Asking) -> None:
    """Its wait runs out, which the next look at the session finds."""
    part = await asking.wait("n1", "c1")
    await asking.client.zadd(asking.keys.waiting, {part: 1})
    begun = await asking.begin("n2")
    assert (begun.part, begun.closing) == (part, Closing.UNANSWERED)
    assert await asking.listed() == []
