"""Lists of sessions, from the indexes in the fleet's store; and the title and metadata of one session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sessions.client.arguments.sessions import SessionChange, SessionQuery
from sessions.client.backend import SessionPage
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.errors import BadRequest
from sessions.store.keys import SessionKeys
from sessions.store.session_index import Entry, IndexRange, Position
from sessions.store.session_info import FIELDS, SessionInfo

_MOST_READ: Final = 2000
"""Sessions that are read for one page, however few of them match its filters."""


class LocalListing:
    """`ListingCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def list(self, session: SessionRef, query: SessionQuery) -> SessionPage:
        """A page of the sessions of the user, or of the tenant; see `Session.alist`."""
        fleet = self._fleet()
        await fleet.open()
        tenant, user_id = session.keys.tenant, session.user_id
        if query.shared and user_id is None:
            raise BadRequest("shared=True lists the sessions that are shared with a user: pass user_id=")
        wanted = IndexRange(query.kind, tenant, user_id, query.after, query.least, FIELDS)
        complete, page = await asyncio.gather(
            fleet.stores.index.complete(), _Page(fleet, tenant, user_id, query, wanted).read()
        )
        return replace(page, complete=complete)

    async def info(self, session: SessionRef) -> SessionInfo:
        """The session and its counts; see `ListingMethods.ainfo`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id)
        records = fleet.stores.records
        found = await records.info(session.keys)
        if found is None:
            raise await records.missing(session.keys)
        return found

    async def update(self, session: SessionRef, change: SessionChange) -> SessionInfo:
        """Change title, metadata, and whether it is searchable and compacted; see `ListingMethods.aupdate`."""
        fleet = self._fleet()
        await fleet.open()
        await fleet.stores.records.update(
            session.keys,
            session.user_id,
            change.title,
            change.metadata,
            searchable=change.searchable,
            compact=change.compact,
        )
        return await self.info(session)


class _Page:
    """Collects the sessions of one page: reads entries of the index, then the sessions, until enough of them match."""

    def __init__(
        self, fleet: FleetClient, tenant: str, user_id: str | None, query: SessionQuery, wanted: IndexRange
    ) -> None:
        self._fleet = fleet
        self._tenant = tenant
        self._user_id = user_id
        self._query = query
        self._wanted = wanted
        self._found: list[SessionInfo] = []

    async def read(self) -> SessionPage:
        query, limit, left = self._query, self._query.limit, _MOST_READ
        while left > 0:
            # One more than the page needs shows whether there is a next page.
            missing = limit - len(self._found) + 1
            count = min(left, max(missing, limit) if query.filters else missing)
            entries = await self._fleet.stores.index.read(self._wanted, count)
            for number, info in enumerate(await self._infos(entries)):
                if len(self._found) == limit:
                    return self._page(entries[number - 1].position if number else self._wanted.after)
                if info is not None and self._shows(info):
                    self._found.append(info)
            if len(entries) < count:
                return self._page(None)
            left -= count
            self._wanted = replace(self._wanted, after=entries[-1].position)
        return self._page(self._wanted.after)

    async def _infos(self, entries: list[Entry]) -> list[SessionInfo | None]:
        partitions, keyring = self._fleet.settings.partitions, self._fleet.keyring
        keys = [SessionKeys.from_name(self._tenant, entry.position.name, partitions) for entry in entries]
        infos = [SessionInfo.read(own, keyring, entry.values) for own, entry in zip(keys, entries, strict=True)]
        if self._query.shared and self._user_id is not None:
            shares = self._fleet.stores.shares
            rights = await asyncio.gather(*(shares.rights(each, self._user_id) for each in keys))
            return [info if right else None for info, right in zip(infos, rights, strict=True)]
        return infos

    def _shows(self, info: SessionInfo) -> bool:
        # An index has the sessions of users whose session has expired, until a worker removes them; another user may
        # have a session of the same id by then.
        theirs = self._query.shared or self._user_id is None or info.user_id == self._user_id
        return theirs and self._query.matches(info)

    def _page(self, after: Position | None) -> SessionPage:
        return SessionPage(self._found, None if after is None else self._query.cursor_at(after))
