"""uvicorn's HTTP, with limits on everything in a request except its body: httptools accepts any size, for any time.

There is also a limit on how long a response may wait to be read: uvicorn never gives up on a client that reads nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sessions.gateway.stall import Stall

LARGEST_HEAD: Final = 64 * 1024
"""Bytes of request line and headers; and of chunk headers and trailers of a body."""
HEAD_SECONDS: Final = 15.0
"""Seconds within which they must arrive, from the beginning of the connection or the request's first byte."""


class BoundedHttp(HttpToolsProtocol):
    """One connection. A head that is too large gets 431, and one that is too slow closes the connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected: a limited time is left for its request."""
        super().connection_made(transport)
        self._stall = Stall(transport)
        transport.set_write_buffer_limits(0)  # whatever waits to be sent pauses the writing, so it is noticed
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has disconnected."""
        self._stop_timer()
        self._stall.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """What was written waits for the client to read it."""
        super().pause_writing()
        self._stall.begin()

    def resume_writing(self) -> None:
        """Everything has been sent."""
        self._stall.end()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Count bytes that are not part of a body."""
        self._head_bytes += len(data)
        super().data_received(data)
        # When anything arrives, uvicorn stops its timeout for the next request, even for an empty line or more of a
        # body that was already answered. The time limit for a head applies to that too.
        if self._idle and self._head_timer is None and self.timeout_keep_alive_task is None:
            self._start_timer()
        # Bytes that were read together with the end of a head are not part of it; they are at most one read's size.
        if self._head_bytes > LARGEST_HEAD and not self.transport.is_closing():
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are dropped, because nothing reads them."""
        if not self._in_body:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which another layer limits."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._start_timer()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._stop_timer()
        self._head_bytes, self._in_body = 0, True
        upgrade = self.parser.should_upgrade()
        # With `Upgrade` httptools does not read a body: what a proxy sent as a body would be taken for the next
        # request.
        if upgrade and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            raise ValueError("a body with Upgrade")  # the parser's caller answers 400 and closes the connection
        super().on_headers_complete()
        if upgrade:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The body is complete: the next bytes are another head."""
        self._head_bytes, self._in_body = 0, False
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """No library for it is installed: a request for an upgrade is answered as if it had not asked for one."""

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
        if not self._in_body:  # otherwise a response may have begun
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()
