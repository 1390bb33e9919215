"""Refuses requests with ambiguous headers, or without a Host.

A component in front (a proxy, a firewall) and one behind may each read a different one of two headers: the classic way
around a check. An HTTP/1.1 request has exactly one Host (RFC 9112, section 3.2).
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sessions.gateway.problems import problem_response

_ONCE: Final = (b"host", b"content-type", b"content-length", b"idempotency-key", b"last-event-id", b"origin", b"prefer")


class SingleHeaders:
    """Answers 400 to a request with such a header twice, and to an HTTP/1.1 request without a Host."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request with unambiguous headers."""
        wrong = _wrong(scope) if scope["type"] == "http" else None
        if wrong is None:
            await self._app(scope, receive, send)
            return
        await problem_response(Request(scope), 400, wrong, kind="BadRequest")(scope, receive, send)


def _wrong(scope: Scope) -> str | None:
    counts = Counter(name.lower() for name, _ in scope["headers"])
    twice = next((name.decode() for name in _ONCE if counts[name] > 1), None)
    if twice is not None:
        return f"the request has {counts[twice.encode()]} headers {twice}: send it once"
    if not counts[b"host"] and scope.get("http_version") == "1.1":
        return "the request has no header Host: put the gateway's address into it"
    return None
