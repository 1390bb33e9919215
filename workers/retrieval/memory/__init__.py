"""Memory search on in-process copies of the scopes, which are kept up to date from the scopes' logs; see `search`."""

from workers.retrieval.memory.search import Found, MemorySearch, scopes_of

__all__ = ["Found", "MemorySearch", "scopes_of"]
