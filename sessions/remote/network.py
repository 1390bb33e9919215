"""The loop and the connections of this process to remote servers: made when first needed, and anew after a fork."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Final

import httpx

from sessions.errors import RemoteUntrusted
from sessions.portal import Portal

_EXIT_SECONDS: Final = 1.0
# Below the five seconds after which uvicorn closes an idle connection: a request must not meet one that is closing.
_IDLE_SECONDS: Final = 4.0
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=_IDLE_SECONDS)


class Network:
    """One loop for all remote sessions of a process, and a pool of connections for each server."""

    def __init__(self) -> None:
        self.portal = Portal()
        self.gateways: dict[str, bool] = {}
        """Of the addresses that were looked at: whether a gateway is there."""
        self._clients: dict[str, httpx.AsyncClient] = {}
        atexit.register(self.portal.close, self._aclose, _EXIT_SECONDS)

    def http(self, origin: str) -> httpx.AsyncClient:
        """The connections to a server. Call this on the portal's loop.

        Raises:
            RemoteUntrusted: the certificates that SSL_CERT_FILE names cannot be read.
        """
        if origin not in self._clients:
            try:
                # Each request has its own timeout.
                self._clients[origin] = httpx.AsyncClient(limits=_LIMITS, follow_redirects=False, timeout=None)  # noqa: S113
            except OSError as error:
                raise RemoteUntrusted(
                    f"the certificates to trust cannot be read ({error}); see SSL_CERT_FILE"
                ) from error
        return self._clients[origin]

    async def _aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


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
    """The network of this process; a forked child gets one of its own."""
    with _process.lock:
        if _process.network is None or not _process.network.portal.usable:
            _process.network = Network()
        return _process.network
