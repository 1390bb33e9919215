"""Limits a request's body while it arrives, whatever its headers say.

FastAPI has its own limit (`max_body_size`), which answers in plain text; here every error is a problem document.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessions.errors import RequestTooLarge
from sessions.gateway.problems import problem_response

IDLE: Final = 60.0
"""Seconds within which some of a body must arrive."""
_DOCUMENTS: Final = re.compile(r"/v1/sessions/([^/]+/knowledge|import)\Z")
_FILES: Final = re.compile(r"/v1/sessions/[^/]+/files\Z")
"""The routes whose bodies are buffered on disk; a value of state named `knowledge` or `files` is kept in memory."""


LINGER: Final = 5.0
"""Seconds for which the rest of a refused body is read and discarded."""


def _lingering(receive: Receive, send: Send) -> Send:
    """Answer at once, and close the connection when the body has arrived, or soon.

    If it were closed at once, the data still arriving would reset it, and clients that write first and read afterwards
    would never see the answer.
    """

    async def unhurried(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b""})

    return unhurried


class BodyLimit:
    """Answers 413 if a body is larger than the limit (bytes); documents and files have limits of their own."""

    def __init__(self, app: ASGIApp, limit: int, document_limit: int, file_limit: int) -> None:
        self._app = app
        self._limit = limit
        self._document_limit = document_limit
        self._file_limit = file_limit

    def _limit_of(self, path: str) -> int:
        if _FILES.match(path):
            return self._file_limit
        return self._document_limit if _DOCUMENTS.match(path) else self._limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for as long as its body fits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        detail = f"the body is larger than {limit:,} bytes, the limit"
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            # The connection cannot be used any more.
            response = problem_response(
                Request(scope), 413, detail, kind=RequestTooLarge.__name__, headers={"Connection": "close"}
            )
            await response(scope, receive, _lingering(receive, send))
            return
        seen, complete = 0, False

        async def counted() -> Message:
            nonlocal seen, complete
            if complete:  # whoever still reads waits for the client to disconnect
                return await receive()
            try:
                async with asyncio.timeout(IDLE):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"none of the body arrived for {IDLE:g} s", {"Connection": "close"}) from None
            complete = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > limit:
                # Not one of our errors: FastAPI turns any other error while reading a body into a 400.
                raise HTTPException(413, detail, {"Connection": "close"})
            return message

        await self._app(scope, counted, send)
