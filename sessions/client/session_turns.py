"""A session's turns in the fleet's store: lists of them, and their events as one stream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from sessions.client.arguments.turns import TurnListing
from sessions.client.backend import TurnSummaries
from sessions.client.connection import FleetConnection
from sessions.client.ownership import Ownership
from sessions.client.turns import Turns
from sessions.errors import StaleCursor, TurnNotFound
from sessions.protocol.event import Event, SessionEvent
from sessions.protocol.turn import TurnRequest
from sessions.store.events import so_far
from sessions.store.keys import SessionKeys, split_turn_id
from sessions.store.transitions.turns import Which
from sessions.store.turns import TurnSummary

_AT_ONCE: Final = 8
"""Turns that are read together. A message may have a megabyte."""
_PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page ends early when its messages are larger than this."""
_CURSOR: Final = re.compile(r"([0-9a-f]{32})\.([0-9]+-[0-9]+)").fullmatch


class SessionTurns:
    """Lists and follows the turns of a session. Its coroutines run on the portal's event loop only."""

    def __init__(self, connection: FleetConnection, ownership: Ownership, turns: Turns) -> None:
        self._connection = connection
        self._ownership = ownership
        self._turns = turns

    # --- lists ----------------------------------------------------------------------------------------------

    async def page(self, keys: SessionKeys, user_id: str | None, listing: TurnListing) -> TurnSummaries:
        """A page of the turns that a user may see.

        Raises:
            SessionOwnerError: the session belongs to another user. InvalidTurnId: the cursor is none.
        """
        viewer = await self._viewer(keys, user_id)
        which: Which = listing.order
        if listing.open_only:
            which = "open" if listing.scheduled else "current"
        after = None if listing.cursor is None else split_turn_id(listing.cursor)[1]
        parts = await self._connection.stores.turns.listed(keys, which, after, listing.limit + 1)
        wanted, found, size, seen = parts[: listing.limit], list[TurnSummary](), 0, 0
        while seen < len(wanted) and size < _PAGE_BYTES:
            some = wanted[seen : seen + _AT_ONCE]
            summaries = await asyncio.gather(*(self._summary(keys, part, viewer) for part in some))
            found += [summary for summary in summaries if summary is not None]
            size += sum(summary.size for summary in summaries if summary is not None)
            seen += len(some)
        return TurnSummaries(found, keys.public_id(parts[seen - 1]) if seen < len(parts) else None)

    async def open_turn(self, keys: SessionKeys, user_id: str | None) -> str | None:
        """The turn that runs or is next, by its id within the session; None if no turn is open.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        viewer = await self._viewer(keys, user_id)
        return await self._first(keys, viewer, "current", None)

    async def _first(self, keys: SessionKeys, viewer: str | None, which: Which, after: str | None) -> str | None:
        """The first turn of a list that the viewer may see."""
        while part := next(iter(await self._connection.stores.turns.listed(keys, which, after, 1)), None):
            if await self._summary(keys, part, viewer) is not None:
                return part
            if part == after:  # its record is gone and the mailbox still has it: a worker removes it
                return None
            after = part
        return None

    async def _viewer(self, keys: SessionKeys, user_id: str | None) -> str | None:
        """The user whose turns the caller may see; None for all. A turn's record may outlive its session.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        await self._ownership.check(keys, user_id)
        return None if user_id is None else await self._ownership.owner(keys) or user_id

    async def _summary(self, keys: SessionKeys, part: str, viewer: str | None) -> TurnSummary | None:
        """A turn; None if it has just expired, or was another user's in an expired session of the same id."""
        with suppress(TurnNotFound):
            summary = await self._connection.stores.turns.summary(keys, part)
            if viewer is None or summary.user in (None, viewer):
                return summary
        return None

    # --- the stream -------------------------------------------------------------------------------------------

    async def has_events(self, keys: SessionKeys, user_id: str | None, after: str | None) -> bool:
        """Whether there are events after a cursor, or will be.

        Raises:
            SessionOwnerError, StaleCursor.
        """
        return await self._place(keys, await self._viewer(keys, user_id), after) is not None

    async def follow(self, keys: SessionKeys, user_id: str | None, after: str | None) -> AsyncGenerator[SessionEvent]:
        """The events of the open turn, or all after a cursor, as they come, until no turn is open.

        Raises:
            As `has_events`.
        """
        viewer = await self._viewer(keys, user_id)
        place = await self._place(keys, viewer, after)
        while place is not None:
            part, cursor = place
            async with aclosing(self._follow_turn(keys, part, cursor)) as events:
                async for event in events:
                    yield event
            following = await self._first(keys, viewer, "next", part)
            place = None if following in (None, part) else (following, None)

    async def _place(self, keys: SessionKeys, viewer: str | None, after: str | None) -> tuple[str, str | None] | None:
        """The turn to begin with, and the cursor in it; None if nothing comes after the session's cursor.

        Raises:
            StaleCursor: the cursor is beyond the end of its turn, or does not have the form of one.
        """
        if after is None:
            part = await self._first(keys, viewer, "current", None)
            return None if part is None else (part, None)
        part, cursor = _parsed(after)
        if await self._summary(keys, part, viewer) is None:  # it expired or was deleted: there is no rest
            return await self._place(keys, viewer, None)
        if await self._turns.has_events(keys, part, cursor):
            return part, cursor
        following = await self._first(keys, viewer, "next", part)
        return None if following is None else (following, None)

    async def request(self, keys: SessionKeys, part: str) -> TurnRequest:
        """What was asked of a turn that its caller may see.

        Raises:
            TurnNotFound: there is no such turn.
        """
        await self._connection.open()
        return await self._connection.stores.turns.request(keys, part)

    async def so_far(self, keys: SessionKeys, part: str) -> AsyncGenerator[Event]:
        """The events of a turn that there are now."""
        await self._connection.open()
        async for event in so_far(self._connection.stores.scripts, self._connection.keyring, keys, part):
            yield event

    async def _follow_turn(self, keys: SessionKeys, part: str, after: str | None) -> AsyncGenerator[SessionEvent]:
        """One turn; if its record is deleted meanwhile, it has no more events."""
        turn_id = keys.public_id(part)
        with suppress(TurnNotFound):
            if after is None:
                asked = (await self._connection.stores.turns.summary(keys, part)).request
                yield SessionEvent.begin(turn_id, asked.agent, asked.in_words)
            async with aclosing(self._turns.follow(keys, part, after)) as events:
                async for event in events:
                    yield SessionEvent.of(event, turn_id)


def _parsed(cursor: object) -> tuple[str, str]:
    if isinstance(cursor, str) and (found := _CURSOR(cursor)):
        return found[1], found[2]
    raise StaleCursor(f"cursor {cursor!r} is not the id of an event in a session's stream; use `event.id`")
