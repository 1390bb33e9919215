"""The operations on documents, with the parts that they share."""

from __future__ import annotations

from typing import Any

from broker_config.settings import Settings
from sessions.store.sealing import KeyRing
from workers.retrieval.knowledge.catalog import SourceCatalog
from workers.retrieval.knowledge.changes import KnowledgeChanges
from workers.retrieval.knowledge.chunk_texts import ChunkTexts
from workers.retrieval.knowledge.search import KnowledgeSearch
from workers.retrieval.ports import EmbeddingModel, KnowledgeIndex, LexicalModel


class KnowledgeOperations:
    """Changing and searching. One of each per process.

    Attributes:
        changes: adds, removes and copies documents; search: searches and reads them.
    """

    def __init__(
        self,
        settings: Settings,
        store: Any,
        keyring: KeyRing,
        index: KnowledgeIndex,
        embedding: EmbeddingModel,
        lexical: LexicalModel,
    ) -> None:
        catalog, texts = SourceCatalog(store, keyring), ChunkTexts(store, keyring)
        self.changes = KnowledgeChanges(settings, store, keyring, catalog, texts, index, embedding, lexical)
        self.search = KnowledgeSearch(settings, store, catalog, texts, index, embedding, lexical)
