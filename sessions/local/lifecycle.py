"""What the methods of `RecordMethods` do, as coroutines for the portal's loop."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import uuid_utils

from sessions.client.fleet_client import FleetClient
from sessions.client.transcript import CONTEXT_TURNS, Order, Page, best_lines, bounds, messages_of
from sessions.errors import BadRequest, InvalidState, SessionExists, TurnNotFound
from sessions.protocol.state_ops import APP, TEMP, USER, check_field, dump
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys, new_session_id, split_turn_id
from sessions.store.session_records import COPY_SECONDS, SessionInfo
from sessions.store.state import session_scope

if TYPE_CHECKING:
    from sessions.api.session import Session


class Kept(Protocol):
    """What of a session these need."""

    session_id: str
    user_id: str | None
    ttl: float | None
    queue: str
    keys: SessionKeys

    @property
    def client(self) -> FleetClient:
        """The client of this process."""
        ...

    def sibling(self, session_id: str) -> Session:
        """Another session of the same kind."""
        ...


async def _info(session: Kept) -> SessionInfo:
    await session.client.check_owner(session.keys, session.user_id)
    return await session.client.records.info(session.keys)


def _left(info: SessionInfo) -> float | None:
    return None if info.left_ms is None else info.left_ms / 1000


async def lifetime(session: Kept) -> tuple[bool, float | None]:
    """Whether its ttl ran out, and the seconds until it does; see `RecordMethods.ais_expired`."""
    info = await _info(session)
    return not info.exists and info.expired_ms is not None, _left(info)


async def create(session: Kept) -> bool:
    """Make the session, where there is none; see `RecordMethods.acreate`."""
    client, keys = session.client, session.keys
    await client.check_owner(keys, session.user_id)
    try:
        await client.records.create(
            keys,
            (),
            user_id=session.user_id,
            queue=session.queue,
            ttl=session.ttl,
            messages=0,
            state={},
            agents={},
            origin="",
        )
    except SessionExists:
        await client.check_owner(keys, session.user_id)  # somebody may have made it meanwhile
        return False
    return True


async def checkpoints(session: Kept) -> list[int]:
    """The numbers of the checkpoints there are; see `RecordMethods.acheckpoints`."""
    await session.client.check_owner(session.keys, session.user_id)
    return await session.client.records.checkpoints(session.keys)


async def save(session: Kept, values: Mapping[str, Any] | None) -> int:
    """Write a checkpoint; see `RecordMethods.asave_state`."""
    if values is not None and not isinstance(values, Mapping):
        raise BadRequest(f"save_state({values!r}): give a dict to merge into the state, or nothing")
    merge = {check_field(field): dump(value) for field, value in (values or {}).items()}
    if wide := [field for field in merge if field.startswith((USER, APP, TEMP))]:
        raise InvalidState(f"save_state merges the session's own state; set {wide[0]!r} with set_state")
    await session.client.open()
    return await session.client.records.save_checkpoint(session.keys, merge, session.user_id, session.ttl)


async def restore(session: Kept, number: int | None) -> dict[str, Any]:
    """Attach to what was saved; see `RecordMethods.arestore_state`."""
    client, keys = session.client, session.keys
    await client.check_owner(keys, session.user_id)
    if number is not None:
        return (await client.records.restore_checkpoint(keys, number, session.user_id)).state
    await client.records.checkpoint(keys)
    return await client.state.read(session_scope(keys))


async def context(session: Kept) -> dict[str, Any]:
    """What is known of the session; see `RecordMethods.aget_context`."""
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


async def context_for(session: Kept, query: str, max_items: int) -> str:
    """Prompt text from what was said about a query; see `RecordMethods.aget_context`."""
    await session.client.check_owner(session.keys, session.user_id)
    entries = await session.client.records.entries(session.keys, -CONTEXT_TURNS, -1)
    return best_lines([m for entry in entries for m in messages_of(entry, session.keys)], query, max_items)


async def history(session: Kept, limit: int, order: Order, cursor: int | None) -> Page:
    """A page of the transcript; see `RecordMethods.ahistory`."""
    if limit < 1 or order not in ("oldest", "newest"):
        raise BadRequest(f'history(limit={limit!r}, order={order!r}): a limit of 1 or more, "oldest" or "newest"')
    client, keys = session.client, session.keys
    await client.check_owner(keys, session.user_id)
    start, stop, further = bounds(await client.records.length(keys), limit, order, cursor)
    entries = await client.records.entries(keys, start, stop) if stop >= start else []
    return Page([message for entry in entries for message in messages_of(entry, keys)], further)


async def fork(session: Kept, session_id: str | None, at: str | None) -> Session:
    """A new session with this one's history; see `RecordMethods.afork`."""
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


def _position(entries: list[HistoryEntry], turn_id: str, session: Kept) -> int:
    session_id, part = split_turn_id(turn_id)
    for position, entry in enumerate(entries):
        if session_id == session.session_id and entry.turn == part:
            return position
    raise TurnNotFound(f"turn {turn_id!r} is no committed turn of session {session.session_id!r}")
