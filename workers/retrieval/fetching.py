"""Downloads a document from a URL that a user supplied, without being redirected to internal addresses."""

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
_WITH_DOCUMENT: Final = frozenset({200, 203})
_NO_ACCESS: Final = "it needs a login, or refuses programs; download the document and add its bytes"
_GONE: Final = "there is no document at this URL; check its spelling"
_MEANING: Final = {
    202: "the document is not ready yet; try again later",
    204: "there is no content at this URL",
    205: "there is no content at this URL",
    300: "there are several versions of the document; use the URL of one of them",
    **dict.fromkeys((401, 402, 403, 407, 451), _NO_ACCESS),
    **dict.fromkeys((404, 410), _GONE),
    **dict.fromkeys((408, 425, 429), "the server asks to wait; try again later"),
}
_MEANING_OF_CLASS: Final = {
    2: "this is not the whole document",
    3: "it redirects without saying where to",
    4: "the server does not accept the request",
    5: "the server failed; try again later",
}
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_PIECE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits for downloading one document.

    Attributes:
        document_bytes: the size of the document, decompressed.
        seconds: the total time, including redirects.
        connect_seconds: the time for each connection.
        read_seconds: the time without a byte from the server.
        redirects: how many redirects are followed.
    """

    document_bytes: int = 32 * 1024 * 1024
    seconds: float = 60.0
    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded document; `name` is the file name from the response's header or from the URL."""

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
    """Download a document over https or http.

    The environment's proxies are ignored: a proxy would connect to addresses that were not checked. User name and
    password in the URL are sent to its host only, and are never part of an error.

    Args:
        url: the document's URL.
        limits: size and time limits.
        allow_private: whether private addresses are allowed.
        allowed_hosts: hosts that are allowed whatever their addresses: 'wiki.internal' or 'wiki.internal:8080'.
        resolver: resolves a host name; the system's resolver by default.
        tls: which certificates are trusted; those of public authorities by default.

    Raises:
        DocumentTooLarge: the document exceeds the limit.
        DocumentError: it cannot be downloaded; the message says why.
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
        raise DocumentError("this is not a URL; a URL looks like https://example.org/page") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise DocumentError(f"{redacted(url)!r} took too long to answer; try again later") from error
    except httpx.HTTPError as error:
        raise DocumentError(f"{redacted(url)!r} cannot be fetched ({str(error) or type(error).__name__})") from error
    except (AddressRefused, AddressUnknown) as error:
        raise DocumentError(f"{redacted(url)!r} cannot be fetched: {error}") from error


def redacted(url: str | httpx.URL) -> str:
    """The URL for errors and logs: without password, and without the query, which often contains one."""
    parsed = httpx.URL(url)
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))


@dataclass(frozen=True, slots=True)
class _Fetch:
    """Downloads one document, following redirects."""

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
                if response.status_code not in _WITH_DOCUMENT:
                    raise DocumentError(f"{redacted(url)!r} answered {_meaning(response.status_code)}")
                data = await self._body(url, response)
                return Fetched(data, _name(url, response), response.headers.get("content-type"))
        raise DocumentError(f"{redacted(url)!r} redirects more than {self.limits.redirects} times")

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
        return DocumentTooLarge(f"{redacted(url)!r} has more than {self.limits.document_bytes:,} bytes; split it")


def _meaning(status: int) -> str:
    """A status with what it means for the one who wants the document."""
    phrase = httpx.codes.get_reason_phrase(status)
    name = f"{status} ({phrase})" if phrase else str(status)
    return f"{name}: {_MEANING.get(status) or _MEANING_OF_CLASS.get(status // 100, 'no document')}"


async def _unpacked(url: httpx.URL, response: httpx.Response) -> AsyncIterator[bytes]:
    """The decompressed body in pieces of limited size, even if the server compressed it without being asked to.

    httpx would decompress a whole network packet at once, to up to a thousand times its size.
    """
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        async for piece in response.aiter_raw(_PIECE):
            yield piece
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise DocumentError(f"{redacted(url)!r} sent the encoding {encoding!r}, which was not requested")
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        async for piece in response.aiter_raw(_PIECE):
            yield unpacker.decompress(piece, _PIECE)
            while unpacker.unconsumed_tail:
                yield unpacker.decompress(unpacker.unconsumed_tail, _PIECE)
        yield unpacker.flush()
    except zlib.error as error:
        raise DocumentError(f"{redacted(url)!r} sent damaged {encoding} data ({error})") from error
    if not unpacker.eof:
        raise DocumentError(f"{redacted(url)!r} sent incomplete {encoding} data; try again later")


def _name(url: httpx.URL, response: httpx.Response) -> str:
    header = Message()
    header["content-disposition"] = response.headers.get("content-disposition", "")
    path = header.get_filename() or unquote(url.path)
    return PurePosixPath(path.replace("\\", "/")).name or url.host
