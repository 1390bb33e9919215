"""A web backend as a bare ASGI application, to show what goes where; any framework does it the same way.

    POST /sessions/<session>/turns           body: the message           -> 202, the turn's id
    GET  /sessions/<session>/turns/<turn>    waits up to 30 s            -> 200, the answer; 202 while it runs
    GET  /sessions/<session>/turns/<turn>/events   server-sent events; `Last-Event-ID` goes on behind that event

Serve it with any ASGI server, e.g. `uvicorn web_backend:app`. The process holds nothing of a conversation: the
next request may reach another one, and a browser that reconnects misses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sessions import Session
from sessions.errors import BadRequest, IdempotencyConflict, ResultTimeout, SessionBusy, TurnFailed, TurnNotFound

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

STATUS_OF = {BadRequest: 400, TurnNotFound: 404, IdempotencyConflict: 409, SessionBusy: 429}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The application."""
    if scope["type"] != "http":
        return
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    try:
        match scope["method"], scope["path"].strip("/").split("/"):
            case "POST", ["sessions", session, "turns"]:
                await accept(session, await body_of(receive), headers, send)
            case "GET", ["sessions", session, "turns", turn]:
                await answer(session, turn, send)
            case "GET", ["sessions", session, "turns", turn, "events"]:
                await events(session, turn, headers.get("last-event-id"), send)
            case _:
                await reply(send, 404, {"error": "no such route"})
    except tuple(STATUS_OF) as error:
        status = next(code for kind, code in STATUS_OF.items() if isinstance(error, kind))
        await reply(send, status, {"error": str(error)})


async def accept(session: str, message: str, headers: dict[str, str], send: Send) -> None:
    """Take a message. A browser that sends it again with the same key gets the same turn."""
    agent = Session(session).Agent("Assistant", instructions="You are helpful")
    turn = await agent.asubmit(message, stream=True, idempotency_key=headers.get("idempotency-key"))
    await reply(send, 202, {"turn": turn.id})


async def answer(session: str, turn_id: str, send: Send) -> None:
    """Wait a little for the answer."""
    turn = await Session(session).aturn(turn_id)
    try:
        await reply(send, 200, {"answer": await turn.aresult(timeout=30)})
    except ResultTimeout:
        await reply(send, 202, {"turn": turn.id})
    except TurnFailed as error:
        await reply(send, 502, {"error": str(error), "type": type(error).__name__})


async def events(session: str, turn_id: str, cursor: str | None, send: Send) -> None:
    """Stream the turn. An `attempt_reset` tells the page to drop what it showed behind `valid_through`."""
    turn = await Session(session).aturn(turn_id)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    async for event in turn.aevents(after=cursor):
        item = f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(event.data)}\n\n"
        await send({"type": "http.response.body", "body": item.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def body_of(receive: Receive) -> str:
    """The request's body."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body.decode()


async def reply(send: Send, status: int, value: dict[str, Any]) -> None:
    """A JSON response."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})
