"""What `Session`, `Agent` and `Turn` stand on: a session has a back end, which is the fleet's store or a gateway.

`sessions.local` fills these protocols for a fleet's store, `sessions.remote` for a gateway over HTTP. All coroutines
run on the portal's loop. Arguments and results are documented at the methods that users call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from broker_config.settings import Settings
from sessions.client.arguments.knowledge import KnowledgeQuery, NewDocument
from sessions.client.arguments.memory import MemoryListing, MemoryQuery, NewMemory
from sessions.client.arguments.retrieval import KnowledgeConfig
from sessions.client.portal import Portal
from sessions.client.transcript import Page, SortOrder
from sessions.protocol.agent import Recalls
from sessions.protocol.call import CallAnswer
from sessions.protocol.event import Event
from sessions.protocol.memory_requests import ScopeName
from sessions.protocol.state_ops import StateOp
from sessions.protocol.turn import Policy, TurnStatus
from sessions.store.calls import PendingCall
from sessions.store.keys import SessionKeys
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord

# --- a session as the others see it ---------------------------------------------------------------------


class SessionRef(Protocol):
    """What a back end needs to know of a session."""

    session_id: str
    user_id: str | None
    ttl: float | None
    queue: str
    keys: SessionKeys
    knowledge: KnowledgeConfig


class BackedSession(SessionRef, Protocol):
    """What the methods of `Session` need of it."""

    @property
    def backend(self) -> Backend:
        """Where its records are."""
        ...

    @property
    def portal(self) -> Portal:
        """The loop of this process."""
        ...


class AgentHome(SessionRef, Protocol):
    """The session of an agent, as the agent sees it. `sessions.Session` is one."""

    policy: Policy
    waiting_blocks: bool
    middleware: tuple[Callable[[str, Any], Any], ...]

    @property
    def client(self) -> SessionClient:
        """What sends its requests."""
        ...

    @property
    def portal(self) -> Portal:
        """The loop of this process."""
        ...

    @property
    def settings(self) -> Settings | None:
        """The fleet that it was opened on; None for the environment's."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether it is behind a server."""
        ...

    @property
    def recalls(self) -> Recalls:
        """What its agents look up where they do not say themselves."""
        ...

    def sibling(self, session_id: str) -> AgentHome:
        """Another session of the same kind."""
        ...


# --- what sends requests --------------------------------------------------------------------------------


class TurnCalls(Protocol):
    """Turns, from their request to their result."""

    def check_message(self, message: str) -> None:
        """Refuse a message over the limit."""
        ...

    async def submit(self, keys: SessionKeys, submission: Submission) -> str:
        """Have a turn accepted; its id within the session."""
        ...

    async def ask(self, keys: SessionKeys, submission: Submission) -> TurnRecord:
        """Have a turn accepted and wait for its end."""
        ...

    async def read(self, keys: SessionKeys, part: str) -> TurnRecord:
        """The record of a turn."""
        ...

    async def wait(self, keys: SessionKeys, part: str, timeout: float | None) -> TurnRecord:
        """Wait for a turn's end."""
        ...

    async def has_events(self, keys: SessionKeys, part: str, after: str | None) -> bool:
        """Whether there are events after a cursor, or will be."""
        ...

    def follow(self, keys: SessionKeys, part: str, after: str | None) -> AsyncGenerator[Event]:
        """All events of a turn after a cursor."""
        ...

    async def cancel(self, keys: SessionKeys, part: str) -> TurnStatus:
        """Cancel a turn."""
        ...

    async def pending_calls(self, keys: SessionKeys, part: str) -> list[PendingCall]:
        """The calls that a turn waits for."""
        ...

    async def answer_call(self, keys: SessionKeys, part: str, call_id: str, answer: CallAnswer) -> None:
        """CallAnswer a call that a turn waits for."""
        ...


class TurnDefaults(Protocol):
    """The settings that fill in what a request leaves out."""

    @property
    def turn_timeout(self) -> float:
        """Seconds to a turn's deadline."""
        ...

    @property
    def approval_timeout(self) -> float:
        """Seconds until a turn fails because nobody answered its call."""
        ...


class SessionClient(Protocol):
    """What sends a session's requests: the fleet's client, or a gateway's."""

    @property
    def portal(self) -> Portal:
        """The loop of this process."""
        ...

    @property
    def settings(self) -> TurnDefaults:
        """What fills in what a request leaves out."""
        ...

    @property
    def turns(self) -> TurnCalls:
        """Turns, from their request to their result."""
        ...

    def keys(self, session_id: str, tenant: str | None = None) -> SessionKeys:
        """The keys of a session."""
        ...


# --- the back end ---------------------------------------------------------------------------------------


class StateCalls(Protocol):
    """What `StateMethods` stands on."""

    async def get(self, session: SessionRef, key: str | None, default: Any) -> Any:
        """One value, or all."""
        ...

    async def write(self, session: SessionRef, ops: list[StateOp]) -> list[Any]:
        """Carry out changes, all or none; what each left behind."""
        ...


class Fork(NamedTuple):
    """A session that was made from another one."""

    session_id: str
    user_id: str | None


class LifecycleCalls(Protocol):
    """What `LifecycleMethods` stands on."""

    async def lifetime(self, session: SessionRef) -> tuple[bool, float | None]:
        """Whether its ttl ran out, and the seconds until it does."""
        ...

    async def create(self, session: SessionRef) -> bool:
        """Create the session if it does not exist; whether it was created."""
        ...

    async def checkpoints(self, session: SessionRef) -> list[int]:
        """The numbers of the checkpoints there are."""
        ...

    async def save(self, session: SessionRef, values: Mapping[str, Any]) -> int:
        """Write a checkpoint; its number."""
        ...

    async def restore(self, session: SessionRef, number: int | None) -> dict[str, Any]:
        """Attach to what was saved; the state."""
        ...

    async def context(self, session: SessionRef) -> dict[str, Any]:
        """What is known of the session."""
        ...

    async def context_for(self, session: SessionRef, query: str, max_items: int) -> str:
        """Prompt text from what was said about a query."""
        ...

    async def history(self, session: SessionRef, limit: int, order: SortOrder, cursor: int | None) -> Page:
        """A page of the transcript."""
        ...

    async def fork(self, session: SessionRef, session_id: str, at: str | None) -> Fork:
        """Create a session with this one's history."""
        ...

    async def check_turn(self, session: SessionRef, part: str) -> None:
        """Refuse a user to whom the session, or its turn, does not belong."""
        ...

    async def delete(self, session: SessionRef) -> dict[str, int]:
        """Remove the session with all it has; how many keys, turns and documents that were."""
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


class MemoryCalls(Protocol):
    """What `MemoryMethods` stands on."""

    async def add(self, session: SessionRef, memory: NewMemory) -> str:
        """Remember a text; the memory's id."""
        ...

    async def delete(self, session: SessionRef, memory_id: str) -> bool:
        """Forget one memory."""
        ...

    async def clear(self, session: SessionRef, memory_type: str | None, scope: ScopeName | None) -> int:
        """Forget a scope's memories; how many there were."""
        ...

    async def get(self, session: SessionRef, memory_id: str) -> dict[str, Any] | None:
        """One memory."""
        ...

    async def list_page(self, session: SessionRef, listing: MemoryListing) -> MemoryPage:
        """A page of a scope's memories."""
        ...

    async def search(self, session: SessionRef, query: MemoryQuery) -> list[dict[str, Any]]:
        """Find memories."""
        ...


class AcceptedOperation(NamedTuple):
    """An operation that was accepted: the lane that it runs in, and its id within that lane."""

    lane: SessionKeys
    part: str


class KnowledgeCalls(Protocol):
    """What `KnowledgeMethods` stands on."""

    async def submit(self, session: SessionRef, document: NewDocument) -> AcceptedOperation:
        """Have one document accepted."""
        ...

    async def operation_of(self, session: SessionRef, operation_id: str) -> AcceptedOperation:
        """An operation by its id."""
        ...

    async def search(self, session: SessionRef, query: KnowledgeQuery) -> list[dict[str, Any]]:
        """Find passages."""
        ...

    async def list_sources(self, session: SessionRef, scope: str | None) -> list[dict[str, Any]]:
        """List the documents of a scope."""
        ...

    async def remove(self, session: SessionRef, source: str, scope: str | None) -> int:
        """Remove one document; how many chunks it had."""
        ...

    async def clear(self, session: SessionRef, scope: str | None) -> int:
        """Remove all documents of a scope; how many chunks they had."""
        ...


SubmissionOf = Callable[..., Submission]
"""Makes the submission of a message to a session's default agent, from the options of `Agent.chat`."""


class Backend(Protocol):
    """Where a session's records are: in a fleet's store, or behind a gateway."""

    @property
    def settings(self) -> Settings | None:
        """The fleet that the session was opened on; None for the environment's, and for a remote one."""
        ...

    @property
    def agent_url(self) -> str | None:
        """The address of a remote session, without credentials; None for a local one."""
        ...

    @property
    def timeout(self) -> float | None:
        """Seconds for one call of a remote session; None for a local one, whose turns have deadlines."""
        ...

    @property
    def agent_name(self) -> str | None:
        """The agent that `session.chat` talks to, registered at the server; None for the default one."""
        ...

    @property
    def state(self) -> StateCalls:
        """State."""
        ...

    @property
    def lifecycle(self) -> LifecycleCalls:
        """Checkpoints, history, copies, expiry, removal."""
        ...

    @property
    def memory(self) -> MemoryCalls:
        """Memories."""
        ...

    @property
    def knowledge(self) -> KnowledgeCalls:
        """Documents."""
        ...

    def client(self, session: SessionRef) -> SessionClient:
        """What sends the session's requests; looked up at each use, so that a forked child gets its own."""
        ...

    async def converse(
        self, session: SessionRef, message: str, submission_of: SubmissionOf, options: Mapping[str, Any]
    ) -> Any:
        """Send a message to the session's default agent, and wait for the answer."""
        ...
