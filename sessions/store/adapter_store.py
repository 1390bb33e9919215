"""What the session objects of other libraries read and write (`sessions.adapters`): the history, with state.

A change is decided on what was read, and written only if the history still has the revision that was read. So two
processes that use the same conversation lose nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import uuid_utils

from sessions.errors import CorruptRecord, SessionBusy, SessionOwnerError
from sessions.protocol.access import Access, refused
from sessions.protocol.state_ops import StateOp
from sessions.protocol.text import default_title
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealed_state import decide
from sessions.store.sealing import KeyRing
from sessions.store.segments import Segments, stored_entries
from sessions.store.session_info import TITLE
from sessions.store.state import Effect, StateStore, ack_effect
from sessions.store.transitions import records as transitions
from sessions.store.transitions.shared import Missing, Moved, OtherOwner, PackedAway

ANY: Final = "any"
"""As a revision: write whatever the history has become."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A session as one caller uses it."""

    keys: SessionKeys
    user_id: str | None
    adapter: str


@dataclass(frozen=True, slots=True)
class SeenHistory:
    """Entries of the history, and what belongs to them, at one moment.

    Attributes:
        revision: names this state of the history; "" if there is no session.
        recorded: the revision when `record` was written.
        length: how many entries the history has.
        record: what the library keeps besides its messages; None for nothing.
        state: the session's own, if it was wanted.
    """

    revision: str = ""
    recorded: str = ""
    created_ms: int = 0
    used_ms: int = 0
    owner: str | None = None
    length: int = 0
    entries: Sequence[HistoryEntry] = ()
    record: dict[str, Any] | None = None
    state: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether there is such a session."""
        return self.revision != ""

    @property
    def last(self) -> HistoryEntry | None:
        """The last entry that was read."""
        return self.entries[-1] if self.entries else None


@dataclass(frozen=True, slots=True)
class HistoryChange:
    """A change of the history's end.

    Attributes:
        revision: what the change was decided on.
        entries: to add. at: position from which entries leave first; None if none do.
        leave: whether those are dropped, or stay readable as a branch; replaced: the turn of the first of them.
        messages_cut: how many messages they have.
        title: for a session that has none.
        record: what the library keeps besides its messages; None to leave it.
        ops: changes of the session's own state, which set values; effects: those of user and app state.
    """

    revision: str
    entries: Sequence[HistoryEntry] = ()
    at: int | None = None
    leave: Literal["drop", "branch"] = "drop"
    replaced: str = ""
    messages_cut: int = 0
    title: str = ""
    record: Mapping[str, Any] | None = None
    ops: Sequence[StateOp] = ()
    effects: Sequence[Effect] = ()


class AdapterStore:
    """Reads and changes the history for the session objects of other libraries. Values are encrypted here."""

    def __init__(self, scripts: ScriptRunner, keyring: KeyRing, *, searchable: str = "", compact: str = "") -> None:
        """Over a client of the store.

        Args:
            searchable: whether a session is searchable about which nobody has decided (`searchable_by_default`).
            compact: whether such a session is compacted (`compact_by_default`).
        """
        self._scripts = scripts
        self._searchable = searchable
        self._compact = compact
        self._keyring = keyring
        self._segments = Segments(scripts, keyring)

    # --- read -------------------------------------------------------------------------------------------

    async def read(self, reader: Reader, start: int = 0, stop: int = -1, *, with_state: bool = False) -> SeenHistory:
        """Entries by position, the last one included.

        Raises:
            SessionOwnerError: the session belongs to another user. CorruptRecord, SealError: it cannot be read.
        """
        keys = reader.keys
        call = transitions.read_history(
            (keys.base,), user=reader.user_id, adapter=reader.adapter, start=start, stop=stop, with_state=with_state
        )
        match await self._scripts.run(call):
            case Missing():
                return SeenHistory()
            case OtherOwner():
                raise _not_yours(reader, "read")
            case transitions.HistoryFound() as found:
                return self._seen(reader, found)

    def _seen(self, reader: Reader, found: transitions.HistoryFound) -> SeenHistory:
        keys, opened = reader.keys, self._keyring.open
        try:
            entries = stored_entries(self._keyring, keys, found.segments, found.skip, found.count, found.entries)
            return SeenHistory(
                revision=found.revision,
                recorded=found.recorded,
                created_ms=found.created_ms,
                used_ms=found.used_ms,
                owner=found.owner,
                length=found.length,
                entries=[HistoryEntry.load(opened(keys.history, "", entry)) for entry in entries],
                record=json.loads(opened(keys.adapters, reader.adapter, found.record)) if found.record else None,
                state={name: json.loads(opened(keys.state, name, value)) for name, value in found.state.items()},
            )
        except (ValueError, KeyError) as error:
            raise CorruptRecord(f"the history of session {keys.session_id!r} cannot be read: {error!r}") from error

    # --- change -----------------------------------------------------------------------------------------

    async def write(
        self, reader: Reader, change: HistoryChange, *, queue: str, ttl: float | None, operation: str
    ) -> transitions.Wrote | Moved | transitions.Needed:
        """Write a change. The caller decides again if the history has moved, or if an open turn needs an entry.

        Raises:
            SessionOwnerError: the session belongs to another user, who has not shared it for writing.
        """
        keys = reader.keys
        call = transitions.write_history(
            keys.pair,
            operation=operation,
            user=reader.user_id,
            owner=reader.user_id,
            queue=queue,
            session_ttl_ms=None if ttl is None else int(ttl * 1000),
            title=self._title(keys, change.title),
            searchable=self._searchable,
            compact=self._compact,
            revision=change.revision,
            at=change.at,
            leave=change.leave,
            replaced=change.replaced,
            messages_cut=change.messages_cut,
            messages=sum(entry.count for entry in change.entries),
            turn=change.entries[0].turn if change.entries else operation,
            adapter=reader.adapter,
            record=self._record(reader, change.record),
            entries=[self._keyring.seal(keys.history, "", entry.dump()) for entry in change.entries],
            changes=decide(self._keyring, keys.state, change.ops, {}).changes,
            effects=[self._keyring.seal(keys.outbox, "", effect.dump().encode()) for effect in change.effects],
        )
        while isinstance(reply := await self._scripts.run(call), PackedAway):
            await self._segments.unpack(keys, reply.at)
        if isinstance(reply, OtherOwner):
            raise _not_yours(reader, "write")
        return reply

    def _title(self, keys: SessionKeys, text: str) -> bytes:
        title = default_title(text) if text else ""
        return self._keyring.seal(keys.meta, TITLE, title.encode()) if title else b""

    def _record(self, reader: Reader, record: Mapping[str, Any] | None) -> bytes:
        if record is None:
            return b""
        return self._keyring.seal(reader.keys.adapters, reader.adapter, json.dumps(record).encode())

    async def clear(self, reader: Reader) -> None:
        """Empty the history, and delete the records of the turns that have ended.

        Raises:
            SessionOwnerError: as `write`. SessionBusy: an open turn has seen the history.
        """
        call = transitions.clear_history(reader.keys.pair, user=reader.user_id, operation=uuid_utils.uuid4().hex)
        match await self._scripts.run(call):
            case OtherOwner():
                raise _not_yours(reader, "write")
            case transitions.Needed(by=by):
                raise busy(reader.keys, by)

    async def apply_effects(self, keys: SessionKeys, states: StateStore) -> None:
        """Apply what changes of this and other writers still have to do in other slots: state of users and apps.

        A worker does it, too, for a process that dies in between. Applying it twice changes nothing.
        """
        for entry in await self._scripts.read("LRANGE", keys.outbox, 0, -1):
            effect = json.loads(self._keyring.open(keys.outbox, "", entry))
            if "kind" not in effect:  # else it is work for a worker: a webhook, or facts to extract
                await states.apply(effect)
                await ack_effect(self._scripts, keys, entry)


def busy(keys: SessionKeys, by: str) -> SessionBusy:
    """The error for a change that an open turn is in the way of."""
    return SessionBusy(
        f"turn {keys.public_id(by)!r} is open and builds on the history that would change: cancel it or wait for its "
        "end, then try again"
    )


def _not_yours(reader: Reader, access: Access) -> SessionOwnerError:
    return refused(reader.keys.session_id, reader.user_id, access)
