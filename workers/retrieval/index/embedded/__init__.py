"""The index in a folder of this machine. Importing this loads the engine."""

from workers.retrieval.index.embedded.index import EmbeddedIndex

__all__ = ["EmbeddedIndex"]
