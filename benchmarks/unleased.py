"""What the engine and the retrieval operations write to, without a lease and without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workers.engine import EventDraft


class DictJournal:
    """A journal in a dict."""

    def __init__(self) -> None:
        self.steps: dict[str, bytes] = {}

    def lookup(self, key: str) -> bytes | None:
        return self.steps.get(key)

    async def record(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        self.steps[key] = value

    def record_final(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        self.steps[key] = value


class NoEvents:
    """Takes events to nowhere."""

    async def emit(self, events: Sequence[EventDraft]) -> None:
        return


class NoNotes:
    """Takes notes to nowhere."""

    async def note(self, kind: str, values: Mapping[str, str]) -> None:
        return
