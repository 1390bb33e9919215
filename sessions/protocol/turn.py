"""A turn as it goes over the wire: its statuses and their transitions, its request, usage and error.

The Lua scripts in `store/lua/` use the same words; a test compares them with `TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sessions.protocol.agent import RecallSettings
from sessions.protocol.message import MediaPart, MessagePart
from sessions.protocol.operation import Extraction, OperationSpec
from sessions.protocol.team import TeamSpec
from sessions.protocol.turn_additions import TurnAdditions
from sessions.protocol.turn_limits import TurnLimits
from sessions.protocol.usage import known_cost
from sessions.protocol.version import WIRE_VERSION, WireVersion

TASK_NAME = "sessionfleet.run_session"


class TurnStatus(StrEnum):
    """The status of a turn. The last four are final: a turn gets exactly one of them, once."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD_LETTERED = "dead_lettered"

    @property
    def final(self) -> bool:
        """Whether the turn has ended."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[TurnStatus, frozenset[TurnStatus]] = {
    # A queued turn ends without running if it is cancelled, or if its deadline passed before a worker started it.
    TurnStatus.QUEUED: frozenset({TurnStatus.RUNNING, TurnStatus.CANCELLED, TurnStatus.FAILED}),
    # Back to queued: backoff after a transient model error, or handed over by a worker that shuts down.
    TurnStatus.RUNNING: frozenset(
        {
            TurnStatus.RUNNING,
            TurnStatus.QUEUED,
            TurnStatus.WAITING,
            TurnStatus.SUCCEEDED,
            TurnStatus.FAILED,
            TurnStatus.CANCELLED,
            TurnStatus.DEAD_LETTERED,
        }
    ),
    # Back to queued: every pending call is answered, or after an interrupt a worker records what it completed.
    TurnStatus.WAITING: frozenset({TurnStatus.QUEUED, TurnStatus.RUNNING, TurnStatus.CANCELLED, TurnStatus.FAILED}),
    TurnStatus.SUCCEEDED: frozenset(),
    TurnStatus.FAILED: frozenset(),
    TurnStatus.CANCELLED: frozenset(),
    TurnStatus.DEAD_LETTERED: frozenset(),
}


class Policy(StrEnum):
    """What to do with a new message if its session is busy."""

    ENQUEUE = "enqueue"  # it waits in the mailbox
    REJECT = "reject"  # SessionBusy
    INTERRUPT = "interrupt"  # the running turn is cancelled; what it completed stays in the history
    ROLLBACK = "rollback"  # the running turn is cancelled, and leaves nothing
    STEER = "steer"  # it joins the running turn before its next model request


def _not_given(value: object) -> bool:
    return value is None


class TurnRequest(BaseModel):
    """A client's request: the body of a turn, as it is stored. The agent's configuration is stored separately."""

    model_config = ConfigDict(frozen=True)

    v: WireVersion = WIRE_VERSION
    message: str = Field(description="The text. Of a message with files: its texts, joined.")
    parts: tuple[MessagePart, ...] = Field(
        (), exclude_if=lambda parts: not parts, description="A message with files: its texts and files, in order."
    )
    agent: str = "Assistant"
    stream: bool = False
    team: TeamSpec | None = Field(None, description="A team's run: its tasks are turns of their own.")
    recalls: RecallSettings = Field(
        RecallSettings(), description="Memory and knowledge of its session, used if the agent specifies none."
    )
    home: str | None = Field(None, description="The session whose memory and knowledge it uses; None: its own.")
    operation: OperationSpec | None = Field(None, description="Work for the retrieval role instead of an agent's.")
    titles: bool = Field(False, description="Writes the title of the session; leaves nothing in a history.")
    extraction: Extraction | None = Field(None, description="Extracts facts from a turn; leaves nothing in a history.")
    parent: str | None = Field(
        None, description="Id of the turn that waits for this one: a team's run, or an asking agent's turn."
    )
    depth: int = Field(0, description="How many agents asked one another before this turn.")
    # Left out of the JSON if they are not given: a repeat of a request must have the digest that it had before the
    # upgrade that added them.
    model: str | tuple[str, ...] | None = Field(
        None, exclude_if=_not_given, description="Used instead of the agent's model; several are a fallback chain."
    )
    model_settings: dict[str, Any] | None = Field(
        None, exclude_if=_not_given, description="For its model requests, such as a temperature."
    )
    replaces: str | None = Field(
        None, exclude_if=_not_given, description="Id of the turn whose place in the history it takes."
    )
    about: str | None = Field(
        None, exclude_if=_not_given, description="The turn's part of the id of the turn that a title is written for."
    )
    metadata: dict[str, Any] | None = Field(None, exclude_if=_not_given, description="The caller's own notes on it.")

    limits: TurnLimits | None = Field(
        None, exclude_if=_not_given, description="The most that it may do, besides the agent's limits."
    )
    additions: TurnAdditions | None = Field(
        None, exclude_if=_not_given, description="What it has in addition to the agent's configuration."
    )

    @property
    def in_words(self) -> str:
        """The message for people: its text, or, if it has none, what its files are."""
        return self.message or " ".join(part.described for part in self.parts if isinstance(part, MediaPart))


class Usage(BaseModel):
    """The cost of a turn: requests and tokens, and US dollars as far as the model's price is known.

    Attributes:
        cache_read_tokens: how many of the input tokens came from the provider's prompt cache, for a lower price.
        cache_write_tokens: how many of the input tokens were written to that cache; some providers charge for that.
        unpriced_requests: how many of the requests have an unknown price, so that `cost` does not contain it.
        cost: None if no request has a known price; left out of the JSON then, because earlier versions expect a number.
    """

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    tool_calls: int = 0
    unpriced_requests: int = Field(0, description="Requests whose price is not known: `cost` does not contain them.")
    cost: float | None = Field(
        0.0, exclude_if=_not_given, description="US dollars; left out if no request has a known price."
    )

    @model_validator(mode="after")
    def _cost_unknown(self) -> Self:
        if known_cost(self.cost or 0.0, self.requests, self.unpriced_requests) is None:
            object.__setattr__(self, "cost", None)
        return self


class ModelUsage(Usage):
    """What was used of one model: `provider:model`, or "" if it is not known."""

    model: str = ""


def total(spent: Iterable[Usage]) -> Usage:
    """The sum of several usages."""
    every = list(spent)
    return Usage(**{field: sum(getattr(usage, field) or 0 for usage in every) for field in Usage.model_fields})


class TurnError(BaseModel):
    """Why a turn failed, as it is stored: `type` names a class of `sessions.errors`."""

    model_config = ConfigDict(frozen=True)

    type: str
    message: str
    detail: dict[str, Any] = Field(default_factory=dict)
