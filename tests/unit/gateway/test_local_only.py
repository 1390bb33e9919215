"""Which pages may send requests, by what a browser says about them."""

from __future__ import annotations

import base64

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from sessions.gateway.gatekeeper import Gatekeeper
from sessions.gateway.local_only import OwnPages

PAGE = "http://localhost:3000"


async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """An application that says nothing."""


def allowed(*, basic_only: bool, **headers: str) -> bool:
    pages = OwnPages(nothing, (PAGE,), basic_only=basic_only)
    return pages._allows(Headers({name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        (PAGE, "127.0.0.1:8000", True),
        ("http://localhost:3001", "127.0.0.1:8000", False),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://LOCALHOST", "localhost:80", True),
        ("https://gateway", "gateway:443", True),
        ("https://gateway", "gateway", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://127.0.0.1:8000", "", False),
        ("http://127.0.0.1:8000@evil.example", "127.0.0.1:8000", False),
        ("http://127.0.0.1:8000.evil.example", "127.0.0.1:8000", False),
        ("chrome-extension://127.0.0.1:8000", "127.0.0.1:8000", False),
        ("http://[::1", "[::1", False),
    ],
)
def test_an_origin_is_ours_or_listed(origin: str, host: str, may: bool) -> None:
    """As a whole: scheme, host and port; what merely looks like it is another one."""
    assert allowed(basic_only=False, origin=origin, host=host) is may


def test_with_authentication_only_what_a_browser_adds_by_itself_matters() -> None:
    """A page sends a bearer token because it has one; a browser sends a remembered password for any page."""
    basic = "basic " + base64.b64encode(b"any:key").decode()
    for elsewhere in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}):
        assert allowed(basic_only=True, authorization="Bearer key", host="gateway", **elsewhere)
        assert not allowed(basic_only=True, authorization=basic, host="gateway", **elsewhere)
    assert allowed(basic_only=True, authorization=basic, host="gateway", origin="http://gateway")


async def test_a_websocket_is_closed() -> None:
    """A websocket sends no credential, so none is accepted."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    gatekeeper = Gatekeeper(nothing, None, None)  # type: ignore[arg-type]
    await gatekeeper({"type": "websocket", "path": "/health", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
