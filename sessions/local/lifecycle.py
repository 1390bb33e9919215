"""A session's own records in the fleet's store: checkpoints, context, history, forks, expiry, deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import uuid_utils

from sessions.client.arguments.sessions import SessionChange
from sessions.client.backend import Fork
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.client.transcript import CONTEXT_TURNS, Branch, Page, SortOrder, best_lines, bounds, messages_of
from sessions.errors import InvalidState, SessionExists, TurnNotFound
from sessions.local.deletion import delete_everything
from sessions.protocol.access import Access
from sessions.protocol.state_ops import APP, TEMP, USER, check_field, dump
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys, split_turn_id
from sessions.store.session_info import SessionInfo, merged_metadata
from sessions.store.session_records import COPY_SECONDS
from sessions.store.state import session_scope

_NEVER: Final = datetime.fromtimestamp(0, UTC)
_NOTHING_YET: Final = SessionInfo("", "", {}, None, _NEVER, _NEVER, 0, 0, 0, 0, 0, 0, 0.0)


class LocalLifecycle:
    """`LifecycleCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def _checked(self, session: SessionRef, access: Access = "read") -> FleetClient:
        """The client, connected, after checking that the caller may use the session.

        Raises:
            SessionOwnerError: it belongs to another user, who has not shared it for that.
        """
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id, access)
        return fleet

    async def lifetime(self, session: SessionRef) -> tuple[bool, float | None]:
        """Whether its ttl ran out, and the seconds until it does; see `LifecycleMethods.ais_expired`."""
        fleet = await self._checked(session)
        lifetime = await fleet.stores.records.lifetime(session.keys)
        return lifetime.expired, lifetime.left

    async def create(self, session: SessionRef, change: SessionChange) -> bool:
        """Create the session if it does not exist; see `LifecycleMethods.acreate`."""
        fleet = await self._checked(session)
        await fleet.limits.refuse_new_session(session.keys, session.user_id)
        try:
            await fleet.stores.records.create(
                session.keys,
                (),
                user_id=session.user_id,
                queue=session.queue,
                ttl=session.ttl,
                messages=0,
                state={},
                agents={},
                origin="",
                title=change.title or "",
                metadata=merged_metadata({}, change.metadata),
                searchable=_searchable(fleet, session),
                compact=session.compact or ("auto" if fleet.settings.compact == "auto" else None),
            )
        except SessionExists:
            await self._checked(session)  # another user may have created it since the first check
            return False
        return True

    async def checkpoints(self, session: SessionRef) -> list[int]:
        """The numbers of the checkpoints; see `LifecycleMethods.acheckpoints`."""
        fleet = await self._checked(session)
        return await fleet.stores.records.checkpoints(session.keys)

    async def save(self, session: SessionRef, values: Mapping[str, Any]) -> int:
        """Save a checkpoint; see `LifecycleMethods.asave_state`."""
        merge = {check_field(field): dump(value) for field, value in values.items()}
        if wide := [field for field in merge if field.startswith((USER, APP, TEMP))]:
            raise InvalidState(f"save_state only merges the session's own state; set {wide[0]!r} with set_state")
        fleet = self._fleet()
        await fleet.open()
        return await fleet.stores.records.save_checkpoint(session.keys, merge, session.user_id, session.ttl)

    async def restore(self, session: SessionRef, number: int | None) -> dict[str, Any]:
        """Restore a checkpoint, or check that there is one; see `LifecycleMethods.arestore_state`."""
        fleet, keys = await self._checked(session), session.keys
        if number is not None:
            return (await fleet.stores.records.restore_checkpoint(keys, number, session.user_id)).state
        await fleet.stores.records.checkpoint(keys)
        return await fleet.stores.state.read(session_scope(keys))

    async def context(self, session: SessionRef) -> dict[str, Any]:
        """Facts about the session; see `LifecycleMethods.aget_context`."""
        fleet = await self._checked(session)
        records, keys = fleet.stores.records, session.keys
        info, agents, lifetime = await asyncio.gather(records.info(keys), records.agents(keys), records.lifetime(keys))
        counted = info or _NOTHING_YET
        return {
            "session_id": session.session_id,
            "user_id": session.user_id or counted.user_id,
            "created_at": None if info is None else info.created_at,
            "message_count": counted.messages,
            "turns": counted.turns,
            "open_turns": counted.open_turns,
            "agents": agents,
            "requests": counted.requests,
            "input_tokens": counted.input_tokens,
            "cache_read_tokens": counted.cache_read_tokens,
            "cache_write_tokens": counted.cache_write_tokens,
            "output_tokens": counted.output_tokens,
            "cost": counted.cost,
            "unpriced_requests": counted.unpriced_requests,
            "queue": counted.queue,
            "expires_in": lifetime.left,
        }

    async def context_for(self, session: SessionRef, query: str, max_items: int) -> str:
        """The transcript's best matching lines as prompt text; see `LifecycleMethods.aget_context`."""
        fleet = await self._checked(session)
        entries = await fleet.stores.history.entries(session.keys, None, -CONTEXT_TURNS, -1)
        return best_lines([m for entry in entries for m in messages_of(entry, session.keys)], query, max_items)

    async def history(
        self, session: SessionRef, limit: int, order: SortOrder, cursor: int | None, branch: str | None
    ) -> Page:
        """A page of the transcript; see `LifecycleMethods.ahistory`."""
        fleet, keys = await self._checked(session), session.keys
        history = fleet.stores.history
        start, stop, next_cursor = bounds(await history.length(keys, branch), limit, order, cursor)
        entries = await history.entries(keys, branch, start, stop) if stop >= start else []
        return Page([message for entry in entries for message in messages_of(entry, keys)], next_cursor)

    async def branches(self, session: SessionRef) -> list[Branch]:
        """The branches of the transcript; see `BranchMethods.abranches`."""
        fleet, keys = await self._checked(session), session.keys
        return [
            Branch(
                id=keys.public_id(stored.id),
                replaced_by=keys.public_id(stored.replaced_by),
                left_at=datetime.fromtimestamp(stored.left_ms / 1000, UTC),
                turns=stored.turns,
                messages=stored.messages,
            )
            for stored in await fleet.stores.history.listed(keys)
        ]

    async def delete_turn(self, session: SessionRef, part: str) -> dict[str, int]:
        """Delete one turn; see `BranchMethods.adelete_turn`."""
        fleet = await self._checked(session, "write")
        queue = await fleet.archiving.was_archived(session.keys)
        receipt = await fleet.stores.history.delete(session.keys, part, session.user_id)
        if queue is not None:
            await fleet.archiving.erase(session.keys, queue, part)
        return receipt

    async def fork(self, session: SessionRef, session_id: str, at: str | None) -> Fork:
        """Create a session with this one's history; see `Session.afork`."""
        fleet, keys = await self._checked(session), session.keys
        raw, state, agents = await fleet.stores.records.raw_parts(keys)
        parsed = [HistoryEntry.load(entry) for entry in raw]
        if at is not None:
            parsed = await _up_to(fleet, keys, parsed, at)
        target, owner = fleet.keys(session_id, keys.tenant), await fleet.ownership.owner(keys)
        user_id = session.user_id or owner
        parsed = [_of_owner(entry, owner, user_id) for entry in parsed]
        await fleet.limits.refuse_new_session(target, user_id)
        copy = uuid_utils.uuid4().hex
        original = await fleet.stores.records.info(keys)
        await fleet.stores.memory.copies.copy(session_scope(keys), session_scope(target), copy, COPY_SECONDS)
        await fleet.stores.files.copy(keys, target, copy, COPY_SECONDS)
        await fleet.stores.records.create(
            target,
            [entry.dump() for entry in parsed],
            user_id=user_id,
            queue=session.queue,
            ttl=session.ttl,
            messages=sum(entry.count for entry in parsed),
            state=state,
            agents=agents,
            origin=f"{session.session_id}@{at or 'end'}",
            title=original.title if original else "",
            metadata=original.metadata if original else {},
            searchable=original.searchable if original else None,
            compact=original.compact if original else None,
            copy=copy,
            counts=await fleet.stores.records.fork_fields(keys, target, [entry.turn for entry in parsed]),
        )
        await fleet.retrieval.copy_documents(keys, target)
        return Fork(session_id, user_id)

    async def check_turn(self, session: SessionRef, part: str) -> None:
        """Refuse a user who owns neither the session nor the turn; see `Session.aturn`."""
        await self._fleet().ownership.check_turn(session.keys, part, session.user_id)

    async def delete(self, session: SessionRef) -> dict[str, int]:
        """Delete the session and all its records; see `Session.adelete`."""
        return await delete_everything(await self._checked(session, "own"), session.keys, session.user_id)


def _searchable(fleet: FleetClient, session: SessionRef) -> bool | None:
    """Whether the transcript of a new session is searchable; None if nobody has decided."""
    by_default = True if fleet.settings.history_search == "on" else None
    return by_default if session.searchable is None else session.searchable


def _of_owner(entry: HistoryEntry, before: str | None, owner: str | None) -> HistoryEntry:
    """An entry as it is in a session of this owner: a message without a sender is the owner's."""
    sender = entry.sender or before
    return replace(entry, sender=None if sender == owner else sender)


async def _up_to(
    fleet: FleetClient, keys: SessionKeys, entries: list[HistoryEntry], turn_id: str
) -> list[HistoryEntry]:
    """The history up to a turn of it; or, if that turn left it, the branch up to the turn."""
    session_id, part = split_turn_id(turn_id)
    if session_id == keys.session_id:
        for position, entry in enumerate(entries):
            if entry.turn == part:
                return entries[: position + 1]
        if path := await fleet.stores.history.path_to(keys, part):
            return path
    raise TurnNotFound(f"turn {turn_id!r} is not a committed turn of session {keys.session_id!r}")
