"""Protects a gateway that trusts every local caller from web pages that a browser on the machine shows.

A page on the internet cannot reach the machine, but its visitor's browser can. Two ways are closed here: a page whose
own name was made to resolve to the loopback address (DNS rebinding; the request's Host has that name), and a page that
makes the browser send requests to another site (the request's Origin has the page's name).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sessions.gateway.gatekeeper import public
from sessions.gateway.problems import problem_response

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1", "*.localhost")
_PORTS: Final = {"http": 80, "https": 443}
_ELSEWHERE: Final = ("cross-site", "same-site")
_HINT: Final = "create an API key with `sessionfleet keys api create`: with authentication on, any host name works"


class TrustedHosts:
    """Answers only if the request's Host is one of these names; `*.name` means all names below it, `*` all names."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._any = "*" in hosts
        self._names = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request to one of the names."""
        if scope["type"] != "http" or self._any or self._trusts(Headers(scope=scope).getlist("host")):
            await self._app(scope, receive, send)
            return
        detail = f"this gateway does not answer to the host name in the request; {_HINT}"
        response = problem_response(Request(scope), 421, detail, kind="Forbidden")
        await response(scope, receive, send)

    def _trusts(self, hosts: Sequence[str]) -> bool:
        name = _host_of(f"//{hosts[0]}") if len(hosts) == 1 else None
        if name is None:
            return False
        return name in self._names or any(f"*.{parent}" in self._names for parent in _parents(name))


class OwnPages:
    """Refuses what a browser sends on behalf of another site's page; `origins` are those that may.

    With authentication on, this matters only for Basic (`basic_only`), which a browser remembers and sends by itself.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], *, basic_only: bool) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._basic_only = basic_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve requests that come from no page, from our own, or from an allowed one."""
        if scope["type"] != "http" or public(scope) or self._allows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        detail = (
            "the request comes from a page of another site, without a credential: add its origin to "
            "SESSIONFLEET_GATEWAY_CORS if it may call the gateway"
        )
        await problem_response(Request(scope), 403, detail, kind="Forbidden")(scope, receive, send)

    def _allows(self, headers: Headers) -> bool:
        if self._basic_only and not any(v.lower().startswith("basic") for v in headers.getlist("authorization")):
            return True
        origins = headers.getlist("origin")
        if not origins:  # not a browser, an old one that only reads, or a page that loads this as an image
            return headers.get("sec-fetch-site", "none").lower() not in _ELSEWHERE
        return all(origin in self._origins or _same(origin, headers.get("host", "")) for origin in origins)


def _same(origin: str, host: str) -> bool:
    """Whether an origin is the host that was asked."""
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"{theirs.scheme}://{host}")
        default = _PORTS[theirs.scheme]
        return theirs.hostname == ours.hostname and (theirs.port or default) == (ours.port or default)
    except (KeyError, ValueError):  # 'null', or not a web page
        return False


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(1, len(labels))]
