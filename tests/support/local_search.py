"""Memory searches that run in this process, without a retrieval worker."""

from __future__ import annotations

from typing import Any

from broker_config.settings import Settings
from sessions.client.per_process import get_client
from sessions.protocol.memory_requests import SearchMemory
from sessions.protocol.operation import OperationRequest
from sessions.store.keys import SessionKeys
from tests.support.retrieval_doubles import WordEmbedding, WordLexical
from workers.retrieval.memory import MemorySearch, scopes_of


def search_here(settings: Settings) -> None:
    """Make the client with these settings search with a MemorySearch of this process, and doubles of the models."""
    client = get_client(settings)
    searches: list[MemorySearch] = []

    async def search(keys: SessionKeys, request: OperationRequest, *, timeout: float | None = None) -> Any:
        assert isinstance(request, SearchMemory)
        if not searches:
            searches.append(MemorySearch(client.stores.memory, WordEmbedding(), WordLexical()))
        sent = SearchMemory.model_validate_json(request.model_dump_json())  # as over the wire
        return (await searches[0].search(scopes_of(sent, keys, settings.partitions), sent)).memories

    client.retrieval.search = search  # type: ignore[method-assign]
