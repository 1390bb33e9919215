"""A turn's events as server-sent events: the body that a web backend sends to a browser's `EventSource`.

It owns the format and what keeps such a connection healthy, not the response: status and headers are the framework's.
The body ends behind the turn's last event. It also ends when the store cannot be read, for a response that has begun
has no status left to say so with: the browser comes back with its cursor, and the next response can.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Final, Protocol

from sessions.errors import BackendError, TurnNotFound
from sessions.protocol import Event
from sessions.public_errors import public_data
from sessions.session_ports import TurnCalls
from sessions.store.keys import SessionKeys
from sessions.telemetry import get_logger

MEDIA_TYPE: Final = "text/event-stream"
# Caches must not keep it, and nginx must not gather it into large pieces.
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
KEEP_ALIVE: Final = 15.0
_RETRY_MS: Final = 1000
_log = get_logger(__name__)


class _OneTurn(Protocol):
    """What of a turn these methods need."""

    _client: TurnCalls
    _keys: SessionKeys
    _part: str


class SseMethods:
    """The methods of `Turn` for web backends."""

    async def asse(
        self: _OneTurn, after: str | None = None, *, keep_alive: float = KEEP_ALIVE, full_errors: bool = False
    ) -> AsyncIterator[str] | None:
        """The turn's events as pieces of an SSE response; None when there are no more behind `after`: answer 204.

        An `EventSource` reads them, and names the last one in the header `Last-Event-ID` when it connects again. Each
        has the event's id and type, and its data as JSON. Send them as `sse.MEDIA_TYPE`, with `sse.HEADERS`.

        Args:
            after: id of the last event that the browser has seen.
            keep_alive: seconds of silence after which a comment is sent. It keeps proxies from closing the
                connection, and shows the server that a browser has gone.
            full_errors: for developers: errors as the turn's record has them, with what providers and servers said.
                By default they are those of `public_message`.

        Raises:
            TurnNotFound, StaleCursor, BackendError: before anything was sent.
        """
        client, keys, part = self._client, self._keys, self._part
        if not await client.portal.acall(client.has_events(keys, part, after)):
            return None
        return client.portal.aiterate(_pieces(client.follow(keys, part, after), keep_alive, full_errors=full_errors))

    def sse(
        self: _OneTurn, after: str | None = None, *, keep_alive: float = KEEP_ALIVE, full_errors: bool = False
    ) -> Iterator[str] | None:
        """The turn's events as pieces of an SSE response; see `asse`. Each reader holds a thread meanwhile."""
        client, keys, part = self._client, self._keys, self._part
        if not client.portal.call(client.has_events(keys, part, after)):
            return None
        return client.portal.iterate(_pieces(client.follow(keys, part, after), keep_alive, full_errors=full_errors))


async def _pieces(events: AsyncGenerator[Event], keep_alive: float, *, full_errors: bool = False) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"  # at once: headers travel with the first piece
    coming: asyncio.Task[Event | None] | None = None
    try:
        while True:
            coming = coming or asyncio.create_task(_next(events))
            done, _ = await asyncio.wait({coming}, timeout=keep_alive)
            if not done:
                yield ": keep-alive\n\n"
                continue
            event, coming = coming.result(), None
            if event is None:
                return
            data = event.data if full_errors else public_data(event)
            yield f"id: {event.id}\nevent: {event.type}\ndata: {_json(data)}\n\n"
    except (BackendError, TurnNotFound) as error:
        _log.warning("event_stream_cut", error=repr(error))
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait({coming})
        await events.aclose()


def _json(data: Any) -> str:
    """In ASCII, so that nothing in it ends a line. A number that is none is null: browsers read no NaN."""
    try:
        return json.dumps(data, allow_nan=False)
    except ValueError:  # a model may call a tool with one
        return json.dumps(json.loads(json.dumps(data), parse_constant=lambda _: None))


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)
