"""One log line per request: who asked for what, how it ended, how long it took. No query, no credential."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker_config.telemetry import get_logger
from sessions.gateway.gatekeeper import principal_in, public
from sessions.gateway.request_id import request_id_of

_log = get_logger(__name__)
_GONE: Final = 499
"""The status that is logged if a client disconnects before its response begins; nginx uses the same."""


class AccessLog:
    """Writes the line when the request ends, or when its stream ends. Health probes are not logged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and log it."""
        if scope["type"] != "http" or public(scope):
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), _GONE

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            status = 500 if status == _GONE else status
            raise
        finally:
            principal = principal_in(scope)
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.monotonic() - began) * 1000, 1),
                principal=None if principal is None else principal.id,
                request_id=request_id_of(scope),
            )
