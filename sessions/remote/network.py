"""This process's event loop and connections for remote servers: created on first use, and again after a fork."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from typing import Final

import httpx

from sessions.client.portal import Portal
from sessions.errors import RemoteUnavailable, RemoteUntrusted

_EXIT_SECONDS: Final = 1.0
# Less than the five seconds after which uvicorn closes idle connections, so that no request uses a closing one.
_IDLE_SECONDS: Final = 4.0
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=_IDLE_SECONDS)
_EXITING: Final = "this process is exiting, so it cannot connect to a remote server"


class Network:
    """One event loop for all remote sessions of a process, and a connection pool for each server."""

    def __init__(self) -> None:
        self.portal = Portal()
        self.gateways: dict[str, bool] = {}
        """By the URL of each agent that was probed: whether its server is a gateway."""
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._making = asyncio.Lock()
        atexit.register(self.portal.close, self._aclose, _EXIT_SECONDS)

    async def http(self, origin: str) -> httpx.AsyncClient:
        """The connection pool for a server.

        Raises:
            RemoteUntrusted: the certificates in SSL_CERT_FILE cannot be read.
            RemoteUnavailable: the environment's proxy cannot be used, or the process is exiting.
        """
        async with self._making:
            if origin not in self._clients:
                # In a thread, because reading the trusted certificates would block the event loop.
                try:
                    self._clients[origin] = await asyncio.to_thread(_connections)
                except RuntimeError as error:  # the process is exiting and starts no more threads
                    raise RemoteUnavailable(_EXITING) from error
            return self._clients[origin]

    async def _aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


def _connections() -> httpx.AsyncClient:
    try:
        # Each request sets its own timeout.
        return httpx.AsyncClient(limits=_LIMITS, follow_redirects=False, timeout=None)  # noqa: S113
    except OSError as error:
        message = f"the trusted certificates cannot be read ({error}); check SSL_CERT_FILE"
        raise RemoteUntrusted(message) from error
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        message = f"the environment's proxy cannot be used ({error}); check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
        raise RemoteUnavailable(message) from error


class _Process:
    """The network of this process."""

    def __init__(self) -> None:
        self.network: Network | None = None
        self.lock = threading.RLock()
        os.register_at_fork(
            before=self.lock.acquire, after_in_parent=self.lock.release, after_in_child=self.lock.release
        )


_process: Final = _Process()


def network() -> Network:
    """The network of this process; a forked child gets its own.

    Raises:
        RemoteUnavailable: the process is exiting.
    """
    with _process.lock:
        if _process.network is None or not _process.network.portal.usable:
            try:
                _process.network = Network()
            except RuntimeError as error:  # Python 3.12 starts no thread any more, not even the portal's
                raise RemoteUnavailable(_EXITING) from error
        return _process.network
