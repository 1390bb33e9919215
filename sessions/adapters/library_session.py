"""A session as the session object of another library uses it: reads, and changes that are decided on what was read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypedDict, TypeVar

import uuid_utils

from broker_config.settings import Settings
from sessions.api.session import Session
from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import get_client
from sessions.errors import StateConflict
from sessions.store.adapter_store import HistoryChange, Reader, SeenHistory, busy
from sessions.store.history import HistoryEntry
from sessions.store.state import pause_between
from sessions.store.transitions.records import Needed, Wrote

T = TypeVar("T")
_TRIES: Final = 100
_WHOLE: Final = 1 << 30

Decision = HistoryChange | None
Decide = Callable[[SeenHistory, bool], Decision]
"""Decides on a change, None for none. The second argument says whether the last entry may be extended: not if an open
turn has seen it."""


class SessionOptions(TypedDict, total=False):
    """How conversations are stored; the arguments of `sessions.Session`."""

    tenant: str | None
    queue: str
    ttl: float | None
    settings: Settings | None


class LibrarySession:
    """One conversation of another library, as a session.

    Args:
        session: where it is stored.
        adapter: the library's name in the history.
    """

    def __init__(self, session: Session, adapter: str) -> None:
        self.session = session
        self._reader = Reader(session.keys, session.user_id, adapter)

    async def read(self, start: int = 0, stop: int = -1, *, with_state: bool = False) -> SeenHistory:
        """Entries of the history by position, the last one included.

        Raises:
            SessionOwnerError, CorruptRecord, SealError, BackendError: see `sessions.errors`.
        """

        async def read() -> SeenHistory:
            fleet = await self._opened()
            return await fleet.stores.adapters.read(self._reader, start, stop, with_state=with_state)

        return await self.session.portal.acall(read())

    async def lines(self) -> list[list[HistoryEntry]]:
        """The history and its branches, each from its beginning.

        Raises:
            SessionOwnerError, CorruptRecord, SealError, BackendError: as `read`.
        """
        return await self.session.portal.acall(self._lines())

    async def _lines(self) -> list[list[HistoryEntry]]:
        stores, keys = (await self._opened()).stores, self.session.keys
        seen = await stores.adapters.read(self._reader)
        branches = await stores.history.listed(keys)
        left = [await stores.history.entries(keys, branch.id, 0, _WHOLE) for branch in branches]
        return [list(seen.entries), *left]

    async def change(self, decide: Decide, start: int = -1) -> tuple[SeenHistory, str]:
        """Decide on a change of what is read from `start` on, and write it; again, if another writer was faster.

        Returns:
            What the change was decided on, and the revision that the history has now.

        Raises:
            SessionBusy: an open turn has seen what would change. SessionOwnerError: the session belongs to another
                user, who has not shared it for writing. StateConflict: others write all the time.
            StoreFull, BackendError: see `sessions.errors`; what `decide` raises.
        """
        return await _to_its_end(self.session.portal.acall(self._change(decide, start)))

    async def _change(self, decide: Decide, start: int) -> tuple[SeenHistory, str]:
        fleet = await self._opened()
        stores, session, may_extend = fleet.stores, self.session, True
        for tried in range(_TRIES):
            seen = await stores.adapters.read(self._reader, start)
            change = decide(seen, may_extend)
            if change is None:
                return seen, seen.revision
            reply = await stores.adapters.write(
                self._reader, change, queue=session.queue, ttl=session.ttl, operation=uuid_utils.uuid4().hex
            )
            if isinstance(reply, Wrote):
                if change.effects:
                    await stores.adapters.apply_effects(session.keys, stores.state)
                return seen, reply.revision
            if isinstance(reply, Needed):
                if not may_extend:
                    raise busy(session.keys, reply.by)
                may_extend = False
            else:
                await pause_between(tried)
        raise StateConflict(f"session {session.session_id!r} was changed by other writers during all {_TRIES} tries")

    async def finish_effects(self) -> None:
        """Do what a writer that died left undone in the state of users and apps."""

        async def finish() -> None:
            stores = (await self._opened()).stores
            await stores.adapters.apply_effects(self.session.keys, stores.state)

        await self.session.portal.acall(finish())

    async def clear(self) -> None:
        """Empty the history, with its branches and the records of its turns, also in the archive.

        Raises:
            SessionBusy, SessionOwnerError: as `change`.
        """
        await _to_its_end(self.session.portal.acall(self._clear()))

    async def _clear(self) -> None:
        fleet, keys = await self._opened(), self.session.keys
        queue = await fleet.archiving.was_archived(keys)
        archived = [] if queue is None else [entry.turn for line in await self._lines() for entry in line]
        await fleet.stores.adapters.clear(self._reader)
        for part in dict.fromkeys(archived):
            await fleet.archiving.erase(keys, queue or "", part)

    async def _opened(self) -> FleetClient:
        fleet = get_client(self.session.settings)
        await fleet.open()
        return fleet


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a write even if the caller is cancelled, so that its outcome is known. The cancel comes after."""
    task, cancelled = asyncio.ensure_future(work), None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # it was looked at: the loop need not report it
        raise cancelled
    return task.result()


def messages_in(entries: Iterable[HistoryEntry]) -> int:
    """How many messages entries have."""
    return sum(entry.count for entry in entries)
