"""Memory: what a session or its user was taught."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.errors import NotFound
from sessions.gateway.caller import Reader, Writer
from sessions.gateway.parameters import FILTERS, TEXT, Filters, SessionId
from sessions.gateway.problems import responses
from sessions.gateway.segments import segment
from sessions.gateway.strict_json import Body, StrictRoute, Whole

router = APIRouter(prefix="/v1/sessions/{session_id:segment}/memory", tags=["memory"], route_class=StrictRoute)

Kind = Literal["short", "long"]
Scope = Literal["session", "user"]
MemoryId = Annotated[str, Path(description="The `id` of a memory.", examples=["01a217ecd1db7245b13dde10f9743c85"])]
_WHOSE = "Whose it is: the session's, or the user's in all sessions; by default the user's if the session has one."
_MEMORY: Final[dict[str, Any]] = {
    "id": "01a217ecd1db7245b13dde10f9743c85",
    "text": "Ann prefers window seats",
    "metadata": {"topic": "travel"},
    "type": "long",
    "scope": "user",
    "version": 1,
    "created_at": "2026-11-26T12:00:00.120Z",
    "updated_at": "2026-11-26T12:00:00.120Z",
}


class NewMemory(Body):
    """A text to remember."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Ann prefers window seats", "metadata": {"topic": "travel"}}]},
    )

    text: str = Field(
        min_length=1, description="Up to SESSIONFLEET_MEMORY_TEXT_LIMIT_BYTES (32 KiB).", json_schema_extra=TEXT
    )
    type: Kind = "long"
    metadata: dict[str, Any] | None = Field(None, description="For filters; up to 8 KiB.")
    scope: Scope | None = Field(None, description=_WHOSE)


class NewMemoryId(BaseModel):
    """A memory that was added."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "01a217ecd1db7245b13dde10f9743c85"}]})

    id: str


class MemoryChange(Body):
    """What to change of a memory; what is missing stays."""

    model_config = ConfigDict(
        json_schema_extra={
            # Null is what is missing: one of them must be there.
            "anyOf": [
                {"required": ["text"], "properties": {"text": {"type": "string"}}},
                {"required": ["type"], "properties": {"type": {"type": "string"}}},
                {"required": ["metadata"], "properties": {"metadata": {"type": "object"}}},
            ],
            "examples": [{"text": "Ann prefers aisle seats"}, {"metadata": {"topic": "travel"}, "version": 2}],
        },
    )

    text: str | None = Field(None, min_length=1, description="The new text.", json_schema_extra=TEXT)
    type: Kind | None = None
    metadata: dict[str, Any] | None = Field(None, description="The new metadata, instead of the old; up to 8 KiB.")
    version: Whole | None = Field(None, ge=1, description="Only if the memory still has this version; otherwise 409.")


class MemoryResource(BaseModel):
    """A memory."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MEMORY]})

    id: str
    text: str
    metadata: dict[str, Any]
    type: Kind
    scope: Scope
    version: int = Field(description="1, and one more with every change.")
    created_at: datetime
    updated_at: datetime = Field(description="When it was last changed, or the same was added again.")
    score: float | None = Field(None, description="In a search: 0 to 1; 1 is the first by meaning and by words.")
    similarity: float | None = Field(
        None, description="In a search: cosine similarity; null if only words were compared."
    )


class Memories(BaseModel):
    """A page of memories."""

    memories: list[MemoryResource]
    cursor: str | None = Field(None, description="Where to continue; null at the end.")


class FoundMemories(BaseModel):
    """What a search found, the best first."""

    memories: list[MemoryResource]


class Forgotten(BaseModel):
    """The number of memories that were deleted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"deleted": 3}]})

    deleted: int


class MemorySearch(Body):
    """A search."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "seat preferences", "filters": {"topic": "travel"}},
                {"query": "trips", "filters": {"topic": {"$in": ["travel", "work"]}, "year": {"$gte": 2025}}},
            ]
        },
    )

    query: str = Field(min_length=1, json_schema_extra=TEXT)
    limit: Whole = Field(5, ge=1, le=1000)
    type: Kind | None = None
    filters: Filters | None = Field(None, description=FILTERS)
    scope: Scope | None = Field(None, description="By default those of the user and of this session.")
    min_score: float | None = Field(None, ge=0, le=1)


@router.post("", status_code=status.HTTP_201_CREATED, summary="Add a memory")
async def add_memory(session_id: SessionId, body: NewMemory, caller: Writer, response: Response) -> NewMemoryId:
    """A worker computes its vector later; it can be found by its words at once.

    If there is a memory with the same text, type and metadata, that one stays the only one, and its id is returned.
    """
    session = caller.session(session_id)
    made = await session.aadd_memory(body.text, body.type, metadata=body.metadata, scope=body.scope)
    response.headers["Location"] = f"/v1/sessions/{segment(session_id)}/memory/{segment(made)}"
    return NewMemoryId(id=made)


@router.get("", response_model_exclude_unset=True, summary="List memories")
async def list_memory(
    session_id: SessionId,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    type: Annotated[Kind | None, Query()] = None,  # noqa: A002 - the field's name
    scope: Annotated[Scope | None, Query(description=_WHOSE)] = None,
    cursor: Annotated[str | None, Query(description="The cursor of the previous page.", max_length=256)] = None,
) -> Memories:
    """Of one scope, newest first."""
    page = await caller.session(session_id).alist_memory(limit, memory_type=type, scope=scope, cursor=cursor)
    return Memories(memories=[MemoryResource(**memory) for memory in page], cursor=page.cursor)


@router.delete("", summary="Delete all memories")
async def clear_memory(
    session_id: SessionId,
    caller: Writer,
    type: Annotated[Kind | None, Query()] = None,  # noqa: A002
    scope: Annotated[Scope | None, Query(description=_WHOSE)] = None,
) -> Forgotten:
    """Of one scope only."""
    return Forgotten(deleted=await caller.session(session_id).aclear_memory(type, scope=scope))


@router.post("/search", response_model_exclude_unset=True, summary="Search memories", responses=responses(502, 504))
async def search_memory(session_id: SessionId, body: MemorySearch, caller: Reader) -> FoundMemories:
    """By meaning and by words."""
    found = await caller.session(session_id).asearch_memory(
        body.query, body.type, limit=body.limit, filters=body.filters, scope=body.scope, min_score=body.min_score
    )
    return FoundMemories(memories=[MemoryResource(**memory) for memory in found])


@router.get(
    "/{memory_id:anything}", response_model_exclude_unset=True, summary="Read a memory", responses=responses(404)
)
async def get_memory(session_id: SessionId, memory_id: MemoryId, caller: Reader) -> MemoryResource:
    """Of the session or its user."""
    memory = await caller.session(session_id).aget_memory(memory_id)
    if memory is None:
        raise _none(memory_id)
    return MemoryResource(**memory)


@router.patch(
    "/{memory_id:anything}",
    response_model_exclude_unset=True,
    summary="Change a memory",
    responses=responses(404, 409),
)
async def update_memory(
    session_id: SessionId, memory_id: MemoryId, body: MemoryChange, caller: Writer
) -> MemoryResource:
    """Of the session or its user. Changes that are made at the same time are applied one after the other."""
    memory = await caller.session(session_id).aupdate_memory(
        memory_id, body.text, metadata=body.metadata, memory_type=body.type, version=body.version
    )
    if memory is None:
        raise _none(memory_id)
    return MemoryResource(**memory)


@router.delete(
    "/{memory_id:anything}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete a memory",
    responses=responses(404),
)
async def delete_memory(session_id: SessionId, memory_id: MemoryId, caller: Writer) -> None:
    """Of the session or its user."""
    if not await caller.session(session_id).adelete_memory(memory_id):
        raise _none(memory_id)


def _none(memory_id: str) -> NotFound:
    return NotFound(f"there is no memory {memory_id!r} of this session or its user")
