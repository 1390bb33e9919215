"""The address ranges and host names that are not public, and why.

The list is our own, because the result of `ipaddress.is_global` depends on the Python version: an upgrade of Python
could make a worker call a cloud's metadata server. It contains the special-purpose registries of IANA (IPv4 and IPv6),
multicast, reserved and retired ranges, and the addresses that clouds reserve for their machines. It is stricter than
the registries in one respect: ranges that are reachable but serve a protocol (AS112, AMT, 6to4 relays, 192.0.0.0/24)
are listed too, because no document and no webhook receiver is there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*ranges: tuple[str, str]) -> tuple[tuple[_Network, str], ...]:
    return tuple((ipaddress.ip_network(text), why) for text, why in ranges)


# They hand out credentials to any process on the machine, so they are refused even if private addresses are allowed.
_CLOUD: Final = _networks(
    ("169.254.0.0/16", "link-local, where clouds have their metadata servers"),
    ("168.63.129.16/32", "the wire server of Azure"),
    ("100.100.100.200/32", "the metadata server of Alibaba Cloud"),
    ("192.0.0.192/32", "the metadata server of Oracle Cloud"),
    ("fe80::a9fe:a9fe/128", "the metadata server of OpenStack"),
    ("fd00:ec2::/32", "the metadata and time servers of AWS"),
    ("fd20:ce::254/128", "the metadata server of Google Cloud"),
    ("fd00:c1::a9fe:a9fe/128", "the metadata server of Oracle Cloud"),
    ("fd00:42::42/128", "the metadata server of Scaleway"),
)

_SPECIAL: Final = _networks(
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private use"),
    ("100.64.0.0/10", "shared by carriers and clouds"),
    ("127.0.0.0/8", "this machine"),
    ("172.16.0.0/12", "private use"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "retired 6to4 relays"),
    ("192.168.0.0/16", "private use"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved, and broadcast"),
    ("ff00::/8", "multicast"),
    ("fc00::/7", "private use"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "retired site-local"),
    ("64:ff9b:1::/48", "a local NAT64"),
    ("2001::/23", "protocol assignments, Teredo among them"),
    ("2001:db8::/32", "documentation"),
    ("2620:4f:8000::/48", "AS112"),
    ("3ffe::/16", "the retired 6bone"),
    ("3fff::/20", "documentation"),
)
# Only this part of IPv6 is allocated; the rest is special, reserved, or a form of IPv4 (`::/96`).
_IPV6_IN_USE: Final = ipaddress.IPv6Network("2000::/3")

# IPv6 ranges whose addresses contain an IPv4 address, and the number of bits after it.
_IPV4_INSIDE: Final = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped: the kernel connects to the IPv4 address
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64: how IPv6-only networks reach all of IPv4
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
)

_METADATA_HOSTS: Final = frozenset(
    {
        "instance-data",  # AWS
        "instance-data.ec2.internal",
        "metadata",  # Google Cloud
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.oraclecloud.com",
        "metadata.tencentyun.com",
        "metadata.packet.net",  # this one and the next have public addresses
        "metadata.platformequinix.com",
    }
)


def special_use(address: str) -> str | None:
    """The special use of an address; None if it is a public one."""
    try:
        ip: IPAddress = ipaddress.ip_address(address)
    except ValueError:
        return "not an address"
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id:
        return "local to one network interface"
    ip = _effective(ip)
    if why := _first(ip, (*_CLOUD, *_SPECIAL)):
        return why
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _IPV6_IN_USE:
        return "not allocated"
    return None


def cloud_internal(address: str) -> str | None:
    """Which internal server of a cloud has this address; None if none has it."""
    try:
        ip: IPAddress = ipaddress.ip_address(address)
    except ValueError:
        return None
    return _first(_effective(ip), _CLOUD)


def metadata_host(host: str) -> bool:
    """Whether this is the name of a cloud's metadata server."""
    return host.lower().rstrip(".") in _METADATA_HOSTS


def _effective(ip: IPAddress) -> IPAddress:
    """The IPv4 address that the kernel or a NAT would connect to, if there is one; without a zone (`%eth0`)."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    bare = ipaddress.IPv6Address(int(ip))
    for network, shift in _IPV4_INSIDE:
        if bare in network:
            return ipaddress.IPv4Address(int(bare) >> shift & 0xFFFFFFFF)
    return bare


def _first(ip: IPAddress, ranges: Iterable[tuple[_Network, str]]) -> str | None:
    return next((why for network, why in ranges if ip in network), None)
