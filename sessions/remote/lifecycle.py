"""A remote session's own records: checkpoints, context, history, forks, expiry, deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from sessions.client.arguments.sessions import SessionChange
from sessions.client.backend import Fork
from sessions.client.ports import SessionRef
from sessions.client.transcript import CONTEXT_TURNS, Branch, Message, Page, SortOrder, best_lines
from sessions.errors import SessionExpired, StateNotFoundError
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parse_time, parsing, without_none

_LARGEST_PAGE: Final = 1000
"""Turns; a gateway's limit for one page."""
_CONTEXT: Final = (
    *("session_id", "user_id", "created_at", "message_count", "turns", "open_turns", "agents"),
    *("requests", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "cost"),
    "unpriced_requests",
    *("queue", "expires_in"),
)
_SINCE_LATER = {"cache_read_tokens": 0, "cache_write_tokens": 0, "unpriced_requests": 0}
"""What an older gateway does not say."""
_NOTHING_YET = {
    "created_at": None,
    "message_count": 0,
    "turns": 0,
    "open_turns": 0,
    "requests": 0,
    "input_tokens": 0,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "output_tokens": 0,
    "cost": 0.0,
    "unpriced_requests": 0,
    "expires_in": None,
}


class RemoteLifecycle:
    """`LifecycleCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def lifetime(self, session: SessionRef) -> tuple[bool, float | None]:
        """Whether its ttl ran out, and the seconds until it does; see `LifecycleMethods.ais_expired`."""
        try:
            answer = await self._client(session).api_or_none("GET")
        except SessionExpired:
            return True, None
        return False, None if answer is None else answer.get("expires_in")

    async def create(self, session: SessionRef, change: SessionChange) -> bool:
        """Create the session if it does not exist; see `LifecycleMethods.acreate`."""
        ttl = {} if session.ttl is None else {"ttl": session.ttl}
        queue = {} if session.queue == "turns" else {"queue": session.queue}
        shown = without_none(
            title=change.title,
            metadata=change.metadata or None,
            searchable=session.searchable,
            compact=session.compact,
        )
        return await self._client(session).create({"session_id": session.session_id, **ttl, **queue, **shown})

    async def checkpoints(self, session: SessionRef) -> list[int]:
        """The numbers of the checkpoints; see `LifecycleMethods.acheckpoints`."""
        answer = await self._client(session).api("GET", "/checkpoints")
        with parsing("checkpoints"):
            return list(answer["checkpoints"])

    async def save(self, session: SessionRef, values: Mapping[str, Any]) -> int:
        """Save a checkpoint; see `LifecycleMethods.asave_state`."""
        body = {"values": dict(values)} if values else {}
        answer = await self._client(session).api("POST", "/checkpoints", json=body, repeatable=False)
        with parsing("checkpoint"):
            return int(answer["checkpoint"])

    async def restore(self, session: SessionRef, number: int | None) -> dict[str, Any]:
        """Restore a checkpoint, or check that there is one; see `LifecycleMethods.arestore_state`."""
        if number is not None and (not isinstance(number, int) or number < 1):
            raise StateNotFoundError(
                f"session {session.session_id!r} has no checkpoint {number!r} to restore; numbers start at 1"
            )
        which = "" if number is None else f"/{number}"
        answer = await self._client(session).api("POST", f"/checkpoints{which}/restore")
        with parsing("state"):
            return dict(answer["state"])

    async def context(self, session: SessionRef) -> dict[str, Any]:
        """Facts about the session; see `LifecycleMethods.aget_context`. Empty values if it does not exist."""
        try:
            answer = await self._client(session).api_or_none("GET")
        except SessionExpired:
            answer = None
        if answer is None:
            own: dict[str, Any] = {
                "session_id": session.session_id,
                "user_id": session.user_id,
                "agents": [],
                "queue": session.queue,
            }
            return own | _NOTHING_YET
        with parsing("session"):
            found = _SINCE_LATER | answer
            return {name: found[name] for name in _CONTEXT} | {"created_at": parse_time(answer["created_at"])}

    async def context_for(self, session: SessionRef, query: str, max_items: int) -> str:
        """The transcript's best matching lines as prompt text; see `LifecycleMethods.aget_context`."""
        page = await self.history(session, CONTEXT_TURNS, "newest", None, None)
        return best_lines(page.messages, query, max_items)

    async def history(
        self, session: SessionRef, limit: int, order: SortOrder, cursor: int | None, branch: str | None
    ) -> Page:
        """A page of the transcript; see `LifecycleMethods.ahistory`."""
        found: list[Message] = []
        while True:
            page = min(limit, _LARGEST_PAGE)
            of = None if branch is None else session.keys.public_id(branch)
            params = {"limit": page, "order": order, **without_none(cursor=cursor, branch=of)}
            answer = await self._client(session).api("GET", "/messages", params=params)
            with parsing("transcript"):
                more = [
                    Message(**{**message, "at": datetime.fromisoformat(message["at"])})
                    for message in answer["messages"]
                ]
                # Within a page, messages are in the order in which they were written, for both sort orders.
                found = found + more if order == "oldest" else more + found
                limit, cursor = limit - page, answer["cursor"]
            if limit <= 0 or cursor is None:
                return Page(found, cursor)

    async def branches(self, session: SessionRef) -> list[Branch]:
        """The branches of the transcript; see `BranchMethods.abranches`."""
        answer = await self._client(session).api("GET", "/branches")
        with parsing("branches"):
            return [
                Branch(**{**branch, "left_at": datetime.fromisoformat(branch["left_at"])})
                for branch in answer["branches"]
            ]

    async def delete_turn(self, session: SessionRef, part: str) -> dict[str, int]:
        """Delete one turn; see `BranchMethods.adelete_turn`."""
        path = f"/turns/{segment(session.keys.public_id(part))}"
        receipt: dict[str, int] = await self._client(session).api("DELETE", path)
        return receipt

    async def fork(self, session: SessionRef, session_id: str, at: str | None) -> Fork:
        """Create a session with this one's history; see `Session.afork`."""
        body = {"session_id": session_id, **({} if at is None else {"at": at})}
        await self._client(session).api("POST", "/fork", json=body, repeatable=False)
        return Fork(session_id, session.user_id)

    async def check_turn(self, session: SessionRef, part: str) -> None:
        """Refuse a user who does not own the session. The gateway checks the turn itself on each later request.

        A session that does not exist has no owner.
        """
        with suppress(SessionExpired):
            await self._client(session).api_or_none("GET")

    async def delete(self, session: SessionRef) -> dict[str, int]:
        """Delete the session and all its records; see `Session.adelete`."""
        receipt: dict[str, int] = await self._client(session).api("DELETE")
        return receipt
