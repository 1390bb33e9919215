"""Deletes what belongs together: a session, everything of a user, and the sessions that nobody uses any more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.client.scopes import session_name, user_name
from sessions.errors import (
    BadRequest,
    CorruptRecord,
    ListsIncomplete,
    NotFound,
    SealError,
    SessionOwnerError,
    TurnNotFound,
)
from sessions.protocol.lanes import KNOWLEDGE, LANES
from sessions.store.keys import IndexKind, SessionKeys, wide_name
from sessions.store.session_index import IndexRange, Position

_PAGE: Final = 100
_AT_ONCE: Final = 16
_PASSES: Final = 10
_ALL: Final[tuple[IndexKind, ...]] = ("used", "hidden")
_RECEIPT: Final = ("sessions", "keys", "turns", "open_turns", "memories", "files", "documents", "chunks", "passages")


async def delete_everything(fleet: FleetClient, keys: SessionKeys, user_id: str | None) -> dict[str, int]:
    """Delete a session with its lanes and documents. Deleting it again finds nothing.

    Its documents are removed first, so that the deletion can be repeated if this process dies in between. Turns that
    were archived are erased there, too: before the deletion for the same reason, and after it because turns may have
    ended in between. The index of its transcript is emptied after the history is gone, from which a worker would
    otherwise fill it again; if this process dies in between, the retrieval workers empty it.

    Raises:
        SessionOwnerError: it belongs to another user. ResultTimeout, NoWorkerAlive: its documents could not be removed.
    """
    await fleet.retrieval.await_worker_for_transcript(keys)
    queue = await fleet.archiving.was_archived(keys)
    if queue is not None:
        await fleet.archiving.erase(keys, queue)
    removed = await fleet.retrieval.forget_documents(keys.lane(KNOWLEDGE), session_name(keys.session_id))
    waits_in = await fleet.stores.rota.queue_of(keys)
    receipt = await fleet.stores.turns.delete_session(keys, user_id)
    if waits_in is not None and receipt["open_turns"]:
        await fleet.stores.rota.leave(waits_in, keys)
    if queue is not None:
        await fleet.archiving.erase(keys, queue)
    removed["passages"] = await fleet.retrieval.forget_transcript(keys)
    return {**receipt, "keys": receipt["keys"] + await _delete_lanes(fleet, keys), **removed}


async def _delete_lanes(fleet: FleetClient, keys: SessionKeys) -> int:
    """Delete the lanes of a session or user; returns the number of keys."""
    receipts = await asyncio.gather(*(fleet.stores.turns.delete_session(keys.lane(name)) for name in LANES))
    return sum(receipt["keys"] for receipt in receipts)


class LocalDeletion:
    """`DeletionCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def delete_user(self, session: SessionRef) -> dict[str, int]:
        """Delete everything of the session's user; see `Session.adelete_user`."""
        fleet, tenant, user_id = await self._ready(), session.keys.tenant, str(session.user_id)
        receipt: Counter[str] = Counter()
        for _ in range(_PASSES):  # a pass finds what was created during the one before it
            found = await _each(fleet, tenant, user_id, _ALL, None, lambda keys: _delete_of(fleet, keys, user_id))
            receipt.update(found)
            if not found["sessions"]:
                break
        await _each(fleet, tenant, user_id, ("shared",), None, lambda keys: _leave(fleet, keys, user_id))
        own = SessionKeys.wide(tenant, wide_name("user", user_id), fleet.settings.partitions)
        removed = await fleet.retrieval.forget_documents(own.lane(KNOWLEDGE), user_name(user_id))
        receipt.update({**await fleet.stores.turns.delete_session(own), **removed})
        receipt["keys"] += await _delete_lanes(fleet, own)
        await fleet.limits.forget_user(tenant, user_id)
        return {name: receipt[name] for name in _RECEIPT}

    async def prune(self, session: SessionRef, unused_since: datetime) -> dict[str, int]:
        """Delete the sessions that were not used since a time; see `Session.aprune`."""
        fleet, user_id = await self._ready(), session.user_id
        since = int(unused_since.timestamp() * 1000)
        found = await _each(
            fleet, session.keys.tenant, user_id, ("used",), since, lambda keys: _prune(fleet, keys, user_id, since)
        )
        return {name: found[name] for name in _RECEIPT}

    async def _ready(self) -> FleetClient:
        """The client, connected, once the lists have all sessions."""
        fleet = self._fleet()
        await fleet.open()
        if not await fleet.stores.index.complete():
            raise ListsIncomplete
        return fleet


async def _delete_of(fleet: FleetClient, keys: SessionKeys, user_id: str) -> Mapping[str, int]:
    """Delete one session of a user, or what is left of it if it has expired."""
    try:
        await fleet.ownership.check(keys, user_id, "own")
        exists = await fleet.stores.records.info(keys) is not None
        receipt = await delete_everything(fleet, keys, user_id)
    except SessionOwnerError:  # another user's session has the id of one that had expired
        return {}
    return {"sessions": int(exists), **receipt}


async def _leave(fleet: FleetClient, keys: SessionKeys, user_id: str) -> Mapping[str, int]:
    """End the sharing of another user's session with this one, which leaves nothing there that is still to run."""
    for part in await fleet.stores.turns.listed(keys, "open"):
        if await fleet.stores.turns.sender(keys, part) == user_id:
            with suppress(TurnNotFound):
                await fleet.turns.cancel(keys, part)
    schedules = fleet.stores.schedules
    with suppress(SealError, CorruptRecord):
        for schedule in await schedules.all(keys):
            if schedule.job.user_id == user_id:
                await schedules.remove(keys, schedule.schedule_id, None)
    with suppress(NotFound, BadRequest):  # it has expired, and another one may have its id
        await fleet.stores.shares.share(keys, None, user_id, None)
    return {}


async def _prune(fleet: FleetClient, keys: SessionKeys, user_id: str | None, since_ms: int) -> Mapping[str, int]:
    """Delete one session unless it is used again. Its documents go last, and otherwise when a worker finds them."""
    queue = await fleet.archiving.was_archived(keys)
    receipt = await fleet.stores.turns.delete_unused(keys, user_id, since_ms)
    if receipt is None:
        return {}
    if queue is not None:
        await fleet.archiving.erase(keys, queue)
    removed = await fleet.retrieval.forget_documents(keys.lane(KNOWLEDGE), session_name(keys.session_id))
    removed["passages"] = await fleet.retrieval.forget_transcript(keys)
    lanes = await _delete_lanes(fleet, keys)
    return {"sessions": 1, **receipt, "keys": receipt["keys"] + lanes, **removed}


async def _each(
    fleet: FleetClient,
    tenant: str,
    user_id: str | None,
    kinds: tuple[IndexKind, ...],
    until_ms: int | None,
    work: Callable[[SessionKeys], Awaitable[Mapping[str, int]]],
) -> Counter[str]:
    """Do something with each session in the lists, some at once; returns the sum of what it returned."""
    found: Counter[str] = Counter()
    for kind in kinds:
        start = None if until_ms is None else Position(until_ms, "")
        async for page in _pages(fleet, IndexRange(kind, tenant, user_id, start)):
            keys = [SessionKeys.from_name(tenant, name, fleet.settings.partitions) for name in page]
            for at in range(0, len(keys), _AT_ONCE):
                for receipt in await asyncio.gather(*map(work, keys[at : at + _AT_ONCE])):
                    found.update(receipt)
    return found


async def _pages(fleet: FleetClient, wanted: IndexRange) -> AsyncIterator[list[str]]:
    """The names of the sessions in an index."""
    while page := await fleet.stores.index.read(wanted, _PAGE):
        yield [entry.position.name for entry in page]
        wanted = replace(wanted, after=page[-1].position)
