"""The address that the gateway listens on, and whether other machines can reach it there."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final

from sessions.errors import BadRequest

BACKLOG: Final = 2048


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host: all addresses of a name must be loopback addresses."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False  # binding it reports the error
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens on the address.

    Raises:
        BadRequest: the gateway cannot listen there, now or at all.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        # Created as TCP explicitly: otherwise asyncio leaves Nagle's algorithm on, which costs 40 ms for each response.
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
                f"port {port} of {host} is in use: stop the program that listens there, or choose another port with "
                "--port"
            ) from error
        raise BadRequest(
            f"the gateway cannot listen on {host}:{port} ({error}); choose another address with --host or --port"
        ) from error
