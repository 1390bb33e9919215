"""What gunicorn loads before it forks: an example's application, after the parent has used a session itself.

Each response says which process it came from.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from sessions import Session

_module, _, _name = os.environ["SF_TEST_APP"].partition(":")
_app: Any = getattr(importlib.import_module(_module), _name)
Session("used-before-the-fork").Agent("A").chat("SAY hello")


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application, with its process in a header."""

    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
        return start_response(status, [*headers, ("X-Served-By", str(os.getpid()))], *error)

    return _app(environ, start)  # type: ignore[no-any-return]


async def asgi(scope: MutableMapping[str, Any], receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """The application, with its process in a header."""

    async def tell(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-served-by", str(os.getpid()).encode())]
        await send(message)

    await _app(scope, receive, tell)
