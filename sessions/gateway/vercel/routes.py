"""`/v1/vercel/chat`: send a message, follow the answer again, stop it, and read the history."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response, status

from sessions.adapters.library_session import LibrarySession
from sessions.gateway.caller import Reader, Writer
from sessions.gateway.parameters import IdempotencyKey, SessionId
from sessions.gateway.streams import data_stream
from sessions.gateway.strict_json import StrictRoute
from sessions.gateway.vercel.requests import ChatRequest
from sessions.gateway.vercel.responses import entries, shown
from sessions.gateway.vercel.stream import HEADERS, parts
from sessions.gateway.vercel.turns import answer_to, open_answer

router = APIRouter(route_class=StrictRoute, prefix="/v1/vercel/chat")
ROUTERS: Final[tuple[APIRouter, ...]] = (router,)


@router.post("", name="vercel_chat")
async def chat(body: ChatRequest, caller: Writer, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """One turn, another one in its place, or the rest of one that waited for results or decisions."""
    answer = await answer_to(caller, body, idempotency_key)
    return data_stream(parts(request, answer), answer.turn.id, headers=HEADERS)


@router.get("/{session_id:segment}/stream", name="vercel_resume")
async def resume(
    session_id: SessionId,
    caller: Reader,
    request: Request,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """The answer that is being written, or that has ended after this message was read, from its start; or 204."""
    answer = await open_answer(caller, caller.session(session_id), after)
    if answer is None:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    return data_stream(parts(request, answer), answer.turn.id, headers=HEADERS)


@router.delete("/{session_id:segment}/stream", status_code=status.HTTP_204_NO_CONTENT, name="vercel_stop")
async def stop(session_id: SessionId, caller: Writer) -> None:
    """Cancel the turn whose answer is being written; nothing, if there is none."""
    answer = await open_answer(caller, caller.session(session_id))
    if answer is not None:
        await answer.turn.acancel()


@router.get("/{session_id:segment}/messages", name="vercel_messages")
async def messages(
    session_id: SessionId, caller: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> list[dict[str, Any]]:
    """The messages of the newest turns; none for a chat that does not exist yet."""
    session = caller.session(session_id)
    answer = await open_answer(caller, session)  # first: a turn that ends meanwhile is then in the history
    history = await entries(LibrarySession(session, "vercel"), limit)
    return await shown(history, session.keys, answer)
