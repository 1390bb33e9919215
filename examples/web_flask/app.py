"""A chat as a Flask application, with threads.

    SECRET_KEY=$(openssl rand -hex 32) flask run                     # from this folder; then open http://127.0.0.1:5000
    SECRET_KEY=... gunicorn -c gunicorn.conf.py app:app              # several processes

The process keeps nothing of a conversation: the next request may reach another one. See docs/web-backends.md.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from flask import Flask, Response, request, send_from_directory, session
from flask.typing import ResponseReturnValue

from sessions import Agent, Session, SessionfleetError, Turn, errors, public_message, sse, verify_webhook

PAGE = Path(__file__).parents[1] / "web_page"
TOOLS = os.environ.get("CHAT_TOOLS", "").split()  # names of tools that the workers know
WEBHOOK_URL = os.environ.get("WEBHOOK_URL")  # where workers reach `/webhooks` of this site; None: no webhooks
WEBHOOK_SECRET = os.environ.get("WEBHOOK_SECRET", "")  # what `sessionfleet keys webhook` prints

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

app = Flask(__name__, static_folder=str(PAGE), static_url_path="/page")
app.config.update(
    SECRET_KEY=os.environ["SECRET_KEY"],  # the same for all processes, or they do not recognise each other's visitors
    SESSION_COOKIE_SAMESITE="Lax",  # other sites' pages cannot post in a visitor's name
    SESSION_COOKIE_SECURE="SECURE_COOKIES" in os.environ,  # set it if the browser uses https
    MAX_CONTENT_LENGTH=10 << 20,  # a webhook contains the complete answer
)


@app.errorhandler(SessionfleetError)
def refuse(error: SessionfleetError) -> ResponseReturnValue:
    """The response to a request that cannot be carried out."""
    status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
    text = str(error)
    if status >= 500:  # the operators read the reason, visitors need not
        app.logger.error("request failed: %s", error)
        text = "not possible now; try again shortly"
    return {"error": text}, status, {"Retry-After": "2"} if status in (429, 503) else {}


@app.get("/")
def page() -> ResponseReturnValue:
    """The page; visiting it sets the cookie."""
    visitor()
    return send_from_directory(PAGE, "index.html")


@app.post("/chats/<chat>/messages")
def post_message(chat: str) -> ResponseReturnValue:
    """Accept a message. Sent twice with the same key, by a double click or a retry, it is one turn."""
    body = request.get_json()  # refuses anything that is not JSON: a form of another site cannot send that
    message = body.get("message") if isinstance(body, dict) else None
    key = request.headers.get("Idempotency-Key")
    turn = assistant(chat).submit(message, stream=True, idempotency_key=key, webhook=WEBHOOK_URL)
    return {"turn": turn.id}, 202, {"Location": f"/chats/{chat}/turns/{turn.id}"}


@app.get("/chats/<chat>/messages")
def messages(chat: str) -> ResponseReturnValue:
    """The conversation so far, for a page that is reloaded."""
    page = Session(chat, user_id=visitor()).history(order="newest")
    return [{"role": m.role, "text": m.text, "turn": m.turn_id} for m in page if m.text and m.role != "tool"]


@app.get("/chats/<chat>/turns/<turn_id>")
def answer(chat: str, turn_id: str) -> ResponseReturnValue:
    """The answer, or 202 while there is none yet."""
    turn = turn_of(chat, turn_id)
    status = turn.record().status
    if not status.final:
        return {"status": status}, 202
    try:
        return {"status": status, "answer": turn.result()}
    except errors.TurnFailed as error:
        return {"status": status, "error": public_message(error)}


@app.get("/chats/<chat>/turns/<turn_id>/events")
def events(chat: str, turn_id: str) -> ResponseReturnValue:
    """The turn as it happens, after the last event that the browser has seen. Holds its thread meanwhile."""
    after = request.headers.get("Last-Event-ID") or request.args.get("after")
    pieces = turn_of(chat, turn_id).sse(after=after)
    if pieces is None:
        return Response(status=204)
    return Response(pieces, mimetype=sse.MEDIA_TYPE, headers=sse.HEADERS)


@app.get("/chats/<chat>/stream")
def stream(chat: str) -> ResponseReturnValue:
    """The turn that runs, from its start, or all after the last event that the browser has seen; 204 if none runs."""
    after = request.headers.get("Last-Event-ID") or request.args.get("after")
    pieces = Session(chat, user_id=visitor()).sse(after=after)
    if pieces is None:
        return Response(status=204)
    return Response(pieces, mimetype=sse.MEDIA_TYPE, headers=sse.HEADERS)


@app.post("/chats/<chat>/turns/<turn_id>/cancel")
def cancel(chat: str, turn_id: str) -> ResponseReturnValue:
    """Stop a turn on its worker."""
    return {"status": turn_of(chat, turn_id).cancel()}, 202


@app.post("/webhooks")
def receive_webhook() -> ResponseReturnValue:
    """A worker reports that a turn has ended, at least once: only the first report counts."""
    payload = verify_webhook(WEBHOOK_SECRET, request.headers, request.get_data())
    ended = {"turn": payload["data"]["turn_id"], "type": payload["type"]}
    # The user comes from the payload, which the signature authenticates: the chat may have been deleted meanwhile, and
    # its name used by another visitor.
    of = Session(payload["data"]["session_id"], user_id=payload["data"]["user_id"])
    # Recorded before, or another user's by now. In production this is a unique column of your database.
    with suppress(errors.StateConflict, errors.SessionOwnerError):
        of.compare_and_set_state(f"webhook:{request.headers['webhook-id']}", None, ended)
    return "", 204


@app.get("/chats/<chat>/webhooks")
def webhook_log(chat: str) -> ResponseReturnValue:
    """What workers have reported about a chat."""
    state = Session(chat, user_id=visitor()).get_state()
    return [value for key, value in state.items() if key.startswith("webhook:")]


def visitor() -> str:
    """The user, from the signed cookie and from nowhere else. Your login puts the user's id there instead."""
    return str(session.setdefault("user", f"guest-{uuid.uuid4().hex}"))


def assistant(chat: str) -> Agent:
    """The agent of a visitor's chat: the first user of a chat owns it, others get SessionOwnerError."""
    return Session(chat, user_id=visitor()).Agent("Assistant", instructions="You are helpful.", tools=TOOLS)


def turn_of(chat: str, turn_id: str) -> Turn:
    """A turn of a visitor's chat."""
    return Session(chat, user_id=visitor()).turn(turn_id)
