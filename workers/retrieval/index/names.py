"""Names of collections. They must be valid both as folder names and as names on a Qdrant server."""

from __future__ import annotations

import hashlib
import re

from sessions.errors import BadRequest
from workers.retrieval.ports import EmbeddingInfo

_TRANSCRIPTS = "sessionfleet-transcripts"
_VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def valid_collection(name: str) -> str:
    """Return the name if it is valid.

    Raises:
        BadRequest: it is not.
    """
    if not _VALID.fullmatch(name):
        raise BadRequest(
            f"a collection cannot be called {name!r}; use 1 to 128 letters, digits, '_', '.' and '-', "
            "the first one a letter or digit"
        )
    return name


def default_collection(info: EmbeddingInfo) -> str:
    """The default collection for a model's vectors, which differs for each model and dimension."""
    return _named("sessionfleet", info)


def transcript_collection(info: EmbeddingInfo) -> str:
    """The collection for the transcripts of sessions, with this model's vectors."""
    return _named(_TRANSCRIPTS, info)


def has_transcripts(collection: str) -> bool:
    """Whether a collection is one for transcripts."""
    return collection.startswith(f"{_TRANSCRIPTS}-")


def _named(prefix: str, info: EmbeddingInfo) -> str:
    digest = hashlib.sha256(f"{info.id}\0{info.dimension}".encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", info.id).strip("-").lower()[:80]
    return valid_collection(f"{prefix}-{readable}-{digest}")
