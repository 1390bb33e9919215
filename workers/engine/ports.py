"""What the engine needs from the world, as protocols, and what it hands back.

The engine knows pydantic-ai only: no Celery, no Redis, no Qdrant. The turn runner gives it a journal and an
event sink; tests give it dictionaries and lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sessions.protocol.agent import AgentConfig, Delegate
from sessions.protocol.call import Ask
from sessions.protocol.event import EventType
from sessions.protocol.turn import Usage
from sessions.tools.turn_state import TurnState


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event that has no id yet."""

    type: EventType
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastTurn:
    """A committed turn of the session.

    Attributes:
        messages: one JSON array in pydantic-ai's own format.
        incomplete: how it ended, if it did not complete; "" if it did.
    """

    agent: str
    messages: bytes
    incomplete: str = ""


@dataclass(frozen=True, slots=True)
class TurnInput:
    """All that a turn sees. A replay gets the same input, and so takes the same way (R6).

    Attributes:
        turn_id: public id of the turn; also the run id of the engine.
        history: the past turns of the session, oldest first, whichever agent answered them.
        now_ms: the store's time when the turn first began, in milliseconds since the epoch.
        recalled: memories and passages for the model's instructions, '' for none.
        default_model: the model of agents that name none.
    """

    turn_id: str
    session_id: str
    user_id: str | None
    attempt: int
    message: str
    agent: AgentConfig
    history: Sequence[PastTurn]
    stream: bool
    now_ms: int
    default_model: str
    recalled: str = ""


@dataclass(frozen=True, slots=True)
class TurnOutput:
    """What a turn that succeeded leaves behind.

    Attributes:
        text: the answer as text; for an output type, its JSON.
        output: the answer as a JSON-able value (a str for plain text).
        messages: this turn's new messages as one JSON array, for the history.
        message_count: how many of them a person would count: the user's message and the assistant's texts.
        finish_reason: why the model stopped, as its last response says; "" where it does not.
    """

    text: str
    output: Any
    messages: bytes
    message_count: int
    usage: Usage
    finish_reason: str = ""


class StepJournal(Protocol):
    """The finished steps of the open turn. `record` returns when the step is durable, or raises `LeaseLost`."""

    def lookup(self, key: str) -> bytes | None:
        """The recorded value of a step, from what was loaded when the turn began and what was recorded since."""
        ...

    async def record(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        """Write a step and its events in one atomic step. Recording a key again replaces its value."""
        ...

    def record_final(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        """Start writing a model response after which nothing but the commit follows; the commit waits for it."""
        ...

    def check_held(self) -> None:
        """Called directly before a request or a tool call, which cost money or have effects.

        Raises:
            LeaseLost: this worker stood still until its lease had ended. Another one may have done the step.
        """
        ...

    async def take_steering(self, key: str) -> bytes:
        """Record the unread steering messages (JSON array of texts) as a step, with their events; b"" for none."""
        ...


class EventSink(Protocol):
    """Takes events that belong to no step: the deltas of a streamed answer."""

    async def emit(self, events: Sequence[EventDraft]) -> None:
        """Append the events to the turn's stream."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """What came of asking another agent: its answer (`ok`), or why there is none; and what its turn cost."""

    ok: bool
    answer: Any = None
    why: str = ""
    usage: Usage = field(default_factory=Usage)


class NotAsked(Exception):
    """Another agent cannot be asked: the model is told so."""


class Colleagues(Protocol):
    """Asks other agents, each in a turn of its own."""

    async def begin(self, key: str, delegate: Delegate, message: str) -> str:
        """Have a turn accepted; for the same key it is the same turn. Returns its id, or raises `NotAsked`."""
        ...

    async def ended(self, turn_id: str) -> Said | None:
        """What came of a turn; None while it goes on."""
        ...


class NotSearched(Exception):
    """Memory or knowledge cannot be searched now. The message says why; the turn goes on without."""


class Recall(Protocol):
    """Memory and knowledge, for the tools that an agent has for them."""

    async def search_memory(self, query: str) -> list[dict[str, Any]]:
        """Memories of the session and its user: dicts with `text`. Raises `NotSearched`."""
        ...

    async def search_knowledge(self, query: str) -> list[dict[str, Any]]:
        """Passages: dicts with `text`, `source`, `page`. Raises `NotSearched`."""
        ...

    async def remember(self, key: str, text: str) -> None:
        """Keep a text for later turns; the same key again keeps it once."""
        ...


@dataclass(slots=True)
class RunState:
    """What the runner and the engine tell each other while a turn runs.

    A stopping worker sets `draining`: the engine then raises `HandedOver` instead of calling the model, and the
    runner may cancel the run as long as no tool is running (a tool that is cut short would be left in doubt).
    `unwritten` counts finished steps that are not written yet: a store that is out of reach does not stop such a run.
    `steered` says that there is unread steering, to be taken before the next model call.
    `session` is the state that tools read and change; the commit takes its changes.
    `colleagues` asks other agents. `recall` searches memory and knowledge.
    `unfinished` is the text of a streamed answer that was cut short, and `cut_short` what its provider said that it
    cost; the engine leaves them when a run ends.
    """

    draining: bool = False
    tools_running: int = 0
    unwritten: int = 0
    steered: bool = False
    session: TurnState = field(default_factory=TurnState)
    colleagues: Colleagues | None = None
    recall: Recall | None = None
    unfinished: str = ""
    cut_short: Usage | None = None


class PassingModelError(Exception):
    """A model error that may pass: 429, 5xx, a timeout or a broken connection. The turn is tried again later."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Waiting(Exception):
    """The turn waits for answers from outside: nothing else is left to do, and its slot is free for others."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        super().__init__(f"waits for {', '.join(ask.tool for ask in asks)}")
        self.asks = asks


class HandedOver(Exception):
    """The turn stops here, between two steps, and goes on at another worker."""


class LeaseLost(Exception):
    """Another worker owns the session now: nothing more may be written, and the run ends at once."""
