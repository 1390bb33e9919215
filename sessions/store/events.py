"""Reading a turn's events, and learning of new ones: one subscription serves all readers of a process.

The stream in the store is the source of truth and is read by cursor; the bell only says that there is something to
read. Losing a bell message (a broken connection) costs a poll interval, never an event (P5).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from sessions.errors import StaleCursor, TurnNotFound
from sessions.protocol.event import Event
from sessions.store.channels import Channels
from sessions.store.event_records import read_event
from sessions.store.keys import SessionKeys, bell_channel
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing

POLL: Final = 1.0
_LARGEST_PAGE: Final = 500
_FIRST_PAGE: Final = 8
_PAGE_BYTES: Final = 256 * 1024
"""The size of a page: it stays in memory until its reader is done. One event may have 8 MB."""
_CURSOR: Final = re.compile(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})").fullmatch
"""The form in which the store writes cursors.

`int` also accepts '+1', '1_0' and '٣', which the store refuses, and '07-1', which never equals the last event's id.
The store counts in 64 bits; no event comes near that limit.
"""


class Bell:
    """Wakes the waiters of this process when the store reports news of their turns."""

    def __init__(self, channels: Channels, nonce: str) -> None:
        self.nonce = nonce
        self._channels = channels
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def subscribe(self, partition: str) -> None:
        """Subscribe to the bell of a partition, once."""
        await self._channels.subscribe(bell_channel(partition, self.nonce), self._notify, self._notify_all)

    @contextlib.contextmanager
    def waiting(self, part: str) -> Iterator[asyncio.Event]:
        """An asyncio.Event that is set whenever the turn's bell rings."""
        changed = asyncio.Event()
        self._waiters[part].add(changed)
        try:
            yield changed
        finally:
            self._waiters[part].discard(changed)
            if not self._waiters[part]:
                del self._waiters[part]

    def _notify(self, part: bytes) -> None:
        for waiter in self._waiters.get(part.decode(), ()):
            waiter.set()

    def _notify_all(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.set()


async def wait_changed(changed: asyncio.Event, seconds: float = POLL) -> bool:
    """Wait for the bell, at most this long: a lost message costs no more than that. Returns whether it rang."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
    rang = changed.is_set()
    changed.clear()
    return rang


class _Pages:
    """Reads a turn's stored events: a few at first, and more at a time if they are small.

    Attributes:
        full: the last page was, so there may be more events already.
    """

    def __init__(self, scripts: ScriptRunner, key: str) -> None:
        self.full = False
        self._scripts = scripts
        self._key = key
        self._count = _FIRST_PAGE

    async def read(self, after: str | None) -> list[Any]:
        """The next events after a cursor, at most one page of them."""
        start = f"({after}" if after else "-"
        entries: list[Any] = await self._scripts.read("XRANGE", self._key, start, "+", "COUNT", self._count) or []
        self.full = len(entries) == self._count
        if sum(len(fields[b"data"]) for _, fields in entries) > _PAGE_BYTES:
            self._count = max(1, self._count // 4)
        elif self.full:
            self._count = min(_LARGEST_PAGE, self._count * 4)
        return entries


async def check_cursor(scripts: ScriptRunner, keys: SessionKeys, part: str, after: str) -> None:
    """Refuse a cursor that this stream never issued: beyond its end is an error, not silence (R11).

    Raises:
        StaleCursor: the cursor is beyond the end, or does not have the form of one.
    """
    if not (isinstance(after, str) and _CURSOR(after)):
        raise StaleCursor(f"cursor {after!r} is not the id of an event; use `event.id`")
    token, seq = after.split("-")
    wanted = (int(token), int(seq))
    newest = await _newest(scripts, keys, part)
    last = tuple(int(n) for n in newest[0][0].decode().split("-")) if newest else (0, 0)
    if wanted > last:
        raise StaleCursor(
            f"cursor {after!r} is beyond the end of the stream ({last[0]}-{last[1]}); read with after=None"
        )


async def follow(
    scripts: ScriptRunner, keyring: KeyRing, bell: Bell, keys: SessionKeys, part: str, after: str | None
) -> AsyncIterator[Event]:
    """All events after the cursor, as they come, up to the last one. The caller has subscribed to the turn.

    The reads that many readers make in one tick of the loop share one pipeline, so readers need no connection each. An
    event costs one read: those that come after it ring the bell, also if nobody waits for it just then.

    Raises:
        TurnNotFound: the turn is gone before its last event was read.
    """
    cursor, pages, rang = after, _Pages(scripts, keys.events(part)), False
    with bell.waiting(part) as changed:
        while True:
            entries = await pages.read(cursor)
            for entry in entries:
                event = read_event(keyring, keys, part, entry)
                yield event
                if event.final:
                    return
                cursor = event.id
            if pages.full:
                continue
            if not (entries or rang):  # nothing comes: perhaps nothing will
                if not await scripts.read("EXISTS", keys.turn(part)):
                    raise TurnNotFound(f"turn {keys.public_id(part)!r}: {TurnNotFound.__doc__}")
                if cursor and await is_at_end(scripts, keys, part, cursor):
                    return
            rang = await wait_changed(changed)


async def so_far(scripts: ScriptRunner, keyring: KeyRing, keys: SessionKeys, part: str) -> AsyncIterator[Event]:
    """All events that there are now, without waiting for more."""
    cursor, pages = None, _Pages(scripts, keys.events(part))
    while entries := await pages.read(cursor):
        for entry in entries:
            event = read_event(keyring, keys, part, entry)
            yield event
            cursor = event.id


async def is_at_end(scripts: ScriptRunner, keys: SessionKeys, part: str, cursor: str) -> bool:
    """Whether the cursor is that of the last event of an ended turn: then nothing more comes."""
    newest = await _newest(scripts, keys, part)
    return bool(newest) and newest[0][0].decode() == cursor and newest[0][1][b"type"] == b"ended"


async def _newest(scripts: ScriptRunner, keys: SessionKeys, part: str) -> list[Any]:
    found: list[Any] = await scripts.read("XREVRANGE", keys.events(part), "+", "-", "COUNT", 1)
    return found
