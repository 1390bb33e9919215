"""Knowledge: documents of a session, a user, or a base that sessions share."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.api.session import Session
from sessions.gateway.caller import Caller, Reader, Writer
from sessions.gateway.documents import FORM_SCHEMA, NewDocument, received
from sessions.gateway.parameters import BASE, FILTERS, TEXT, Filters, IdempotencyKey, SessionId
from sessions.gateway.prefer import Wait
from sessions.gateway.principal import Right
from sessions.gateway.problems import responses
from sessions.gateway.resources import TurnResource, operation_path
from sessions.gateway.strict_json import Body, StrictRoute, Whole

router = APIRouter(prefix="/v1/sessions/{session_id:segment}/knowledge", tags=["knowledge"], route_class=StrictRoute)

Scope = Annotated[
    str | None,
    Query(
        description="`session` (default), `user`, or the name of a shared base.",
        max_length=128,
        examples=["handbook"],
        json_schema_extra=BASE,
    ),
]
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": NewDocument.model_json_schema()},
            "multipart/form-data": {"schema": FORM_SCHEMA},
        },
    }
}


class DocumentResource(BaseModel):
    """A document that was added."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "source": "policy.pdf",
                    "kind": "pdf",
                    "bytes": 48213,
                    "pages": 12,
                    "chunks": 40,
                    "collection": "sessionfleet-minilm",
                    "metadata": {"year": 2026},
                    "added_ms": 1795694400120,
                }
            ]
        },
    )

    source: str = Field(description="The document's name.")
    kind: str
    bytes: int
    pages: int | None = None
    chunks: int
    collection: str
    metadata: dict[str, Any]
    added_ms: int = Field(description="When, in milliseconds since the epoch.")


class Documents(BaseModel):
    """The documents of a scope."""

    documents: list[DocumentResource]


class Chunks(BaseModel):
    """The number of chunks that were removed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"chunks": 40}]})

    chunks: int


class KnowledgeSearch(Body):
    """A search."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "which class do I travel in?"},
                {"query": "form for travel", "bases": ["handbook"], "filters": {"year": [2025, 2026]}},
                {"query": "prices", "filters": {"valid_until": {"$gte": "2026-11-30"}, "draft": {"$ne": True}}},
            ]
        },
    )

    query: str = Field(min_length=1, json_schema_extra=TEXT)
    limit: Whole = Field(5, ge=1, le=100)
    filters: Filters | None = Field(None, description=FILTERS)
    sources: list[str] | None = Field(None, description="Only these documents.")
    scope: str | None = Field(
        None,
        description="Only `session`, `user` or one base; by default all, including `bases`.",
        json_schema_extra=BASE,
    )
    min_score: float | None = Field(
        None, ge=0, le=1, description="Of each passage; by default the floor below which it has nothing to do with it."
    )
    bases: list[Annotated[str, Field(json_schema_extra=BASE)]] | None = Field(
        None, description="Named bases to search as well."
    )


class Place(BaseModel):
    """Another document, or another place in the same one, with the text of a passage."""

    model_config = ConfigDict(extra="allow")

    source: str
    chunk: int
    page: int | None = None
    metadata: dict[str, Any]
    id: str


class Passage(BaseModel):
    """A part of a document that answers a query."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "id": "0d9a4e21-0192-4f5c-8e8d-17e3c8e3c5b7",
                    "text": "Trains are booked in second class.",
                    "score": 0.62,
                    "similarity": 0.61,
                    "source": "policy.pdf",
                    "chunk": 7,
                    "page": 3,
                    "heading": "Trains",
                    "start": 4120,
                    "end": 4154,
                    "metadata": {"year": 2026},
                    "also_in": [],
                }
            ]
        },
    )

    id: str
    text: str
    score: float = Field(ge=0, le=1, description="1 is the best match by meaning and by words.")
    similarity: float | None = Field(None, description="Cosine similarity; null if only words were compared.")
    source: str
    chunk: int
    page: int | None = None
    heading: str | None = None
    start: int = Field(description="Characters from the document's beginning.")
    end: int
    metadata: dict[str, Any]
    also_in: list[Place] = Field([], description="Where else the same text was found.")


class Passages(BaseModel):
    """What a search found, the best first."""

    passages: list[Passage]


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Add a document",
    openapi_extra=_BODY,
    responses={
        200: {"model": TurnResource, "description": "It ended within `Prefer: wait`."},
        **responses(409, 413),
    },
)
async def add_knowledge(
    session_id: SessionId, caller: Writer, request: Request, wait: Wait, idempotency_key: IdempotencyKey = None
) -> TurnResource:
    """Durably accepted: a worker indexes it, and its operation shows the progress and the result.

    A shared base needs the right `configure`.
    """
    async with received(request, caller.gateway.settings.document_limit_bytes) as waiting, caller.gateway.documents:
        document = await waiting.read()
        session = _changing(caller, session_id, document.options["scope"])
        operation = await session.asubmit_knowledge(
            document.content, **document.options, idempotency_key=idempotency_key
        )
    path = operation_path(session_id, operation.id)
    return await wait.show(operation, path, session_id, accepted=True, approvals=False)


@router.get("", summary="List documents", response_model_exclude_unset=True)
async def list_knowledge(session_id: SessionId, caller: Reader, scope: Scope = None) -> Documents:
    """Of one scope, by name."""
    found = await caller.session(session_id).alist_knowledge(scope=scope)
    return Documents(documents=[DocumentResource(**one) for one in found])


@router.delete("", summary="Remove all documents", responses=responses(502, 504))
async def clear_knowledge(session_id: SessionId, caller: Writer, scope: Scope = None) -> Chunks:
    """Of one scope; documents that are being indexed are cancelled."""
    return Chunks(chunks=await _changing(caller, session_id, scope).aclear_knowledge(scope=scope))


@router.post("/search", summary="Search documents", response_model_exclude_unset=True, responses=responses(502, 504))
async def search_knowledge(session_id: SessionId, body: KnowledgeSearch, caller: Reader) -> Passages:
    """By meaning and by words, in the session's documents, its user's, and those of `bases`."""
    found = await caller.session(session_id, knowledge=body.bases).asearch_knowledge(
        body.query, body.limit, body.filters, sources=body.sources, scope=body.scope, min_score=body.min_score
    )
    return Passages(passages=[Passage(**one) for one in found])


@router.delete("/{source:anything}", summary="Remove a document", responses=responses(502, 504))
async def delete_knowledge(
    session_id: SessionId,
    source: Annotated[str, Path(description="Its name.", max_length=8192, examples=["policy.pdf"])],
    caller: Writer,
    scope: Scope = None,
) -> Chunks:
    """0 chunks if there is none of this name."""
    return Chunks(chunks=await _changing(caller, session_id, scope).adelete_knowledge(source, scope=scope))


def _changing(caller: Caller, session_id: str, scope: str | None) -> Session:
    """The session, if the caller may change this scope: a base belongs to the whole tenant.

    Raises:
        Forbidden: it is a base, and the right `configure` is missing.
    """
    if scope not in (None, "session", "user"):
        caller.principal.need(Right.CONFIGURE)
    return caller.session(session_id)
