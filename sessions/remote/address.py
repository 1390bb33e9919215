"""The URL of a remote agent, and the headers of requests to it, checked before anything is sent."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

import httpx

from sessions.errors import BadRequest
from sessions.protocol.text import is_encodable

ASSISTANT: Final = "assistant"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_AGENT: Final = re.compile(r"(?P<base>.*?)/agent(?:/(?P<name>[^/]+))?/?\Z")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]*\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an agent_url.

    Attributes:
        url: of the agent, without credentials, because errors and logs show it.
        base: the URL before a gateway's `/v1`; agent: the agent's name at the gateway.
        credentials: the Authorization header for the user and password in the URL, if there are any.
    """

    url: httpx.URL
    base: httpx.URL
    agent: str = ASSISTANT
    credentials: str | None = None

    @classmethod
    def of(cls, agent_url: object) -> Address:
        """Parse an agent_url; without a scheme it is http.

        Raises:
            BadRequest: it is not a URL.
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
        """The URL of its health page."""
        query = f"?{self.url.query.decode()}" if self.url.query else ""
        return self.url.copy_with(raw_path=f"{_raw(self.url).rstrip('/')}/health{query}".encode())

    def api(self, path: str) -> httpx.URL:
        """The URL of a path in a gateway's REST API; the path is already quoted."""
        return self.base.copy_with(raw_path=f"{self.base.raw_path.decode().rstrip('/')}/v1{path}".encode())


def _raw(url: httpx.URL) -> str:
    """Its path, still percent-encoded: an agent's name may contain `%2F`."""
    return url.raw_path.decode().partition("?")[0]


def _parsed(agent_url: object) -> httpx.URL:
    if not isinstance(agent_url, str) or not agent_url.strip():
        raise BadRequest(f"agent_url {agent_url!r}: use the URL of an agent, such as 'http://host:8000/agent'")
    text = agent_url.strip()
    shown = text.rpartition("@")[2]  # before it may be a password
    try:
        url = httpx.URL(text if _SCHEME.match(text) else f"http://{text}")
    except (httpx.InvalidURL, ValueError) as error:
        raise BadRequest(f"agent_url {shown!r} is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise BadRequest(f"agent_url {shown!r}: use an http or https URL with a host")
    return url.copy_with(fragment=None)


def segment(name: str) -> str:
    """Quote a name as one segment of a path.

    Raises:
        BadRequest: it cannot be one. Clients and proxies resolve `..`, percent-encoded or not, so a request to delete
            the value of this name would delete its session.
    """
    if name in ("", ".", "..") or not is_encodable(name):
        raise BadRequest(f"{name!r} cannot be part of a URL: with a gateway, use another name")
    return quote(name, safe="~")


def checked_headers(headers: object) -> dict[str, str]:
    """Check headers for every request. Errors do not quote their values, which may be credentials.

    Raises:
        BadRequest: one of them cannot be sent.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise BadRequest(f"headers must be a dict of strings, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name):
            raise BadRequest(f"header name {name!r}: use letters, digits and '-'")
        if not isinstance(value, str) or not _HEADER_VALUE.match(value) or not value.isascii():
            raise BadRequest(f"the value of header {name!r} must be an ASCII string without line breaks")
    return dict(headers)
