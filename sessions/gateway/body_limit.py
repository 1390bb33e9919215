"""Bounds a request's body while it comes in, whatever its headers say.

FastAPI has a limit of its own (`max_body_size`), which answers in plain text; here every error is a problem.
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
"""Seconds in which something of a body must come."""
_UPLOADS: Final = re.compile(r"/v1/sessions/[^/]+/knowledge\Z")
"""Where documents go, which wait on disk; a value of state called `knowledge` is held in memory as others are."""


LINGER: Final = 5.0
"""Seconds in which what comes of a refused body is thrown away."""


def _lingering(receive: Receive, send: Send) -> Send:
    """Answer at once, and end the connection when the body has come, or soon.

    Ended at once, it is reset by what still comes, and clients that write first and read then never see the answer.
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
    """Answers 413 where a body is larger than the limit (bytes); that of documents is another."""

    def __init__(self, app: ASGIApp, limit: int, upload_limit: int) -> None:
        self._app = app
        self._limit = limit
        self._upload_limit = upload_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request as long as its body fits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._upload_limit if _UPLOADS.match(scope["path"]) else self._limit
        detail = f"the body is larger than {limit:,} bytes, the most that is taken here"
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            # The connection is of no use any more.
            response = problem_response(
                Request(scope), 413, detail, kind=RequestTooLarge.__name__, headers={"Connection": "close"}
            )
            await response(scope, receive, _lingering(receive, send))
            return
        seen, complete = 0, False

        async def counted() -> Message:
            nonlocal seen, complete
            if complete:  # whoever reads on waits for the client to go
                return await receive()
            try:
                async with asyncio.timeout(IDLE):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"nothing of the body came for {IDLE:g} s", {"Connection": "close"}) from None
            complete = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > limit:
                # No error of ours: FastAPI makes 400 of whatever else is raised while it reads a body.
                raise HTTPException(413, detail, {"Connection": "close"})
            return message

        await self._app(scope, counted, send)
