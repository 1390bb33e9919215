"""Acting on schedules does not hold up the rescue, and an error with one of them is not the end."""

from __future__ import annotations

import asyncio
from typing import Any

from sessions.errors import StoreUnavailable
from sessions.store.keys import SessionKeys
from sessions.store.wake_up import WakeUp
from workers.process.ticks import _AT_ONCE, Ticks


class Slow:
    """Schedules that are acted on when the test says so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.go_on = asyncio.Event()
        self.seen: list[str] = []

    async def act(self, keys: SessionKeys) -> list[WakeUp]:
        self.seen.append(keys.session_id)
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return [WakeUp(keys.ref, "turns", 1)]


def ticks(slow: Slow, woken: list[str]) -> Ticks:
    async def publish(wake_up: WakeUp) -> bool:
        woken.append(wake_up.ref)
        return True

    acting: Any = slow
    return Ticks(acting, 256, publish)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_session_is_acted_on_once_at_a_time() -> None:
    """It is found every second while it is due; a second try would only read the same again."""
    slow, woken = Slow(), list[str]()
    acting = ticks(slow, woken)
    for _ in range(3):
        acting.act(["default:a", "default:b"])
        await settled()
    assert slow.seen == ["a", "b"]
    slow.go_on.set()
    await settled()
    assert woken == ["default:a", "default:b"]
    acting.act(["default:a"])
    await settled()
    assert slow.seen == ["a", "b", "a"]


async def test_no_more_than_fit_are_begun() -> None:
    """The others stay due."""
    slow = Slow()
    acting = ticks(slow, [])
    acting.act(f"default:s{n}" for n in range(_AT_ONCE + 10))
    await settled()
    assert len(slow.seen) == _AT_ONCE
    await acting.close()


async def test_errors_leave_the_session_to_the_next_look() -> None:
    """Of the store, of a name that is none, and one that nobody foresaw."""
    for error in (StoreUnavailable("gone"), ValueError("unforeseen")):
        slow, woken = Slow(error), list[str]()
        acting = ticks(slow, woken)
        slow.go_on.set()
        for _ in range(2):
            acting.act(["default:a", "no-session"])
            await settled()
        assert (slow.seen, woken) == (["a", "a"], [])
