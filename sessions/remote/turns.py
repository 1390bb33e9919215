"""A session's turns at a gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from sessions.client.arguments.turns import TurnListing
from sessions.client.backend import TurnSummaries
from sessions.client.ports import SessionRef
from sessions.protocol.event import Event, SessionEvent
from sessions.protocol.turn import TurnRequest
from sessions.remote.client import RemoteClient
from sessions.remote.stream import EventStream
from sessions.remote.wire import parsing, turn_record, without_none
from sessions.store.keys import split_turn_id
from sessions.store.turns import TurnSummary


class RemoteTurnLists:
    """`SessionTurnCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def page(self, session: SessionRef, listing: TurnListing) -> TurnSummaries:
        """A page of the session's turns; see `TurnMethods.aturns`."""
        which = {"open": 1, "scheduled": int(listing.scheduled)} if listing.open_only else {"order": listing.order}
        params = {**which, "limit": listing.limit, **without_none(cursor=listing.cursor)}
        page = await self._client(session).api("GET", "/turns", params=params)
        with parsing("turns"):
            return TurnSummaries([_summary(turn) for turn in page["turns"]], page["cursor"])

    async def open_turn(self, session: SessionRef) -> str | None:
        """The turn that runs or is next; see `TurnMethods.aopen_turn`."""
        page = await self.page(session, TurnListing.of(True, None, 1, None, scheduled=False))
        return page.turns[0].record.part if page.turns else None

    async def has_events(self, session: SessionRef, after: str | None) -> bool:
        """Whether there are events after a cursor, or will be; see `TurnMethods.asse`."""
        client = self._client(session)
        await client.require_gateway()
        return await self._stream(client, after).any()

    async def follow(self, session: SessionRef, after: str | None) -> AsyncGenerator[SessionEvent]:
        """The events after a cursor, as they come; see `TurnMethods.aevents`.

        Raises:
            StaleCursor, SessionOwnerError; RemoteError: the stream could not be resumed within the session's timeout.
        """
        client = self._client(session)
        await client.require_gateway()
        async with aclosing(self._stream(client, after).events()) as events:
            async for event in events:
                yield _of_session(session, event)

    def _stream(self, client: RemoteClient, after: str | None) -> EventStream:
        async def alive() -> None:
            await client.api_or_none("GET")

        url = client.server.address.api(f"{client.home}/stream")
        return EventStream(client.server, url, client.headers, after, alive=alive, of_session=True)


def _of_session(session: SessionRef, event: Event) -> SessionEvent:
    part = event.id.partition(".")[0]
    return SessionEvent(event.id, event.type, event.data, session.keys.public_id(part))


def _summary(resource: dict[str, Any]) -> TurnSummary:
    record = turn_record(split_turn_id(resource["id"])[1], resource)
    request = TurnRequest(message=resource["message"], agent=resource["agent"])
    return TurnSummary(record, request, None, len(request.message))
