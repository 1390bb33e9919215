"""Admits requests: the caller is identified and within its limits before a body is read or a route is looked up.

This is the only place for that. A route that forgets to ask for its caller is closed, not open.
"""

from __future__ import annotations

import re
import time
from typing import Final, cast

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessions.errors import BackendError, SessionfleetError, TooManyRequests, Unauthenticated
from sessions.gateway.authenticator import Authenticator
from sessions.gateway.principal import Principal
from sessions.gateway.problems import problem_of
from sessions.gateway.request_limits import Limits

PUBLIC: Final = re.compile(r"/(?:health|ready|openapi\.json|agent/health|agent/[^/]+/health|docs(?:/[a-z.-]+)?)\Z")
"""Paths that are answered without a credential, for GET and HEAD; they reveal nothing about any session."""
LOOK_AGAIN: Final = 10.0
"""Seconds after which the credential of a stream is checked again."""
_KEY: Final = "sessionfleet.principal"


def public(scope: Scope) -> bool:
    """Whether a request needs no credential."""
    return scope["method"] in ("GET", "HEAD") and PUBLIC.match(scope["path"]) is not None


def principal_in(scope: Scope) -> Principal | None:
    """The sender of the request that is being served; None if it needed no credential."""
    return cast(Principal | None, scope.get(_KEY))


class Gatekeeper:
    """Answers 401 without a valid credential, 429 beyond a limit, and 503 if neither can be checked."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, limits: Limits) -> None:
        self._app = app
        self._authenticator = authenticator
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an admitted request."""
        if scope["type"] == "websocket":  # there are none; one that is added later must not be open
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or public(scope):
            await self._app(scope, receive, send)
            return
        entered = False
        try:
            principal = await self._authenticator.principal(Headers(scope=scope))
            scope[_KEY] = principal
            async with self._limits.admit(principal):
                entered = True
                await self._serve(scope, receive, send)
        except SessionfleetError as error:
            if entered:
                raise
            await problem_of(Request(scope), error)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a stream, and end it when its credential is no longer valid: its reader may reconnect with another."""
        looked, streaming, cut = time.monotonic(), False, False

        async def guarded(message: Message) -> None:
            nonlocal looked, streaming, cut
            if streaming and message.get("more_body") and time.monotonic() - looked > LOOK_AGAIN:
                looked = time.monotonic()
                if not await self._still_good(scope):
                    cut = True
                    raise _StreamEndedError
            streaming = True
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except Exception:
            if not cut:  # whatever the application made of `_StreamEndedError`
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _still_good(self, scope: Scope) -> bool:
        try:
            await self._authenticator.principal(Headers(scope=scope))
        except Unauthenticated:
            return False
        except (BackendError, TooManyRequests):
            return True  # it cannot be checked now; if that lasts, the stream's own reads report it
        return True


class _StreamEndedError(Exception):
    """The credential of a stream is no longer valid."""
