"""The vectors of texts that a scope's documents have already, so that no text is embedded twice.

Most passages of a changed document are those that it had, and a copy under another name has all of them. A copy also
has the vectors of the first: its own name counts only in its terms.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from workers.retrieval.ports import Chunk, IndexPoint, Vector


@dataclass(slots=True)
class KnownVectors:
    """Vectors by passage. They are packed: a large document has 15,000, which as lists would take 200 MB."""

    _vectors: dict[bytes, array[float]] = field(default_factory=dict)

    def add(self, points: Iterable[IndexPoint]) -> None:
        """Learn the vectors of chunks; those without a text are skipped."""
        for point in points:
            text = point.payload.get("text")
            if isinstance(text, str):
                self._vectors[_key(text, point.payload.get("heading"))] = array("f", point.dense)

    def of(self, chunk: Chunk) -> Vector | None:
        """The vector of a chunk, or None."""
        return self._vectors.get(_key(chunk.text, chunk.heading))

    def missing(self, chunks: Iterable[Chunk]) -> int:
        """How many of these chunks have to be embedded."""
        return sum(self.of(chunk) is None for chunk in chunks)


def _key(text: str, heading: str | None) -> bytes:
    return hashlib.blake2b(f"{heading or ''}\0{text}".encode(errors="backslashreplace"), digest_size=16).digest()
