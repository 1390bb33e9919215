"""The transitions of a session that workers make under its lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sessions.protocol.turn import TurnStatus
from sessions.store.binding import transition
from sessions.store.transitions.shared import Cancelled, Change, Lost, PackedAway


class NothingToRun(StrEnum):
    """Why no turn was begun. Nothing is wrong: another worker, or a later wake-up, will run it."""

    BUSY = "busy"
    EMPTY = "empty"
    WAITING = "waiting"
    LATER = "later"
    LAST = "last"


class Closing(StrEnum):
    """Why a turn that has begun ends without being run."""

    CANCELLED = "cancelled"
    DEAD_LETTERED = "dead_lettered"  # it lost its worker too often
    DEADLINE = "deadline"
    UNANSWERED = "unanswered"  # its pending calls were not answered in time


@dataclass(frozen=True, slots=True)
class Effects:
    """Effects of earlier turns on other slots, to be applied before the session's next turn begins."""

    entries: list[bytes]


@dataclass(frozen=True, slots=True)
class Run:
    """A turn has begun: its record, and what a replay needs, as they are stored."""

    turn: str
    lease: str
    attempt: int
    request: bytes
    deadline_ms: int
    accepted_ms: int
    seq: int
    retries: int | None
    last: bool
    now_ms: int
    user: str | None
    journal: dict[str, bytes]
    history: list[bytes]
    agent_config: bytes
    state: dict[str, bytes]
    closing: Closing | None
    crashes: int
    sender: str | None
    replaces_at: int | None
    behind: int
    summary: bytes
    packed: int


@transition
def lease_session(
    *, nonce: str, lease_ms: int, worker: str, window: str, last_ok: bool, packed_ok: bool
) -> Run | NothingToRun | PackedAway | Effects:
    """Take the session's lease, and begin the turn at the head of its mailbox."""


class StepReply(StrEnum):
    """A step was written, and what a client wants of its turn meanwhile; or it was not, for the lease was lost."""

    OK = "ok"
    CANCEL = "cancel"
    STEER = "steer"
    LOST = "lost"


@transition
def record_step(
    *,
    turn: str,
    lease: str,
    field: str,
    value: bytes,
    first_seq: int,
    files: Sequence[str],
    events: Iterable[tuple[str, bytes]],
) -> StepReply:
    """Journal a finished step together with its events."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The messages that joined the turn (JSON array), as they are journalled."""

    messages: bytes


@dataclass(frozen=True, slots=True)
class Nothing:
    """No message waits to join the turn."""


@transition
def take_steering(
    *, turn: str, lease: str, field: str, first_seq: int, encrypted: bytes, events: Sequence[bytes]
) -> Taken | Nothing | Lost:
    """Take the unread messages that joined a running turn."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The turn waits. With `wake`, a wake-up must be published, for other turns can run meanwhile."""

    wake: bool
    queue: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nothing was written: a client asked to cancel this turn."""


@transition
def wait_turn(*, turn: str, lease: str, seq: int, event: bytes, calls: Mapping[str, bytes]) -> Waiting | Cancel | Lost:
    """Make a running turn wait for the answers to these calls."""


@dataclass(frozen=True, slots=True)
class Released:
    """The turn was given back; the session goes on after a pause."""

    queue: str
    now_ms: int
    pause_ms: int


@transition
def release_turn(
    *, turn: str, lease: str, why: str, pause_ms: int, seq: int, event: str, data: bytes
) -> Released | Cancelled | Lost:
    """Give a running turn back unfinished."""


@dataclass(frozen=True, slots=True)
class Steered:
    """Nothing was written: a message joined the turn that the model has not read yet."""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """Nothing was written: a value that a change was decided on has changed. Decide again."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The turn has ended, and the lease was given back. `queue`: turns wait, so a wake-up must be published to it."""

    status: TurnStatus
    queue: str | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class EffectsDue:
    """The turn has ended, and the lease was given back: apply the effects in the outbox, then take the lease again."""

    status: TurnStatus


@dataclass(frozen=True, slots=True)
class NextRun(Run):
    """The turn has ended with this status, and the session's next turn has begun under the same lease."""

    status: TurnStatus


CommitReply = Lost | Steered | StateChanged | PackedAway | Committed | EffectsDue | NextRun


@transition
def commit_turn(
    *,
    turn: str,
    lease: str,
    status: TurnStatus,
    result: bytes,
    error_json: bytes,
    usage: bytes,
    history_entry: bytes,
    messages: int,
    messages_cut: int,
    seq: int,
    go_on: bool,
    lease_ms: int,
    worker: str,
    window: str,
    window_kept: int | None,
    last_ok: bool,
    finish_reason: str,
    archived: bytes,
    usage_key: str,
    usage_expires_ms: int,
    spent: Mapping[str, int],
    changes: Iterable[Change],
    effects: Sequence[bytes],
) -> CommitReply:
    """End the running turn, and begin the session's next one with `go_on`."""


class Renewed(StrEnum):
    """A lease was renewed, and whether a client asked to cancel its turn; or it was lost."""

    OK = "ok"
    CANCEL = "cancel"
    LOST = "lost"


@transition
def renew_lease(*, lease: str, lease_ms: int, turn: str) -> Renewed:
    """Renew a lease, or take back one that ran out and that no other worker has had since."""


class Forgiven(StrEnum):
    """What became of a turn that was given up because the store was unreachable."""

    FORGIVEN = "forgiven"
    RELEASED = "released"
    NOTHING = "nothing"


@transition
def forgive_crash(*, turn: str, lease: str) -> Forgiven:
    """Report that a turn was given up because the store was unreachable, which is no crash."""


@dataclass(frozen=True, slots=True)
class Noted:
    """The values are written."""


@transition
def note_sources(*, turn: str, lease: str, kind: str, values: Mapping[str, bytes]) -> Noted | Lost:
    """Record what became of documents."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The entry is no longer in the outbox."""


@transition
def ack_outbox(*, entry: bytes) -> Removed:
    """Remove an entry from the outbox after it was applied."""
