"""What `RecordMethods` stands on, by a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sessions.client.transcript import CONTEXT_TURNS, Message, Order, Page, best_lines
from sessions.errors import BadRequest, SessionExpired, StateNotFoundError
from sessions.remote.wire import moment, reading
from sessions.store.keys import new_session_id

if TYPE_CHECKING:
    from sessions.remote.backend import RemoteSession

_LARGEST_PAGE: Final = 1000
"""Turns; a gateway gives no more at once."""
_NOTHING_YET = {
    "created_at": None,
    "message_count": 0,
    "turns": 0,
    "open_turns": 0,
    "requests": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "cost": 0.0,
    "expires_in": None,
}


async def lifetime(session: RemoteSession) -> tuple[bool, float | None]:
    """Whether its ttl ran out, and the seconds until it does; see `RecordMethods.ais_expired`."""
    try:
        told = await session.client.api_or_none("GET")
    except SessionExpired:
        return True, None
    return False, None if told is None else told.get("expires_in")


async def create(session: RemoteSession) -> bool:
    """Make the session, where there is none; see `RecordMethods.acreate`."""
    ttl = {} if session.ttl is None else {"ttl": session.ttl}
    queue = {} if session.queue == "turns" else {"queue": session.queue}
    return await session.client.create({"session_id": session.session_id, **ttl, **queue})


async def checkpoints(session: RemoteSession) -> list[int]:
    """The numbers of the checkpoints there are; see `RecordMethods.acheckpoints`."""
    told = await session.client.api("GET", "/checkpoints")
    with reading("checkpoints"):
        return list(told["checkpoints"])


async def save(session: RemoteSession, values: Mapping[str, Any] | None) -> int:
    """Write a checkpoint; see `RecordMethods.asave_state`."""
    if values is not None and not isinstance(values, Mapping):
        raise BadRequest(f"save_state({values!r}): give a dict to merge into the state, or nothing")
    body = {} if values is None else {"values": dict(values)}
    told = await session.client.api("POST", "/checkpoints", json=body, repeatable=False)
    with reading("checkpoint"):
        return int(told["checkpoint"])


async def restore(session: RemoteSession, number: int | None) -> dict[str, Any]:
    """Attach to what was saved; see `RecordMethods.arestore_state`."""
    if number is not None and (not isinstance(number, int) or number < 1):
        raise StateNotFoundError(
            f"session {session.session_id!r} has no checkpoint {number!r} to restore; they are numbered from 1"
        )
    which = "" if number is None else f"/{number}"
    told = await session.client.api("POST", f"/checkpoints{which}/restore")
    with reading("state"):
        return dict(told["state"])


async def context(session: RemoteSession) -> dict[str, Any]:
    """What is known of the session; see `RecordMethods.aget_context`. One that is not there yet has nothing."""
    try:
        told = await session.client.api_or_none("GET")
    except SessionExpired:
        told = None
    if told is None:
        own: dict[str, Any] = {
            "session_id": session.session_id,
            "user_id": session.user_id,
            "agents": [],
            "queue": session.queue,
        }
        return own | _NOTHING_YET
    with reading("session"):
        return {**told, "created_at": moment(told["created_at"])}


async def context_for(session: RemoteSession, query: str, max_items: int) -> str:
    """Prompt text from what was said about a query; see `RecordMethods.aget_context`."""
    page = await history(session, CONTEXT_TURNS, "newest", None)
    return best_lines(page.messages, query, max_items)


async def history(session: RemoteSession, limit: int, order: Order, cursor: int | None) -> Page:
    """A page of the transcript; see `RecordMethods.ahistory`."""
    if not isinstance(limit, int):
        raise BadRequest(f"history(limit={limit!r}): a limit of 1 or more")
    found: list[Message] = []
    while True:
        now = min(limit, _LARGEST_PAGE)
        wanted = {"limit": now, "order": order, **({} if cursor is None else {"cursor": cursor})}
        told = await session.client.api("GET", "/messages", params=wanted)
        with reading("transcript"):
            more = [Message(**{**said, "at": datetime.fromisoformat(said["at"])}) for said in told["messages"]]
            # Within a page messages stand in the order in which they were written, whichever turns come first.
            found = found + more if order == "oldest" else more + found
            limit, cursor = limit - now, told["cursor"]
        if limit <= 0 or cursor is None:
            return Page(found, cursor)


async def fork(session: RemoteSession, session_id: str | None, at: str | None) -> RemoteSession:
    """A new session with this one's history; see `RecordMethods.afork`."""
    forked = session.sibling(new_session_id() if session_id is None else session_id)
    body = {"session_id": forked.session_id, **({} if at is None else {"at": at})}
    await session.client.api("POST", "/fork", json=body, repeatable=False)
    forked.user_id = session.user_id
    return forked
