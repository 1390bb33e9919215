"""Sessions as files: export one, and create one from an export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from broker_config.telemetry import get_logger
from sessions.client.backend import NewSession
from sessions.errors import BadRequest, SessionfleetError
from sessions.gateway.caller import Caller, Configurer
from sessions.gateway.parameters import ID_RULE, LONGEST_TTL, QUEUE, SESSION_ID, SessionId
from sessions.gateway.problems import responses
from sessions.gateway.routes.sessions import session_path
from sessions.gateway.strict_json import StrictRoute
from sessions.transfer.portable import read_lines
from sessions.transfer.records import Record, SessionHeader, dump_record
from sessions.transfer.sources import Source, inspected

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=StrictRoute)
LINES: Final = "application/x-ndjson"
_FLUSHED_BYTES: Final = 64 * 1024
_EXAMPLE: Final = (
    '{"type":"session","format":"sessionfleet","version":1,"session_id":"chat-1","user_id":"alice","turns":1}\n'
    '{"type":"turn","turn":"0192f5c4e8d17e3c8e3c5b7f0a9d4e21","agent":"Assistant","at_ms":1796006731686,"count":2,'
    '"messages":[{"kind":"request","parts":[{"part_kind":"user-prompt","content":"Hello"}]},'
    '{"kind":"response","parts":[{"part_kind":"text","content":"Hello, Alice!"}]}]}\n'
    '{"type":"end","counts":{"session":1,"turn":1}}\n'
)
_CONTENT: Final[dict[str, Any]] = {LINES: {"schema": {"type": "string"}, "example": _EXAMPLE}}
_log = get_logger(__name__)


class ImportResource(BaseModel):
    """An imported session."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "session_id": "chat-1",
                    "user_id": "alice",
                    "counts": {"turns": 2, "messages": 4, "memories": 0, "files": 0, "documents": 1},
                    "left_out": [],
                    "repeated": False,
                }
            ]
        }
    )

    session_id: str
    user_id: str | None
    counts: dict[str, int] = Field(description="How much was imported.")
    left_out: list[str] = Field(description="What could not be carried over.")
    repeated: bool = Field(description="It was there already, from an earlier import of the same content.")


@router.get(
    "/{session_id:segment}/export",
    summary="Export a session",
    response_class=StreamingResponse,
    responses={
        200: {"description": "One record a line; the last one is `end`.", "content": _CONTENT},
        **responses(404, 410),
    },
)
async def export_session(session_id: SessionId, caller: Configurer) -> Response:
    """Everything that the session has, not encrypted, with its agents' instructions: hence the right `configure`.

    A response without the line `end` is not complete.
    """
    session = caller.session(session_id)
    records = session.backend.transfer.records(session)
    first = await anext(records)  # errors come before the response begins
    return StreamingResponse(_lines(session_id, first, records), media_type=LINES)


async def _lines(session_id: str, first: Record, records: AsyncGenerator[Record]) -> AsyncGenerator[bytes]:
    page = dump_record(first)
    async with aclosing(records):
        try:
            async for record in records:
                page += dump_record(record)
                if len(page) >= _FLUSHED_BYTES:
                    yield page
                    page = b""
        except SessionfleetError as error:
            _log.warning("export_broke_off", session=session_id, error=str(error))
            return
    yield page


@router.post(
    "/import",
    status_code=status.HTTP_201_CREATED,
    summary="Import a session",
    openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
    responses={
        200: {"model": ImportResource, "description": "It was imported before."},
        **responses(409, 413, 502, 504),
    },
)
async def import_session(
    caller: Configurer,
    request: Request,
    response: Response,
    session_id: Annotated[
        str | None, Query(description=f"{ID_RULE}. By default the one in the export.", json_schema_extra=SESSION_ID)
    ] = None,
    ttl: Annotated[
        float | None, Query(gt=0, le=LONGEST_TTL, description="Seconds after its last use until it expires.")
    ] = None,
    queue: Annotated[
        str | None, Query(description="By default the one in the export.", json_schema_extra=QUEUE)
    ] = None,
) -> ImportResource:
    """Create a session from the lines of an export, in one step. Importing the same lines again changes nothing.

    It belongs to the user of the request; if your credential acts for users and names none, to the one in the export.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != LINES:
        raise BadRequest(f"send the lines of an export, with Content-Type: {LINES}")
    with NamedTemporaryFile(suffix=".jsonl") as file:
        async for chunk in request.stream():
            file.write(chunk)
        file.flush()
        source = Source("an export", lambda: _named(Path(file.name)))
        header, origin = await asyncio.to_thread(inspected, source)
        session = caller.session(session_id or header.session_id, ttl=ttl)
        own = replace(source, read=lambda: _owned(source, _owner(caller, header)))
        new = NewSession(own, session.user_id, ttl, queue, origin)
        imported = await session.portal.acall(session.backend.transfer.create_from(session, new))
    if imported.repeated:
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = session_path(session.session_id)
    return ImportResource(
        session_id=session.session_id,
        user_id=imported.user_id,
        counts=dict(imported.counts),
        left_out=list(imported.left_out),
        repeated=imported.repeated,
    )


def _named(path: Path) -> Iterator[Record]:
    return read_lines(path, "the export")


def _owner(caller: Caller, header: SessionHeader) -> str | None:
    """The user in the export counts only if the caller may act for users, and names none."""
    return header.user_id if caller.user is None and caller.principal.acts_for_users else caller.user


def _owned(source: Source, owner: str | None) -> Iterator[Record]:
    for record in source.read():
        yield record.model_copy(update={"user_id": owner}) if isinstance(record, SessionHeader) else record
