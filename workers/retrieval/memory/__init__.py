"""Searching memory: copies of the scopes in this process, kept up to date from their logs; see `search`."""

from workers.retrieval.memory.search import Found, MemorySearch, scopes_of

__all__ = ["Found", "MemorySearch", "scopes_of"]
