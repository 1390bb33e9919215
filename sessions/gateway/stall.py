"""A connection whose other end takes nothing any more: given up, for closing it would wait for that end for ever."""

from __future__ import annotations

import asyncio
from typing import Final

PATIENCE: Final = 60.0
"""Seconds in which the other end must take something of what waits for it."""


class Stall:
    """Watches what waits to be sent over one connection, from the moment that something does.

    A slow end is waited for as long as it goes on: it would begin anew with each connection, and never be done.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something waits."""
        self._unsent = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    def end(self) -> None:
        """Nothing waits any more, or the connection has gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._unsent:
            self.begin()
        else:
            self._transport.abort()
