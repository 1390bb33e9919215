"""Opens the index that a deployment has: a Qdrant server where one is named, the embedded engine else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from workers.retrieval.ports import KnowledgeIndex

FOLDER: Final = "knowledge"


def open_index(home: Path, *, qdrant_url: str | None, api_key: str | None, timeout: float) -> KnowledgeIndex:
    """The index of this process; nothing is asked of a server yet.

    Args:
        home: the fleet's folder; the embedded index lives in `knowledge` under it.
        qdrant_url: of a server, with https where it has TLS; port 6333 where it names none.
        api_key: of the server.
        timeout: for each request to the server, in seconds.

    Raises:
        IndexLocked: another process owns the embedded index.
        BadRequest: the URL is none.
    """
    if qdrant_url:
        from workers.retrieval.index.server import ServerIndex  # noqa: PLC0415

        return ServerIndex.connect(qdrant_url, api_key=api_key, timeout=timeout)
    from workers.retrieval.index.embedded import EmbeddedIndex  # noqa: PLC0415

    return EmbeddedIndex.open(home / FOLDER)
