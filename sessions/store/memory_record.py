"""A memory as it is stored: a text with its kind and metadata, and the position in the log that shows what changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import uuid_utils

from sessions.errors import CorruptRecord

MemoryKind = Literal["short", "long"]
KINDS: Final[tuple[MemoryKind, ...]] = ("short", "long")


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory.

    Attributes:
        id: a UUIDv7, so that ids sort by creation time.
        created_ms: by the clock of the process that added it, milliseconds since the epoch.
        updated_ms: when its text or metadata were last changed, or the same was said again; 0 for never.
        version: 1, and one more with every change.
    """

    id: str
    text: str
    kind: MemoryKind
    metadata: Mapping[str, Any]
    created_ms: int
    updated_ms: int = 0
    version: int = 1

    @property
    def known_since_ms(self) -> int:
        """The time from which it is known to hold."""
        return max(self.created_ms, self.updated_ms)

    @property
    def recency(self) -> tuple[int, str]:
        """Orders memories by the time from which they are known to hold; the id decides between equal times."""
        return self.known_since_ms, self.id

    @property
    def content(self) -> bytes:
        """Equal for memories that say the same: text (without regard to case and spacing), kind and metadata."""
        return json.dumps([plain_text(self.text), self.kind, self.metadata], sort_keys=True).encode()

    def changed(self, now_ms: int, **fields: Any) -> Memory:
        """The next version of the memory, with other values in these fields."""
        return replace(self, updated_ms=now_ms, version=self.version + 1, **fields)

    def said_again(self, at_ms: int) -> Memory:
        """The next version of a memory that was said again at this time: it is as new as the last time."""
        return self.changed(max(self.known_since_ms, at_ms))

    def dump(self) -> bytes:
        """The memory in its stored form, unencrypted."""
        stored = {
            "v": 1,
            "id": self.id,
            "text": self.text,
            "kind": self.kind,
            "metadata": self.metadata,
            "created_ms": self.created_ms,
            "updated_ms": self.updated_ms,
            "version": self.version,
        }
        return json.dumps(stored, separators=(",", ":")).encode()

    def shown(self, scope: str) -> dict[str, Any]:
        """The memory in its public form: JSON, with the scope in which it was found."""
        return {
            "id": self.id,
            "text": self.text,
            "metadata": dict(self.metadata),
            "type": self.kind,
            "scope": scope,
            "created_ms": self.created_ms,
            "updated_ms": self.known_since_ms,
            "version": self.version,
        }

    @classmethod
    def load(cls, raw: bytes) -> Memory:
        """The memory from its stored form.

        Raises:
            CorruptRecord: it cannot be read.
        """
        try:
            stored = json.loads(raw)
            return cls(
                stored["id"],
                stored["text"],
                stored["kind"],
                stored["metadata"],
                stored["created_ms"],
                stored.get("updated_ms", 0),  # memories of earlier versions were never changed
                stored.get("version", 1),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptRecord(f"a memory cannot be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class StoredMemory:
    """A memory as it was read.

    Attributes:
        digest: SHA-1 of the stored bytes (hex): shows whether it was replaced since.
        vector: the vector from the requested model; None if there is none.
    """

    memory: Memory
    digest: str
    vector: bytes | None = None


@dataclass(frozen=True, slots=True)
class LogMark:
    """A position in a scope's log. Two logs of one name, the second after a deletion, do not share a mark."""

    entry: bytes
    change: tuple[bytes, bytes]

    @classmethod
    def of(cls, entry: tuple[bytes, Mapping[bytes, bytes]]) -> LogMark:
        """The mark of an entry in the client's form: its id, and one field."""
        entry_id, fields = entry
        return cls(entry_id, next(iter(fields.items())))


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened after a mark: the ids of memories that were added, replaced or removed, and the new mark."""

    ids: Sequence[str] = ()
    mark: LogMark | None = None


def known_since_ms(shown: Mapping[str, Any]) -> int:
    """`Memory.known_since_ms` of a memory in its public form; workers of earlier versions say less."""
    since: int = shown.get("updated_ms", shown["created_ms"])
    return since


def plain_text(text: str) -> str:
    """The text without differences of case and spacing."""
    return " ".join(text.split()).casefold()


def new_memory_id() -> str:
    """An id for a memory."""
    return str(uuid_utils.uuid7().hex)
