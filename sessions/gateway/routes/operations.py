"""Operations: documents that are being indexed; show, wait for, follow or cancel them, like turns."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from fastapi import APIRouter, Response, status

from sessions.api.operation import Operation
from sessions.gateway.caller import Caller, Reader, Writer
from sessions.gateway.parameters import OperationId, SessionId
from sessions.gateway.prefer import Wait
from sessions.gateway.principal import Right
from sessions.gateway.problems import responses
from sessions.gateway.resources import TurnResource, operation_path
from sessions.gateway.streams import STREAM, Cursor, event_stream
from sessions.gateway.strict_json import StrictRoute

router = APIRouter(
    prefix="/v1/sessions/{session_id:segment}/operations",
    tags=["operations"],
    route_class=StrictRoute,
    responses=responses(404),
)
_OF_BASE: Final = re.compile(r"~base:([A-Za-z0-9._%-]+)~")


@router.get("/{operation_id:segment}", summary="Show an operation, or wait for its end")
async def get_operation(session_id: SessionId, operation_id: OperationId, caller: Reader, wait: Wait) -> TurnResource:
    """Its result says what happened to the document."""
    operation = await _operation(caller, session_id, operation_id)
    return await wait.show(operation, operation_path(session_id, operation.id), session_id, approvals=False)


@router.get(
    "/{operation_id:segment}/events",
    summary="Follow an operation",
    response_class=Response,
    responses={**STREAM, **responses(409)},
)
async def follow_operation(session_id: SessionId, operation_id: OperationId, caller: Reader, after: Cursor) -> Response:
    """`progress` events show the progress: `stage`, `done`, `total`."""
    operation = await _operation(caller, session_id, operation_id)
    return await event_stream(operation.aevents(after), operation.id)


@router.post(
    "/{operation_id:segment}/cancel",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Cancel an operation",
    responses={200: {"model": TurnResource, "description": "It ended within `Prefer: wait`."}},
)
async def cancel_operation(
    session_id: SessionId, operation_id: OperationId, caller: Writer, wait: Wait
) -> TurnResource:
    """A document that was not indexed completely leaves nothing behind."""
    operation = await _operation(caller, session_id, operation_id)
    if _OF_BASE.match(operation_id):
        caller.principal.need(Right.CONFIGURE)
    await operation.acancel()
    path = operation_path(session_id, operation.id)
    return await wait.show(operation, path, session_id, accepted=True, approvals=False)


async def _operation(caller: Caller, session_id: str, operation_id: str) -> Operation:
    """An operation of the session, its user, or a base, which any session of the tenant may attach to."""
    base = _OF_BASE.match(operation_id)
    return await caller.session(session_id, knowledge=unquote(base[1]) if base else None).aoperation(operation_id)
