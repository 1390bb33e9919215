"""What the engine and the retrieval operations write to, without a lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sessions.store.keys import SessionKeys
from workers.engine import EventDraft


class DictJournal:
    """A journal in a dict."""

    def __init__(self) -> None:
        self.steps: dict[str, bytes] = {}

    def lookup(self, key: str) -> bytes | None:
        return self.steps.get(key)

    async def record(
        self, key: str, value: bytes, events: Sequence[EventDraft] = (), files: Sequence[str] = ()
    ) -> None:
        self.steps[key] = value

    def record_final(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        self.steps[key] = value

    def check_held(self) -> None:
        """There is no lease that could end."""

    async def take_steering(self, key: str) -> bytes:
        return b""


class NoEvents:
    """Discards events."""

    async def emit(self, events: Sequence[EventDraft]) -> None:
        return


class UnleasedFields:
    """`FencedFields` without a lease: writes at once."""

    def __init__(self, store: Any, keys: SessionKeys) -> None:
        self._store = store
        self._keys = keys

    async def write(self, kind: str, values: Mapping[str, str]) -> None:
        key = self._keys.sources if kind == "sources" else self._keys.texts
        for field, value in values.items():
            await (self._store.hset(key, field, value) if value else self._store.hdel(key, field))

    def check_held(self) -> None:
        return
