"""A checkpoint as its script writes it: JSON that contains the values as they are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sessions.errors import CorruptRecord
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A session's state at one moment.

    Attributes:
        at_ms: the store's time, milliseconds since the epoch.
        history: the number of committed turns; messages: the number of messages in them.
        agents: name -> configuration.
        knowledge: the session's own documents, each as `<collection>/<source>`, sorted.
        memories: the number of the session's memories; memory_version: the newest id of their log, None without one.
    """

    number: int
    at_ms: int
    state: dict[str, Any]
    agents: dict[str, Any]
    history: int
    messages: int
    knowledge: tuple[str, ...] = ()
    memories: int = 0
    memory_version: str | None = None

    @classmethod
    def load(cls, raw: bytes, keyring: KeyRing, keys: SessionKeys) -> Checkpoint:
        """A checkpoint from its stored form.

        Raises:
            CorruptRecord: it cannot be read. SealError: a value in it cannot be decrypted.
        """
        try:
            # Encrypted values are in it byte by byte, and those are not UTF-8.
            stored = json.loads(raw.decode("latin-1"))
            memory = stored.get("memory", {})  # absent in checkpoints of older versions
            # An empty Lua table is written as {}; each value is JSON within JSON.
            return cls(
                number=int(stored["number"]),
                at_ms=int(stored["at"]),
                state=_values(keyring, keys.state, stored["state"]),
                agents=_values(keyring, keys.agents, stored["agents"]),
                history=int(stored["history"]),
                messages=int(stored["messages"]),
                knowledge=tuple(sorted(_bytes(name).decode() for name in stored.get("knowledge") or ())),
                memories=int(memory.get("count", 0)),
                memory_version=memory.get("version"),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptRecord(f"a checkpoint cannot be read: {error!r}; earlier ones may be intact") from error

    def dump(self, keyring: KeyRing, keys: SessionKeys) -> bytes:
        """The checkpoint as `save_checkpoint.lua` writes it, with the values encrypted for this session.

        It names no documents and no position in the log of memories: those are another session's.
        """
        stored = {
            "v": 1,
            "number": self.number,
            "at": self.at_ms,
            "state": _sealed(keyring, keys.state, self.state),
            "agents": _sealed(keyring, keys.agents, self.agents),
            "history": self.history,
            "messages": self.messages,
            "memory": {"count": self.memories},
            "knowledge": [],
        }
        return json.dumps(stored, ensure_ascii=False).encode("latin-1")


def _sealed(keyring: KeyRing, key: str, values: Mapping[str, Any]) -> dict[str, str]:
    stored = {name: keyring.seal(key, name, json.dumps(value).encode()) for name, value in values.items()}
    return {name.encode().decode("latin-1"): value.decode("latin-1") for name, value in stored.items()}


def _values(keyring: KeyRing, key: str, stored: Mapping[str, str]) -> dict[str, Any]:
    """Values as the session stores them, encrypted for that place: restoring moves them back there."""
    named = {_bytes(name).decode(): _bytes(value) for name, value in stored.items()}
    return {name: json.loads(keyring.open(key, name, value)) for name, value in named.items()}


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
