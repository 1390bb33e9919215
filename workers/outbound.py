"""Requests to addresses that somebody named: to the very address that was checked, whatever the name resolves to then.

Of documents by URL, and of webhooks. What may be called at all, `sessions.client.addresses` says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import httpx

from sessions.client.addresses import AddressPolicy, Resolver, checked_addresses

AGENT: Final = "sessionfleet"
# A connection belongs to the host whose certificate was checked, and the pool knows only addresses.
ONE_USE: Final = httpx.Limits(max_keepalive_connections=0)


@asynccontextmanager
async def pinned_answer(
    client: httpx.AsyncClient,
    url: httpx.URL,
    policy: AddressPolicy,
    *,
    headers: Mapping[str, str],
    method: str = "GET",
    content: bytes | None = None,
    resolver: Resolver | None = None,
) -> AsyncIterator[httpx.Response]:
    """The answer of the first of the host's addresses that can be connected to; each was checked. No body is read.

    Raises:
        AddressRefused, AddressUnknown: it may not be called, or cannot. httpx.HTTPError: it does not answer.
    """
    addresses = await checked_addresses(str(url), policy, resolver=resolver)
    requests = [pinned_request(client, url, a, method, headers=headers, content=content) for a in addresses]
    for request in requests[:-1]:
        try:
            response = await client.send(request, stream=True)
            break
        except httpx.ConnectError:
            continue  # the host may be reached by another of its addresses
    else:
        response = await client.send(requests[-1], stream=True)
    try:
        yield response
    finally:
        await response.aclose()


def pinned_request(
    client: httpx.AsyncClient,
    url: httpx.URL,
    address: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
) -> httpx.Request:
    """A request for a URL that goes to this address, whatever the name resolves to by now.

    The server and its certificate still see the URL's host.
    """
    return client.build_request(
        method,
        url.copy_with(host=address),
        headers={"User-Agent": AGENT, **headers, "Host": url.netloc.decode("ascii")},
        content=content,
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
    )
