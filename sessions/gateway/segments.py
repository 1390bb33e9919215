"""Names in paths: ids of sessions and turns, keys of state, ids of memories, names of documents and agents.

They may contain any character, even '/', which a client sends as '%2F'. A server decodes the path before the
application sees it, and then `/v1/sessions/a%2Fturns` cannot be told from the turns of the session `a`. So the path is
read as it was sent, and '/' and '%' within a segment stay encoded until the route's convertor decodes them.

Starlette's own `path` convertor stops at a line break, and matches a name that ends in one without it.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sessions.gateway.problems import problem_response


class _Segment(Convertor[str]):
    regex = r"[^/]+"

    def convert(self, value: str) -> str:
        return value.replace("%2F", "/").replace("%25", "%")

    def to_string(self, value: str) -> str:
        return _kept_whole(value)


class _Anything(_Segment):
    # Clients that send the slashes of a name unencoded mean the same name.
    regex = r"[\s\S]+"


class _Agent(_Anything):
    # `/agent/health` and `/agent/{name}/health` are health checks, not agents.
    regex = r"(?!(?:[\s\S]*/)?health$)[\s\S]+"


register_url_convertor("segment", _Segment())
register_url_convertor("anything", _Anything())
register_url_convertor("agent", _Agent())


def segment(name: str) -> str:
    """A name as a path segment. Dots too, because clients resolve `..`."""
    return quote(name, safe="").replace(".", "%2E") if name.strip(".") == "" else quote(name, safe="")


def _kept_whole(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


class DecodedPath:
    """Decodes paths segment by segment, and refuses those that are not UTF-8.

    Otherwise those would be read as different names than the client meant.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            raw = scope.get("raw_path") or quote(scope["path"]).encode()
            if not _decodes(raw):
                detail = "the path is not UTF-8: write names in it as percent-encoded UTF-8"
                await problem_response(Request(scope), 422, detail, kind="BadRequest")(scope, receive, send)
                return
            scope = {**scope, "path": "/".join(_kept_whole(unquote(part)) for part in raw.decode().split("/"))}
        await self._app(scope, receive, send)


def _decodes(path: bytes) -> bool:
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return False
    return True
