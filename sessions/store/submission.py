"""A turn to be accepted: one value, from the API or a worker that makes it to the script that accepts it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from sessions.protocol.agent import AgentConfig
from sessions.protocol.compaction_requests import Compact
from sessions.protocol.message import MediaKind, MediaPart, TextPart
from sessions.protocol.text import default_title
from sessions.protocol.turn import Policy, TurnRequest
from sessions.store.keys import new_turn_part


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a message before it is stored: its bytes, or the path or the open file that they are read from."""

    kind: MediaKind
    name: str
    media_type: str
    content: bytes | Path | IO[bytes]


Part = TextPart | MediaPart | Upload
"""A part of a message before its files are stored."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a turn is to replace. The store looks it up when the turn is accepted.

    Attributes:
        turn: the turn's part of its id; None for the last committed turn.
        same_message: send the message of the replaced turn again.
        same_agent: send it to the agent of the replaced turn.
        same_sender: the same message is sent for the user who sent it; for a caller that names no user.
    """

    turn: str | None = None
    same_message: bool = False
    same_agent: bool = False
    same_sender: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """The turn that is replaced, and its position in a version of the history. `turn` is empty if it is not there."""

    turn: str
    at: int
    version: int


@dataclass(frozen=True, slots=True)
class ScheduleTick:
    """The tick of a schedule that a turn is.

    Attributes:
        due_ms: the tick that the schedule is due for; None if a client triggers it.
        at_ms: the tick that the turn is: the newest of those that have passed.
        next_ms: when the schedule is due next; None for never.
        missed: how many ticks before it had no turn, because no worker was there.
        overlap: what to do if the turn of the previous tick is still open.
    """

    schedule_id: str
    due_ms: int | None = None
    at_ms: int = 0
    next_ms: int | None = None
    missed: int = 0
    overlap: str = "queue"


@dataclass(frozen=True, slots=True)
class Submission:
    """A turn to be accepted. Accepting the same submission twice is one turn.

    Attributes:
        content: the parts of a message with files that are still to be stored; then they are the request's parts.
        queue: the Celery queue of the session, if this turn creates it.
        timeout: seconds to the turn's deadline.
        not_before: the time before which it does not begin, or seconds from its acceptance; the deadline counts from
            then. None: it begins when its turn comes.
        agent: what the workers must be able to run; None for an operation, which has no agent.
        config: the agent's configuration as JSON; empty for the one that the session has under the agent's name.
        named: the caller only named the agent, so its configuration is not part of the request's digest.
        colleagues: further agents that workers must be able to run, of a team, each with its queue.
        max_attempts: crashes of workers after which it is a dead letter; None for SESSIONFLEET_MAX_ATTEMPTS.
        session_ttl: seconds that the session is kept after its last turn; None leaves what is set.
        result_ttl: seconds that the turn's record is kept after its end; None for SESSIONFLEET_RESULT_TTL.
        user_id: the user that the session belongs to, if this turn creates it.
        sender: the user who sends the message; None for `user_id`.
        policy: what happens to the turn when the session is busy.
        waiting_blocks: whether later turns wait while this one waits for an answer.
        approval_timeout: seconds that it waits for an answer, at most.
        webhook: the URL to notify when the turn ends; empty for none.
        mailbox_limit: most turns of the session that may be open; None for SESSIONFLEET_MAILBOX_LIMIT.
        replacement: what it is to replace; None for a turn that is added to the history.
        place: where that is, once it was looked up.
        asked: the request as the caller made it, without what was looked up in the replaced turn.
        searchable: whether the session's transcript is searchable; None leaves it as it is.
        compact: whether the turns before the session's window are summarised; None leaves it as it is.
        hidden: no list shows the session, because it is made for this task or run.
        tick: of a schedule, if the turn is one.
        part: the turn's part of its id.
    """

    request: TurnRequest
    queue: str
    timeout: float
    content: tuple[Part, ...] = ()
    agent: AgentConfig | None = None
    config: bytes = b""
    named: bool = False
    colleagues: tuple[tuple[AgentConfig, str], ...] = ()
    user_id: str | None = None
    sender: str | None = None
    idempotency_key: str | None = None
    session_ttl: float | None = None
    result_ttl: float | None = None
    max_attempts: int | None = None
    policy: Policy = Policy.ENQUEUE
    waiting_blocks: bool = True
    approval_timeout: float = 86400.0
    webhook: str = ""
    mailbox_limit: int | None = None
    not_before: datetime | float | None = None
    replacement: Replacement | None = None
    place: Place | None = None
    asked: TurnRequest | None = None
    searchable: bool | None = None
    compact: Compact | None = None
    hidden: bool = False
    tick: ScheduleTick | None = None
    part: str = field(default_factory=new_turn_part)

    def with_parts(self, parts: Iterable[TextPart | MediaPart]) -> Submission:
        """The submission after its files were stored."""
        stored = {"parts": tuple(parts)}
        asked = None if self.asked is None else self.asked.model_copy(update=stored)
        return replace(self, request=self.request.model_copy(update=stored), asked=asked, content=())

    @property
    def to_compare(self) -> TurnRequest:
        """The request that a repeat under the same idempotency key must make.

        Not what was looked up for it: after the first one has replaced the last turn, another turn is the last.
        """
        if self.asked is None or self.replacement is None or self.replacement.same_message:
            return self.asked or self.request
        return self.asked.model_copy(update={"parts": self.request.parts})  # its files were stored after the look-up

    @property
    def agents(self) -> tuple[tuple[AgentConfig, str], ...]:
        """All agents that workers must be able to run, each with its queue."""
        if self.agent is None:
            return self.colleagues
        own = self.agent if self.request.model is None else self.agent.model_copy(update={"model": self.request.model})
        return ((own, self.queue), *self.colleagues)

    def with_part(self, part: str) -> Submission:
        """The same, under this part of an id."""
        return replace(self, part=part)

    @property
    def delay(self) -> float:
        """Seconds until it may begin, by this machine's clock."""
        if isinstance(self.not_before, datetime):
            return max(0.0, (self.not_before - datetime.now(UTC)).total_seconds())
        return self.not_before or 0.0

    @property
    def steerable(self) -> bool:
        """Whether messages may join the turn while it runs."""
        return self.request.team is None

    @property
    def title(self) -> str:
        """The default title of the session: the beginning of its first message."""
        is_message = self.request.team is None and self.request.operation is None
        return default_title(self.request.in_words) if is_message else ""

    def digest(self, request: bytes) -> str:
        """What a repeat under the same idempotency key must equal; `request` is the JSON of `to_compare`.

        It does not contain the configuration of an agent that was only named, so redefining the agent does not turn a
        retry into a conflict.
        """
        config = b"" if self.named else self.config
        return hashlib.sha256(request + config + self.webhook.encode()).hexdigest()


def idempotency_hash(key: str | None) -> str:
    """The name under which an idempotency key is stored; empty for none."""
    return hashlib.sha256(key.encode()).hexdigest() if key else ""
