"""The operations on transcripts, with the parts that they share."""

from __future__ import annotations

from typing import Any

from broker_config.settings import Settings
from sessions.client.operations import Operations
from sessions.store.history_store import HistoryStore
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.session_records import SessionRecords
from workers.retrieval.ports import EmbeddingModel, KnowledgeIndex, LexicalModel
from workers.retrieval.transcript.indexing import TranscriptIndexing
from workers.retrieval.transcript.progress import ProgressRecords
from workers.retrieval.transcript.search import TranscriptSearch


class TranscriptOperations:
    """Indexing and searching. One of each per process.

    Attributes:
        index: changes the index; search: searches it.
    """

    def __init__(
        self,
        settings: Settings,
        store: Any,
        keyring: KeyRing,
        index: KnowledgeIndex,
        embedding: EmbeddingModel,
        lexical: LexicalModel,
        operations: Operations,
    ) -> None:
        scripts = ScriptRunner(store)
        history, progress = HistoryStore(scripts, keyring), ProgressRecords(store, keyring)
        records = SessionRecords(scripts, store, keyring)
        self.index = TranscriptIndexing(
            settings, store, scripts, history, progress, index, embedding, lexical, operations
        )
        self.search = TranscriptSearch(
            settings, store, records, history, progress, index, embedding, lexical, operations
        )
