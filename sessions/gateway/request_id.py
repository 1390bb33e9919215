"""An id for each request: the caller's own, or a generated one; in the response, in problems and in the log."""

from __future__ import annotations

import re
from typing import Final

import structlog
import uuid_utils
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = "X-Request-ID"
_KEY: Final = "sessionfleet.request_id"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


def request_id_of(scope: Scope) -> str:
    """The id of the request that is being served."""
    return str(scope.get(_KEY, ""))


class RequestId:
    """Gives each request its id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request under its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        name = given if _PLAIN.match(given) else uuid_utils.uuid4().hex
        scope[_KEY] = name

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=name):
            await self._app(scope, receive, named)
