"""Opens a deployment's index: on a Qdrant server if a URL is set, otherwise with the embedded engine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from workers.retrieval.ports import KnowledgeIndex

FOLDER: Final = "knowledge"


def open_index(home: Path, *, qdrant_url: str | None, api_key: str | None, timeout: float) -> KnowledgeIndex:
    """Open the index. No request is sent to a server yet.

    Args:
        home: the fleet's folder, in which `knowledge` contains the embedded index.
        qdrant_url: the server's URL, with https for TLS; the default port is 6333.
        api_key: the server's API key.
        timeout: the timeout of each request to the server, in seconds.

    Raises:
        IndexLocked: another process owns the embedded index.
        BadRequest: `qdrant_url` is not a URL.
    """
    if qdrant_url:
        from workers.retrieval.index.server import ServerIndex  # noqa: PLC0415

        return ServerIndex.connect(qdrant_url, api_key=api_key, timeout=timeout)
    from workers.retrieval.index.embedded import EmbeddedIndex  # noqa: PLC0415

    return EmbeddedIndex.open(home / FOLDER)
