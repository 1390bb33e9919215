"""Files of a session: images, documents and audio, for messages to refer to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from sessions.client.arguments.attachments import checked_media_type, file_name
from sessions.errors import InvalidFile, UnknownFile
from sessions.gateway.caller import Reader, Writer
from sessions.gateway.messages import FILE_ID
from sessions.gateway.parameters import LONGEST_TTL, SessionId
from sessions.gateway.problems import responses
from sessions.gateway.strict_json import StrictRoute
from sessions.protocol.media_types import media_type_of, suffix_of
from sessions.protocol.message import MediaKind, kind_of
from sessions.store.files import StoredFile
from sessions.store.submission import Upload

router = APIRouter(
    prefix="/v1/sessions/{session_id:segment}/files", tags=["files"], route_class=StrictRoute, responses=responses(404)
)
_IN_MEMORY: Final = 1024 * 1024
_BINARY: Final = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_BODY: Final = {
    "requestBody": {"required": True, "content": dict.fromkeys(("image/png", "application/pdf", "audio/mpeg"), _BINARY)}
}
# A browser must neither run what is in a file nor show it as a page of the gateway's.
_SAFE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600",
}
FileId = Annotated[
    str,
    Path(
        description="The `id` of a file of this session.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        json_schema_extra=FILE_ID,
    ),
]


class FileResource(BaseModel):
    """A file of a session."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "type": "image",
                    "name": "photo.jpg",
                    "media_type": "image/jpeg",
                    "size": 482113,
                    "added_at": "2026-11-26T12:00:00.120Z",
                }
            ]
        },
    )

    id: str = Field(description="Derived from the content: the SHA-256, or with encryption keys a keyed digest.")
    type: MediaKind = Field(description="What it is to a model, and the `type` of a part that refers to it.")
    name: str
    media_type: str
    size: int = Field(description="Bytes.")
    added_at: datetime

    @classmethod
    def of(cls, file: StoredFile) -> FileResource:
        """The resource of a file."""
        return cls(
            id=file.id,
            type=file.kind,
            name=file.name,
            media_type=file.media_type,
            size=file.size,
            added_at=file.added_at,
        )


class Files(BaseModel):
    """The files of a session, the oldest first."""

    files: list[FileResource]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Upload a file",
    openapi_extra=_BODY,
    responses=responses(409, 413),
)
async def upload_file(
    session_id: SessionId,
    caller: Writer,
    request: Request,
    name: Annotated[str | None, Query(max_length=512, description="The file's name.", examples=["photo.jpg"])] = None,
    session_ttl: Annotated[
        float | None,
        Query(gt=0, le=LONGEST_TTL, description="Seconds after its last use until the session expires."),
    ] = None,
    content_type: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> FileResource:
    """The body is the file, its `Content-Type` the media type. The same content again is the same file.

    If no turn uses it within SESSIONFLEET_FILE_UNUSED_TTL (an hour), it is removed; otherwise it lives as long as the
    session.
    """
    media_type = _media_type(content_type, name)
    session = caller.session(session_id, ttl=session_ttl)
    with SpooledTemporaryFile(max_size=_IN_MEMORY) as received:
        async for chunk in request.stream():
            received.write(chunk)
        kind = kind_of(media_type)
        upload = Upload(kind, file_name(name or f"{kind}{suffix_of(media_type)}"), media_type, received)
        stored = await session.portal.acall(session.backend.files.upload(session, upload))
    return FileResource.of(stored)


@router.get("", summary="List files")
async def list_files(session_id: SessionId, caller: Reader) -> Files:
    """Those of messages and of tools' results, and new uploads."""
    return Files(files=[FileResource.of(file) for file in await caller.session(session_id).afiles()])


@router.get(
    "/{file_id:segment}",
    summary="Download a file",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"*/*": _BINARY}}},
)
async def download_file(session_id: SessionId, file_id: FileId, caller: Reader) -> Response:
    """As an attachment, under its own media type; a browser does not show it."""
    session = caller.session(session_id)
    file = await session.portal.acall(session.backend.files.details(session, file_id))
    headers = {
        **_SAFE,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name or file.id, safe='')}",
        "Content-Length": str(file.size),
    }
    return StreamingResponse(_pieces(session, file_id), media_type=file.media_type, headers=headers)


async def _pieces(session: Any, file_id: str) -> AsyncIterator[bytes]:
    async for piece in session.backend.files.read(session, file_id):
        yield piece


@router.delete("/{file_id:segment}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a file")
async def delete_file(session_id: SessionId, file_id: FileId, caller: Writer) -> None:
    """With its bytes. In the history a note stands in its place."""
    if not await caller.session(session_id).adelete_file(file_id):
        raise UnknownFile(f"file {file_id[:80]!r} is not in session {session_id!r}. {UnknownFile.__doc__}")


def _media_type(content_type: str | None, name: str | None) -> str:
    """The media type: of the header, or, if that says nothing, of the name."""
    said = (content_type or "").partition(";")[0].strip().lower()
    if said in ("", "application/octet-stream", "application/x-www-form-urlencoded"):
        found = media_type_of(name or "")
        if found is None:
            raise InvalidFile(f"Content-Type {said or 'absent'!r}: send the media type of the file, such as image/png")
        return found
    if said == "multipart/form-data":
        raise InvalidFile("send the file itself as the body, with its media type as Content-Type, not a form")
    return checked_media_type(said)
