"""`POST /v1/chat/completions`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from sessions.gateway.caller import Caller, Writer
from sessions.gateway.openai.chat.requests import ChatRequest
from sessions.gateway.openai.chat.responses import Answer, completion
from sessions.gateway.openai.chat.stream import ChatStream
from sessions.gateway.openai.items import posted
from sessions.gateway.openai.parameters import SessionHeader
from sessions.gateway.openai.turns import SLACK, Leg, begin, provide, session_for
from sessions.gateway.parameters import IdempotencyKey
from sessions.gateway.prefer import within
from sessions.gateway.streams import data_stream
from sessions.gateway.strict_json import Json, StrictRoute

router = APIRouter(route_class=StrictRoute)
SESSION_HEADER = "X-Session-Id"


@router.post("/v1/chat/completions", name="create_chat_completion")
async def create(
    body: ChatRequest,
    caller: Writer,
    request: Request,
    x_session_id: SessionHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """One turn, or the rest of one that waited for results of the client's tools."""
    body.check()
    leg = await _leg(body, caller, body.session_id(x_session_id), idempotency_key)
    record = await leg.turn.arecord()
    named = {SESSION_HEADER: leg.session_id}
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        typed = body.response_format is not None and body.response_format.type != "text"
        stream = ChatStream(request, leg, record, body.model, typed, usage)
        return data_stream(stream.events(), leg.turn.id, headers=named)
    answer = await within(request, caller.gateway.settings.turn_timeout + SLACK, Answer.of(leg.told()), leg.turn)
    if not answer.calls:
        await leg.turn.aresult()  # raises what ended the turn
    return Json(completion(leg, await leg.turn.arecord(), answer, body.model), headers=named)


async def _leg(body: ChatRequest, caller: Caller, named: str | None, idempotency_key: str | None) -> Leg:
    new = posted(body.items(), "messages")
    leg = await provide(caller, new, named, "messages") if new.results else None
    if leg is not None and new.message is None:
        return leg
    session = session_for(caller, leg.session_id if leg else named, body.model, idempotency_key)
    return await begin(
        caller,
        session,
        body.model,
        new,
        stream=bool(body.stream),
        idempotency_key=idempotency_key,
        options=body.options(caller),
    )
