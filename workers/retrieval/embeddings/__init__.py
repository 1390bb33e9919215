"""Embedding models: the one that comes with the install, those of providers, and directories of one's own."""

from workers.retrieval.embeddings.choice import resolve_embedding_model
from workers.retrieval.embeddings.query_memo import QueryMemo

__all__ = ["QueryMemo", "resolve_embedding_model"]
