"""What the methods of `Session` ask of the side behind them: of the fleet's store, or of a gateway (`sessions.remote`).

The modules `state_calls`, `record_calls`, `memory_calls` and `knowledge_calls` are the former; mypy compares. All
functions are coroutines for the portal's loop. What they take and return is said where users meet it, at the methods.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sessions.client.portal import Portal
from sessions.client.transcript import Order, Page
from sessions.protocol.call import Answer
from sessions.protocol.event import Event
from sessions.protocol.state_ops import StateOp
from sessions.protocol.turn import TurnStatus
from sessions.store.calls import PendingCall
from sessions.store.keys import SessionKeys
from sessions.store.turns import TurnRecord

if TYPE_CHECKING:
    from sessions.api.operation import Operation
    from sessions.api.session import Session
    from sessions.protocol.memory_requests import ScopeName


class HasPortal(Protocol):
    """A client: its coroutines run on its portal's loop."""

    @property
    def portal(self) -> Portal:
        """The loop."""
        ...


class TurnCalls(HasPortal, Protocol):
    """What `Turn` and `Operation` stand on: the fleet's client, or a gateway's."""

    async def read(self, keys: SessionKeys, part: str) -> TurnRecord:
        """The record of a turn."""
        ...

    async def wait(self, keys: SessionKeys, part: str, timeout: float | None) -> TurnRecord:
        """Wait for a turn's end."""
        ...

    async def has_events(self, keys: SessionKeys, part: str, after: str | None) -> bool:
        """Whether there are events behind a cursor, or will be."""
        ...

    def follow(self, keys: SessionKeys, part: str, after: str | None) -> AsyncGenerator[Event]:
        """All events of a turn behind a cursor."""
        ...

    async def cancel(self, keys: SessionKeys, part: str) -> TurnStatus:
        """Cancel a turn."""
        ...

    async def pending_calls(self, keys: SessionKeys, part: str) -> list[PendingCall]:
        """The calls that a turn waits for."""
        ...

    async def answer_call(self, keys: SessionKeys, part: str, call_id: str, answer: Answer) -> None:
        """Answer a call that a turn waits for."""
        ...


class StateCalls(Protocol):
    """What `StateMethods` stands on."""

    async def get(self, session: Any, key: str | None, default: Any) -> Any:
        """One value, or all."""
        ...

    async def write(self, session: Any, ops: list[StateOp]) -> list[Any]:
        """Carry out changes, all or none; what each left behind."""
        ...


class RecordCalls(Protocol):
    """What `RecordMethods` stands on."""

    async def lifetime(self, session: Any) -> tuple[bool, float | None]:
        """Whether its ttl ran out, and the seconds until it does."""
        ...

    async def create(self, session: Any) -> bool:
        """Make the session, where there is none; whether it was made."""
        ...

    async def checkpoints(self, session: Any) -> list[int]:
        """The numbers of the checkpoints there are."""
        ...

    async def save(self, session: Any, values: Mapping[str, Any] | None) -> int:
        """Write a checkpoint."""
        ...

    async def restore(self, session: Any, number: int | None) -> dict[str, Any]:
        """Attach to what was saved."""
        ...

    async def context(self, session: Any) -> dict[str, Any]:
        """What is known of the session."""
        ...

    async def context_for(self, session: Any, query: str, max_items: int) -> str:
        """Prompt text from what was said about a query."""
        ...

    async def history(self, session: Any, limit: int, order: Order, cursor: int | None) -> Page:
        """A page of the transcript."""
        ...

    async def fork(self, session: Any, session_id: str | None, at: str | None) -> Session:
        """A new session with this one's history."""
        ...


class MemoryCalls(Protocol):
    """What `MemoryMethods` stands on."""

    async def add(
        self,
        session: Any,
        text: str,
        memory_type: str,
        metadata: Mapping[str, Any] | None,
        more: Mapping[str, Any],
        scope: ScopeName | None,
    ) -> str:
        """Remember a text."""
        ...

    async def delete(self, session: Any, memory_id: str) -> bool:
        """Forget one memory."""
        ...

    async def clear(self, session: Any, memory_type: str | None, scope: ScopeName | None) -> int:
        """Forget a scope's memories."""
        ...

    async def get(self, session: Any, memory_id: str) -> dict[str, Any] | None:
        """One memory."""
        ...

    async def list_page(
        self, session: Any, limit: int, memory_type: str | None, scope: ScopeName | None, cursor: str | None
    ) -> MemoryPage:
        """A page of a scope's memories."""
        ...

    async def search(
        self,
        session: Any,
        query: str,
        memory_type: str | None,
        limit: int,
        filters: Mapping[str, Any] | None,
        scope: ScopeName | None,
        min_score: float | None,
        timeout: float | None,
    ) -> list[dict[str, Any]]:
        """Find memories."""
        ...


class KnowledgeCalls(Protocol):
    """What `KnowledgeMethods` stands on."""

    async def submit(
        self,
        session: Any,
        given: object,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        scope: str | None = None,
        content_type: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        webhook: str | None = None,
    ) -> Operation:
        """Have one document accepted."""
        ...

    async def operation_of(self, session: Any, operation_id: str) -> Operation:
        """An operation by its id."""
        ...

    async def search(
        self,
        session: Any,
        query: str,
        limit: int,
        filters: Mapping[str, Any] | None,
        sources: Sequence[str] | None,
        scope: str | None,
        timeout: float | None,
    ) -> list[dict[str, Any]]:
        """Find passages."""
        ...

    async def list_sources(self, session: Any, scope: str | None) -> list[dict[str, Any]]:
        """List the documents of a scope."""
        ...

    async def remove(self, session: Any, source: str, scope: str | None) -> int:
        """Remove one document."""
        ...

    async def clear(self, session: Any, scope: str | None) -> int:
        """Remove all documents of a scope."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """Some memories, newest first, and where to go on: `list_memory(cursor=page.cursor)`; None at the end."""

    memories: list[dict[str, Any]] = field(default_factory=list)
    cursor: str | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.memories)

    def __len__(self) -> int:
        return len(self.memories)
