"""This process's loop and connections to remote servers: created when first needed, and again after a fork."""

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
# Below the five seconds after which uvicorn closes an idle connection: a request must not use one that is closing.
_IDLE_SECONDS: Final = 4.0
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=_IDLE_SECONDS)


class Network:
    """One loop for all remote sessions of a process, and a connection pool for each server."""

    def __init__(self) -> None:
        self.portal = Portal()
        self.gateways: dict[str, bool] = {}
        """Whether there is a gateway, by address, for the addresses that were checked."""
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._making = asyncio.Lock()
        atexit.register(self.portal.close, self._aclose, _EXIT_SECONDS)

    async def http(self, origin: str) -> httpx.AsyncClient:
        """The connections to a server.

        Raises:
            RemoteUntrusted: the certificates that SSL_CERT_FILE names cannot be read.
            RemoteUnavailable: the environment names a proxy that cannot be used.
        """
        async with self._making:
            if origin not in self._clients:
                # In a thread: reading the trusted certificates takes a moment, during which the loop would be blocked.
                try:
                    self._clients[origin] = await asyncio.to_thread(_connections)
                except RuntimeError as error:  # no thread can be started any more, and no host name resolved
                    raise RemoteUnavailable(
                        "this process is ending: a remote server can no longer be called"
                    ) from error
            return self._clients[origin]

    async def _aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


def _connections() -> httpx.AsyncClient:
    try:
        # Each request has its own timeout.
        return httpx.AsyncClient(limits=_LIMITS, follow_redirects=False, timeout=None)  # noqa: S113
    except OSError as error:
        message = f"the certificates to trust cannot be read ({error}); see SSL_CERT_FILE"
        raise RemoteUntrusted(message) from error
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        message = f"the proxy of this environment cannot be used ({error}); see HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
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
    """The network of this process; a forked child gets its own."""
    with _process.lock:
        if _process.network is None or not _process.network.portal.usable:
            _process.network = Network()
        return _process.network
