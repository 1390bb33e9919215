"""HTTP requests to URLs that users gave (documents, webhooks), sent to exactly the address that was checked.

If the host name were resolved again for the request, it could point to another address, such as an internal one.
`sessions.client.addresses` decides which addresses are allowed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import httpx

from sessions.client.addresses import AddressPolicy, Resolver, checked_addresses

AGENT: Final = "sessionfleet"
# No reuse: a connection belongs to the host whose certificate was checked, but the pool finds it by its address alone.
ONE_USE: Final = httpx.Limits(max_keepalive_connections=0)


@asynccontextmanager
async def pinned_response(
    client: httpx.AsyncClient,
    url: httpx.URL,
    policy: AddressPolicy,
    *,
    headers: Mapping[str, str],
    method: str = "GET",
    content: bytes | None = None,
    resolver: Resolver | None = None,
) -> AsyncIterator[httpx.Response]:
    """The response from the first of the host's addresses that accepts a connection. Its body is not read.

    Raises:
        AddressRefused: one of the host's addresses is not allowed. AddressUnknown: the name does not resolve.
        httpx.HTTPError: no address answers.
    """
    addresses = await checked_addresses(str(url), policy, resolver=resolver)
    requests = [pinned_request(client, url, a, method, headers=headers, content=content) for a in addresses]
    for request in requests[:-1]:
        try:
            response = await client.send(request, stream=True)
            break
        except httpx.ConnectError:
            continue  # another of the host's addresses may work
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
    """A request for a URL that is sent to this address, whatever the host name resolves to by now.

    The `Host` header and the check of the certificate still use the URL's host name.
    """
    return client.build_request(
        method,
        url.copy_with(host=address),
        headers={"User-Agent": AGENT, **headers, "Host": url.netloc.decode("ascii")},
        content=content,
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
    )
