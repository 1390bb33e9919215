"""The back end of a session: the fleet's store (`sessions.local`) or a gateway over HTTP (`sessions.remote`).

A `Backend` has one part for each group of methods of `Session`. All coroutines run on the portal's event loop.
Arguments and results are documented at the methods that users call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from broker_config.settings import Settings
from sessions.client.approvals import Inbox
from sessions.client.arguments.approvals import InboxQuery
from sessions.client.arguments.history_search import HistoryQuery
from sessions.client.arguments.knowledge import KnowledgeQuery, NewDocument
from sessions.client.arguments.memory import MemoryListing, MemoryQuery, MemoryUpdate, NewMemory
from sessions.client.arguments.message import Content
from sessions.client.arguments.schedules import NewSchedule, ScheduleChange
from sessions.client.arguments.sessions import SessionChange, SessionQuery
from sessions.client.arguments.turns import TurnListing
from sessions.client.arguments.usage import UsageQuery
from sessions.client.portal import Portal
from sessions.client.ports import SessionClient, SessionRef
from sessions.client.schedule_info import ScheduleInfo
from sessions.client.transcript import Branch, FoundMessage, Page, SortOrder
from sessions.protocol.access import Rights
from sessions.protocol.event import SessionEvent
from sessions.protocol.memory_requests import ScopeName
from sessions.protocol.state_ops import StateOp
from sessions.protocol.usage import UsageRow
from sessions.store.files import StoredFile
from sessions.store.keys import SessionKeys
from sessions.store.session_info import SessionInfo
from sessions.store.submission import Submission, Upload
from sessions.store.turns import TurnSummary
from sessions.transfer.records import Record
from sessions.transfer.sources import Source


class StateCalls(Protocol):
    """The part for `StateMethods`."""

    async def get(self, session: SessionRef, key: str | None, default: Any) -> Any:
        """One value, or all of the session's."""
        ...

    async def write(self, session: SessionRef, ops: list[StateOp]) -> list[Any]:
        """Make changes, all or none; returns the new values."""
        ...


class Fork(NamedTuple):
    """The new session that a fork created."""

    session_id: str
    user_id: str | None


class LifecycleCalls(Protocol):
    """The part for `LifecycleMethods`."""

    async def lifetime(self, session: SessionRef) -> tuple[bool, float | None]:
        """Whether its ttl ran out, and the seconds until it does."""
        ...

    async def create(self, session: SessionRef, change: SessionChange) -> bool:
        """Create the session if it does not exist; returns whether it was created."""
        ...

    async def checkpoints(self, session: SessionRef) -> list[int]:
        """The numbers of the checkpoints."""
        ...

    async def save(self, session: SessionRef, values: Mapping[str, Any]) -> int:
        """Save a checkpoint; returns its number."""
        ...

    async def restore(self, session: SessionRef, number: int | None) -> dict[str, Any]:
        """Restore a checkpoint (None: only check that there is one); returns the state."""
        ...

    async def context(self, session: SessionRef) -> dict[str, Any]:
        """Facts about the session."""
        ...

    async def context_for(self, session: SessionRef, query: str, max_items: int) -> str:
        """The transcript's best matching lines as prompt text."""
        ...

    async def history(
        self, session: SessionRef, limit: int, order: SortOrder, cursor: int | None, branch: str | None
    ) -> Page:
        """A page of the transcript, or of a branch of it."""
        ...

    async def branches(self, session: SessionRef) -> list[Branch]:
        """The branches of the transcript."""
        ...

    async def delete_turn(self, session: SessionRef, part: str) -> dict[str, int]:
        """Delete one turn; returns the number of keys and messages."""
        ...

    async def fork(self, session: SessionRef, session_id: str, at: str | None) -> Fork:
        """Create a session with this one's history."""
        ...

    async def check_turn(self, session: SessionRef, part: str) -> None:
        """Refuse a user who owns neither the session nor the turn."""
        ...

    async def delete(self, session: SessionRef) -> dict[str, int]:
        """Delete the session and all its records; returns the number of keys, turns and documents."""
        ...


class TurnSummaries(NamedTuple):
    """Some turns, and the cursor of the next page; None at the end."""

    turns: list[TurnSummary]
    cursor: str | None


class SessionTurnCalls(Protocol):
    """The part for `TurnMethods`."""

    async def page(self, session: SessionRef, listing: TurnListing) -> TurnSummaries:
        """A page of the session's turns."""
        ...

    async def open_turn(self, session: SessionRef) -> str | None:
        """The turn that runs or is next, by its id within the session; None if no turn is open."""
        ...

    async def has_events(self, session: SessionRef, after: str | None) -> bool:
        """Whether there are events after a cursor, or will be."""
        ...

    def follow(self, session: SessionRef, after: str | None) -> AsyncGenerator[SessionEvent]:
        """The events of the open turn, or all after a cursor, until no turn is open."""
        ...


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, the newest first, and the cursor of the next page (`Session.list(cursor=...)`); None at the end.

    A page may have fewer sessions than its limit, or none, and still have a cursor: a filter reads a limited number of
    sessions for one page.

    Attributes:
        complete: False while a worker still adds the sessions of an older version to the lists, once per deployment:
            until then some of them are missing.
    """

    sessions: list[SessionInfo] = field(default_factory=list)
    cursor: str | None = None
    complete: bool = True

    def __iter__(self) -> Iterator[SessionInfo]:
        return iter(self.sessions)

    def __len__(self) -> int:
        return len(self.sessions)


class ListingCalls(Protocol):
    """The part for lists of sessions, and what they show of each."""

    async def list(self, session: SessionRef, query: SessionQuery) -> SessionPage:
        """A page of the sessions of this session's user, or without a user of its tenant."""
        ...

    async def info(self, session: SessionRef) -> SessionInfo:
        """The session and its counts."""
        ...

    async def update(self, session: SessionRef, change: SessionChange) -> SessionInfo:
        """Change its title and metadata; returns it as it is then."""
        ...


class UsageCalls(Protocol):
    """The part for what was used."""

    async def rows(self, session: SessionRef, query: UsageQuery) -> list[UsageRow]:
        """What this session's user, or without a user its tenant, used."""
        ...


class ApprovalCalls(Protocol):
    """The part for the calls that turns of many sessions wait for."""

    async def page(self, session: SessionRef, query: InboxQuery) -> Inbox:
        """The calls that turns of this session's user, or without a user of its tenant, wait for."""
        ...

    async def approved_tools(self, session: SessionRef) -> list[str]:
        """The tools whose calls need no more approval in the session."""
        ...

    async def revoke(self, session: SessionRef, tool: str) -> bool:
        """Ask about calls of a tool again; returns whether they needed no approval."""
        ...


class DeletionCalls(Protocol):
    """The part for deleting many sessions."""

    async def delete_user(self, session: SessionRef) -> dict[str, int]:
        """Delete everything of this session's user; returns how much of each kind."""
        ...

    async def prune(self, session: SessionRef, unused_since: datetime) -> dict[str, int]:
        """Delete the user's, or the tenant's, sessions that were not used since a time; returns how much of each."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """Some memories, newest first, and the cursor of the next page (`list_memory(cursor=...)`); None at the end."""

    memories: list[dict[str, Any]] = field(default_factory=list)
    cursor: str | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.memories)

    def __len__(self) -> int:
        return len(self.memories)


class ScheduleCalls(Protocol):
    """The part for `ScheduleMethods` and `Schedule`."""

    async def create(self, session: SessionRef, new: NewSchedule) -> ScheduleInfo:
        """Create a schedule."""
        ...

    async def get(self, session: SessionRef, schedule_id: str) -> ScheduleInfo:
        """One schedule."""
        ...

    async def all(self, session: SessionRef) -> list[ScheduleInfo]:
        """All schedules."""
        ...

    async def update(self, session: SessionRef, schedule_id: str, change: ScheduleChange) -> ScheduleInfo:
        """Change a schedule."""
        ...

    async def trigger(self, session: SessionRef, schedule_id: str, idempotency_key: str | None) -> str:
        """Send what a tick sends, now; returns the turn's id within the session."""
        ...

    async def delete(self, session: SessionRef, schedule_id: str) -> bool:
        """Delete a schedule; returns whether it existed."""
        ...

    async def next_runs(self, session: SessionRef, schedule_id: str, count: int) -> list[datetime]:
        """The next ticks."""
        ...


class MemoryCalls(Protocol):
    """The part for `MemoryMethods`."""

    async def add(self, session: SessionRef, memory: NewMemory) -> str:
        """Add a memory; returns its id."""
        ...

    async def update(self, session: SessionRef, update: MemoryUpdate) -> dict[str, Any] | None:
        """Change one memory; returns it, or None if it does not exist."""
        ...

    async def delete(self, session: SessionRef, memory_id: str) -> bool:
        """Delete one memory; returns whether it existed."""
        ...

    async def clear(self, session: SessionRef, memory_type: str | None, scope: ScopeName | None) -> int:
        """Delete a scope's memories; returns how many there were."""
        ...

    async def get(self, session: SessionRef, memory_id: str) -> dict[str, Any] | None:
        """One memory; None if it does not exist."""
        ...

    async def list_page(self, session: SessionRef, listing: MemoryListing) -> MemoryPage:
        """A page of a scope's memories."""
        ...

    async def search(self, session: SessionRef, query: MemoryQuery) -> list[dict[str, Any]]:
        """Find memories."""
        ...


class HistorySearchCalls(Protocol):
    """The part for searches in transcripts."""

    async def search(self, session: SessionRef, query: HistoryQuery) -> list[FoundMessage]:
        """Find messages of the session."""
        ...

    async def search_all(self, session: SessionRef, query: HistoryQuery) -> list[FoundMessage]:
        """Find messages in all sessions of this session's user."""
        ...


class SharingCalls(Protocol):
    """The part for `SharingMethods`."""

    async def share(self, session: SessionRef, user_id: str, rights: Rights) -> None:
        """Let another user read or write the session."""
        ...

    async def unshare(self, session: SessionRef, user_id: str) -> bool:
        """End the sharing with a user; returns whether there was any."""
        ...

    async def shared_with(self, session: SessionRef) -> dict[str, Rights]:
        """The users that the session is shared with, and what each may do."""
        ...


class AcceptedOperation(NamedTuple):
    """An accepted operation: its lane, and its id within that lane."""

    lane: SessionKeys
    part: str


class KnowledgeCalls(Protocol):
    """The part for `KnowledgeMethods`."""

    async def submit(self, session: SessionRef, document: NewDocument) -> AcceptedOperation:
        """Submit one document."""
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
        """Remove one document; returns the number of its chunks."""
        ...

    async def clear(self, session: SessionRef, scope: str | None) -> int:
        """Remove all documents of a scope; returns the number of their chunks."""
        ...


class FileCalls(Protocol):
    """The part for `FileMethods`."""

    async def upload(self, session: SessionRef, file: Upload) -> StoredFile:
        """Store a file, unless the session has it already."""
        ...

    async def listed(self, session: SessionRef) -> list[StoredFile]:
        """The session's files, the oldest first."""
        ...

    async def details(self, session: SessionRef, file_id: str) -> StoredFile:
        """One file."""
        ...

    def read(self, session: SessionRef, file_id: str) -> AsyncGenerator[bytes]:
        """A file's bytes, piece by piece."""
        ...

    async def delete(self, session: SessionRef, file_id: str) -> bool:
        """Delete a file; returns whether it existed."""
        ...


Progress = Callable[[int, int], None]
"""Called with the number of turns so far, and of all turns (0 if that is not known), on the client's event loop."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a session is imported from, and as what.

    Attributes:
        user_id: the owner; None for the one in the file.
        origin: identifies the content of the file: importing it again changes nothing.
    """

    source: Source
    user_id: str | None
    ttl: float | None
    queue: str | None
    origin: bytes
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import, as back ends report it.

    Attributes:
        counts: how much was imported, by kind: turns, messages, memories, files, documents.
        left_out: what could not be carried over.
        repeated: the session was there already, from the same content.
    """

    user_id: str | None
    counts: Mapping[str, int]
    left_out: tuple[str, ...] = ()
    repeated: bool = False


class TransferCalls(Protocol):
    """The part for `TransferMethods`."""

    def records(self, session: SessionRef) -> AsyncGenerator[Record]:
        """The session as records, for an export."""
        ...

    async def create_from(self, session: SessionRef, new: NewSession) -> Imported:
        """Create the session from an import."""
        ...


SubmissionOf = Callable[..., Submission]
"""Makes the submission of a message to a session's default agent; keyword arguments are the options of `Agent.chat`."""


class Backend(Protocol):
    """Where a session's records are: in the fleet's store, or at a gateway."""

    @property
    def settings(self) -> Settings | None:
        """The settings that the session was opened with; None for the environment's, and for a remote session."""
        ...

    @property
    def agent_url(self) -> str | None:
        """The URL of a remote session's agent, without credentials; None for a local session."""
        ...

    @property
    def timeout(self) -> float | None:
        """Seconds for one call of a remote session; None for a local one, whose turns have deadlines."""
        ...

    @property
    def agent_name(self) -> str | None:
        """The name of a remote session's agent, registered at the server; None for the default agent."""
        ...

    @property
    def state(self) -> StateCalls:
        """The part for state."""
        ...

    @property
    def lifecycle(self) -> LifecycleCalls:
        """The part for checkpoints, history, forks, expiry and deletion."""
        ...

    @property
    def turns(self) -> SessionTurnCalls:
        """The part for lists of turns, and the session's stream."""
        ...

    @property
    def deletion(self) -> DeletionCalls:
        """The part for deleting many sessions."""
        ...

    @property
    def listing(self) -> ListingCalls:
        """The part for lists of sessions."""
        ...

    @property
    def usage(self) -> UsageCalls:
        """The part for what was used."""
        ...

    @property
    def approvals(self) -> ApprovalCalls:
        """The part for the calls that turns of many sessions wait for."""
        ...

    @property
    def history_search(self) -> HistorySearchCalls:
        """The part for searches in transcripts."""
        ...

    @property
    def sharing(self) -> SharingCalls:
        """The part for sharing it with other users."""
        ...

    @property
    def schedules(self) -> ScheduleCalls:
        """The part for schedules."""
        ...

    @property
    def transfer(self) -> TransferCalls:
        """The part for exports and imports."""
        ...

    @property
    def memory(self) -> MemoryCalls:
        """The part for memory."""
        ...

    @property
    def knowledge(self) -> KnowledgeCalls:
        """The part for documents."""
        ...

    @property
    def files(self) -> FileCalls:
        """The part for the files of messages and tools' results."""
        ...

    def client(self, session: SessionRef) -> SessionClient:
        """The client that sends the session's requests; looked up at each use, because a forked child needs its own."""
        ...

    async def converse(
        self, session: SessionRef, message: Content, submission_of: SubmissionOf, options: Mapping[str, Any]
    ) -> Any:
        """Send a message to the session's default agent and wait for the answer."""
        ...


class BackedSession(SessionRef, Protocol):
    """The session as its own methods use it."""

    @property
    def backend(self) -> Backend:
        """Its back end."""
        ...

    @property
    def client(self) -> SessionClient:
        """The client that sends its requests."""
        ...

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        ...
