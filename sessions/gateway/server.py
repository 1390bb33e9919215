"""Binds and serves: the gateway runs on the very event loop of its client, so that no event changes threads."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import uvicorn
from sse_starlette.sse import AppStatus

from broker_config.settings import Settings
from sessions.client import get_client
from sessions.errors import BadRequest
from sessions.gateway.address import bound, is_loopback
from sessions.gateway.app import create_app

_GRACE: Final = 5
"""Seconds that a stopping gateway lets requests go on; streams are ended at once, for their readers come again."""


class Server:
    """One gateway process.

    Raises:
        BadRequest: it cannot be bound there, or must not be.
    """

    def __init__(self, settings: Settings, host: str, port: int, *, insecure: bool = False) -> None:
        if not (is_loopback(host) or insecure):
            raise BadRequest(f"{host!r} can be reached by others: --insecure lets everybody in")
        self._settings = settings
        self._socket = bound(host, port)
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE,
            server_header=False,
        )
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        """Where it is reached."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal says to end. Call this on the main thread.

        Raises:
            BackendError: the fleet cannot be used.
        """
        portal = get_client(self._settings).portal
        with self._signals():
            portal.call(self._serve(on_ready))

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        AppStatus.should_exit = False
        await get_client(self._settings).open()
        on_ready()
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """End: no new requests, streams are cut, the rest may go on for a moment. From any thread."""
        AppStatus.should_exit = True
        self._server.should_exit = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        # uvicorn takes signals only where it runs on the main thread.
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(_number: int, _frame: FrameType | None) -> None:
            if self._server.should_exit:
                self._server.force_exit = True
            self.stop()

        before: dict[int, Any] = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
