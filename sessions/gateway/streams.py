"""A turn's events as server-sent events: cursors are `id:`, so that a browser goes on where it was by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Depends, Header, Query, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from sessions.errors import SessionfleetError
from sessions.gateway.problems import URN
from sessions.protocol import Event
from sessions.turn import Turn

KEEP_ALIVE: Final = 15
_FIRST: Final = 0.5
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
    first: asyncio.Task[Event | None] = asyncio.ensure_future(anext(events, None))
    try:
        # What is wrong shows at once, and gets a status. A turn that waits for its turn has nothing to say yet.
        await asyncio.wait({first}, timeout=_FIRST)
        if first.done() and first.result() is None:
            return Response(status_code=204)
    except BaseException:
        await _leave(first, events)
        raise
    return EventSourceResponse(
        _sent(first, events), ping=KEEP_ALIVE, send_timeout=_SEND_TIMEOUT, headers=_HEADERS, sep="\n"
    )


async def _sent(first: asyncio.Task[Event | None], events: AsyncIterator[Event]) -> AsyncIterator[ServerSentEvent]:
    try:
        event = await first
        while event is not None:
            yield _message(event)
            event = await anext(events, None)
    except SessionfleetError as error:
        # Its end without `ended`: the reader comes again with its cursor, and is told what is wrong by a status.
        yield ServerSentEvent(event="interrupted", data=json.dumps({"type": URN + type(error).__name__}), sep="\n")
    finally:
        await _leave(first, events)


async def _leave(first: asyncio.Task[Event | None], events: AsyncIterator[Event]) -> None:
    """Tell the store that this reader left."""
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


def _message(event: Event) -> ServerSentEvent:
    data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
    return ServerSentEvent(id=event.id, event=event.type.value, data=data, sep="\n")
