"""Embedding models: the built-in one, those of providers, and those in a local directory."""

from workers.retrieval.embeddings.choice import resolve_embedding_model
from workers.retrieval.embeddings.query_memo import QueryMemo

__all__ = ["QueryMemo", "resolve_embedding_model"]
