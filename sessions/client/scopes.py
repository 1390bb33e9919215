"""The names of scopes (`session:<id>`, `user:<id>`, `base:<name>`) and their lanes for documents."""

from __future__ import annotations

from typing import Any

from sessions.protocol.lanes import KNOWLEDGE
from sessions.store.keys import SessionKeys, wide_name
from sessions.store.scripts import translated


def session_name(session_id: str) -> str:
    """The scope of one session."""
    return f"session:{session_id}"


def user_name(user_id: str) -> str:
    """The scope of one user, in all sessions."""
    return f"user:{user_id}"


def lane_of(tenant: str, scope: str, partitions: int) -> SessionKeys:
    """The lane in which a scope's documents are added and removed."""
    kind, _, name = scope.partition(":")
    if kind == "session":
        return SessionKeys.of(tenant, name, partitions).lane(KNOWLEDGE)
    return SessionKeys.wide(tenant, wide_name(kind, name), partitions).lane(KNOWLEDGE)


async def orphaned(store: Any, lane: SessionKeys) -> bool:
    """Whether a lane's documents belong to an expired session of the same id: they must not be shown any more.

    Raises:
        StoreUnavailable, BackendError: the store did not answer.
    """
    home = lane.home
    if home.session_id.startswith("~"):
        return False  # users and bases do not expire
    with translated():
        async with store.pipeline(transaction=False) as pipe:
            pipe.hget(lane.meta, "of")
            pipe.hget(home.meta, "created")
            of, created = await pipe.execute()
    return of is not None and of != created
