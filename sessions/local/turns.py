"""A session's turns in the fleet's store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from sessions.client.arguments.turns import TurnListing
from sessions.client.backend import TurnSummaries
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.protocol.event import SessionEvent


class LocalTurnLists:
    """`SessionTurnCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def page(self, session: SessionRef, listing: TurnListing) -> TurnSummaries:
        """A page of the session's turns; see `TurnMethods.aturns`."""
        return await self._fleet().session_turns.page(session.keys, session.user_id, listing)

    async def open_turn(self, session: SessionRef) -> str | None:
        """The turn that runs or is next; see `TurnMethods.aopen_turn`."""
        return await self._fleet().session_turns.open_turn(session.keys, session.user_id)

    async def has_events(self, session: SessionRef, after: str | None) -> bool:
        """Whether there are events after a cursor, or will be; see `TurnMethods.asse`."""
        return await self._fleet().session_turns.has_events(session.keys, session.user_id, after)

    def follow(self, session: SessionRef, after: str | None) -> AsyncGenerator[SessionEvent]:
        """The events after a cursor; see `TurnMethods.aevents`."""
        return self._fleet().session_turns.follow(session.keys, session.user_id, after)
