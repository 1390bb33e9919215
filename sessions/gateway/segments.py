"""Names in paths: keys of state, ids of memories, names of documents and agents may hold any character.

Starlette's own `path` stops at a line break, and matches a name that ends in one without it.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sessions.gateway.problems import problem_response


class _Anything(Convertor[str]):
    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Agent(_Anything):
    # `/agent/health` and `/agent/{name}/health` are questions, not agents.
    regex = r"(?!(?:[\s\S]*/)?health$)[\s\S]+"


register_url_convertor("anything", _Anything())
register_url_convertor("agent", _Agent())


def segment(name: str) -> str:
    """A name as a part of a path. Dots too: clients take `..` for the folder above."""
    return quote(name, safe="").replace(".", "%2E") if name.strip(".") == "" else quote(name, safe="")


class DecodedPath:
    """Refuses paths that are no UTF-8: they would be taken for other names than were meant."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and not _decodes(scope.get("raw_path", b"")):
            detail = "the path is not UTF-8: write names in it as percent-encoded UTF-8"
            await problem_response(Request(scope), 422, detail, kind="BadRequest")(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _decodes(path: bytes) -> bool:
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return False
    return True
