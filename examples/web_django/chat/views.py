"""The views, sync like most of Django. An open stream holds its thread.

SECRET_KEY=$(openssl rand -hex 32) python manage.py runserver    # then open http://127.0.0.1:8000
SECRET_KEY=... gunicorn -c gunicorn.conf.py chat.wsgi            # several processes
"""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from sessions import Agent, Session, Turn, errors, public_message, sse, verify_webhook


@require_GET
@ensure_csrf_cookie
def page(request: HttpRequest) -> FileResponse:
    """The page; visiting it sets the cookies. Its script sends the CSRF token back in a header."""
    visitor(request)
    return FileResponse((settings.PAGE / "index.html").open("rb"), content_type="text/html; charset=utf-8")


@require_http_methods(["GET", "POST"])
def messages(request: HttpRequest, chat: str) -> HttpResponse:
    """GET: the conversation so far, for a page that is reloaded. POST: accept a message."""
    if request.method == "POST":
        return _post_message(request, chat)
    page = Session(chat, user_id=visitor(request)).history(order="newest")
    said = [{"role": m.role, "text": m.text, "turn": m.turn_id} for m in page if m.text and m.role != "tool"]
    return JsonResponse(said, safe=False)


def _post_message(request: HttpRequest, chat: str) -> HttpResponse:
    """A message that is sent twice with the same key, by a double click or a retry, is one turn."""
    key = request.headers.get("Idempotency-Key")
    turn = assistant(request, chat).submit(
        message_in(request), stream=True, idempotency_key=key, webhook=settings.WEBHOOK_URL
    )
    return JsonResponse({"turn": turn.id}, status=202, headers={"Location": f"/chats/{chat}/turns/{turn.id}"})


@require_GET
def answer(request: HttpRequest, chat: str, turn_id: str) -> HttpResponse:
    """The answer, or 202 while there is none yet."""
    turn = turn_of(request, chat, turn_id)
    status = turn.record().status
    if not status.final:
        return JsonResponse({"status": status}, status=202)
    try:
        return JsonResponse({"status": status, "answer": turn.result()})
    except errors.TurnFailed as error:
        return JsonResponse({"status": status, "error": public_message(error)})


@require_GET
def events(request: HttpRequest, chat: str, turn_id: str) -> HttpResponse | StreamingHttpResponse:
    """The turn as it happens, after the last event that the browser has seen."""
    after = request.headers.get("Last-Event-ID") or request.GET.get("after")
    pieces = turn_of(request, chat, turn_id).sse(after=after)
    if pieces is None:
        return HttpResponse(status=204)
    return StreamingHttpResponse(pieces, content_type=sse.MEDIA_TYPE, headers=sse.HEADERS)


@require_GET
async def events_async(request: HttpRequest, chat: str, turn_id: str) -> HttpResponse | StreamingHttpResponse:
    """The same under ASGI, where it holds no thread."""
    after = request.headers.get("Last-Event-ID") or request.GET.get("after")
    turn = await Session(chat, user_id=visitor(request)).aturn(turn_id)
    pieces = await turn.asse(after=after)
    if pieces is None:
        return HttpResponse(status=204)
    return StreamingHttpResponse(pieces, content_type=sse.MEDIA_TYPE, headers=sse.HEADERS)


@require_GET
def stream(request: HttpRequest, chat: str) -> HttpResponse | StreamingHttpResponse:
    """The turn that runs, from its start, or all after the last event that the browser has seen; 204 if none runs."""
    after = request.headers.get("Last-Event-ID") or request.GET.get("after")
    pieces = Session(chat, user_id=visitor(request)).sse(after=after)
    if pieces is None:
        return HttpResponse(status=204)
    return StreamingHttpResponse(pieces, content_type=sse.MEDIA_TYPE, headers=sse.HEADERS)


@require_GET
async def stream_async(request: HttpRequest, chat: str) -> HttpResponse | StreamingHttpResponse:
    """The same under ASGI, where it holds no thread."""
    after = request.headers.get("Last-Event-ID") or request.GET.get("after")
    pieces = await Session(chat, user_id=visitor(request)).asse(after=after)
    if pieces is None:
        return HttpResponse(status=204)
    return StreamingHttpResponse(pieces, content_type=sse.MEDIA_TYPE, headers=sse.HEADERS)


@require_POST
def cancel(request: HttpRequest, chat: str, turn_id: str) -> HttpResponse:
    """Stop a turn on its worker."""
    return JsonResponse({"status": turn_of(request, chat, turn_id).cancel()}, status=202)


@csrf_exempt  # a worker has no token; the signature authenticates the request
@require_POST
def receive_webhook(request: HttpRequest) -> HttpResponse:
    """A worker reports that a turn has ended, at least once: only the first report counts."""
    payload = verify_webhook(settings.WEBHOOK_SECRET, request.headers, request.body)
    ended = {"turn": payload["data"]["turn_id"], "type": payload["type"]}
    # The user comes from the payload, which the signature authenticates: the chat may have been deleted meanwhile, and
    # its name used by another visitor.
    session = Session(payload["data"]["session_id"], user_id=payload["data"]["user_id"])
    # Recorded before, or another user's by now. In production this is a unique column of your database.
    with suppress(errors.StateConflict, errors.SessionOwnerError):
        session.compare_and_set_state(f"webhook:{request.headers['webhook-id']}", None, ended)
    return HttpResponse(status=204)


@require_GET
def webhook_log(request: HttpRequest, chat: str) -> HttpResponse:
    """What workers have reported about a chat."""
    state = Session(chat, user_id=visitor(request)).get_state()
    return JsonResponse([value for key, value in state.items() if key.startswith("webhook:")], safe=False)


def visitor(request: HttpRequest) -> str:
    """The user, from the signed cookie and from nowhere else. With a login: `str(request.user.pk)`."""
    return str(request.session.setdefault("user", f"guest-{uuid.uuid4().hex}"))


def message_in(request: HttpRequest) -> Any:
    """The message of a JSON body."""
    try:
        body = json.loads(request.body)
    except ValueError:
        raise errors.BadRequest("the body is not JSON") from None
    return body.get("message") if isinstance(body, dict) else None


def assistant(request: HttpRequest, chat: str) -> Agent:
    """The agent of a visitor's chat: the first user of a chat owns it, others get SessionOwnerError."""
    session = Session(chat, user_id=visitor(request))
    return session.Agent("Assistant", instructions="You are helpful.", tools=settings.CHAT_TOOLS)


def turn_of(request: HttpRequest, chat: str, turn_id: str) -> Turn:
    """A turn of a visitor's chat."""
    return Session(chat, user_id=visitor(request)).turn(turn_id)
