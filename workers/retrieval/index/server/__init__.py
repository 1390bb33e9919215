"""The index on a Qdrant server. Importing this loads its client."""

from workers.retrieval.index.server.index import ServerIndex

__all__ = ["ServerIndex"]
