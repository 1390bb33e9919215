"""Which addresses a worker may call on somebody's behalf: those of the open internet, unless its people say more.

A URL that a user names must not lead into the network behind the worker (cloud metadata, databases, admin pages).
What a name resolves to is therefore checked, and the caller connects to the very address that was checked: a name
that resolves anew may resolve to something else.
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
    """What may be called besides the open internet.

    Attributes:
        allow_private: private addresses too, but not a cloud's metadata servers: they give the machine's credentials
            to whoever asks from it, and no document or receiver of webhooks is there.
        allowed_hosts: these hosts, as they stand in a URL ('wiki.internal') or with their port ('wiki.internal:8080').
    """

    allow_private: bool = False
    allowed_hosts: frozenset[str] = frozenset()

    def refuses_url(self, url: str) -> bool:
        """Whether a URL itself shows, without a resolver, that it must not be called.

        Raises:
            AddressRefused: it is no URL.
        """
        host, port = _host_and_port(url)
        if self._names(host, port):
            return False
        literal = _literal_address(host)
        if literal is None:
            return metadata_host(host) or (not self.allow_private and _is_localhost(host))
        return self.problem(host, port, literal) is not None

    def problem(self, host: str, port: int, address: str) -> str | None:
        """Why this address of a host must not be called; None if it may be."""
        if self._names(host, port):
            return None
        if metadata_host(host):
            return "a cloud's metadata server"
        return cloud_internal(address) if self.allow_private else private(address)

    def _names(self, host: str, port: int) -> bool:
        host = host.lower().rstrip(".")
        return not self.allowed_hosts.isdisjoint((host, f"{host}:{port}"))


async def checked_addresses(url: str, policy: AddressPolicy, *, resolver: Resolver | None = None) -> list[str]:
    """The addresses of a URL's host, all of them fit to be called; connect to one of these, not to the name.

    Args:
        url: with the scheme http or https.
        policy: what is allowed besides the open internet.
        resolver: host and port to addresses; the system's by default.

    Raises:
        AddressRefused: another scheme, no host, or one that resolves to a private address, even besides others.
        AddressUnknown: the host has no address.
    """
    host, port = _host_and_port(url)
    addresses = await (resolver or system_resolver)(host, port)
    if not addresses:
        raise AddressUnknown(f"the host {host!r} has no address")
    for address in addresses:
        if problem := policy.problem(host, port, address):
            raise AddressRefused(
                f"the host {host!r} has the address {address}, which is {problem}; the people who run the workers"
                " can allow this host (SESSIONFLEET_ALLOWED_HOSTS)"
            )
    return list(addresses)


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says, in the order in which it would be tried.

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
    # Of their own: whoever gives the name may own its name server, and let it take its time, which nothing can end. In
    # the loop's few threads the models' names are looked up.
    return ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="resolver")


def private(address: str) -> str | None:
    """Why an address is not of the open internet; None if it is."""
    use = special_use(address)
    return use and f"not of the open internet ({use})"


def _is_localhost(host: str) -> bool:
    return host.lower().rstrip(".").rpartition(".")[2] == "localhost"


def _literal_address(host: str) -> str | None:
    """The address that a host is, in any form that the system's resolver understands (`127.1`, `0x7f000001`)."""
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
        raise AddressRefused("this is no URL; it looks like https://example.org/page") from error
    if parts.scheme not in _PORTS:
        raise AddressRefused(f"the scheme {parts.scheme!r} is not allowed; use https or http")
    if not host:
        raise AddressRefused("the URL names no host; it looks like https://example.org/page")
    return host, port or _PORTS[parts.scheme]
