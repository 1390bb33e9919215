"""A turn's events over HTTP: one stream for the reader, which reconnects as often as necessary."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import httpx

from sessions.errors import RemoteTimeout, RemoteUnavailable, SessionfleetError
from sessions.protocol.event import Event, EventType
from sessions.remote.exchange import CONNECT_SECONDS, RETRIED_STATUSES
from sessions.remote.problems import error_of, retry_after
from sessions.remote.server import RemoteServer
from sessions.remote.sse import ServerSent, messages
from sessions.remote.wire import parsing

_SILENCE: Final = 45.0
"""Seconds. A gateway sends something every 15, so a connection that is silent for longer is dead."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0


class EventStream:
    """Reads the events after a cursor. When a connection breaks, it reconnects and continues after the last event.

    Args:
        url: of the events; headers: of each request.
        alive: reads the turn itself, with the usual retries; raises if the turn or the gateway is gone.
        of_session: whether the stream continues with another turn after an event `ended`. It ends with 204.
    """

    def __init__(
        self,
        server: RemoteServer,
        url: httpx.URL,
        headers: Callable[[], httpx.Headers],
        after: str | None,
        alive: Callable[[], Awaitable[Any]],
        of_session: bool = False,
    ) -> None:
        self._server = server
        self._url = url
        self._headers = headers
        self._cursor = after
        self._alive = alive
        self._of_session = of_session
        self._pause = 0.0
        self._failures = 0
        self._broken_since = 0.0

    async def events(self) -> AsyncGenerator[Event]:
        """All events after the cursor, up to the last one.

        Raises:
            StaleCursor, TurnNotFound and other classes that the gateway names; RemoteError.
        """
        while True:
            why: Exception | None = None
            pause = 0.0
            try:
                async with aclosing(self._connection()) as events:
                    async for event in events:
                        yield event
                        if event.final and not self._of_session:
                            return
            except (httpx.HTTPError, httpx.StreamError) as error:
                why = error
            except _RetryLater as refused:
                why, pause = refused.error, refused.pause
            except _StreamEnded:
                return
            await self._recover(why, pause)

    async def any(self) -> bool:
        """Whether there are events after the cursor, or will be.

        Raises:
            As `events`.
        """
        while True:
            try:
                async with self._open():
                    return True
            except (httpx.HTTPError, httpx.StreamError) as error:
                await self._recover(error)
            except _RetryLater as refused:
                await self._recover(refused.error, refused.pause)
            except _StreamEnded:
                return False

    async def _connection(self) -> AsyncGenerator[Event]:
        async with self._open() as response:
            async for message in messages(response.aiter_bytes()):
                self._pause = self._pause if message.retry is None else message.retry / 1000
                if (event := self._event(message)) is not None:
                    yield event

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[httpx.Response]:
        headers = self._headers()
        headers.update({"Accept": "text/event-stream", "Cache-Control": "no-store"})
        if self._cursor is not None:
            headers["Last-Event-ID"] = self._cursor
        http = await self._server.http()
        limits = httpx.Timeout(_SILENCE, connect=CONNECT_SECONDS)
        async with http.stream("GET", self._url, headers=headers, timeout=limits) as response:
            await self._accept(response)
            yield response

    async def _accept(self, response: httpx.Response) -> None:
        if response.status_code == 204:
            raise _StreamEnded
        if not response.is_success:
            await response.aread()
            error = error_of(response, str(self._server.address))
            if response.status_code in RETRIED_STATUSES:
                raise _RetryLater(error, retry_after(response))
            raise error

    def _event(self, message: ServerSent) -> Event | None:
        """The event in a message; None for a type that only a newer gateway knows, which still moves the cursor."""
        self._failures = 0
        if message.id:
            self._cursor = message.id
        try:
            kind = EventType(message.event)
        except ValueError:
            return None
        with parsing("event"):
            return Event(message.id, kind, json.loads(message.data))

    async def _recover(self, why: Exception | None, requested: float = 0.0) -> None:
        """Pause before reconnecting, longer each time; give up after the session's timeout without an event."""
        if not self._failures:
            self._broken_since = time.monotonic()
        self._failures += 1
        if isinstance(why, httpx.ReadTimeout):  # the turn has no news, or the gateway is gone
            await self._alive()
            self._broken_since = time.monotonic()
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
        pause = max(requested, min(self._pause, _LONGEST_PAUSE), random.uniform(0, longest))  # noqa: S311 - no secret
        limit = self._server.timeout
        if time.monotonic() + pause - self._broken_since > limit:
            raise self._lost(why, limit) from why
        await asyncio.sleep(pause)

    def _lost(self, why: Exception | None, limit: float) -> SessionfleetError:
        if isinstance(why, SessionfleetError):
            return why
        server = str(self._server.address)
        kind = RemoteTimeout if isinstance(why, httpx.TimeoutException) else RemoteUnavailable
        return kind(
            f"the stream from {server} broke and could not be resumed within {limit:g} s ({why!r}); "
            f"the turn continues: follow it again with events(after={self._cursor!r})"
        )


class _StreamEnded(Exception):
    """There are no more events after the cursor."""


class _RetryLater(Exception):
    """The gateway responded, but cannot serve the stream now."""

    def __init__(self, error: SessionfleetError, pause: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause
