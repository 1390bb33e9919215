"""A turn's events as server-sent events: cursors are `id:`, so that a browser goes on where it was by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Final

from fastapi import Depends, Header, Query, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from sessions.errors import SessionfleetError
from sessions.gateway.problems import URN
from sessions.protocol import Event
from sessions.turn import Turn

KEEP_ALIVE: Final = 15
_SEND_TIMEOUT: Final = 60.0
"""Seconds after which a reader that takes nothing is given up; it may come back with its last event id."""
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def cursor_of(
    last_event_id: Annotated[str | None, Header(description="Go on behind this event.")] = None,
    after: Annotated[str | None, Query(description="The same, for clients that cannot send the header.")] = None,
) -> str | None:
    """The id of the last event that the reader has."""
    return last_event_id or after or None


Cursor = Annotated[str | None, Depends(cursor_of)]


async def event_stream(turn: Turn, after: str | None) -> Response:
    """The events behind a cursor, as they come. 204 when there are none and none will come: EventSource ends then.

    Raises:
        StaleCursor, TurnNotFound, BackendError: before anything is sent; afterwards the stream just ends.
    """
    events = turn.aevents(after)
    # The first one before the response begins: what is wrong gets a status of its own.
    first = await anext(events, None)
    if first is None:
        return Response(status_code=204)
    return EventSourceResponse(
        _sent(first, events), ping=KEEP_ALIVE, send_timeout=_SEND_TIMEOUT, headers=_HEADERS, sep="\n"
    )


async def _sent(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[ServerSentEvent]:
    async with aclosing(events):  # type: ignore[type-var] # an async generator: the store is told that we left
        yield _message(first)
        try:
            async for event in events:
                yield _message(event)
        except SessionfleetError as error:
            # Its end without `ended`: the reader comes again with its cursor, and is told what is wrong by a status.
            yield ServerSentEvent(event="interrupted", data=json.dumps({"type": URN + type(error).__name__}), sep="\n")


def _message(event: Event) -> ServerSentEvent:
    data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
    return ServerSentEvent(id=event.id, event=event.type.value, data=data, sep="\n")
