"""Sessions with memory, whose searches run in this process instead of a retrieval worker."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from broker_config.settings import Settings
from sessions import Session
from sessions.client import get_client
from sessions.memory import MemoryMethods
from sessions.retrieval_requests import SearchMemory
from sessions.store.keys import SessionKeys
from tests.support.retrieval_doubles import WordEmbedding, WordLexical
from workers.retrieval.memory import MemorySearch, scopes_of


class RememberingSession(MemoryMethods, Session):
    """A session whose memory can be searched once `search_here` was called for its settings."""


def search_here(settings: Settings) -> None:
    """Answer the searches of these settings' client with one MemorySearch and made-up models."""
    client = get_client(settings)
    searches: list[MemorySearch] = []

    async def retrieve(keys: SessionKeys, request: BaseModel, *, user_id: str | None, timeout: float | None) -> Any:
        assert isinstance(request, SearchMemory)
        if not searches:
            searches.append(MemorySearch(client.memory, WordEmbedding(), WordLexical()))
        sent = SearchMemory.model_validate_json(request.model_dump_json())  # as over the wire
        return (await searches[0].search(scopes_of(sent, keys, settings.partitions), sent)).memories

    client.retrieve = retrieve  # type: ignore[attr-defined,method-assign,unused-ignore]
