"""Bounds a request's body while it comes in, whatever its headers say."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessions.errors import RequestTooLarge
from sessions.gateway.problems import problem_response


class _TooLarge(Exception):
    """More has come than is taken."""


class BodyLimit:
    """Answers 413 where a body is larger than the limit (bytes; that of `knowledge` is another: documents)."""

    def __init__(self, app: ASGIApp, limit: int, upload_limit: int) -> None:
        self._app = app
        self._limit = limit
        self._upload_limit = upload_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request as long as its body fits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._upload_limit if scope["path"].rstrip("/").endswith("/knowledge") else self._limit
        length = Headers(scope=scope).get("content-length", "0")
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if length.isdecimal() and int(length) > limit:
                raise _TooLarge
            await self._app(scope, counted, noted)
        except _TooLarge:
            if begun:
                raise
            detail = f"the body is larger than {limit:,} bytes, the most that is taken here"
            kind = RequestTooLarge.__name__
            # What is left of the body is not read: the connection is of no use any more.
            response = problem_response(Request(scope), 413, detail, kind=kind, headers={"Connection": "close"})
            await response(scope, receive, send)
