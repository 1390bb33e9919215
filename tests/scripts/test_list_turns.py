"""What list_turns lists: open turns in the order in which they run, all from either end, and the next after a turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessions.store.keys import new_turn_part
from sessions.store.transitions.turns import Which
from tests.scripts.test_policies import Line
from tests.scripts.test_scripts import PLACES, settings_for

FAR = 4_000_000_000_000
EXPIRED = 1_000


class Listed(Line):
    """A session's turns."""

    async def ended(self, *expiries: int) -> list[str]:
        """Turns that have ended, and whose records expire at these times."""
        parts = [new_turn_part() for _ in expiries]
        await self.client.zadd(self.keys.turns, dict(zip(parts, expiries, strict=True)))
        return parts

    async def list(self, which: Which, after: str | None = None, limit: int = 100) -> list[str]:
        return await self.turns.listed(self.keys, which, after, limit)

    async def paged(self, which: Which, limit: int) -> list[str]:
        found: list[str] = []
        while page := await self.list(which, found[-1] if found else None, limit):
            assert len(page) <= limit
            found += page
        return found


@pytest.fixture(params=PLACES)
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Listed]:
    line = Listed(settings_for(request))
    yield line
    await line.turns.delete_session(line.keys)
    await line.client.aclose()


async def send(line: Listed, count: int, **options: Any) -> list[str]:
    return [(await line.send(**options)).part for _ in range(count)]


async def test_an_unknown_session_has_none(line: Listed) -> None:
    """Whatever is asked for."""
    for which in ("open", "current", "oldest", "newest", "next"):
        assert await line.list(which) == []  # type: ignore[arg-type]
        assert await line.list(which, new_turn_part()) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_of_all_turns_have_each_once(line: Listed, limit: int) -> None:
    """In the order of their ends, the open ones last; turns that ended in the same moment, too; no expired ones."""
    await line.ended(EXPIRED, EXPIRED + 1)
    ended = await line.ended(FAR, FAR, FAR, FAR + 1)
    every = [*ended, *await send(line, 3)]
    assert await line.paged("oldest", limit) == every
    assert await line.paged("newest", limit) == every[::-1]


async def test_a_cursor_whose_turn_is_gone(line: Listed) -> None:
    """Everything older is gone, too: oldest first begins with what is left, newest first is at its end."""
    left = await line.ended(FAR, FAR + 1)
    for gone in (new_turn_part(), *await line.ended(EXPIRED)):
        assert await line.list("oldest", gone) == left
        assert await line.list("newest", gone) == []


async def test_open_turns_come_in_the_order_in_which_they_run(line: Listed) -> None:
    """The mailbox, what is due behind it, what waits aside, and what is scheduled for later."""
    (aside,) = await send(line, 1, waiting_blocks=False)
    await line.park(await line.begin(), "call")
    blocking, *queued = await send(line, 3)
    await line.park(await line.begin(), "call")
    (scheduled,), (due,) = await send(line, 1, not_before=600.0), await send(line, 1, not_before=600.0)
    await line.client.zadd(f"{line.keys.base}:later", {due: 1})
    now = [blocking, *queued, due, aside]
    assert await line.list("open") == [*now, scheduled]
    assert await line.paged("open", 2) == [*now, scheduled]
    assert await line.list("current") == now
    assert await line.list("current", limit=1) == [blocking]
    assert await line.list("open", new_turn_part()) == [*now, scheduled], "its turn has ended: from the beginning"


async def test_the_next_after_a_turn_is_what_ended_after_it_or_the_open_one(line: Listed) -> None:
    """What ended in the same moment counts, in the order of its id; scheduled turns do not."""
    first, second, third = await line.ended(FAR, FAR, FAR + 1)
    assert await line.list("next", first) == [second]
    assert await line.list("next", second) == [third]
    assert await line.list("next", third) == []
    await send(line, 1, not_before=600.0)
    assert await line.list("next", third) == []
    head, behind = await send(line, 2)
    assert await line.list("next", third) == [head]
    assert await line.list("next", head) == [head]
    assert await line.list("next", behind) == [head]
    assert await line.list("next", new_turn_part()) == [head]


async def test_it_writes_nothing(line: Listed) -> None:
    """A session that is only looked at has no key."""
    await line.list("newest")
    assert await line.left() == []
