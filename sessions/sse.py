"""A turn's events as server-sent events: the body that a web backend sends to a browser's `EventSource`.

It owns the format and the keep-alive, not the response: status and headers are the framework's.
The body ends after the turn's last event. It also ends if the store cannot be read, because the response's status was
already sent: the browser reconnects with its cursor, and the next response reports the error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from broker_config.telemetry import get_logger
from sessions.errors import BackendError, TurnNotFound
from sessions.protocol.event import Event
from sessions.protocol.public_errors import public_data

MEDIA_TYPE: Final = "text/event-stream"
# Caches must not store it, and nginx must not buffer it.
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
KEEP_ALIVE: Final = 15.0
_RETRY_MS: Final = 1000
_log = get_logger(__name__)


async def pieces(events: AsyncGenerator[Event], keep_alive: float, *, full_errors: bool = False) -> AsyncIterator[str]:
    """The pieces of an SSE response: each event as it comes, and a comment after `keep_alive` seconds of silence."""
    yield f"retry: {_RETRY_MS}\n\n"  # at once, because frameworks send the headers with the first piece
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
    """In ASCII, so that nothing in it ends a line. NaN becomes null: browsers cannot parse it."""
    try:
        return json.dumps(data, allow_nan=False)
    except ValueError:  # a model may call a tool with NaN
        return json.dumps(json.loads(json.dumps(data), parse_constant=lambda _: None))


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)
