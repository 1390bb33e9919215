"""Where the gateway listens, and whether others than this machine reach it there."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final

from sessions.errors import BadRequest

BACKLOG: Final = 2048


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound there: all addresses of a name must be of that kind."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False  # binding it says what is wrong
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        BadRequest: nobody can listen there, now or at all.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        # Named as TCP, or asyncio leaves Nagle's algorithm on: 40 ms for each response.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadRequest(
                f"port {port} of {host} is in use: end what listens there, or name another with --port"
            ) from error
        raise BadRequest(
            f"the gateway cannot listen on {host}:{port} ({error}); name another with --host or --port"
        ) from error
