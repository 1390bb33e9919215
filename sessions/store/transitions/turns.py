"""The transitions of a turn that clients make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sessions.protocol.turn import Policy, TurnStatus
from sessions.store.binding import transition
from sessions.store.transitions.shared import Cancelled, Full, Missing, Moved, OtherOwner

Watch = Literal["readers", "waiters"]
Which = Literal["open", "current", "oldest", "newest", "next"]
"""Which turns to list, and in which order, as list_turns.lua describes it."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The turn is accepted. `worker` runs the turn `marked`, which this turn's policy cancelled."""

    turn: str
    wake: bool
    now_ms: int
    queue: str
    worker: str | None
    marked: str | None


@dataclass(frozen=True, slots=True)
class Steered:
    """The message joined this running turn."""

    turn: str


@dataclass(frozen=True, slots=True)
class Open:
    """The policy is `reject`, and this many turns are open."""

    count: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """This request was accepted under its idempotency key before, as this turn."""

    turn: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another request was accepted under this idempotency key, as this turn."""

    turn: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Another user used this idempotency key in the session, for this turn."""

    turn: str


@dataclass(frozen=True, slots=True)
class NoFile:
    """Nothing was changed: the session does not have this file."""

    id: str


@dataclass(frozen=True, slots=True)
class NothingToReplace:
    """Nothing was written: the history does not have the turn that was to be replaced."""


Replaces = tuple[str, int, int, int]
"""The turn whose place a new one takes: its part, its position in the history, 1 if it must be the last one, and the
version of the history that was looked at. The part is empty if the history does not have the turn."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The schedule is not due for this tick any more, or there is no such schedule."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """No turn was accepted for this tick: the previous one's is open (`overlap`), or the mailbox is `full`."""

    why: str


Decided = (
    Accepted
    | Steered
    | Open
    | Duplicate
    | Conflict
    | Taken
    | OtherOwner
    | Full
    | NoFile
    | NothingToReplace
    | Passed
    | Skipped
)


@dataclass(frozen=True, slots=True)
class Limited:
    """Nothing was written: a limit of the tenant or user is reached."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """Nothing was written: the turn would create the session, and the limit of sessions was not looked at."""


AcceptReply = Decided | Moved | Limited | NewSession


@transition
def accept_turn(
    *,
    turn: str,
    request: bytes,
    digest: str,
    idempotency: str,
    user: str | None,
    sender: str | None,
    timeout_ms: int,
    not_before: str | None,
    mailbox_limit: int,
    queue: str,
    watcher: str,
    watch: Watch,
    result_ttl_ms: int,
    idempotency_ttl_ms: int,
    max_attempts: int,
    session_ttl_ms: int | None,
    agent: str,
    agent_config: bytes,
    policy: Policy,
    waiting_blocks: bool,
    approval_ms: int,
    message: str | bytes,
    parts: str | bytes,
    webhook: str | bytes,
    title: bytes,
    hidden: bool,
    searchable: str,
    compact: str,
    joins: str,
    metadata: str | bytes,
    refused: str,
    ask_for_session: bool,
    files: Sequence[str],
    replaces: Sequence[Replaces],
    tick: Iterable[tuple[str, int | str, int, int | str, int, str]],
) -> AcceptReply:
    """Accept a turn."""


@dataclass(frozen=True, slots=True)
class Watching:
    """The turn's status."""

    status: TurnStatus


@transition
def watch_turn(*, turn: str, nonce: str, watch: Watch, on: bool) -> Watching | Missing:
    """Add a client to those that a turn notifies, or remove it."""


@dataclass(frozen=True, slots=True)
class Attending:
    """The turn's status."""

    status: TurnStatus


@transition
def attend_turn(*, turn: str, for_ms: int) -> Attending | Missing:
    """Record that the reader is there whose absence cancels the turn."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The turns, in the wanted order."""

    turns: tuple[str, ...]


@transition
def list_turns(*, which: Which, after: str | None, limit: int) -> Listed:
    """List turns of a session."""


@dataclass(frozen=True, slots=True)
class Marked:
    """The turn is marked as cancelled. `worker` runs it; None: a worker will record what it had finished."""

    worker: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn has ended already."""

    status: TurnStatus


@transition
def cancel_turn(*, turn: str) -> Cancelled | Marked | Ended | Missing:
    """Cancel a turn."""


@dataclass(frozen=True, slots=True)
class Woken:
    """A wake-up must be published."""

    queue: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class Noted:
    """The turn runs, and looks at its tasks before it waits."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The turn does not wait for tasks."""


@transition
def nudge_turn(*, turn: str) -> Woken | Noted | Nothing:
    """Make a run that waits for its tasks look at them now."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer counts. With `wake`, a wake-up must be published."""

    wake: bool
    queue: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class Same:
    """The call has this very answer already."""


@dataclass(frozen=True, slots=True)
class Other:
    """The call has another answer, which counts."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Unknown:
    """The turn does not wait for this call."""


AnswerReply = Answered | Same | Other | Unknown | Ended | Missing


@transition
def answer_call(*, turn: str, call: str, answer: bytes, event: bytes) -> AnswerReply:
    """Answer a call that a turn waits for."""
