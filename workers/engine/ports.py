"""The protocols that the engine depends on, and the types it takes and returns.

The engine uses pydantic-ai only: no Celery, no Redis, no Qdrant. The turn runner passes it a journal and an
event sink; tests pass it dictionaries and lists.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from sessions.protocol.agent import AgentConfig, Delegate
from sessions.protocol.call import WaitingCall
from sessions.protocol.event import EventType
from sessions.protocol.message import MediaPart, TextPart
from sessions.protocol.turn import ModelUsage, Usage
from sessions.protocol.turn_additions import NO_ADDITIONS, TurnAdditions
from sessions.protocol.turn_limits import NO_LIMITS, TurnLimits
from sessions.tools.turn_state import TurnState


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event before the store has given it an id."""

    type: EventType
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastTurn:
    """A committed turn of the session.

    Attributes:
        messages: one JSON array in pydantic-ai's format.
        incomplete: the turn's final status if it did not complete; "" if it did.
        turn_id, session_id: of messages that a worker wrote; "" for those of another library, which have their own ids.
    """

    agent: str
    messages: bytes
    incomplete: str = ""
    turn_id: str = ""
    session_id: str = ""


class RecalledPlace(StrEnum):
    """Where recalled memories and passages are in a turn's requests."""

    MESSAGE = "message"
    INSTRUCTIONS = "instructions"  # only in turns that began under an earlier version


@dataclass(frozen=True, slots=True)
class Recalled:
    """What memory and knowledge have for a turn's message; an empty text for nothing."""

    text: str = ""
    place: RecalledPlace = RecalledPlace.MESSAGE

    @property
    def instructions(self) -> str:
        """What belongs into the model's instructions."""
        return self.text if self.place is RecalledPlace.INSTRUCTIONS else ""

    @property
    def behind_message(self) -> str:
        """What follows the user's message."""
        return self.text if self.place is RecalledPlace.MESSAGE else ""


@dataclass(frozen=True, slots=True)
class TurnInput:
    """Everything that a turn's result depends on. A replay gets the same input, so that it takes the same path.

    Attributes:
        turn_id: the turn's public id; also pydantic-ai's run id.
        history: the past turns of the session, oldest first, whichever agent answered them.
        now_ms: the store's time when the turn was first started, in milliseconds since the epoch.
        parts: of a message with files: its texts and files, in order.
        recalled: memories and passages for its message.
        summary: of the turns before `history`; "" for none.
        default_model: the model for agents that name none.
        models: the models of this turn, the first first; none for the agent's own.
        model_settings: of this turn's model requests, in addition to the agent's own.
        metadata: the caller's own notes, which tools and hooks see.
        limits: the most that it may do.
        additions: what the sender adds to the agent: instructions, tools, the form of the answer.
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
    parts: Sequence[TextPart | MediaPart] = ()
    recalled: Recalled = Recalled()
    summary: str = ""
    models: tuple[str, ...] = ()
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    limits: TurnLimits = NO_LIMITS
    additions: TurnAdditions = NO_ADDITIONS


@dataclass(frozen=True, slots=True)
class TurnOutput:
    """The result of a turn that succeeded.

    Attributes:
        text: the answer as text; for an output type, its JSON.
        output: the answer as a JSON-serializable value (a str for plain text).
        messages: this turn's new messages as one JSON array, for the history.
        message_count: how many of them a person would count: the user's message and the assistant's texts.
        finish_reason: why the model stopped, according to its last response; "" if unknown.
        model: provider and name of the model that gave the last response; of a fallback chain, the one that answered.
        window_kept: how many of the past turns that it saw the next turn should see as well; None for all.
    """

    text: str
    output: Any
    messages: bytes
    message_count: int
    usage: Usage
    finish_reason: str = ""
    model: str = ""
    window_kept: int | None = None


class StepJournal(Protocol):
    """The completed steps of the open turn. `record` returns when the step is durable, or raises `LeaseLost`."""

    def lookup(self, key: str) -> bytes | None:
        """The recorded value of a step, or None. Sees the steps of earlier attempts and of this one."""
        ...

    async def record(
        self, key: str, value: bytes, events: Sequence[EventDraft] = (), files: Sequence[str] = ()
    ) -> None:
        """Write a step and its events atomically. Recording a key again replaces its value.

        Args:
            files: ids of the session's files that the step uses; from now on they live as long as the session.
        """
        ...

    def record_final(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        """Start writing the last model response without waiting for it: the commit, which comes next, does."""
        ...

    def check_held(self) -> None:
        """Check the lease immediately before a model request or a tool call, which cost money or have side effects.

        Raises:
            LeaseLost: the lease expired while this process was suspended. Another worker may have run the step.
        """
        ...

    async def approved_tools(self) -> Collection[str]:
        """The tools whose calls need no more approval in this session, as it is now."""
        ...

    async def take_steering(self, key: str) -> bytes:
        """Record the unread steering messages (a JSON array) as a step, with their events; b"" if none.

        Each is a text, or an object with `text` and `parts` (JSON in JSON).
        """
        ...


class EventSink(Protocol):
    """Receives events that belong to no step, such as the deltas of a streamed answer."""

    async def emit(self, events: Sequence[EventDraft]) -> None:
        """Append the events to the turn's stream."""
        ...


@dataclass(frozen=True, slots=True)
class DelegateAnswer:
    """What another agent's turn came to.

    Attributes:
        ok: whether it succeeded.
        output: its answer, if it did.
        reason: why there is no answer, if it did not; written for the model.
        usage: what its turn cost, either way.
    """

    ok: bool
    output: Any = None
    reason: str = ""
    usage: Usage = field(default_factory=Usage)


class DelegationRefused(Exception):
    """Another agent cannot be asked. The message is given to the model as the tool's result."""


class Delegates(Protocol):
    """Asks other agents, each in a turn of its own."""

    async def start(self, key: str, delegate: Delegate, message: str) -> str:
        """Submit a turn to another agent and return its id. The same key always means the same turn.

        Raises:
            DelegationRefused: the agent cannot be asked.
        """
        ...

    async def poll_answer(self, turn_id: str) -> DelegateAnswer | None:
        """The answer of a turn, or None while it is running."""
        ...


class SearchUnavailable(Exception):
    """Memory or knowledge cannot be searched now. The message says why; the turn continues without results."""


class Recall(Protocol):
    """Memory and knowledge, as an agent's tools use them."""

    async def search_memory(self, query: str) -> list[str]:
        """Memories of the session and its user, each as a line with number and date. Raises `SearchUnavailable`."""
        ...

    async def search_knowledge(self, query: str) -> list[dict[str, Any]]:
        """Passages: dicts with `text`, `source`, `page`. Raises `SearchUnavailable`."""
        ...

    async def remember(self, key: str, text: str) -> None:
        """Store a text for later turns. Repeating a key stores it once."""
        ...

    async def correct(self, key: str, number: str, text: str) -> bool:
        """Replace the text of the memory with this number; False if there is none. Repeating a key changes it once."""
        ...

    async def forget(self, key: str, number: str) -> bool:
        """Remove the memory with this number; False if there is none. Repeating a key returns the same."""
        ...


class SessionFiles(Protocol):
    """The files of the turn's session."""

    async def read(self, file_id: str) -> bytes | None:
        """A file's bytes; None if the session does not have it (any more)."""
        ...

    async def fetch(self, part: MediaPart) -> MediaPart:
        """Fetch a file from its URL, and store it in the session.

        Raises:
            TurnFailed: it cannot be fetched, or is not what the message says.
        """
        ...

    async def stored(self, value: object) -> MediaPart | None:
        """Store what a tool returned, if it is a file; None for any other value.

        Raises:
            ToolError: it cannot be stored.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelLimit:
    """Why a request was refused: a rate limit of the model's provider.

    Attributes:
        model: a digest of the model and its API key.
        asked: the provider itself refused this request; False if it was not sent because others had been refused.
    """

    model: str
    asked: bool


class ModelLimits(Protocol):
    """Which models the fleet may not call now. Models are named by digests (`limited_model.digest_of`)."""

    async def wait(self, model: str) -> float:
        """How long this turn has to wait before it may call the model, in seconds; 0 if it may call it now."""
        ...

    async def close(self, model: str, seconds: float) -> None:
        """Hold back the fleet's calls to the model, because its provider wants none for so long."""
        ...


@dataclass(frozen=True, slots=True)
class RequestEstimate:
    """What a model request may cost at most, as far as that can be said before.

    Attributes:
        tokens: of prompt and answer.
        cost: in US dollars.
        unpriced: a model that may be asked and whose price is not known; empty if all are.
    """

    tokens: int
    cost: float
    unpriced: str = ""


class ModelBudget(Protocol):
    """The budgets that apply to the turn."""

    async def reserve(self, estimate: RequestEstimate) -> None:
        """Reserve what the next model request may cost. What the journal has by then is settled.

        Raises:
            BudgetExceeded: a budget does not allow it. TurnConfigurationError: a budget is in money, and the price is
                not known. LeaseLost: another worker has the turn.
        """
        ...


@dataclass(slots=True)
class RunState:
    """State that the turn runner and the engine share while a turn runs.

    Attributes:
        draining: set by a worker that is stopping. The engine then raises `HandedOver` instead of calling the model,
            and the runner may cancel the run while no tool is running (cancelling a tool would leave it in doubt).
        tools_running: how many tools are running.
        unwritten_steps: finished steps that are not written yet. A run that has any is not stopped by an outage of the
            store.
        steering_pending: there are unread steering messages, to be added before the next model call.
        session: the state that tools read and change; the commit writes the changes.
        delegates: asks other agents.
        recall: searches memory and knowledge.
        files: the session's files.
        budget: the budgets that apply to the turn; None if none does.
        model_limits: which models may not be called now.
        partial_text: set at the end of a run: the text of a streamed answer that was cut short.
        partial_usage: set at the end of a run: what the provider reported for that answer.
    """

    draining: bool = False
    tools_running: int = 0
    unwritten_steps: int = 0
    steering_pending: bool = False
    session: TurnState = field(default_factory=TurnState)
    delegates: Delegates | None = None
    recall: Recall | None = None
    files: SessionFiles | None = None
    budget: ModelBudget | None = None
    model_limits: ModelLimits | None = None
    partial_text: str = ""
    partial_usage: ModelUsage | None = None


class TransientModelError(Exception):
    """A model error that a later retry may get past: 429, 5xx, a timeout or a broken connection.

    Attributes:
        retry_after: seconds that the provider asked to wait, if it did.
        limit: the provider's rate limit, if that is the reason.
    """

    def __init__(self, message: str, retry_after: float | None = None, limit: ModelLimit | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.limit = limit


class Waiting(Exception):
    """The turn has nothing left to do until its pending calls are answered; it gives up its slot."""

    def __init__(self, calls: Sequence[WaitingCall]) -> None:
        super().__init__(f"waits for {', '.join(call.tool for call in calls)}")
        self.calls = calls


class HandedOver(Exception):
    """The turn stops between two steps, and another worker resumes it."""


class LeaseLost(Exception):
    """Another worker may own the session now: nothing more may be written, and the run ends immediately."""
