"""What a session says of itself, and how to go back: checkpoints, context, history, forks, expiry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import uuid_utils

from sessions.errors import BadRequest, InvalidState, TurnNotFound
from sessions.fleet_client import FleetClient
from sessions.state_ops import APP, TEMP, USER, check_field, dump
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys, new_session_id, split_turn_id
from sessions.store.session_records import COPY_SECONDS, SessionInfo
from sessions.store.state import session_scope
from sessions.transcript import Message, Order, Page, bounds, messages_of

if TYPE_CHECKING:
    from sessions.session import Session

_CONTEXT_TURNS = 200


class _Kept(Protocol):
    """What of a session these need."""

    session_id: str
    user_id: str | None
    ttl: float | None
    queue: str
    keys: SessionKeys

    @property
    def client(self) -> FleetClient: ...

    def sibling(self, session_id: str) -> Session: ...


class RecordMethods:
    """The methods of `Session` over what is kept of it, each with its async twin."""

    # --- checkpoints ------------------------------------------------------------------------------------

    async def asave_state(self: _Kept, values: Mapping[str, Any] | None = None) -> int:
        """Write a numbered checkpoint: state, agents' configurations, position in history; returns its number.

        Turns and state are kept without it, by their own commits. A checkpoint is what one can go back to; the
        newest 100 are kept.

        Args:
            values: merged into the state first, in the same atomic step.
        """
        return await self.client.portal.acall(_save(self, values))

    def save_state(self: _Kept, values: Mapping[str, Any] | None = None) -> int:
        """Write a numbered checkpoint; see `asave_state`."""
        return self.client.portal.call(_save(self, values))

    async def arestore_state(self: _Kept, checkpoint: int | None = None) -> dict[str, Any]:
        """Attach to a session that was saved; returns its state.

        Without a number nothing changes: later turns and later state stay. With one, the state goes back to that
        checkpoint; history is never cut (`fork` makes a session from an earlier turn).

        Raises:
            StateNotFoundError: there is no (such) checkpoint. SessionExpired: there was, until the ttl ran out.
            CorruptRecord, StoreUnavailable: it cannot be read, now or at all.
        """
        return await self.client.portal.acall(_restore(self, checkpoint))

    def restore_state(self: _Kept, checkpoint: int | None = None) -> dict[str, Any]:
        """Attach to a session that was saved; see `arestore_state`."""
        return self.client.portal.call(_restore(self, checkpoint))

    # --- context ----------------------------------------------------------------------------------------

    async def aget_context(self: _Kept, query: str | None = None, *, max_items: int = 3) -> Any:
        """What is known of the session, as a dict; or, for a query, prompt text from what was said about it.

        The dict has session_id, user_id, created_at (datetime, None before the first turn), message_count, turns,
        open_turns, agents, requests, input_tokens, output_tokens, cost (US dollars, as far as prices are known), queue
        and expires_in (seconds, None for never).
        """
        work = _context(self) if query is None else _context_for(self, query, max_items)
        return await self.client.portal.acall(work)

    def get_context(self: _Kept, query: str | None = None, *, max_items: int = 3) -> Any:
        """What is known of the session; see `aget_context`."""
        work = _context(self) if query is None else _context_for(self, query, max_items)
        return self.client.portal.call(work)

    async def ahistory(self: _Kept, limit: int = 50, *, order: Order = "oldest", cursor: int | None = None) -> Page:
        """A page of the transcript: the messages of so many turns, oldest or newest turns first.

        Within a page messages always stand in the order in which they were written.
        """
        return await self.client.portal.acall(_history(self, limit, order, cursor))

    def history(self: _Kept, limit: int = 50, *, order: Order = "oldest", cursor: int | None = None) -> Page:
        """A page of the transcript; see `ahistory`."""
        return self.client.portal.call(_history(self, limit, order, cursor))

    # --- copies -----------------------------------------------------------------------------------------

    async def afork(self: _Kept, session_id: str | None = None, *, at: str | None = None) -> Session:
        """A new session with this one's history up to a turn, its state, memories and agents; they share nothing.

        Args:
            session_id: of the new session; made up when None.
            at: id of the last turn it keeps; None keeps all committed turns.

        Raises:
            TurnNotFound: `at` is no committed turn of this session. SessionExists: the id is taken.
            ResultTimeout, NoWorkerAlive: its documents could not be copied; the new session is there without them.
        """
        return await self.client.portal.acall(_fork(self, session_id, at))

    def fork(self: _Kept, session_id: str | None = None, *, at: str | None = None) -> Session:
        """A new session with this one's history up to a turn; see `afork`."""
        return self.client.portal.call(_fork(self, session_id, at))

    # --- expiry -----------------------------------------------------------------------------------------

    async def ais_expired(self: _Kept) -> bool:
        """Whether the session was there and its ttl ran out. Using it again begins a fresh one."""
        info = await self.client.portal.acall(_info(self))
        return not info.exists and info.expired_ms is not None

    def is_expired(self: _Kept) -> bool:
        """Whether its ttl ran out; see `ais_expired`."""
        info = self.client.portal.call(_info(self))
        return not info.exists and info.expired_ms is not None

    async def atime_to_expiry(self: _Kept) -> float | None:
        """Seconds until the session expires; None when it never does, or a turn is open."""
        return _left(await self.client.portal.acall(_info(self)))

    def time_to_expiry(self: _Kept) -> float | None:
        """Seconds until the session expires; see `atime_to_expiry`."""
        return _left(self.client.portal.call(_info(self)))

    def close(self: _Kept) -> None:
        """Nothing has to be closed: all is saved, and connections belong to the process. For `with` and PraisonAI."""


async def _info(session: _Kept) -> SessionInfo:
    await session.client.check_owner(session.keys, session.user_id)
    return await session.client.records.info(session.keys)


def _left(info: SessionInfo) -> float | None:
    return None if info.left_ms is None else info.left_ms / 1000


async def _save(session: _Kept, values: Mapping[str, Any] | None) -> int:
    if values is not None and not isinstance(values, Mapping):
        raise BadRequest(f"save_state({values!r}): give a dict to merge into the state, or nothing")
    merge = {check_field(field): dump(value) for field, value in (values or {}).items()}
    if wide := [field for field in merge if field.startswith((USER, APP, TEMP))]:
        raise InvalidState(f"save_state merges the session's own state; set {wide[0]!r} with set_state")
    await session.client.open()
    return await session.client.records.save_checkpoint(session.keys, merge, session.user_id, session.ttl)


async def _restore(session: _Kept, number: int | None) -> dict[str, Any]:
    client, keys = session.client, session.keys
    await client.check_owner(keys, session.user_id)
    if number is not None:
        return (await client.records.restore_checkpoint(keys, number, session.user_id)).state
    await client.records.checkpoint(keys)
    return await client.state.read(session_scope(keys))


async def _context(session: _Kept) -> dict[str, Any]:
    info = await _info(session)
    created = None if info.created_ms is None else datetime.fromtimestamp(info.created_ms / 1000, UTC)
    return {
        "session_id": session.session_id,
        "user_id": session.user_id or info.owner,
        "created_at": created,
        "message_count": info.messages,
        "turns": info.turns,
        "open_turns": info.open_turns,
        "agents": list(info.agents),
        "requests": info.requests,
        "input_tokens": info.input_tokens,
        "output_tokens": info.output_tokens,
        "cost": info.cost,
        "queue": info.queue,
        "expires_in": _left(info),
    }


async def _context_for(session: _Kept, query: str, max_items: int) -> str:
    """The messages that share most words with the query, newest first among equals."""
    await session.client.check_owner(session.keys, session.user_id)
    entries = await session.client.records.entries(session.keys, -_CONTEXT_TURNS, -1)
    said = [m for entry in entries for m in messages_of(entry, session.keys) if m.text and m.role != "tool"]
    wanted = _words(query)
    ranked = sorted(enumerate(said), key=lambda item: (len(wanted & _words(item[1].text)), item[0]), reverse=True)
    best = [(i, m) for i, m in ranked[:max_items] if wanted & _words(m.text)]
    return "\n".join(_line(message) for _, message in sorted(best, key=lambda item: item[0]))


def _words(text: str) -> set[str]:
    """Words by their beginnings, so that `preferences` meets `prefers`."""
    return {word[:6] for word in "".join(c.lower() if c.isalnum() else " " for c in text).split() if len(word) > 2}


def _line(message: Message) -> str:
    who = "User" if message.role == "user" else message.agent
    return f"{who}: {message.text}"


async def _history(session: _Kept, limit: int, order: Order, cursor: int | None) -> Page:
    if limit < 1 or order not in ("oldest", "newest"):
        raise BadRequest(f'history(limit={limit!r}, order={order!r}): a limit of 1 or more, "oldest" or "newest"')
    client, keys = session.client, session.keys
    await client.check_owner(keys, session.user_id)
    start, stop, further = bounds(await client.records.length(keys), limit, order, cursor)
    entries = await client.records.entries(keys, start, stop) if stop >= start else []
    return Page([message for entry in entries for message in messages_of(entry, keys)], further)


async def _fork(session: _Kept, session_id: str | None, at: str | None) -> Session:
    client, keys = session.client, session.keys
    await client.check_owner(keys, session.user_id)
    raw, state, agents = await client.records.raw_parts(keys)
    parsed = [HistoryEntry.load(entry) for entry in raw]
    if at is not None:
        keep = _position(parsed, at, session) + 1
        raw, parsed = raw[:keep], parsed[:keep]
    forked = session.sibling(new_session_id() if session_id is None else session_id)
    forked.user_id = session.user_id or await client.owner(keys)
    copy = uuid_utils.uuid4().hex
    await client.memory.copy(session_scope(keys), session_scope(forked.keys), copy, COPY_SECONDS)
    await client.records.create(
        forked.keys,
        raw,
        user_id=forked.user_id,
        queue=session.queue,
        ttl=session.ttl,
        messages=sum(entry.count for entry in parsed),
        state=state,
        agents=agents,
        origin=f"{session.session_id}@{at or 'end'}",
        copy=copy,
    )
    await client.copy_documents(keys, forked.keys)
    return forked


def _position(entries: list[HistoryEntry], turn_id: str, session: _Kept) -> int:
    session_id, part = split_turn_id(turn_id)
    for position, entry in enumerate(entries):
        if session_id == session.session_id and entry.turn == part:
            return position
    raise TurnNotFound(f"turn {turn_id!r} is no committed turn of session {session.session_id!r}")
