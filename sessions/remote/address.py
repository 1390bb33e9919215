"""The address of a remote agent and what is sent with each request: agent_url and headers, checked before sending."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

import httpx

from sessions.errors import BadRequest
from sessions.protocol.text import encodes

ASSISTANT: Final = "assistant"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_AGENT: Final = re.compile(r"(?P<base>.*?)/agent(?:/(?P<name>[^/]+))?/?\Z")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]*\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """A remote agent's address.

    Attributes:
        url: of the agent, without credentials, so that it may be shown.
        base: the prefix of a gateway's `/v1`; agent: the agent's name at a gateway.
        credentials: the Authorization header for the part before the '@', if there is one.
    """

    url: httpx.URL
    base: httpx.URL
    agent: str = ASSISTANT
    credentials: str | None = None

    @classmethod
    def of(cls, agent_url: object) -> Address:
        """Parse an agent_url; http if it has no scheme.

        Raises:
            BadRequest: it is not valid.
        """
        url = _parsed(agent_url)
        plain = url.copy_with(username=None, password=None)
        path = _raw(plain)
        found = _AGENT.match(path)
        base = plain.copy_with(raw_path=(found["base"] if found else path.rstrip("/")).encode() or b"/")
        name = unquote(found["name"]) if found and found["name"] else ASSISTANT
        credentials = None
        if url.username or url.password:
            credentials = "Basic " + b64encode(f"{url.username}:{url.password}".encode()).decode()
        return cls(plain, base, name, credentials)

    def __str__(self) -> str:
        return str(self.url.copy_with(query=None))

    @property
    def origin(self) -> str:
        """The server: scheme, host and port."""
        return str(self.url.copy_with(path="/", query=None))

    @property
    def health(self) -> httpx.URL:
        """The URL of its health check."""
        query = f"?{self.url.query.decode()}" if self.url.query else ""
        return self.url.copy_with(raw_path=f"{_raw(self.url).rstrip('/')}/health{query}".encode())

    def api(self, path: str) -> httpx.URL:
        """A path of a gateway's REST API, already quoted."""
        return self.base.copy_with(raw_path=f"{self.base.raw_path.decode().rstrip('/')}/v1{path}".encode())


def _raw(url: httpx.URL) -> str:
    """Its path as it is sent: a `/` that is part of an agent's name is percent-encoded in it."""
    return url.raw_path.decode().partition("?")[0]


def _parsed(agent_url: object) -> httpx.URL:
    if not isinstance(agent_url, str) or not agent_url.strip():
        raise BadRequest(f"agent_url {agent_url!r}: use the URL of an agent, such as 'http://host:8000/agent'")
    text = agent_url.strip()
    shown = text.rpartition("@")[2]  # the part before it may be a key
    try:
        url = httpx.URL(text if _SCHEME.match(text) else f"http://{text}")
    except (httpx.InvalidURL, ValueError) as error:
        raise BadRequest(f"agent_url {shown!r} is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise BadRequest(f"agent_url {shown!r}: use an http or https URL with a host")
    return url.copy_with(fragment=None)


def segment(name: str) -> str:
    """A name as a path segment.

    Raises:
        BadRequest: it cannot be one. Clients and proxies resolve `..`, percent-encoded or not: deleting the value of
            that
            name would delete its session.
    """
    if name in ("", ".", "..") or not encodes(name):
        raise BadRequest(f"{name!r} cannot be part of a URL; with a gateway, choose another name")
    return quote(name, safe="~")


def checked_headers(headers: object) -> dict[str, str]:
    """Headers for every request. Errors do not quote their values, which may be keys.

    Raises:
        BadRequest: one of them cannot be sent.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise BadRequest(f"headers must be a dict of texts, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name):
            raise BadRequest(f"header name {name!r}: use letters, digits and '-'")
        if not isinstance(value, str) or not _HEADER_VALUE.match(value) or not value.isascii():
            raise BadRequest(f"the value of header {name!r} must be ASCII text without line breaks")
    return dict(headers)
