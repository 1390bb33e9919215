"""Which addresses a worker may call for a user: public ones, and those that its operators allow.

A URL from a user must not reach the worker's own network (cloud metadata, databases, admin pages). So the addresses
that a host name resolves to are checked, and the caller connects to a checked address: resolving the name again could
return another one (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Final
from urllib.parse import SplitResult, urlsplit

from sessions.client.special_addresses import cloud_internal, metadata_host, special_use
from sessions.errors import AddressRefused, AddressUnknown

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_PORTS: Final = {"http": 80, "https": 443}
_LOOKUPS: Final = 32


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses may be called in addition to public ones.

    Attributes:
        allow_private: private addresses too, except a cloud's metadata servers, which hand out the machine's
            credentials and never have documents or webhook receivers.
        allowed_hosts: these hosts, as written in URLs ('wiki.internal'), or with a port ('wiki.internal:8080').
    """

    allow_private: bool = False
    allowed_hosts: frozenset[str] = frozenset()

    def refuses_url(self, url: str) -> bool:
        """Whether the URL alone, without resolving its host, shows that it must not be called.

        Raises:
            AddressRefused: it is not a URL.
        """
        host, port = _host_and_port(url)
        if self._allows_host(host, port):
            return False
        literal = _literal_address(host)
        if literal is None:
            return metadata_host(host) or (not self.allow_private and _is_localhost(host))
        return self.problem(host, port, literal) is not None

    def problem(self, host: str, port: int, address: str) -> str | None:
        """Why this address of a host must not be called; None if it may be called."""
        if self._allows_host(host, port):
            return None
        if metadata_host(host):
            return "a cloud's metadata server"
        return cloud_internal(address) if self.allow_private else private(address)

    def _allows_host(self, host: str, port: int) -> bool:
        host = host.lower().rstrip(".")
        return not self.allowed_hosts.isdisjoint((host, f"{host}:{port}"))


async def checked_addresses(url: str, policy: AddressPolicy, *, resolver: Resolver | None = None) -> list[str]:
    """The addresses of a URL's host, all of them allowed. Connect to one of these, not to the name.

    Args:
        url: http or https.
        policy: which addresses are allowed in addition to public ones.
        resolver: from host and port to addresses; the system's by default.

    Raises:
        AddressRefused: another scheme, no host, or one of the host's addresses is not allowed.
        AddressUnknown: the host has no address.
    """
    host, port = _host_and_port(url)
    addresses = await (resolver or system_resolver)(host, port)
    if not addresses:
        raise AddressUnknown(f"the host {host!r} has no address")
    for address in addresses:
        if problem := policy.problem(host, port, address):
            raise AddressRefused(
                f"the host {host!r} has the address {address}, which is {problem}; the operator of the workers can "
                "allow this host with SESSIONFLEET_ALLOWED_HOSTS"
            )
    return list(addresses)


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """The host's addresses according to the system's resolver, in the order in which they should be tried.

    Raises:
        AddressUnknown: the name cannot be resolved.
    """
    try:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(_threads(os.getpid()), look_up)
    except (OSError, UnicodeError) as error:
        raise AddressUnknown(f"the host {host!r} cannot be resolved ({error})") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@cache
def _threads(_process: int) -> ThreadPoolExecutor:
    # Not the event loop's own threads, which resolve the names of model providers: a user who controls a name server
    # can delay its replies, and a lookup cannot be cancelled.
    return ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="resolver")


def private(address: str) -> str | None:
    """Why an address is not public; None if it is."""
    use = special_use(address)
    return use and f"not public ({use})"


def _is_localhost(host: str) -> bool:
    return host.lower().rstrip(".").rpartition(".")[2] == "localhost"


def _literal_address(host: str) -> str | None:
    """The address, if the host is written as one, in any form that the resolver accepts (`127.1`, `0x7f000001`)."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except (OSError, UnicodeError):
        return None


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts: SplitResult = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressRefused("this is not a URL such as https://example.org/page") from error
    if parts.scheme not in _PORTS:
        raise AddressRefused(f"the scheme {parts.scheme!r} is not allowed; use https or http")
    if not host:
        raise AddressRefused("the URL has no host; use one such as https://example.org/page")
    return host, port or _PORTS[parts.scheme]
