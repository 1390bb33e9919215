"""The transitions of what a session, user or tenant has in addition to turns: the session itself, state, memories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sessions.protocol.access import Rights
from sessions.protocol.turn import TurnStatus
from sessions.store.binding import transition
from sessions.store.transitions.shared import Change, Full, Missing, Moved, OtherOwner, PackedAway, Refusal

Scope = Literal["session", "wide"]
ValueKind = Literal["hash", "list", "string"]
EntryList = Literal["history", "left", ""]
"""Where the entry of a turn is: in the history, among those that left it, or nowhere."""


# --- sessions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Created:
    """The session exists now."""


@dataclass(frozen=True, slots=True)
class Exists:
    """Nothing was written: there is a session of this id."""


@transition
def create_session(
    *,
    copy: str,
    user: str | None,
    queue: str,
    session_ttl_ms: int | None,
    messages: int,
    turns: int,
    origin: str,
    title: bytes,
    auto_title: bool,
    metadata: bytes,
    hidden: bool,
    searchable: str,
    compact: str,
    counts: Mapping[str, str | bytes],
    state: Mapping[str, bytes],
    agents: Mapping[str, bytes],
) -> Created | Exists:
    """Create a session, empty or from a copy."""


@dataclass(frozen=True, slots=True)
class Updated:
    """The session has this title and these metadata now."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Nothing was written: the metadata or the memory are not what the change was decided on. Decide again."""


@transition
def approve_tools(*, user: str | None, expected: bytes, tools: bytes) -> Updated | Missing | OtherOwner | Changed:
    """Change which tools' calls need no more approval in a session."""


@transition
def update_session(
    *,
    user: str | None,
    title: bytes,
    by_model: bool,
    about: str | None,
    auto: bool,
    expected: bytes,
    metadata: bytes,
    searchable: str,
    compact: str,
    operation: str,
) -> Updated | Missing | OtherOwner | Changed:
    """Change title and metadata of a session, whether its transcript is searchable, and whether it is compacted."""


@dataclass(frozen=True, slots=True)
class SessionFound:
    """What a copy of a session contains, as it is stored: history entries, the oldest in segments; state and agents."""

    segments: list[bytes]
    history: list[bytes]
    state: dict[str, bytes]
    agents: dict[str, bytes]


@transition
def read_session() -> SessionFound:
    """Read what a copy of a session contains, in one step."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """How much was deleted."""

    keys: int
    turns: int
    open_turns: int
    memories: int
    files: int


@dataclass(frozen=True, slots=True)
class InUse:
    """Nothing was deleted: the session has an open turn, or was used since the given time."""


@transition
def delete_session(*, user: str | None, unused_since: int | None) -> Deleted | OtherOwner | InUse:
    """Delete a session with everything in it."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The checkpoint has this number."""

    number: int


@transition
def save_checkpoint(
    *, operation: str, user: str | None, kept: int, session_ttl_ms: int | None, merge: Mapping[str, bytes]
) -> Saved | OtherOwner:
    """Write a numbered checkpoint, after merging values into the state."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The checkpoint that the state was restored from (JSON)."""

    checkpoint: bytes


@transition
def restore_checkpoint(*, number: int, user: str | None, operation: str) -> Restored | Missing | OtherOwner:
    """Restore a session's state from a checkpoint."""


# --- single turns -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much was deleted."""

    keys: int
    messages: int


@dataclass(frozen=True, slots=True)
class Open:
    """Nothing was written: the turn has not ended."""

    status: TurnStatus


@dataclass(frozen=True, slots=True)
class Needed:
    """Nothing was written: this open turn has seen the turn, or is replacing turns."""

    by: str


@transition
def delete_turn(
    *,
    turn: str,
    user: str | None,
    operation: str,
    list: EntryList,  # noqa: A002 - the script's name for it
    at: int,
    messages: int,
    version: int,
    length: int,
    positions: str,
    segment: bytes,
) -> Forgotten | Open | Needed | Moved | OtherOwner:
    """Delete one turn that has ended, with its entry in the history or in a branch."""


# --- session objects of other libraries -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HistoryFound:
    """Entries of the history and what belongs to them, as they are stored.

    Attributes:
        revision: names this state of the history; recorded: its revision when the record was written.
        length: how many entries the history has.
        count, segments, skip: as in `EntriesFound`.
        record: what the library keeps besides its messages.
    """

    revision: str
    recorded: str
    created_ms: int
    used_ms: int
    owner: str | None
    length: int
    count: int
    segments: list[bytes]
    skip: int
    entries: list[bytes]
    record: bytes
    state: dict[str, bytes]


@transition
def read_history(
    *, user: str | None, adapter: str, start: int, stop: int, with_state: bool
) -> HistoryFound | Missing | OtherOwner:
    """Read a session as the session object of another library shows it."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """The history has this revision now."""

    revision: str


@transition
def write_history(
    *,
    operation: str,
    user: str | None,
    owner: str | None,
    queue: str,
    session_ttl_ms: int | None,
    title: bytes,
    searchable: str,
    compact: str,
    revision: str,
    at: int | None,
    leave: Literal["drop", "branch"],
    replaced: str,
    messages_cut: int,
    messages: int,
    turn: str,
    adapter: str,
    record: bytes,
    entries: Sequence[bytes],
    changes: Iterable[Change],
    effects: Sequence[bytes],
) -> Wrote | Moved | Needed | OtherOwner | PackedAway:
    """Write entries at the end of the history, or in the place of its last ones, with changes of state."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """The history is empty."""


@transition
def clear_history(*, user: str | None, operation: str) -> Cleared | Needed | OtherOwner:
    """Empty the history of a session, with its branches and the records of its ended turns."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The summary is stored."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """Nothing was written: what the summary covers has changed, or another turn has written a later one."""


@transition
def write_summary(
    *, chain: str, by: str, after: str, upto: int, complete: bool, text: bytes, usage: bytes
) -> Kept | Outdated:
    """Store a summary of the turns before the window."""


# --- state ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ok:
    """The value of each changed field, empty for none."""

    values: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was written: this value of a field makes one of the changes impossible."""

    why: Refusal
    field: str
    value: bytes


WriteStateReply = Ok | OtherOwner | Refused


@transition
def write_state(
    *,
    operation: str,
    scope: Scope,
    user: str | None,
    session_ttl_ms: int | None,
    remembered_ms: int,
    changes: Iterable[Change],
) -> WriteStateReply:
    """Change fields of the state: all changes, or none."""


# --- memories ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """There are this many memories now."""

    count: int


@dataclass(frozen=True, slots=True)
class Known:
    """Nothing was written: this memory has the same content."""

    id: str


@transition
def write_memory(
    *,
    operation: str,
    scope: Scope,
    user: str | None,
    session_ttl_ms: int | None,
    remembered_ms: int,
    id: str,  # noqa: A002 - the script's name for it
    memory: bytes,
    most: int,
    same: Sequence[str],
) -> Written | OtherOwner | Known | Full:
    """Add a memory, or replace the memory of this id; unless another one has the same content."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The memory has its new version."""


@transition
def replace_memory(
    *,
    operation: str,
    scope: Scope,
    user: str | None,
    remembered_ms: int,
    id: str,  # noqa: A002 - the script's name for it
    digest: str,
    memory: bytes,
    same_text: bool,
    same: Sequence[str],
) -> Replaced | Missing | Changed | OtherOwner:
    """Replace a memory by a newer version of it, unless it was changed since it was read."""


@dataclass(frozen=True, slots=True)
class Removed:
    """This many memories were removed."""

    count: int


@transition
def remove_memory(
    *, operation: str, scope: Scope, user: str | None, remembered_ms: int, ids: Sequence[str]
) -> Removed | OtherOwner:
    """Remove these memories, or all if there are no ids."""


@dataclass(frozen=True, slots=True)
class MemoriesFound:
    """A value for each id, None where there is none. No vectors unless they were wanted."""

    memories: list[bytes | None]
    vectors: list[bytes | None]


@transition
def read_memories(*, with_vectors: bool, ids: Sequence[str]) -> MemoriesFound:
    """Read memories and, if wanted, their vectors in one step."""


@dataclass(frozen=True, slots=True)
class VectorsNoted:
    """This many vectors were stored."""

    count: int


@transition
def note_vectors(*, tag: str, vectors: Iterable[tuple[str, str, bytes]]) -> VectorsNoted:
    """Store vectors (memory id, digest of the memory as it was read, vector) of memories that have not changed."""


# --- sharing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shared:
    """The sharing is as wanted; and what it was before."""

    before: Rights | None


@dataclass(frozen=True, slots=True)
class Unowned:
    """Nothing was written: the session has no owner."""


@transition
def share_session(
    *, user: str | None, other: str, rights: str, most: int
) -> Shared | OtherOwner | Missing | Unowned | Full:
    """Let another user read or write a session, or end that."""


# --- encryption -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resealed:
    """This many values were replaced."""

    count: int


@transition
def reseal_values(*, name: str, kind: ValueKind, values: Iterable[tuple[str, bytes, bytes]]) -> Resealed:
    """Replace values (field, old, new) by the same encrypted with another key, where they have not changed."""
