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

from sessions.errors import AddressRefused, AddressUnknown

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_PORTS: Final = {"http": 80, "https": 443}
# What is in use of IPv6 today; all else is local, reserved, or another family in disguise.
_IPV6_IN_USE: Final = ipaddress.IPv6Network("2000::/3")
_LOOKUPS: Final = 32
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be called besides the open internet.

    Attributes:
        allow_private: everything.
        allowed_hosts: these hosts, as they stand in a URL ('wiki.internal') or with their port ('wiki.internal:8080').
    """

    allow_private: bool = False
    allowed_hosts: frozenset[str] = frozenset()

    def trusts_url(self, url: str) -> bool:
        """Whether the addresses of this URL's host need no check."""
        return self.trusts(*_host_and_port(url))

    def trusts(self, host: str, port: int) -> bool:
        """Whether the addresses of this host need no check."""
        host = host.lower().rstrip(".")
        return self.allow_private or not self.allowed_hosts.isdisjoint((host, f"{host}:{port}"))


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
    if not policy.trusts(host, port):
        for address in addresses:
            if problem := private(address):
                raise AddressRefused(
                    f"the host {host!r} has the address {address}, which is {problem}; the people who run the workers"
                    " can allow this host"
                )
    return list(addresses)


def evidently_private(url: str) -> bool:
    """Whether a URL names this machine, or a private address itself: so much is seen without a resolver.

    Raises:
        AddressRefused: it is no URL.
    """
    host, _ = _host_and_port(url)
    if host.rstrip(".").rpartition(".")[2] == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return private(host) is not None


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
    try:
        ip: IPAddress = ipaddress.ip_address(address)
    except ValueError:
        return "no address"
    if isinstance(ip, ipaddress.IPv6Address):
        hidden = _hidden_ipv4(ip)
        if hidden is None and (ip.scope_id or ip not in _IPV6_IN_USE):
            return "not of the open internet"
        ip = hidden or ip
    if ip.is_multicast:
        return "a multicast address"
    return None if ip.is_global else "not of the open internet"


def _hidden_ipv4(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a gateway or the kernel would call for this one."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


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
