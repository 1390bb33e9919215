"""Where the memories of a scope are stored, and how they are encrypted there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sessions.store.memory_record import Memory
from sessions.store.state import StateScope

MemoryScope = StateScope
"""Memories are stored next to the state of the same session or user."""

Seal = Callable[[str, str, bytes], bytes]
"""From key, field and value to the stored bytes, or back: a value encrypted for one place cannot be used in another."""


Digests = Callable[[bytes], Sequence[str]]
"""The digests that a content may have, the current one first; see `KeyRing.digests`."""


def sha256_alone(value: bytes) -> Sequence[str]:
    """The digest without a key."""
    return (hashlib.sha256(value).hexdigest(),)


def as_it_is(_key: str, _field: str, value: bytes) -> bytes:
    """Neither encrypts nor decrypts."""
    return value


@dataclass(frozen=True, slots=True)
class MemorySealing:
    """Encrypts what is stored of memories.

    Attributes:
        seal: encrypts a memory or vector for the place where it is stored; open: decrypts it.
        digests: identify a content without telling it.
    """

    seal: Seal
    open: Seal
    digests: Digests

    def sealed(self, scope: MemoryScope, memory: Memory) -> bytes:
        """The bytes to store for a memory."""
        return self.seal(memories_key(scope), memory.id, memory.dump())

    def opened(self, scope: MemoryScope, memory_id: str, raw: bytes) -> Memory:
        """The memory from its stored bytes. Raises `CorruptRecord`."""
        return Memory.load(self.open(memories_key(scope), memory_id, raw))

    def content_digests(self, scope: MemoryScope, memory: Memory) -> Sequence[str]:
        """Of this scope: the same content in another one has other digests, so that nobody can compare the two."""
        return self.digests(scope.base.encode() + b"\0" + memory.content)


def memories_key(scope: MemoryScope) -> str:
    """The hash of the memories."""
    return f"{scope.base}:memory"


def vectors_key(scope: MemoryScope) -> str:
    """The hash of their vectors."""
    return f"{scope.base}:memory:vectors"


def log_key(scope: MemoryScope) -> str:
    """The stream of their changes."""
    return f"{scope.base}:memory:log"


def digests_key(scope: MemoryScope) -> str:
    """The hash that tells which memory has which content."""
    return f"{scope.base}:memory:texts"
