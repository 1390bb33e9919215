"""An operation that runs: what it is given, and how it writes down how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sessions.protocol.event import EventType
from sessions.store.keys import SessionKeys
from workers.engine.ports import EventDraft, StepJournal


class FencedFields(Protocol):
    """What is kept of documents beside the index: written under the operation's lease."""

    async def write(self, kind: Literal["sources", "texts"], values: Mapping[str, str]) -> None:
        """Set fields of the lane's `sources` or `texts`; an empty value removes the field. Raises `LeaseLost`."""
        ...

    def check_held(self) -> None:
        """Ask right before what the store cannot refuse. Raises `LeaseLost` where the lease is over by our clock."""
        ...


class Sink(Protocol):
    """Takes the operation's events."""

    async def emit(self, events: Sequence[EventDraft]) -> None:
        """Append events to the operation's stream."""
        ...


@dataclass(frozen=True, slots=True)
class OperationContext:
    """An operation under its lease.

    Attributes:
        keys: the lane; part: the operation's id within it.
        journal: its finished steps, so that nothing that was paid for is done again.
        now_ms: the store's time when it first began, in milliseconds since the epoch.
    """

    keys: SessionKeys
    part: str
    journal: StepJournal
    events: Sink
    fields: FencedFields
    now_ms: int

    async def progress(self, stage: str, **numbers: Any) -> None:
        """Say how far it is."""
        await self.events.emit([progress(stage, **numbers)])


def progress(stage: str, **numbers: Any) -> EventDraft:
    """How far an operation is, as an event."""
    return EventDraft(EventType.PROGRESS, {"stage": stage, **numbers})
