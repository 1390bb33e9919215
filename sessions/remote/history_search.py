"""Searches in transcripts at a gateway."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sessions.client.arguments.history_search import HistoryQuery
from sessions.client.ports import SessionRef
from sessions.client.transcript import FoundMessage
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parsing, without_none


class RemoteHistorySearch:
    """`HistorySearchCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def search(self, session: SessionRef, query: HistoryQuery) -> list[FoundMessage]:
        """Find messages of the session; see `HistorySearchMethods.asearch_history`."""
        client = self._client(session)
        return _messages(await client.api("POST", "/messages/search", json=_body(query), within=query.timeout))

    async def search_all(self, session: SessionRef, query: HistoryQuery) -> list[FoundMessage]:
        """Find messages in all of the caller's sessions; see `Session.asearch`."""
        client = self._client(session)
        return _messages(await client.of_all("POST", "/messages/search", json=_body(query), within=query.timeout))


def _body(query: HistoryQuery) -> dict[str, Any]:
    times = {"since": query.since, "until": query.until}
    return {
        "query": query.query,
        "limit": query.limit,
        **without_none(role=query.role),
        **{name: time.isoformat() for name, time in times.items() if time is not None},
    }


def _messages(answer: Any) -> list[FoundMessage]:
    with parsing("messages"):
        return [FoundMessage(**{**each, "at": datetime.fromisoformat(each["at"])}) for each in answer["messages"]]
