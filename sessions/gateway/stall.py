"""A connection whose client no longer reads: aborted, because closing it would wait for the client for ever."""

from __future__ import annotations

import asyncio
from typing import Final

PATIENCE: Final = 60.0
"""Seconds within which the client must read some of the waiting data."""


class Stall:
    """Watches the data that waits to be sent over one connection, from the moment that some does.

    A slow client is waited for as long as it makes progress: otherwise it would start again with each connection, and
    never finish.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Data is waiting."""
        self._unsent = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    def end(self) -> None:
        """No data is waiting any more, or the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._unsent:
            self.begin()
        else:
            self._transport.abort()
