"""URL to bytes: fetches a document that a user names, without being led anywhere else."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from email.message import Message
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote

import httpx

from sessions.client.addresses import AddressPolicy, Resolver
from sessions.errors import AddressRefused, AddressUnknown, DocumentError, DocumentTooLarge
from workers.outbound import ONE_USE, pinned_response

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_PIECE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds for fetching one document.

    Attributes:
        document_bytes: of the document, unpacked.
        seconds: for all of it, redirects included.
        connect_seconds: for each connection; read_seconds: without a byte from the server.
        redirects: how many are followed.
    """

    document_bytes: int = 32 * 1024 * 1024
    seconds: float = 60.0
    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a server sent; `name` is the file's, as the server calls it or as the URL ends."""

    data: bytes
    name: str
    content_type: str | None


_DEFAULT: Final = FetchLimits()


async def fetch_url(
    url: str,
    *,
    limits: FetchLimits = _DEFAULT,
    allow_private: bool = False,
    allowed_hosts: Collection[str] = (),
    resolver: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> Fetched:
    """Fetch a document over https or http, directly: proxies of the environment would decide where to connect.

    A user name and password in the URL are sent to its host, to no other, and are never part of an error.

    Args:
        url: of the document.
        limits: what it may cost.
        allow_private: also from addresses that are not public.
        allowed_hosts: also from these hosts, whatever their addresses: 'wiki.internal' or 'wiki.internal:8080'.
        resolver: host and port to addresses; the system's by default.
        tls: which certificates count; those of public authorities by default.

    Raises:
        DocumentTooLarge: more bytes than allowed.
        DocumentError: it cannot be fetched; the message says why.
    """
    policy = AddressPolicy(allow_private, frozenset(host.lower() for host in allowed_hosts))
    timeout = httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds)
    try:
        async with (
            asyncio.timeout(limits.seconds),
            httpx.AsyncClient(timeout=timeout, trust_env=False, verify=tls or True, limits=ONE_USE) as client,
        ):
            return await _Fetch(client, limits, policy, resolver).run(httpx.URL(url))
    except httpx.InvalidURL as error:
        raise DocumentError("this is no URL; it looks like https://example.org/page") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise DocumentError(f"{shown(url)!r} took too long to answer; try again later") from error
    except httpx.HTTPError as error:
        raise DocumentError(f"{shown(url)!r} cannot be fetched ({str(error) or type(error).__name__})") from error
    except (AddressRefused, AddressUnknown) as error:
        raise DocumentError(f"{shown(url)!r} cannot be fetched: {error}") from error


def shown(url: str | httpx.URL) -> str:
    """A URL as errors and logs may hold it: without password, and without the query, which often is one."""
    parsed = httpx.URL(url)
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One document's way through redirects."""

    client: httpx.AsyncClient
    limits: FetchLimits
    policy: AddressPolicy
    resolver: Resolver | None

    async def run(self, url: httpx.URL) -> Fetched:
        for _ in range(self.limits.redirects + 1):
            async with pinned_response(
                self.client, url, self.policy, headers=_HEADERS, resolver=self.resolver
            ) as response:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    url = url.join(response.headers["location"])
                    continue
                if response.status_code != 200:
                    raise DocumentError(f"{shown(url)!r} answered {response.status_code}; does it need a login?")
                data = await self._body(url, response)
                return Fetched(data, _name(url, response), response.headers.get("content-type"))
        raise DocumentError(f"{shown(url)!r} redirects more than {self.limits.redirects} times")

    async def _body(self, url: httpx.URL, response: httpx.Response) -> bytes:
        if int(response.headers.get("content-length", "0")) > self.limits.document_bytes:
            raise self._too_large(url)
        data = bytearray()
        async for piece in _unpacked(url, response):
            data += piece
            if len(data) > self.limits.document_bytes:
                raise self._too_large(url)
        return bytes(data)

    def _too_large(self, url: httpx.URL) -> DocumentTooLarge:
        return DocumentTooLarge(f"{shown(url)!r} has more than {self.limits.document_bytes:,} bytes; split it")


async def _unpacked(url: httpx.URL, response: httpx.Response) -> AsyncIterator[bytes]:
    """The body in pieces of bounded size, also where a server packs it without being asked to.

    httpx would unpack whatever one packet holds at once, a thousand times its size.
    """
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        async for piece in response.aiter_raw(_PIECE):
            yield piece
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise DocumentError(f"{shown(url)!r} sends the encoding {encoding!r}, which was not asked for")
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        async for piece in response.aiter_raw(_PIECE):
            yield unpacker.decompress(piece, _PIECE)
            while unpacker.unconsumed_tail:
                yield unpacker.decompress(unpacker.unconsumed_tail, _PIECE)
        yield unpacker.flush()
    except zlib.error as error:
        raise DocumentError(f"{shown(url)!r} sends damaged {encoding} ({error})") from error
    if not unpacker.eof:
        raise DocumentError(f"{shown(url)!r} sends {encoding} that is cut short; try again later")


def _name(url: httpx.URL, response: httpx.Response) -> str:
    header = Message()
    header["content-disposition"] = response.headers.get("content-disposition", "")
    path = header.get_filename() or unquote(url.path)
    return PurePosixPath(path.replace("\\", "/")).name or url.host
