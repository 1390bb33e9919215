"""Searches in transcripts, run by the fleet's retrieval workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sessions.client.arguments.history_search import HistoryQuery
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.client.transcript import FoundMessage
from sessions.errors import BadRequest, NotSearchable
from sessions.store.keys import SessionKeys, wide_name


class LocalHistorySearch:
    """`HistorySearchCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def search(self, session: SessionRef, query: HistoryQuery) -> list[FoundMessage]:
        """Find messages of the session; see `HistorySearchMethods.asearch_history`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id)
        info = await fleet.stores.records.info(session.keys)
        if info is None:
            return []
        if not info.searchable:
            raise NotSearchable(
                f"session {session.session_id!r} is not searchable: session.update(searchable=True) makes it so, with "
                "all of its history"
            )
        found = await fleet.retrieval.search(session.keys, query.request(), timeout=query.timeout)
        return [_message(each) for each in found]

    async def search_all(self, session: SessionRef, query: HistoryQuery) -> list[FoundMessage]:
        """Find messages in all sessions of this session's user; see `Session.asearch`."""
        fleet, user_id = self._fleet(), session.user_id
        if user_id is None:
            raise BadRequest("Session.search searches the sessions of a user: pass user_id=")
        lanes = SessionKeys.wide(session.keys.tenant, wide_name("user", user_id), fleet.settings.partitions)
        found = await fleet.retrieval.search(lanes, query.request(user_id), timeout=query.timeout)
        return [_message(each) for each in found]


def _message(found: Mapping[str, Any]) -> FoundMessage:
    fields = {name: value for name, value in found.items() if name != "at_ms"}
    return FoundMessage(**fields, at=datetime.fromtimestamp(found["at_ms"] / 1000, UTC))
