"""Lists of sessions at a gateway; and the title and metadata of one session."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sessions.client.arguments.sessions import SessionChange, SessionQuery
from sessions.client.backend import SessionPage
from sessions.client.ports import SessionRef
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parse_time, parsing, without_none
from sessions.store.session_info import SessionInfo


class RemoteListing:
    """`ListingCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def list(self, session: SessionRef, query: SessionQuery) -> SessionPage:
        """A page of the caller's sessions; see `Session.alist`."""
        params = without_none(
            limit=query.limit,
            cursor=query.cursor,
            order=query.order,
            metadata=json.dumps(query.metadata) if query.metadata else None,
            active_since=_text(query.active_since),
            unused_since=_text(query.unused_since),
            shared="true" if query.shared else None,
        )
        answer = await self._client(session).of_all("GET", "/sessions", params=params)
        with parsing("sessions"):
            found = [_info(each) for each in answer["sessions"]]
            return SessionPage(found, answer["cursor"], answer["complete"])

    async def info(self, session: SessionRef) -> SessionInfo:
        """The session and its counts; see `ListingMethods.ainfo`."""
        answer = await self._client(session).api("GET")
        with parsing("session"):
            return _info(answer)

    async def update(self, session: SessionRef, change: SessionChange) -> SessionInfo:
        """Change title, metadata, and whether it is searchable and compacted; see `ListingMethods.aupdate`."""
        body = without_none(
            title=change.title,
            metadata=dict(change.metadata) or None,
            searchable=change.searchable,
            compact=change.compact,
        )
        answer = await self._client(session).api("PATCH", json=body)
        with parsing("session"):
            return _info(answer)


def _info(answer: Mapping[str, Any]) -> SessionInfo:
    """A session in a gateway's JSON."""
    return SessionInfo(
        session_id=answer["session_id"],
        title=answer["title"],
        metadata=answer["metadata"],
        user_id=answer["user_id"],
        created_at=datetime.fromisoformat(answer["created_at"]),
        last_used_at=datetime.fromisoformat(answer["last_used_at"]),
        turns=answer["turns"],
        messages=answer["message_count"],
        open_turns=answer["open_turns"],
        requests=answer["requests"],
        input_tokens=answer["input_tokens"],
        output_tokens=answer["output_tokens"],
        cost=answer["cost"],
        queue=answer["queue"],
        searchable=answer.get("searchable", False),
        compact=answer.get("compact", "off"),
        expires_at=parse_time(answer["expires_at"]),
        cache_read_tokens=answer.get("cache_read_tokens", 0),
        cache_write_tokens=answer.get("cache_write_tokens", 0),
        unpriced_requests=answer.get("unpriced_requests", 0),
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
