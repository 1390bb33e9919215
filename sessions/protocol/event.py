"""The events of a turn's stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

SHOWN_CHARS: Final = 2000
"""How long a tool's result may be in an event; of a longer one it has the beginning, as text."""


class EventType(StrEnum):
    """The type of an event in a turn's stream."""

    STARTED = "started"
    ATTEMPT_RESET = "attempt_reset"
    TEXT_DELTA = "text_delta"
    THINKING_DELTA = "thinking_delta"
    TEXT = "text"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    RETRYING = "retrying"
    HANDED_OVER = "handed_over"
    STEERED = "steered"
    WAITING = "waiting"
    ANSWERED = "answered"
    RESUMED = "resumed"
    PROGRESS = "progress"
    RETRIEVED = "retrieved"
    TASK_STARTED = "task_started"
    TASK_ENDED = "task_ended"
    TURN = "turn"  # only in a session's stream: the next events are this turn's
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Event:
    """One item of a turn's stream.

    Attributes:
        id: the cursor, `<fencing token>-<sequence>`; grows within a turn, over all its attempts.
        type: decides what `data` contains.
        data: `text` for deltas and texts; `tool`, `call_id`, `args` for a call; `tool`, `call_id`,
            `result`, `outcome` for a result; `attempt`, `worker` for started; `attempt`, `valid_through` (the last
            event id that stays valid, or None if none does) for attempt_reset; `index`, `name`, `agent`, `turn`
            for task_started of a team's run, and also `status`, `text` (its beginning) for task_ended; `tool`,
            `call_id`, `agent`, `turn` for task_started of an agent that another one asks (and `turn` in the result);
            `stage`, `done`, `total`, `pages`, `chunks` for progress of a document; `memories`, `chunks` (how many
            reached the prompt), `why` (what could not be searched, and why) for retrieved;
            `text` for steered; `calls` for waiting; `call_id`, `action` for answered, and the `result` if one was
            provided; `turn`, `agent`, `message` for turn; `status`, `error`, `finish_reason` (why the model stopped, if
            known) for ended.
    """

    id: str
    type: EventType
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of a delta, otherwise ''. Joining the texts of all events gives the streamed answer."""
        return str(self.data.get("text", "")) if self.type is EventType.TEXT_DELTA else ""

    @property
    def final(self) -> bool:
        """Whether this is the stream's last event."""
        return self.type is EventType.ENDED


@dataclass(frozen=True, slots=True)
class SessionEvent(Event):
    """One item of a session's stream: an event, and the turn that it belongs to.

    Attributes:
        id: the cursor in the session's stream, `<part of the turn id>.<id in the turn's stream>`. The id in the data of
            attempt_reset has the same form.
        turn_id: the turn.
    """

    turn_id: str = ""

    @classmethod
    def of(cls, event: Event, turn_id: str) -> Self:
        """An event of a turn's stream, as the session's stream has it."""
        part, data = turn_id.rpartition("~")[2], event.data
        if valid := data.get("valid_through"):
            data = {**data, "valid_through": f"{part}.{valid}"}
        return cls(f"{part}.{event.id}", event.type, data, turn_id)

    @classmethod
    def begin(cls, turn_id: str, agent: str, message: str) -> Self:
        """The event `turn`, with which a turn begins in a session's stream."""
        return cls.of(Event(BEGINNING, EventType.TURN, {"turn": turn_id, "agent": agent, "message": message}), turn_id)


BEGINNING = "0-0"
"""The cursor before a turn's first event."""
