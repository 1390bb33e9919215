"""`/v1/responses`: create, retrieve, follow, cancel and delete responses; list their input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from sessions.errors import BadRequest, NotFound
from sessions.gateway.caller import Caller, Reader, Writer
from sessions.gateway.openai.ids import ResponseRef
from sessions.gateway.openai.lists import paged
from sessions.gateway.openai.parameters import SessionHeader
from sessions.gateway.openai.responses.input import input_items
from sessions.gateway.openai.responses.previous import after_previous
from sessions.gateway.openai.responses.reading import Reading
from sessions.gateway.openai.responses.requests import ResponseRequest
from sessions.gateway.openai.turns import SLACK, Leg, begin, provide, session_for
from sessions.gateway.parameters import IdempotencyKey
from sessions.gateway.prefer import within
from sessions.gateway.streams import data_stream
from sessions.gateway.strict_json import Json, StrictRoute

router = APIRouter(route_class=StrictRoute, prefix="/v1/responses")
SESSION_HEADER = "X-Session-Id"
_CANCEL_PATIENCE = 5.0


@router.post("", name="create_response")
async def create(
    body: ResponseRequest,
    caller: Writer,
    request: Request,
    x_session_id: SessionHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """One turn, or the rest of one that waited for results of the client's tools, or for approvals."""
    body.check()
    reading = Reading.of_leg(caller, await _leg(body, caller, body.session_id(x_session_id), idempotency_key))
    named = {SESSION_HEADER: reading.ref.session_id}
    if body.stream:
        return data_stream(reading.events(request), reading.turn.id, headers=named)
    if body.background:
        return Json(await reading.now(), headers=named)
    patience = caller.gateway.settings.turn_timeout + SLACK
    return Json(await within(request, patience, reading.at_end(), reading.turn), headers=named)


async def _leg(body: ResponseRequest, caller: Caller, named: str | None, idempotency_key: str | None) -> Leg:
    new = body.posted()
    previous = None
    if body.previous_response_id is not None:
        previous = ResponseRef.read(body.previous_response_id, "previous_response_id")
        named = previous.session_id
    leg = await provide(caller, new, named, "input") if new.results or new.decisions else None
    if leg is not None and new.message is None:
        return leg
    session = session_for(caller, leg.session_id if leg else named, body.model, idempotency_key)
    if previous is not None and leg is None:
        session = await after_previous(caller, previous, idempotency_key)
    return await begin(
        caller,
        session,
        body.model,
        new,
        stream=not body.background or bool(body.stream),
        idempotency_key=idempotency_key,
        options=body.options(caller),
    )


@router.post("/compact", name="compact_response")
async def compact(caller: Writer) -> Response:
    """Not here: what a model sees of a long session is decided on the server."""
    raise NotFound("responses are not compacted by clients here: the server keeps what a model sees within its limits")


@router.get("/{response_id}", name="retrieve_response")
async def retrieve(
    response_id: str,
    caller: Reader,
    request: Request,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=-1)] = None,
) -> Response:
    """The response as it is now; or its events, after the one with a number."""
    reading = await Reading.of(caller, ResponseRef.read(response_id))
    if not stream:
        if starting_after is not None:
            raise BadRequest("starting_after is for streams: set stream=true", param="starting_after")
        return Json(await reading.now())
    await reading.now()  # an id of nothing gets its own status
    after = -1 if starting_after is None else starting_after
    return data_stream(reading.events(request, after), reading.turn.id)


@router.post("/{response_id}/cancel", name="cancel_response")
async def cancel(response_id: str, caller: Writer, request: Request) -> Response:
    """Stop the turn; one that has ended is left as it is."""
    reading = await Reading.of(caller, ResponseRef.read(response_id))
    await reading.now()
    await reading.turn.acancel()
    await reading.settled(_CANCEL_PATIENCE)
    return Json(await reading.now())


@router.delete("/{response_id}", name="delete_response")
async def delete(response_id: str, caller: Writer) -> Response:
    """Delete the turn, with its messages and all of its responses."""
    reading = await Reading.of(caller, ResponseRef.read(response_id))
    await reading.now()
    await reading.session.adelete_turn(reading.turn.id)
    return Json({"id": response_id, "object": "response", "deleted": True})


@router.get("/{response_id}/input_items", name="list_input_items")
async def list_input(
    response_id: str,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    include: Annotated[list[str] | None, Query()] = None,
) -> dict[str, Any]:
    """What was new in the request; what came before it is in the responses before it."""
    reading = await Reading.of(caller, ResponseRef.read(response_id))
    return paged(await input_items(reading), limit, order, after)
