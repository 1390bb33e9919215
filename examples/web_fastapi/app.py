"""A chat as a FastAPI application, async throughout.

    SECRET_KEY=$(openssl rand -hex 32) uvicorn app:app               # from this folder; then open http://127.0.0.1:8000
    SECRET_KEY=... gunicorn -c gunicorn.conf.py app:app              # several processes

The process keeps nothing of a conversation: the next request may reach another one. See docs/web-backends.md.
"""

from __future__ import annotations

import logging
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessions import Agent, Session, SessionfleetError, Turn, errors, public_message, sse, verify_webhook

PAGE = Path(__file__).parents[1] / "web_page"
TOOLS = os.environ.get("CHAT_TOOLS", "").split()  # names of tools that the workers know
LOG = logging.getLogger("uvicorn.error")
WEBHOOK_URL = os.environ.get("WEBHOOK_URL")  # where workers reach `/webhooks` of this site; None: no webhooks
WEBHOOK_SECRET = os.environ.get("WEBHOOK_SECRET", "")  # what `sessionfleet keys webhook` prints
LARGEST_BODY = 10 << 20  # a webhook contains the complete answer

STATUS_OF: dict[type[Exception], int] = {  # the first match counts
    errors.MessageTooLarge: 413,
    errors.InvalidWebhook: 400,
    errors.BadRequest: 422,
    errors.SessionOwnerError: 403,
    errors.TurnNotFound: 404,
    errors.IdempotencyConflict: 409,
    errors.StaleCursor: 409,
    errors.SessionBusy: 429,
    errors.BackendError: 503,
}


class BodyLimit:
    """Ends a request whose body is too large: Starlette would collect all of it in memory, whoever sends it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > LARGEST_BODY:
                raise HTTPException(413)
            return message

        await self.app(scope, counted, send)


app = FastAPI(title="Chat")
app.add_middleware(BodyLimit)
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["SECRET_KEY"],  # the same for all processes, or they do not recognise each other's visitors
    same_site="lax",  # other sites' pages cannot post in a visitor's name
    https_only="SECURE_COOKIES" in os.environ,  # set it if the browser uses https
)
app.mount("/page", StaticFiles(directory=PAGE))


@app.exception_handler(SessionfleetError)
async def refuse(_: Request, error: SessionfleetError) -> JSONResponse:
    """The response to a request that cannot be carried out."""
    status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
    text = str(error)
    if status >= 500:  # the operators read the reason, visitors need not
        LOG.error("request failed: %s", error)
        text = "not possible now; try again shortly"
    return JSONResponse({"error": text}, status, {"Retry-After": "2"} if status in (429, 503) else None)


def visitor(request: Request) -> str:
    """The user, from the signed cookie and from nowhere else. Your login puts the user's id there instead."""
    return str(request.session.setdefault("user", f"guest-{uuid.uuid4().hex}"))


Visitor = Annotated[str, Depends(visitor)]


class NewMessage(BaseModel):
    """The body that the page posts."""

    message: str


@app.get("/")
async def page(_: Visitor) -> FileResponse:
    """The page; visiting it sets the cookie."""
    return FileResponse(PAGE / "index.html")


@app.post("/chats/{chat}/messages", status_code=202)
async def post_message(
    chat: str,
    body: NewMessage,
    user: Visitor,
    response: Response,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, str]:
    """Accept a message. Sent twice with the same key, by a double click or a retry, it is one turn."""
    turn = await assistant(chat, user).asubmit(
        body.message, stream=True, idempotency_key=idempotency_key, webhook=WEBHOOK_URL
    )
    response.headers["Location"] = f"/chats/{chat}/turns/{turn.id}"
    return {"turn": turn.id}


@app.get("/chats/{chat}/messages")
async def messages(chat: str, user: Visitor) -> list[dict[str, str]]:
    """The conversation so far, for a page that is reloaded."""
    page = await Session(chat, user_id=user).ahistory(order="newest")
    return [{"role": m.role, "text": m.text, "turn": m.turn_id} for m in page if m.text and m.role != "tool"]


@app.get("/chats/{chat}/turns/{turn_id}")
async def answer(chat: str, turn_id: str, user: Visitor, response: Response) -> dict[str, Any]:
    """The answer, or 202 while there is none yet."""
    turn = await turn_of(chat, turn_id, user)
    status = (await turn.arecord()).status
    if not status.final:
        response.status_code = 202
        return {"status": status}
    try:
        return {"status": status, "answer": await turn.aresult()}
    except errors.TurnFailed as error:
        return {"status": status, "error": public_message(error)}


@app.get("/chats/{chat}/turns/{turn_id}/events")
async def events(
    chat: str,
    turn_id: str,
    user: Visitor,
    after: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The turn as it happens, after the last event that the browser has seen."""
    turn = await turn_of(chat, turn_id, user)
    pieces = await turn.asse(after=last_event_id or after)
    if pieces is None:
        return Response(status_code=204)
    return StreamingResponse(pieces, media_type=sse.MEDIA_TYPE, headers=sse.HEADERS)


@app.get("/chats/{chat}/stream")
async def stream(
    chat: str, user: Visitor, after: str | None = None, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """The turn that runs, from its start, or all after the last event that the browser has seen; 204 if none runs."""
    pieces = await Session(chat, user_id=user).asse(after=last_event_id or after)
    if pieces is None:
        return Response(status_code=204)
    return StreamingResponse(pieces, media_type=sse.MEDIA_TYPE, headers=sse.HEADERS)


@app.post("/chats/{chat}/turns/{turn_id}/cancel", status_code=202)
async def cancel(chat: str, turn_id: str, user: Visitor) -> dict[str, str]:
    """Stop a turn on its worker."""
    return {"status": await (await turn_of(chat, turn_id, user)).acancel()}


@app.post("/webhooks", status_code=204)
async def receive_webhook(request: Request) -> None:
    """A worker reports that a turn has ended, at least once: only the first report counts."""
    payload = verify_webhook(WEBHOOK_SECRET, request.headers, await request.body())
    ended = {"turn": payload["data"]["turn_id"], "type": payload["type"]}
    # The user comes from the payload, which the signature authenticates: the chat may have been deleted meanwhile, and
    # its name used by another visitor.
    session = Session(payload["data"]["session_id"], user_id=payload["data"]["user_id"])
    # Recorded before, or another user's by now. In production this is a unique column of your database.
    with suppress(errors.StateConflict, errors.SessionOwnerError):
        await session.acompare_and_set_state(f"webhook:{request.headers['webhook-id']}", None, ended)


@app.get("/chats/{chat}/webhooks")
async def webhook_log(chat: str, user: Visitor) -> list[dict[str, str]]:
    """What workers have reported about a chat."""
    state = await Session(chat, user_id=user).aget_state()
    return [value for key, value in state.items() if key.startswith("webhook:")]


def assistant(chat: str, user: str) -> Agent:
    """The agent of a visitor's chat: the first user of a chat owns it, others get SessionOwnerError."""
    return Session(chat, user_id=user).Agent("Assistant", instructions="You are helpful.", tools=TOOLS)


async def turn_of(chat: str, turn_id: str, user: str) -> Turn:
    """A turn of a visitor's chat."""
    return await Session(chat, user_id=user).aturn(turn_id)
