"""A session as agents and back ends see it, and the client that sends its requests.

`sessions.client.backend` has the protocols of a back end. All coroutines run on the portal's event loop. Arguments and
results are documented at the methods that users call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from broker_config.settings import Settings
from sessions.client.arguments.retrieval import KnowledgeConfig
from sessions.client.portal import Portal
from sessions.protocol.agent import RecallSettings
from sessions.protocol.call import CallAnswer
from sessions.protocol.compaction_requests import Compact
from sessions.protocol.event import Event
from sessions.protocol.turn import Policy, TurnStatus
from sessions.store.calls import PendingCall
from sessions.store.keys import SessionKeys
from sessions.store.submission import Submission
from sessions.store.turns import TurnRecord


class SessionRef(Protocol):
    """The attributes of a session that a back end uses."""

    session_id: str
    user_id: str | None
    ttl: float | None
    queue: str
    searchable: bool | None
    compact: Compact | None
    keys: SessionKeys
    knowledge: KnowledgeConfig


class AgentHome(SessionRef, Protocol):
    """The session of an agent, as the agent uses it; `sessions.Session` implements it."""

    policy: Policy
    waiting_blocks: bool
    middleware: tuple[Callable[[str, Any], Any], ...]

    @property
    def client(self) -> SessionClient:
        """The client that sends its requests."""
        ...

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        ...

    @property
    def settings(self) -> Settings | None:
        """The settings that it was opened with; None for the environment's."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether it is a remote session."""
        ...

    @property
    def recalls(self) -> RecallSettings:
        """What its agents recall, unless they set it themselves."""
        ...

    def sibling(self, session_id: str) -> AgentHome:
        """Another session with the same back end and options."""
        ...


class TurnCalls(Protocol):
    """Submits turns, waits for them, and answers their calls."""

    def check_message(self, message: str) -> None:
        """Refuse a message that is too large."""
        ...

    async def submit(self, keys: SessionKeys, submission: Submission) -> str:
        """Submit a turn; returns its id within the session."""
        ...

    async def run(self, keys: SessionKeys, submission: Submission) -> TurnRecord:
        """Submit a turn and wait for its end."""
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

    def attend(
        self, keys: SessionKeys, part: str, after: str | None, user_id: str | None = None
    ) -> AsyncGenerator[Event]:
        """`follow` as a reader whose absence cancels the turn. A user may have to be allowed to cancel it."""
        ...

    async def cancel(self, keys: SessionKeys, part: str, user_id: str | None = None) -> TurnStatus:
        """Cancel a turn; returns its status. A user may have to be allowed to."""
        ...

    async def pending_calls(self, keys: SessionKeys, part: str) -> list[PendingCall]:
        """The calls that a turn waits for."""
        ...

    async def answer_call(
        self, keys: SessionKeys, part: str, call_id: str, answer: CallAnswer, user_id: str | None = None
    ) -> None:
        """Answer a call that a turn waits for. A user may have to be allowed to."""
        ...


class TurnDefaults(Protocol):
    """The settings that apply to a request that does not set them."""

    @property
    def turn_timeout(self) -> float:
        """Seconds to a turn's deadline."""
        ...

    @property
    def approval_timeout(self) -> float:
        """Seconds after which a turn fails if its calls are not answered."""
        ...


class SessionClient(Protocol):
    """Sends a session's requests to the fleet, or to a gateway."""

    @property
    def portal(self) -> Portal:
        """The event loop of this process."""
        ...

    @property
    def settings(self) -> TurnDefaults:
        """The settings that apply to a request that does not set them."""
        ...

    @property
    def turns(self) -> TurnCalls:
        """Submits turns, waits for them, and answers their calls."""
        ...

    def keys(self, session_id: str, tenant: str | None = None) -> SessionKeys:
        """The keys of a session."""
        ...
