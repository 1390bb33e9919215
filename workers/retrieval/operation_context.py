"""The context of a running operation: its lane, journal and events, and the hash fields it may write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sessions.protocol.event import EventType
from sessions.store.keys import SessionKeys
from workers.engine.ports import EventDraft, EventSink, StepJournal


class FencedFields(Protocol):
    """Writes hash fields of the lane (the list of documents, the chunks' texts) under the operation's lease."""

    async def write(self, kind: Literal["sources", "texts"], values: Mapping[str, str]) -> None:
        """Set fields of the lane's `sources` or `texts`; an empty value removes a field. Raises `LeaseLost`."""
        ...

    def check_held(self) -> None:
        """Check the lease by this process's clock, before a change that the store cannot fence. Raises `LeaseLost`."""
        ...


@dataclass(frozen=True, slots=True)
class OperationContext:
    """An operation under its lease.

    Attributes:
        keys: the keys of its lane.
        part: the operation's id within the lane.
        journal: its completed steps, so that nothing is paid for twice.
        events: the operation's event stream.
        fields: writes the lane's hash fields.
        now_ms: the store's time when the operation was first started, in milliseconds since the epoch.
    """

    keys: SessionKeys
    part: str
    journal: StepJournal
    events: EventSink
    fields: FencedFields
    now_ms: int

    async def progress(self, stage: str, **numbers: Any) -> None:
        """Report the operation's progress as an event."""
        await self.events.emit([progress_event(stage, **numbers)])


def progress_event(stage: str, **numbers: Any) -> EventDraft:
    """An event that reports an operation's progress."""
    return EventDraft(EventType.PROGRESS, {"stage": stage, **numbers})
