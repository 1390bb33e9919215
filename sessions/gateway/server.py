"""Binds and serves: the gateway runs on its client's event loop, so that no event switches threads."""

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
from sessions.client.per_process import get_client
from sessions.gateway.access import Access, access_for
from sessions.gateway.address import bound, is_loopback
from sessions.gateway.app import create_app
from sessions.gateway.bounded_http import BoundedHttp

_GRACE: Final = 5
"""Seconds for which requests continue while the gateway stops; streams end at once, because their readers reconnect."""


class Server:
    """One gateway process.

    Raises:
        BadRequest: it cannot be bound there.
    """

    def __init__(self, settings: Settings, host: str, port: int, *, insecure: bool = False) -> None:
        self._settings = settings
        self._host = host
        self._insecure = insecure
        self._socket = bound(host, port)
        self._server: uvicorn.Server | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        """Its URL."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self, on_ready: Callable[[Access], None] = lambda _: None) -> None:
        """Serve until a signal says to stop. Call this on the main thread.

        Args:
            on_ready: is told about authentication.

        Raises:
            BackendError: the fleet cannot be used. BadRequest: it would admit everybody without being told to.
        """
        portal = get_client(self._settings).portal
        with self._signals():
            portal.call(self._serve(on_ready))

    async def _serve(self, on_ready: Callable[[Access], None]) -> None:
        AppStatus.should_exit = False
        await get_client(self._settings).open()
        # By the address that is bound, too: the name may have resolved to another one in between.
        host = self._host if is_loopback(self._socket.getsockname()[0]) else self._socket.getsockname()[0]
        access = await access_for(self._settings, host, insecure=self._insecure)
        self._server = uvicorn.Server(self._config(access))
        self._server.should_exit = self._stopping
        on_ready(access)
        await self._server.serve(sockets=[self._socket])

    def _config(self, access: Access) -> uvicorn.Config:
        app = create_app(self._settings, authenticator=access.authenticator, limits=access.limits, hosts=access.hosts)
        return uvicorn.Config(
            app,
            http=BoundedHttp,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE,
            server_header=False,
        )

    def stop(self) -> None:
        """Stop: no new requests, streams are cut, other requests may continue for a moment. From any thread."""
        AppStatus.should_exit = self._stopping = True
        if self._server is not None:
            self._server.should_exit = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        # uvicorn handles signals only if it runs on the main thread.
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(_number: int, _frame: FrameType | None) -> None:
            if self._stopping and self._server is not None:
                self._server.force_exit = True
            self.stop()

        before: dict[int, Any] = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
