"""A turn's events as server-sent events: cursors are `id:`, so that a browser resumes by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, Header, Query, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus, SendTimeoutError
from starlette.types import Message, Receive, Scope, Send

from broker_config.telemetry import get_logger
from sessions.errors import SessionfleetError
from sessions.gateway.problems import URN
from sessions.gateway.strict_json import written
from sessions.protocol.event import Event, EventType
from sessions.store.shelter import sheltered

Leave = Callable[[], Coroutine[Any, Any, object]]
KEEP_ALIVE: Final = 15
_SEND_TIMEOUT: Final = 600.0
"""Seconds that a client may take for one event. Our server aborts one that reads nothing long before (stall.py)."""
_TELLING: Final = 1.0
"""Seconds within which an error gets its own status; then the response begins, and keeps the connection alive."""
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_LINE_ENDS: Final = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}
"""Not line ends in server-sent events, but for readers that split as Python's `splitlines` does (such as httpx)."""
_log = get_logger(__name__)


def _described(upto: str, example: str, nothing: str) -> dict[int | str, dict[str, Any]]:
    schema = {  # of one event
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "id": {"type": "string"},
            "event": {"type": "string", "enum": [*EventType, "interrupted"]},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
    }
    return {
        200: {
            "description": f"Server-sent events, {upto}. Each has `id:` (the cursor), `event:` (its type) and `data:` "
            "(JSON). A comment comes every 15 s. `interrupted` has no `id:`: reconnect with the last one you have.",
            "content": {"text/event-stream": {"schema": schema, "example": example}},
        },
        204: {"description": nothing},
    }


STREAM: Final = _described(
    "up to `ended`",
    'id: 7-1\nevent: started\ndata: {"attempt":1,"worker":"one@host"}\n\n'
    'id: 7-2\nevent: text_delta\ndata: {"text":"Hello"}\n\n'
    'id: 7-3\nevent: ended\ndata: {"status":"succeeded"}\n\n',
    "Nothing comes after this cursor any more; EventSource stops here.",
)
"""What OpenAPI says about a turn's stream."""

_PART: Final = "0192f5c4e8d17e3c8e3c5b7f0a9d4e21"
SESSION_STREAM: Final = _described(
    "until no turn is open",
    f'id: {_PART}.0-0\nevent: turn\ndata: {{"turn":"chat-1~{_PART}","agent":"Assistant","message":"Hi"}}\n\n'
    f'id: {_PART}.7-1\nevent: started\ndata: {{"attempt":1,"worker":"one@host"}}\n\n'
    f'id: {_PART}.7-2\nevent: text_delta\ndata: {{"text":"Hello"}}\n\n'
    f'id: {_PART}.7-3\nevent: ended\ndata: {{"status":"succeeded"}}\n\n',
    "No turn is open, and nothing has happened since the event; EventSource stops here.",
)
"""The same about a session's stream."""


async def cursor_of(
    last_event_id: Annotated[
        str | None,
        Header(description="Resume after this event; browsers send this header by themselves.", max_length=128),
    ] = None,
    after: Annotated[
        str | None, Query(description="The same, for clients that cannot send the header.", max_length=128)
    ] = None,
) -> str | None:
    """The id of the reader's last event. The header takes precedence: a browser that reconnects keeps its query."""
    return last_event_id or after or None


Cursor = Annotated[str | None, Depends(cursor_of)]


async def event_stream(found: AsyncIterator[Event], name: str, *, on_disconnect: Leave | None = None) -> Response:
    """Events as they come. 204 if there are none and none will come: EventSource stops then.

    Args:
        name: the id of the turn or session, for the log.
        on_disconnect: is called if the client disconnects before the end; not when the gateway stops.

    Raises:
        StaleCursor, TurnNotFound, BackendError: if known at once; later the stream says `interrupted`.
    """
    events = _Ahead(found)
    try:
        if await events.ready(_TELLING) and await events.first is None:
            await events.aclose()
            return Response(status_code=204)
    except BaseException:
        await events.aclose()
        raise
    return _Stream(_sent(events, name), events, on_disconnect=on_disconnect)


Data = tuple[str | None, str]
"""An event of another protocol: its type, if it has one, and its data."""


def data_stream(data: AsyncGenerator[Data], name: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Events of another protocol, which have no ids. Their makers report errors in their own way.

    A reader that leaves does not stop the turn.

    Args:
        data: the events.
        name: the id of the turn, for the log.
    """
    return _Stream(_each(data, name), data, headers=headers)


async def _each(data: AsyncGenerator[Data], name: str) -> AsyncIterator[ServerSentEvent]:
    try:
        async for kind, text in data:
            yield ServerSentEvent(event=kind, data=text.translate(_LINE_ENDS), sep="\n")
    except Exception as error:
        _log.error("stream_broke", of=name, exc_info=error)
        raise


class _Ahead:
    """Events, the first of which is awaited before the response begins."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events
        self.first: asyncio.Future[Event | None] = asyncio.ensure_future(_next(events))

    async def ready(self, seconds: float) -> bool:
        """Whether the first one, the end, or an error came within the time."""
        return bool((await asyncio.wait((self.first,), timeout=seconds))[0])

    async def __aiter__(self) -> AsyncIterator[Event]:
        event = await self.first
        while event is not None:
            yield event
            event = await _next(self._events)

    async def aclose(self) -> None:
        """Stop reading; the store is told that we left."""
        self.first.cancel()
        await asyncio.gather(self.first, return_exceptions=True)
        await self._events.aclose()  # type: ignore[attr-defined] # an async generator


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


class _Source(Protocol):
    """What a response sends, and closes when its reader is gone."""

    async def aclose(self) -> None:
        """Stop reading."""
        ...


class _Stream(EventSourceResponse):
    """The response; its reader may leave at any moment."""

    def __init__(
        self,
        sent: AsyncIterator[ServerSentEvent],
        source: _Source,
        *,
        headers: Mapping[str, str] | None = None,
        on_disconnect: Leave | None = None,
    ) -> None:
        super().__init__(
            sent,
            ping=KEEP_ALIVE,
            send_timeout=_SEND_TIMEOUT,
            headers={**_HEADERS, **(headers or {})},
            sep="\n",
            client_close_handler_callable=self._left,
        )
        self._on_disconnect = on_disconnect
        self._source = source

    async def _left(self, _message: Message) -> None:
        if self._on_disconnect is not None and not AppStatus.should_exit:
            await sheltered(self._on_disconnect())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            _log.info("reader_too_slow", path=scope["path"])
        finally:
            await self._source.aclose()


async def _sent(events: _Ahead, name: str) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in events:
            yield _message(event)
    # An end without `ended`: the reader reconnects with its cursor, and then gets a status that says what is wrong.
    except SessionfleetError as error:
        _log.warning("stream_interrupted", of=name, error=repr(error))
        yield _interrupted(URN + type(error).__name__)
    except Exception as error:  # noqa: BLE001 - the reader must learn that this is not the end
        _log.error("stream_broke", of=name, exc_info=error)
        yield _interrupted("about:blank")


def _interrupted(kind: str) -> ServerSentEvent:
    return ServerSentEvent(event="interrupted", data=json.dumps({"type": kind}), sep="\n")


def _message(event: Event) -> ServerSentEvent:
    data = written(event.data).translate(_LINE_ENDS)
    return ServerSentEvent(id=event.id, event=event.type.value, data=data, sep="\n")
