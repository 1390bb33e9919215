"""uvicorn's HTTP, with bounds on all of a request that is not its body: httptools takes any size, for any time.

And with one on how long an answer may lie there: uvicorn waits for a reader that takes nothing for as long as it likes.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sessions.gateway.stall import Stall

LARGEST_HEAD: Final = 64 * 1024
"""Bytes of request line and headers; and of what stands between two pieces of a body, and behind it (trailers)."""
HEAD_SECONDS: Final = 15.0
"""Seconds that they may take to come, from the connection's beginning or from the request's first byte."""


class BoundedHttp(HttpToolsProtocol):
    """One connection. A head that is too large gets 431, one that is too slow ends the connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there: it has so long to ask for something."""
        super().connection_made(transport)
        self._stall = Stall(transport)
        transport.set_write_buffer_limits(0)  # whatever waits pauses the writing, and is known of
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._stop_timer()
        self._stall.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """What was written waits for the client to take it."""
        super().pause_writing()
        self._stall.begin()

    def resume_writing(self) -> None:
        """All of it is on its way."""
        self._stall.end()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Count what comes without being part of a body."""
        self._head_bytes += len(data)
        super().data_received(data)
        # uvicorn waits no longer for the next request when anything comes: an empty line, or more of a body that was
        # answered before it was there. That it goes on so is not waited for longer than for a head.
        if self._idle and self._head_timer is None and self.timeout_keep_alive_task is None:
            self._start_timer()
        # What was read with a head's end is not part of it, and of one read's size at most.
        if self._head_bytes > LARGEST_HEAD and not self.transport.is_closing():
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those behind a body (trailers) are not kept, for nobody looks at them."""
        if not self._in_body:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which others bound."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._start_timer()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._stop_timer()
        self._head_bytes, self._in_body = 0, True
        upgrade = self.parser.should_upgrade()
        # With `Upgrade` httptools reads no body: what a proxy sent as one would be taken for the next request.
        if upgrade and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            raise ValueError("a body with Upgrade")  # the parser's caller answers 400, and ends the connection
        super().on_headers_complete()
        if upgrade:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The body is there: what comes next is another head."""
        self._head_bytes, self._in_body = 0, False
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """There is nothing to install for it: whoever asks for an upgrade is answered as if it had not."""

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._stop_timer()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse_head(self) -> None:
        if not self._in_body:  # else an answer may have begun
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()
