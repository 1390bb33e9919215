"""A worker calls nothing but the open internet on a stranger's behalf, unless its people allow more."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Sequence

import pytest

from sessions.client.addresses import AddressPolicy, checked_addresses, private, system_resolver
from sessions.errors import AddressRefused, AddressUnknown

PUBLIC = "93.184.216.34"
STRICT = AddressPolicy()


def names(**hosts: Sequence[str]):
    """A resolver that knows these hosts, written with '_' for '.'; an address resolves to itself."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return hosts.get(host.replace(".", "_"), [host])

    return resolve


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # carriers' and clouds' own
        "169.254.169.254",  # metadata of clouds
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:a00:1::",  # 6to4 of 10.0.0.1
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo of 10.0.0.1
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "no address",
        # Public by `ipaddress.is_global` of one Python version or another:
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle Cloud's metadata
        "100.100.100.200",  # Alibaba Cloud's metadata
        "192.88.99.1",
        "192.0.0.9",
        "192.31.196.1",
        "192.52.193.1",
        "192.175.48.1",
        "::ffff:168.63.129.16",
        "64:ff9b::a83f:8110",  # NAT64 of Azure's wire server
        "64:ff9b:1::808:808",
        "2002:a83f:8110::",  # 6to4 of it
        "2001:0:4136:e378:8000:63bf:f7f7:f7f7",  # Teredo, whatever is inside
        "::8.8.8.8",  # IPv4-compatible
        "::ffff:0:8.8.8.8",  # IPv4-translated
        "2001:1::1",
        "2001:4:112::1",
        "2620:4f:8000::1",
        "3ffe::1",
        "3fff::1",
        "5f00::1",
        "100::1",
        "fd20:ce::254",
        "2606:2800:220:1::1%eth0",
    ],
)
def test_an_address_behind_the_worker_is_private(address: str) -> None:
    """Every notation of such an address is recognised."""
    assert private(address)


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
)
def test_an_address_of_the_open_internet_is_not_private(address: str) -> None:
    """This includes addresses behind gateways between IPv4 and IPv6."""
    assert private(address) is None


def test_what_is_private_does_not_depend_on_the_python_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ipaddress` changes its mind with each version of the registries; a worker's upgrade must open nothing."""
    for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        for opinion, says in {"is_global": True, "is_private": False, "is_multicast": False}.items():
            monkeypatch.setattr(kind, opinion, says)
    for address in ("10.0.0.1", "169.254.169.254", "224.0.0.1", "fd00:ec2::254", "ff02::1", "::1"):
        assert private(address), address


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "168.63.129.16", "::ffff:169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe"]
)
async def test_metadata_servers_are_refused_where_private_addresses_are_allowed(address: str) -> None:
    """They hand out the machine's credentials. Only naming the host in the settings allows them."""
    resolver = names(inside_example=[address])
    with pytest.raises(AddressRefused, match=r"inside\.example"):
        await checked_addresses("http://inside.example/", AddressPolicy(allow_private=True), resolver=resolver)
    named = AddressPolicy(allowed_hosts=frozenset({"inside.example"}))
    assert await checked_addresses("http://inside.example/", named, resolver=resolver) == [address]


@pytest.mark.parametrize("host", ["metadata.google.internal", "Metadata.Google.Internal.", "metadata.packet.net"])
@pytest.mark.parametrize("policy", [STRICT, AddressPolicy(allow_private=True)])
async def test_metadata_servers_are_refused_by_name(host: str, policy: AddressPolicy) -> None:
    """Some of them have public addresses."""
    assert policy.refuses_url(f"http://{host}/")
    with pytest.raises(AddressRefused, match="metadata"):
        await checked_addresses(f"http://{host}/", policy, resolver=names(**{host.lower().replace(".", "_"): [PUBLIC]}))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "127.0.0.1.", "[::1]", "localhost", "a.LOCALHOST.", "instance-data"],
)
def test_a_url_shows_that_it_is_private_in_every_form(host: str) -> None:
    """Each of these is refused at once, rather than by the worker that resolves it later."""
    assert STRICT.refuses_url(f"http://{host}/")
    assert not AddressPolicy(allowed_hosts=frozenset({host.strip("[].").lower()})).refuses_url(f"http://{host}/")


def test_a_url_that_shows_nothing_is_not_refused() -> None:
    """Names are looked up by the worker; private addresses are fine where they are allowed."""
    for url in ("https://good.example/", f"http://{PUBLIC}/", "http://[2606:2800:220:1::1]/"):
        assert not STRICT.refuses_url(url), url
    assert not AddressPolicy(allow_private=True).refuses_url("http://127.0.0.1/")


async def test_all_addresses_of_a_name_are_checked() -> None:
    """One good address among bad ones is how a name is made to pass."""
    resolver = names(good_example=[PUBLIC, "8.8.8.8"], mixed_example=[PUBLIC, "10.0.0.1"])
    assert await checked_addresses("https://good.example/x", STRICT, resolver=resolver) == [PUBLIC, "8.8.8.8"]
    with pytest.raises(AddressRefused, match=r"'mixed\.example' has the address 10\.0\.0\.1"):
        await checked_addresses("https://mixed.example/x", STRICT, resolver=resolver)


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1", "2130706433", "0x7f.1", "017700000001", "localhost"])
async def test_addresses_in_disguise_are_resolved_as_they_would_be(host: str) -> None:
    """What counts is where the system would connect, not how it is written."""
    with pytest.raises((AddressRefused, AddressUnknown)):
        await checked_addresses(f"http://{host}/", STRICT)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "'file' is not allowed"),
        ("gopher://good.example/", "'gopher' is not allowed"),
        ("//good.example/", "'' is not allowed"),
        ("http:///path", "no host"),
        ("http://[::1", "not a URL"),
        ("http://good.example:99999/", "not a URL"),
    ],
)
async def test_what_is_no_web_address_is_refused(url: str, says: str) -> None:
    """The error shows what an address looks like."""
    with pytest.raises(AddressRefused, match=says):
        await checked_addresses(url, STRICT, resolver=names())


async def test_hosts_can_be_allowed() -> None:
    """By name, whatever case; with a port, for this port only; or all."""
    resolver = names(wiki_internal=["10.0.0.1"])
    policy = AddressPolicy(allowed_hosts=frozenset({"wiki.internal:8080"}))
    assert await checked_addresses("http://Wiki.Internal:8080/", policy, resolver=resolver) == ["10.0.0.1"]
    with pytest.raises(AddressRefused, match="allow this host"):
        await checked_addresses("http://wiki.internal/", policy, resolver=resolver)
    for policy in (AddressPolicy(allow_private=True), AddressPolicy(allowed_hosts=frozenset({"wiki.internal"}))):
        assert await checked_addresses("http://wiki.internal/", policy, resolver=resolver) == ["10.0.0.1"]


async def test_a_name_that_does_not_resolve_says_so() -> None:
    """`.invalid` never resolves."""
    with pytest.raises(AddressUnknown, match=r"'nowhere\.invalid'"):
        await system_resolver("nowhere.invalid", 80)


async def test_a_name_server_that_takes_its_time_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is a user's choice; the threads of the loop are few, and models' names are resolved there."""
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(30) and [])
    waiting = [asyncio.ensure_future(system_resolver(f"{n}.slow.example", 443)) for n in range(50)]
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "served"), 10) == "served"
    finally:
        answer.set()
        await asyncio.gather(*waiting)
