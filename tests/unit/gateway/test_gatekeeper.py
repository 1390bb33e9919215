"""The layer in front of the routes, tested alone: bodies that are too large, streams with an unknown credential."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from sessions.errors import CorruptRecord, TooManyRequests
from sessions.gateway import gatekeeper
from sessions.gateway.body_limit import BodyLimit
from sessions.gateway.gatekeeper import Gatekeeper
from sessions.gateway.principal import Principal
from sessions.gateway.request_limits import NoLimits
from sessions.store.api_keys import _read


async def no_body() -> Any:
    raise AssertionError("nothing is read")


async def gone() -> Any:
    return {"type": "http.disconnect"}


async def answered(
    app: Any, method: str, path: str, *headers: tuple[bytes, bytes], receive: Any = no_body
) -> list[Any]:
    """What an application sends for a request."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    return sent


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for part in (b"1", b"2", b"3"):
        await send({"type": "http.response.body", "body": part, "more_body": part != b"3"})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/sessions/a/knowledge", 200),
        ("/v1/sessions/a/files", 200),
        ("/v1/sessions/a/state/knowledge", 413),
        ("/v1/sessions/a/state/a/knowledge", 413),
        ("/v1/agents/knowledge", 413),
        ("/agent/knowledge", 413),
        ("/v1/sessions/a/state/files", 413),
    ],
)
async def test_only_documents_may_be_as_large_as_documents(path: str, status: int) -> None:
    """What else may be called `knowledge` is held in memory, however many ask at once."""
    sent = await answered(BodyLimit(ok, 10, 1000, 1000), "PUT", path, (b"content-length", b"500"), receive=gone)
    assert sent[0]["status"] == status


async def test_a_stream_goes_on_while_others_try_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of invalid keys keeps the gateway from asking the store: that says nothing about this one."""
    monkeypatch.setattr(gatekeeper, "LOOK_AGAIN", -1)
    asked: list[Headers] = []

    class Flooded:
        async def principal(self, headers: Headers) -> Principal:
            asked.append(headers)
            if len(asked) > 1:
                raise TooManyRequests("too many unknown API keys are tried here now", retry_after=1.0)
            return Principal("default")

    sent = await answered(Gatekeeper(ok, Flooded(), NoLimits()), "GET", "/v1/sessions/a/turns/b/events")
    assert b"".join(message.get("body", b"") for message in sent) == b"123"
    assert len(asked) > 1


def test_a_record_of_a_key_that_is_no_json_is_an_error_of_the_tree() -> None:
    """It opens nothing, and the command that lists the keys says what to do."""
    with pytest.raises(CorruptRecord, match="revoke it"):
        _read(b"no json")
